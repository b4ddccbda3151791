"""Processes and commands that kill themselves (-9) as soon as a condition holds.

A thread of the process itself checks the condition: on a busy machine, a test that checks it from outside may come too
late.
"""

import os
import runpy
import signal
import sys
import threading
import time
from collections.abc import Callable


def kill_when(holds: Callable[[], object]) -> None:
    """Kill this process (-9) as soon as a condition holds."""

    def watch() -> None:
        while not holds():
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def run(holds: Callable[[], object], room: str, *arguments: str) -> None:
    """Run `python -m room …` in this process until a condition holds."""
    kill_when(holds)
    sys.argv[1:] = arguments
    runpy.run_module(room, run_name="__main__", alter_sys=True)
