"""Rolling restart of the workers under supervisord: each is restarted once the previous one is ready again.

The shared socket stays open meanwhile (`supervisor_plugin.py`): new clients wait in its queue or are answered by the
other workers, so no request is lost or refused.
"""

import os
import time
import xmlrpc.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

from server.errors import RestartFailed
from server.worker_status import WorkerStatus, ask_workers

GROUP = "server"
"""The workers' group in supervisord.conf."""
_LOOK_S = 0.05
_RUNNING_STATES = ("STARTING", "RUNNING", "BACKOFF")


def restart_workers(var: Path, patience_s: float, say: Callable[[str], None]) -> None:
    """Restart all workers that answer from `var`; `say` gets a line about each.

    Raises `RestartFailed` if supervisord cannot be reached, or a worker is not ready within `patience_s` seconds; the
    workers after it are then left running.
    """
    with _supervisor() as supervisor:
        names = [info["name"] for info in supervisor.supervisor.getAllProcessInfo() if info["group"] == GROUP]
        answering = any(status is not None and status.ready for status in ask_workers(var).values())
        supervisor.marquee.hold_socket(GROUP)
        try:
            for name in names:
                _restart(supervisor, f"{GROUP}:{name}")
                pid = _await_ready(supervisor, f"{GROUP}:{name}", var, patience_s, answering)
                say(f"{name} is ready (process {pid})")
        finally:
            supervisor.marquee.release_socket(GROUP)


@contextmanager
def _supervisor() -> Iterator[Any]:
    """The RPC proxy of the supervisord that runs in the folder `MARQUEE_RUN`."""
    try:
        from supervisor.xmlrpc import SupervisorTransport
    except ImportError as error:
        raise RestartFailed("restart: supervisor is not installed; it comes with the extra `run`") from error
    run = os.environ.get("MARQUEE_RUN")
    if not run:
        raise RestartFailed("restart: set MARQUEE_RUN to the folder that supervisord was started with")
    url = f"unix://{Path(run).absolute()}/supervisor.sock"
    try:
        with xmlrpc.client.ServerProxy("http://supervisord", SupervisorTransport(serverurl=url)) as supervisor:
            yield supervisor
    except (OSError, HTTPException) as error:
        raise RestartFailed(f"restart: no supervisord answers at {url}: {error}; is MARQUEE_RUN right?") from error
    except xmlrpc.client.Error as error:
        raise RestartFailed(f"restart: supervisord: {error}; was it started with this supervisord.conf?") from error


def _restart(supervisor: Any, name: str) -> None:
    """Stop a worker, which first answers what it has accepted, and start it again."""
    if supervisor.supervisor.getProcessInfo(name)["statename"] in _RUNNING_STATES:
        supervisor.supervisor.stopProcess(name, True)
    supervisor.supervisor.startProcess(name, False)


def _await_ready(supervisor: Any, name: str, var: Path, patience_s: float, answering: bool) -> int:
    """Wait until a worker serves, and is ready if workers were before the restart; returns its process id."""
    deadline = time.monotonic() + patience_s
    while True:
        info = supervisor.supervisor.getProcessInfo(name)
        status = ask_workers(var).get(info["pid"])
        if _serves(status, answering):
            return int(info["pid"])
        if info["statename"] in ("FATAL", "EXITED", "STOPPED", "UNKNOWN"):
            raise RestartFailed(f"restart: {name} is {info['statename']}: {info['spawnerr'] or 'see its log'}")
        if time.monotonic() > deadline:
            why = "does not answer" if status is None else status.refused or f"is {status.state}"
            raise RestartFailed(
                f"restart: {name} is not ready after {patience_s:g} s: {why}; the others were left alone"
            )
        time.sleep(_LOOK_S)


def _serves(status: WorkerStatus | None, with_release: bool) -> bool:
    return status is not None and status.state == "serving" and (status.ready or not with_release)
