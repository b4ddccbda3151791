"""The schedule, running in a thread of the test."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from batch.nights import schedule
from batch.settings import BatchSettings
from stream.settings import StreamSettings


@contextmanager
def scheduled(var: Path, script: str, **settings: Any) -> Iterator[None]:
    """The schedule in a thread, with a night that is a line of shell; `settings` are of `[batch]`."""
    stop, patch = threading.Event(), pytest.MonkeyPatch()
    patch.setattr(schedule, "POLL_S", 0.01)
    patch.setattr(schedule, "RETRY_S", 0.01)
    patch.setattr(schedule, "GRACE_S", 0.2)
    arguments = StreamSettings(var=var), BatchSettings(night_at="03:00", **settings), stop, ["sh", "-c", script]
    thread = threading.Thread(target=schedule.run, args=arguments)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(600)
        patch.undo()
    assert not thread.is_alive()
