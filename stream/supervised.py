"""Ends a process with the supervisord that started it.

A supervisord that is killed (-9) leaves its processes running: they keep the port, so that no new one can start, and
when one of them dies, nobody starts it anew. So each asks the kernel for a SIGTERM at the death of its supervisord, and
ends as if that had told it to.
"""

import ctypes
import os
import signal
from collections.abc import Mapping
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def end_with_supervisor(environ: Mapping[str, str] = os.environ) -> None:
    """Let this process be told to end when the supervisord that started it dies, also where it has died by now.

    Nothing is changed for a process that supervisord did not start, and for what such a process has started.
    """
    if "SUPERVISOR_ENABLED" not in environ:
        return
    parent = os.getppid()
    if _has(parent, "environ", b"SUPERVISOR_ENABLED="):  # a night, which the schedule looks after
        return
    if _has(parent, "cmdline", b"supervisord"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() == parent:
            return
    os.kill(os.getpid(), signal.SIGTERM)  # it died before the kernel was asked


def _has(pid: int, name: str, text: bytes) -> bool:
    """Whether a file of a process in /proc holds some text; what cannot be read does not."""
    try:
        return text in Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return False
