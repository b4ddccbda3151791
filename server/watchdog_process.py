"""The watchdog's process, run by file name so that it loads nothing else.

It needs nothing of the worker to work: no turn of its loop, no lock of its interpreter. The worker writes a byte to the
pipe that is this process's standard input as long as its loop turns. Time without one is counted in small steps, none
of which counts for more than two, and not at all while the worker is stopped: so a worker that was stopped (SIGSTOP),
or a machine that was frozen, is given its whole time again.

A worker that has used up its time is told to write where it stands (SIGUSR1), and killed unless its loop turns then.
"""

import os
import select
import signal
import sys
import time

_STEP_S = 1.0
_LAST_S = 1.0
"""How long the worker may take to write where it stands."""


def watch(worker: int, stall_s: float) -> None:
    """Watch the worker, the parent of this process, until it is gone."""
    step_s, still_s = min(_STEP_S, stall_s / 10), 0.0
    while True:
        began = time.monotonic()
        turned = _turned(step_s)
        if turned is None:
            return
        if turned or _is_stopped(worker):
            still_s = 0.0
            continue
        still_s += min(time.monotonic() - began, 2 * step_s)
        if still_s >= stall_s:
            _end(worker, stall_s)
            still_s = 0.0


def _turned(wait_s: float) -> bool | None:
    """Whether the worker's loop has turned within some time; None where the worker is gone."""
    if not select.select([0], [], [], wait_s)[0]:
        return False
    return True if os.read(0, 4096) else None


def _is_stopped(worker: int) -> bool:
    """Whether the worker is stopped or traced, where the system says so (Linux)."""
    try:
        descriptor = os.open(f"/proc/{worker}/stat", os.O_RDONLY)
    except OSError:
        return False
    status = os.read(descriptor, 4096)
    os.close(descriptor)
    return status[status.rindex(b")") + 2 :].startswith((b"T", b"t"))


def _end(worker: int, stall_s: float) -> None:
    print(f"Timeout ({stall_s:g} s)! The loop of worker {worker} stands still:", file=sys.stderr, flush=True)
    if os.getppid() != worker:  # it is gone, and its number may be another's
        return
    os.kill(worker, signal.SIGUSR1)
    if _turned(_LAST_S) is False and not _is_stopped(worker) and os.getppid() == worker:
        os.kill(worker, signal.SIGKILL)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # meant for the worker; this one ends with it
        signal.signal(number, signal.SIG_IGN)
    watch(int(sys.argv[1]), float(sys.argv[2]))
