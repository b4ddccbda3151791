"""Nights in a row on a simulated service, from an empty archive on: what a night chooses is shown on the next day."""

from dataclasses import dataclass

import numpy as np

from batch.evaluation.evaluate import evaluate, shown_model
from batch.evaluation.splits import marked
from batch.evaluation_file import Evaluation
from batch.models.top_lists import top_lists
from batch.settings import BatchSettings
from loadtest.bench.exposure.estimators import WINDOW_MS, lists_of
from loadtest.bench.exposure.shown_world import ShownWorld

_OPEN_HOURS = 2
"""Before the first release, the popular list of these hours."""


@dataclass(frozen=True)
class ShownNight:
    """One night, and the day before it."""

    evaluation: Evaluation
    taken: float
    """Share of the day's lists from which the user took a movie."""


def nights(world: ShownWorld, count: int, settings: BatchSettings, counts_exposed: bool = False) -> list[ShownNight]:
    """So many days of a service that has just opened, each with its night. With `counts_exposed` a night does not know
    which lists were shown, and so counts all starts."""
    world.play(_OPEN_HOURS)
    lists = lists_of("popular", world.history().before(world.now_ms, settings.half_life_days), settings)
    done: list[ShownNight] = []
    for day in range(count):
        asked, taken = world.asked, world.taken
        world.play(24 - _OPEN_HOURS if not day else 24, lists)
        history = world.history()
        if not counts_exposed:
            history = marked(history, world.requests(), WINDOW_MS, settings)
        evaluation = evaluate(history, settings, lambda done: None)
        data = history.before(history.until, settings.half_life_days)
        lists = top_lists(shown_model(evaluation, data, settings), data, np.arange(len(history.users)))
        done.append(ShownNight(evaluation, (world.taken - taken) / max(1, world.asked - asked)))
    return done
