"""The contestants of `serving`, and how each is started: one process on a port of its own.

| name | what it is |
|---|---|
| `compact` | a worker of ours; answers are put together from the lists' indices |
| `rendered` | a worker of ours; answers are rendered beforehand |
| `ordinary` | a worker of ours without the fast lane: Sanic's own handler |
| `nginx` | `return 200` with as many bytes as our answer has: nothing is looked up, the same is sent to everyone |
| `granian` | the look-up behind Granian's raw interface |
| `fastapi` | the look-up behind FastAPI on Uvicorn, with uvloop and httptools |

All but nginx answer every user with the same body; that is made sure of before anything is measured.
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
"""Users whose answers must be the same."""
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
    """The contestants, to be started by their names."""

    def __init__(self, crew: ProcessGroup, stage: ReleaseStage, nginx: str, folder: Path) -> None:
        self._crew, self._stage, self._nginx, self._folder = crew, stage, nginx, folder
        self._body = self._padding = ""
        missing = [name for name in _MODULES if importlib.util.find_spec(name) is None]
        if missing:
            raise LoadtestError(f"bench: without {', '.join(missing)} there is no comparing: make bench installs them")

    def start(self, name: str) -> RunningProcess:
        """Start one of `NAMES`, on a port that is free."""
        port, stage = free_port(), self._stage
        match name:
            case "compact" | "rendered":
                return self._crew.start_worker(name, getattr(stage, name), port)
            case "ordinary":
                return self._crew.start_worker(name, stage.compact, port, lane=False)
            case "nginx":
                return self._crew.start(name, self._nginx_command(port), port)
        command = _granian(port) if name == "granian" else _uvicorn(port)
        return self._crew.start(name, command, port, {"BENCH_RELEASE": str(stage.releases[1])})

    def fit_nginx(self, model: Reply) -> None:
        """Let nginx answer with as many bytes as a worker does: the same body, and a header that fills up its own."""
        self._body, self._padding = model.body.decode(), ""
        trial = self.start("nginx")
        trial.first_answer_s()
        short = len(model.head) - len(trial.ask().head)
        self._crew.end(trial)
        room = short - len("x-fill: \r\n")
        self._padding = f"add_header x-fill {'x' * room};" if room > 0 else ""

    def _nginx_command(self, port: int) -> list[str]:
        conf = _NGINX.format(host=HOST, port=port, body=self._body, padding=self._padding)
        (self._folder / "nginx.conf").write_text(conf)
        return [self._nginx, "-e", "stderr", "-p", str(self._folder), "-c", "nginx.conf"]


def typical(worker: RunningProcess, users: int) -> Reply:
    """The answer of a worker that is as long as its answers are in the mean."""
    found = [worker.ask(f"/recommend/{user}") for user in _sample(users)]
    mean = sum(len(reply.body) for reply in found) / len(found)
    return min(found, key=lambda reply: abs(len(reply.body) - mean))


def require_same(running: Mapping[str, RunningProcess], users: int) -> None:
    """Raise `LoadtestError` where the contestants do not answer the same, or nginx not as many bytes."""
    ours = running["compact"]
    for user in _sample(users):
        wanted = ours.ask(f"/recommend/{user}").body
        for name in running.keys() - {"compact", "nginx"}:
            if (found := running[name].ask(f"/recommend/{user}").body) != wanted:
                raise LoadtestError(f"bench: {name} answers user {user} with {found[:80]!r}…, not {wanted[:80]!r}…")
    if "nginx" in running:
        wanted_bytes, found_bytes = _bytes(typical(ours, users)), _bytes(running["nginx"].ask())
        if wanted_bytes != found_bytes:
            raise LoadtestError(f"bench: nginx answers with {found_bytes} bytes, a worker with {wanted_bytes}")


def _bytes(reply: Reply) -> int:
    return len(reply.head) + len(reply.body)


def _sample(users: int) -> list[int]:
    return random.Random(1).sample(range(1, users + 1), min(users, _COMPARED))


def _granian(port: int) -> list[str]:
    how = "--interface rsgi --workers 1 --http 1 --no-ws --loop uvloop --log-level error --factory"
    return [sys.executable, "-m", "granian", *how.split(), *_at(port), "loadtest.bench.serving.contestant_apps:granian"]


def _uvicorn(port: int) -> list[str]:
    how = "--loop uvloop --http httptools --no-access-log --log-level warning --no-server-header --no-date-header"
    return [
        sys.executable,
        "-m",
        "uvicorn",
        "--factory",
        *how.split(),
        *_at(port),
        "loadtest.bench.serving.contestant_apps:fastapi",
    ]


def _at(port: int) -> list[str]:
    return ["--host", HOST, "--port", str(port)]
