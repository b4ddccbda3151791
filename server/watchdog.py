"""The watchdog: a process that ends a worker whose event loop stands still.

A thread would not do: a call into C that holds Python's lock, as a read of a mapped file on a disk that hangs, stops
all threads. Python's own timer (`faulthandler.dump_traceback_later`) would not do either: it goes by the clock, and
kills a healthy worker that was stopped or frozen for a while the moment it goes on.
"""

import asyncio
import faulthandler
import logging
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

_PROCESS = Path(__file__).with_name("watchdog_process.py")
_LAST_S = 1.0


class Watchdog:
    """Has this worker ended by another process when its loop has not turned for `stall_s` seconds."""

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = -1
        self._fault = ""

    async def follow(self) -> None:
        """Show again and again that the loop turns."""
        # written below Python, so it shows where a worker stands that does nothing any more
        faulthandler.register(signal.SIGUSR1, all_threads=True)
        while True:
            self.beat()
            await asyncio.sleep(min(1.0, self._stall_s / 3))

    def beat(self) -> None:
        """Show that the loop turns, to a new process where there is none."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        with suppress(BlockingIOError, BrokenPipeError):  # full where it is stopped, broken where it has just died
            if self._process is not None:
                os.write(self._pipe, b".")

    def close(self) -> None:
        """End the process."""
        if self._process is None:
            return
        os.close(self._pipe)
        with suppress(subprocess.TimeoutExpired):  # it ends when it has its turn
            self._process.wait(_LAST_S)
        self._process = None

    def _start(self) -> None:
        self.close()
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        # -I and -S: nothing of the environment and no packages, so it is there in no time and takes little
        command = [sys.executable, "-I", "-S", str(_PROCESS), str(os.getpid()), str(self._stall_s)]
        environ = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
        try:
            self._process = subprocess.Popen(command, stdin=reader, stdout=subprocess.DEVNULL, env=environ)
        except OSError as error:
            os.close(writer)
            if str(error) != self._fault:
                log.error("nothing ends this worker if its loop stands still: %s", error)
            self._fault = str(error)
        else:
            self._pipe, self._fault = writer, ""
        finally:
            os.close(reader)
