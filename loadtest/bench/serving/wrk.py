"""wrk, the load for comparing contestants: 64 connections, each of which sends its next request as soon as it has an
answer.

This closed loop measures the cost of an answer, and the capacity of a server. It cannot measure the latency at a given
rate, since it sends no requests while the server stalls; `openloop.py` measures that.
"""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import msgspec

from loadtest.bench.serving.bench_processes import HOST
from loadtest.errors import LoadtestError

CONNECTIONS = 64
_SBIN = ("/usr/local/sbin", "/usr/sbin")
"""Where nginx is, though these are not in the PATH of an ordinary user."""
_LUA = """\
function init(args)
  users = tonumber(args[1])
  math.randomseed(tonumber(args[2]))
end

function request()
  return "GET /recommend/" .. math.random(1, users) .. " HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\n\\r\\n"
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format('\\n{"requests": %d, "seconds": %.6f, "p50_us": %.0f, "p99_us": %.0f, "p99_9_us": %.0f, ',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
  io.write(string.format('"not_2xx": %d, "socket_errors": %d}\\n', errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
"""


class WrkResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Figures of one run of wrk."""

    requests: int
    seconds: float
    p50_us: float
    p99_us: float
    p99_9_us: float
    not_2xx: int
    socket_errors: int

    @property
    def errors(self) -> int:
        """Requests without an answer, or with one that is not 2xx."""
        return self.not_2xx + self.socket_errors


@dataclass(frozen=True)
class Tools:
    """Paths of the programs that are not Python packages."""

    wrk: str
    nginx: str


def tools() -> Tools:
    """Find the programs. Raises `LoadtestError` that says what to install."""
    paths = {name: shutil.which(name) or _in_sbin(name) for name in ("wrk", "nginx")}
    missing = [name for name, path in paths.items() if path is None]
    if missing:
        packages = " ".join({"wrk": "wrk", "nginx": "nginx-light"}[name] for name in missing)
        verb = "is" if len(missing) == 1 else "are"
        raise LoadtestError(f"bench: {' and '.join(missing)} {verb} missing: install with `apt-get install {packages}`")
    return Tools(str(paths["wrk"]), str(paths["nginx"]))


def run(wrk: str, folder: Path, port: int, seconds: int, users: int, seed: int) -> WrkResult:
    """Request random users as fast as the answers arrive. Raises `LoadtestError` if wrk fails."""
    script = folder / "requests.lua"
    script.write_text(_LUA)
    command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(script), f"http://{HOST}:{port}"]
    done = subprocess.run([*command, "--", str(users), str(seed)], capture_output=True, text=True, timeout=seconds + 60)
    if done.returncode:
        output = (done.stderr or done.stdout).strip()[-200:]
        raise LoadtestError(f"bench: wrk ended with code {done.returncode}: {output}")
    return parsed(done.stdout)


def parsed(output: str) -> WrkResult:
    """The figures in wrk's output. Raises `LoadtestError` if they are missing."""
    lines = [line for line in output.splitlines() if line.startswith("{")]
    try:
        return msgspec.json.decode(lines[-1], type=WrkResult)
    except (IndexError, msgspec.MsgspecError) as error:
        raise LoadtestError(f"bench: wrk printed no figures: {output.strip()[-200:]!r}") from error


def _in_sbin(name: str) -> str | None:
    return next((path for folder in _SBIN if (path := shutil.which(name, path=folder))), None)
