"""The process of the watchdog, run by file name so that it imports nothing of Marquee.

It depends on nothing in the worker: no turn of its loop, no lock of its interpreter. While its loop turns, the worker
writes bytes to the pipe that is this process's standard input. The time without a byte is counted in small steps, each
as two steps at most, and not at all while the worker is stopped: so a worker that was stopped (SIGSTOP), or whose
machine was frozen, gets its whole time again.

When a worker's time is up, it gets SIGUSR1 to write its stack, and is killed unless its loop then turns.
"""

import os
import select
import signal
import sys
import time

_STEP_S = 1.0
_LAST_S = 1.0
"""How long the worker may take to write its stack, seconds."""


def watch(worker: int, stall_s: float) -> None:
    """Watch the worker, the parent of this process, until it ends."""
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
    """Whether the loop of the worker turned within `wait_s` seconds; None if the worker has ended."""
    if not select.select([0], [], [], wait_s)[0]:
        return False
    return True if os.read(0, 4096) else None


def _is_stopped(worker: int) -> bool:
    """Whether the worker is stopped or traced; False if the system does not say (it needs Linux)."""
    try:
        descriptor = os.open(f"/proc/{worker}/stat", os.O_RDONLY)
    except OSError:
        return False
    status = os.read(descriptor, 4096)
    os.close(descriptor)
    return status[status.rindex(b")") + 2 :].startswith((b"T", b"t"))


def _end(worker: int, stall_s: float) -> None:
    print(f"Timeout ({stall_s:g} s)! The loop of worker {worker} stands still:", file=sys.stderr, flush=True)
    if os.getppid() != worker:  # the worker has ended, and its id may be reused
        return
    os.kill(worker, signal.SIGUSR1)
    if _turned(_LAST_S) is False and not _is_stopped(worker) and os.getppid() == worker:
        os.kill(worker, signal.SIGKILL)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # meant for the worker; this process ends with it
        signal.signal(number, signal.SIG_IGN)
    watch(int(sys.argv[1]), float(sys.argv[2]))
