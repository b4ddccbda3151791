"""Progress of long steps: bars with rate and time left at a terminal, plain log lines elsewhere."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

log = logging.getLogger(__name__)

Advance = Callable[[int], object]


@contextmanager
def step(name: str, total: int | None = None) -> Iterator[Advance]:
    """Show the progress of a step while the block runs; the block calls the yielded function with the units done."""
    began = time.monotonic()
    if sys.stderr.isatty():
        with _bars() as bars:
            task = bars.add_task(name, total=total)
            yield lambda done: bars.advance(task, done)
            bars.update(task, total=total or 1, completed=total or 1)
    else:
        log.info("%s …", name)
        yield lambda done: None
    seconds = time.monotonic() - began
    rate = f", {_rate(total / max(seconds, 1e-3))}" if total else ""
    log.info("%s: %.1f s%s", name, seconds, rate)


class _Rate(ProgressColumn):
    """Units per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(_rate(speed) if speed else "")


def _rate(speed: float) -> str:
    return f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.2g}/s"


def _bars() -> Progress:
    from rich.console import Console

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn(), _Rate())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
