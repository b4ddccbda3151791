"""Work beside the event loop: what waits for a disk must not keep anyone waiting for an answer."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def beside(work: Callable[[], T]) -> T:
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
