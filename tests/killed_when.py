"""A command that is killed (-9) in its midst, as soon as something holds.

It looks by itself, in a thread: a test that looks from outside may be put off by a busy machine until all is over.
"""

import os
import runpy
import signal
import sys
import threading
import time
from collections.abc import Callable


def run(holds: Callable[[], object], room: str, *arguments: str) -> None:
    """`python -m room …` in this process, until something holds."""

    def watch() -> None:
        while not holds():
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    sys.argv[1:] = arguments
    runpy.run_module(room, run_name="__main__", alter_sys=True)
