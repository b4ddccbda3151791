"""The contestants of `serving`, and how each is started: one process per contestant, on a separate port.

| name | what it is |
|---|---|
| `compact` | a Marquee worker that renders answers from `lists.npy` |
| `rendered` | a Marquee worker whose answers were rendered beforehand |
| `ordinary` | a Marquee worker without the fast lane: Sanic's own handler |
| `nginx` | `return 200` with as many bytes as a worker's answer: no look-up, the same answer for everyone |
| `granian` | the look-up behind Granian's raw interface |
| `fastapi` | the look-up behind FastAPI on Uvicorn, with uvloop and httptools |

For every user all but nginx answer with the same body, which is checked before anything is measured.
"""

import importlib.util
import random
import sys
from collections.abc import Mapping
from pathlib import Path

from loadtest.bench.serving.bench_processes import HOST, ProcessGroup, Reply, RunningProcess
from loadtest.bench.serving.bench_releases import ReleaseStage
from loadtest.demo.processes import free_port
from loadtest.errors import LoadtestError

NAMES = ("compact", "rendered", "ordinary", "nginx", "granian", "fastapi")
_MODULES = ("fastapi", "granian", "uvicorn")
_COMPARED = 100
"""Users whose answers are compared."""
_NGINX = """\
daemon off; worker_processes 1; pid nginx.pid; error_log stderr;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000000; server_tokens off; default_type "text/plain; charset=utf-8";
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server {{ listen {host}:{port}; location / {{ {padding} return 200 "{body}"; }} }}
}}
"""


class Contestants:
    """Starts contestants by name. Raises `LoadtestError` if a package is not installed."""

    def __init__(self, group: ProcessGroup, stage: ReleaseStage, nginx: str, folder: Path) -> None:
        self._group, self._stage, self._nginx, self._folder = group, stage, nginx, folder
        self._body = self._padding = ""
        missing = [name for name in _MODULES if importlib.util.find_spec(name) is None]
        if missing:
            raise LoadtestError(f"bench: cannot compare without {', '.join(missing)}: make bench installs them")

    def start(self, name: str) -> RunningProcess:
        """Start one of `NAMES` on a free port."""
        port, stage = free_port(), self._stage
        match name:
            case "compact" | "rendered":
                return self._group.start_worker(name, getattr(stage, name), port)
            case "ordinary":
                return self._group.start_worker(name, stage.compact, port, lane=False)
            case "nginx":
                return self._group.start(name, self._nginx_command(port), port)
        command = _granian(port) if name == "granian" else _uvicorn(port)
        return self._group.start(name, command, port, {"BENCH_RELEASE": str(stage.releases[1])})

    def fit_nginx(self, model: Reply) -> None:
        """Let nginx answer with as many bytes as a worker does: the same body, and a header as padding."""
        self._body, self._padding = model.body.decode(), ""
        trial = self.start("nginx")
        trial.first_answer_s()
        missing = len(model.head) - len(trial.ask().head)
        self._group.end(trial)
        length = missing - len("x-fill: \r\n")
        self._padding = f"add_header x-fill {'x' * length};" if length > 0 else ""

    def _nginx_command(self, port: int) -> list[str]:
        conf = _NGINX.format(host=HOST, port=port, body=self._body, padding=self._padding)
        (self._folder / "nginx.conf").write_text(conf)
        return [self._nginx, "-e", "stderr", "-p", str(self._folder), "-c", "nginx.conf"]


def typical(worker: RunningProcess, users: int) -> Reply:
    """An answer of a worker whose length is closest to the mean."""
    replies = [worker.ask(f"/recommend/{user}") for user in _sample(users)]
    mean = sum(len(reply.body) for reply in replies) / len(replies)
    return min(replies, key=lambda reply: abs(len(reply.body) - mean))


def require_same(running: Mapping[str, RunningProcess], users: int) -> None:
    """Raise `LoadtestError` if contestants answer differently, or nginx with another number of bytes."""
    worker = running["compact"]
    for user in _sample(users):
        wanted = worker.ask(f"/recommend/{user}").body
        for name in running.keys() - {"compact", "nginx"}:
            if (body := running[name].ask(f"/recommend/{user}").body) != wanted:
                raise LoadtestError(f"bench: {name} answers user {user} with {body[:80]!r}…, not {wanted[:80]!r}…")
    if "nginx" in running:
        worker_bytes, nginx_bytes = _size(typical(worker, users)), _size(running["nginx"].ask())
        if worker_bytes != nginx_bytes:
            raise LoadtestError(f"bench: nginx answers with {nginx_bytes} bytes, a worker with {worker_bytes}")


def _size(reply: Reply) -> int:
    return len(reply.head) + len(reply.body)


def _sample(users: int) -> list[int]:
    return random.Random(1).sample(range(1, users + 1), min(users, _COMPARED))


def _granian(port: int) -> list[str]:
    options = "--interface rsgi --workers 1 --http 1 --no-ws --loop uvloop --log-level error --factory"
    app = "loadtest.bench.serving.contestant_apps:granian"
    return [sys.executable, "-m", "granian", *options.split(), *_address(port), app]


def _uvicorn(port: int) -> list[str]:
    options = "--loop uvloop --http httptools --no-access-log --log-level warning --no-server-header --no-date-header"
    app = "loadtest.bench.serving.contestant_apps:fastapi"
    return [sys.executable, "-m", "uvicorn", "--factory", *options.split(), *_address(port), app]


def _address(port: int) -> list[str]:
    return ["--host", HOST, "--port", str(port)]
