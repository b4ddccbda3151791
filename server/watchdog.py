"""The watchdog: a process that kills a worker whose event loop hangs.

A thread cannot do this: a call into C that holds the GIL, such as a read of a mapped file on a hung disk, stops all
threads. Nor can the timer of Python (`faulthandler.dump_traceback_later`): it goes by the clock, so it would kill a
healthy worker that was stopped or frozen for a while as soon as it resumes.
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
    """Starts a process that ends this worker if its loop has not turned for `stall_s` seconds."""

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe = -1
        self._fault = ""

    async def follow(self) -> None:
        """Signal repeatedly that the loop turns."""
        # faulthandler works below the interpreter, so it can show the stack of a worker that hangs
        faulthandler.register(signal.SIGUSR1, all_threads=True)
        while True:
            self.beat()
            await asyncio.sleep(min(1.0, self._stall_s / 3))

    def beat(self) -> None:
        """Signal that the loop turns; starts the process if it does not run."""
        if self._process is None or self._process.poll() is not None:
            self._start()
        with suppress(BlockingIOError, BrokenPipeError):  # full if the process is stopped, broken if it just died
            if self._process is not None:
                os.write(self._pipe, b".")

    def close(self) -> None:
        """End the watchdog's process."""
        if self._process is None:
            return
        os.close(self._pipe)
        with suppress(subprocess.TimeoutExpired):  # on a busy machine it may end a little later
            self._process.wait(_LAST_S)
        self._process = None

    def _start(self) -> None:
        self.close()
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        # -I and -S: no environment and no packages, so that it starts fast and stays small
        command = [sys.executable, "-I", "-S", str(_PROCESS), str(os.getpid()), str(self._stall_s)]
        environ = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
        try:
            self._process = subprocess.Popen(command, stdin=reader, stdout=subprocess.DEVNULL, env=environ)
        except OSError as error:
            os.close(writer)
            if str(error) != self._fault:
                log.error("no watchdog: this worker will not be ended if its loop hangs: %s", error)
            self._fault = str(error)
        else:
            self._pipe, self._fault = writer, ""
        finally:
            os.close(reader)
