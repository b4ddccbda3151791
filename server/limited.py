"""Runs work that may hang in threads that are given up when they make no progress, a few at most.

A read of a disk that hangs cannot be ended, only left behind. Work shows progress as it goes; what shows none for
`limit_s` is given up: its result is dropped, however late it comes, so nothing is ever applied out of order. The same
resource is tried again, in a new thread, after a time that doubles, and with three threads at most; a thread that comes
back after all makes room at once.
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
_SELDOM_S = 320.0


class Hung(Exception):
    """Work stands still and was given up, or is not tried again yet."""


@dataclass
class _Hanging:
    """Threads that hang on one resource."""

    threads: int
    again_at: float
    wait_s: float


class Limited:
    """Runs work in threads, at most `limit_s` seconds without progress."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._hanging: dict[str, _Hanging] = {}

    async def run(self, resource: str, work: Callable[[Progress], T]) -> T:
        """What `work` returns or raises. Raises `Hung` where it stands still, or still hangs from an earlier time."""
        self._require_room(resource)
        shown = [0]

        def progress() -> None:
            shown[0] += 1

        task = asyncio.ensure_future(run_in_daemon_thread(partial(work, progress)))
        if await self._ends(task, shown):
            return task.result()
        now = time.monotonic()
        hanging = self._hanging.setdefault(resource, _Hanging(0, 0.0, self._limit_s))
        hanging.threads += 1
        hanging.again_at, hanging.wait_s = now + hanging.wait_s, min(2 * hanging.wait_s, _SELDOM_S)
        task.add_done_callback(partial(self._came_back, resource))
        raise Hung(_told(resource))

    async def _ends(self, task: "asyncio.Future[Any]", shown: list[int]) -> bool:
        """Wait until work ends; False where it shows no progress for too long.

        Counted in small steps: one that took far longer was a process that was stopped, not work that stood still.
        """
        step_s, still_s = min(_STEP_S, self._limit_s / 4), 0.0
        while still_s < self._limit_s:
            before, began = shown[0], time.monotonic()
            if (await asyncio.wait([task], timeout=step_s))[0]:
                return True
            still_s = still_s + min(time.monotonic() - began, 2 * step_s) if shown[0] == before else 0.0
        return False

    def _require_room(self, resource: str) -> None:
        hanging = self._hanging.get(resource)
        if hanging is not None and (hanging.threads >= _MOST_EACH or time.monotonic() < hanging.again_at):
            raise Hung(_told(resource))
        if sum(one.threads for one in self._hanging.values()) >= _MOST:
            raise Hung(f"{resource}: not read, {_MOST} threads hang on {', '.join(self._hanging)}")

    def _came_back(self, resource: str, task: "asyncio.Future[Any]") -> None:
        if not task.cancelled():
            task.exception()  # nobody waits for it any more
        hanging = self._hanging[resource]
        hanging.threads -= 1
        if not hanging.threads:
            del self._hanging[resource]


def _told(resource: str) -> str:
    return f"{resource}: reading it makes no progress; does its disk hang?"
