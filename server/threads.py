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
    """End this process with status 0 where threads are still at work, whatever they wait for; else do nothing.

    Python takes itself apart at the end while daemon threads go on, and one that is within numpy or Annoy then may run
    into memory that is gone: a worker that was told to end while it opened a release died of it (SIGSEGV).
    """
    if threading.active_count() > 1:
        logging.shutdown()
        os._exit(0)


async def run_in_daemon_thread(work: Callable[[], T]) -> T:
    """What `work` returns or raises, done in a thread.

    A thread that nobody waits for when the process ends, other than those of asyncio: a disk that hangs must not keep
    a worker from ending.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # so that who is cancelled while waiting leaves it alone

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(future)
