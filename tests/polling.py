"""Waiting for something that another thread or process does."""

import asyncio
import time
from collections.abc import Callable

DEADLINE_S = 600.0
"""The longest that a test waits for anything: far more than a busy machine ever needs."""
_PAUSE_S = 0.005


def until(holds: Callable[[], object]) -> None:
    """Wait until a condition holds. Fails after `DEADLINE_S`."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, "the condition did not hold in time"
        time.sleep(_PAUSE_S)


async def until_in_loop(holds: Callable[[], object]) -> None:
    """`until` within an event loop, which goes on meanwhile."""
    async with asyncio.timeout(DEADLINE_S):
        while not holds():
            await asyncio.sleep(_PAUSE_S)
