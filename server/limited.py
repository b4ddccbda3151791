"""Runs work that may hang in threads, and abandons a thread that makes no progress.

A read from a hung disk cannot be ended, only abandoned. Work reports progress as it goes; without progress for
`limit_s` it is abandoned and its result is dropped, however late it comes, so results are never applied out of order.
The same resource is tried again in a new thread, after a pause that doubles each time, while fewer than three threads
hang on it; a hung thread that returns after all frees its place at once.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from server.release_files import Progress
from server.threads import run_in_daemon_thread

T = TypeVar("T")

_MOST_EACH, _MOST = 3, 12
"""Threads that may hang on one resource, and on all."""
_STEP_S = 1.0
_LONGEST_PAUSE_S = 320.0


class Hung(Exception):
    """The work made no progress and was abandoned, or is not retried yet."""


@dataclass
class _Hanging:
    """The threads that hang on one resource."""

    threads: int
    again_at: float
    wait_s: float


class Limited:
    """Runs work in threads, and waits at most `limit_s` seconds for progress."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._hanging: dict[str, _Hanging] = {}

    async def run(self, resource: str, work: Callable[[Progress], T]) -> T:
        """Returns or raises as `work` does. Raises `Hung` if it makes no progress, or earlier work still hangs."""
        self._require_room(resource)
        reports = [0]

        def progress() -> None:
            reports[0] += 1

        task = asyncio.ensure_future(run_in_daemon_thread(partial(work, progress)))
        if await self._ends(task, reports):
            return task.result()
        now = time.monotonic()
        hanging = self._hanging.setdefault(resource, _Hanging(0, 0.0, self._limit_s))
        hanging.threads += 1
        hanging.again_at, hanging.wait_s = now + hanging.wait_s, min(2 * hanging.wait_s, _LONGEST_PAUSE_S)
        task.add_done_callback(partial(self._returned, resource))
        raise Hung(_hung_message(resource))

    async def _ends(self, task: "asyncio.Future[Any]", reports: list[int]) -> bool:
        """Wait until work ends; False if it makes no progress for too long.

        The time is counted in small steps: if a step takes far longer, the process was stopped, not the work hung.
        """
        step_s, still_s = min(_STEP_S, self._limit_s / 4), 0.0
        while still_s < self._limit_s:
            before, began = reports[0], time.monotonic()
            if (await asyncio.wait([task], timeout=step_s))[0]:
                return True
            still_s = still_s + min(time.monotonic() - began, 2 * step_s) if reports[0] == before else 0.0
        return False

    def _require_room(self, resource: str) -> None:
        hanging = self._hanging.get(resource)
        if hanging is not None and (hanging.threads >= _MOST_EACH or time.monotonic() < hanging.again_at):
            raise Hung(_hung_message(resource))
        if sum(hanging.threads for hanging in self._hanging.values()) >= _MOST:
            raise Hung(f"{resource}: not read, {_MOST} threads hang on {', '.join(self._hanging)}")

    def _returned(self, resource: str, task: "asyncio.Future[Any]") -> None:
        if not task.cancelled():
            task.exception()  # retrieved, because no code awaits the task and asyncio would log it
        hanging = self._hanging[resource]
        hanging.threads -= 1
        if not hanging.threads:
            del self._hanging[resource]


def _hung_message(resource: str) -> str:
    return f"{resource}: reading it makes no progress; does its disk hang?"
