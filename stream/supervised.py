"""Ends a process with the supervisord that started it.

A supervisord that dies from SIGKILL leaves its processes running: they hold the port, so that their successors cannot
start, and nothing restarts them when they die. So each process asks the kernel for a SIGTERM when its supervisord dies,
and shuts down as if supervisord had stopped it.
"""

import ctypes
import os
import signal
from collections.abc import Mapping
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def end_with_supervisor(environ: Mapping[str, str] = os.environ) -> None:
    """Send this process SIGTERM when the supervisord that started it dies, or now if it is already dead.

    Does nothing in a process that supervisord did not start itself.
    """
    if "SUPERVISOR_ENABLED" not in environ:
        return
    parent = os.getppid()
    if _has(parent, "environ", b"SUPERVISOR_ENABLED="):  # a night: its parent, the schedule, watches it
        return
    if _has(parent, "cmdline", b"supervisord"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() == parent:
            return
    os.kill(os.getpid(), signal.SIGTERM)  # supervisord died before the kernel was asked


def _has(pid: int, name: str, text: bytes) -> bool:
    """Whether a file of a process in /proc contains a text; False if it cannot be read."""
    try:
        return text in Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return False
