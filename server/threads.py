"""Daemon threads for blocking work: Python does not join them at exit, so a hung disk cannot block shutdown."""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def end_process() -> None:
    """End this process at once with status 0 if other threads still run; else do nothing.

    Daemon threads continue while Python shuts down, and one inside numpy or Annoy may then access freed memory: a
    worker that had to end while it opened a release crashed (SIGSEGV).
    """
    if threading.active_count() > 1:
        logging.shutdown()
        os._exit(0)


async def run_in_daemon_thread(work: Callable[[], T]) -> T:
    """Run `work` in a daemon thread; returns or raises as it does.

    Unlike the executor threads of asyncio it is not joined at exit, so a hung disk cannot block shutdown.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # so that a caller that is cancelled does not cancel the future

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - the caller gets it
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(future)
