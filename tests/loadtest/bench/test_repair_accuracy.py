"""Accuracy of repair: each damaged line has one outcome, by which precision and recall are counted."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from loadtest.bench.lines import damage, repair_accuracy
from loadtest.bench.lines.judged_lines import KAFKA_TIME, JudgedLine, context_of, events, judged
from loadtest.bench.lines.line_sources import CLOCK, RecordedLines, SimulatedLines
from loadtest.bench.lines.repair_accuracy import FieldRepair
from stream.event import Event
from stream.grammar import parse
from tests.loadtest.sample_lines import LINES

ORIGINAL = Event("watch", 1_000_000, 5, "alien+1979", minute=7)


@pytest.mark.parametrize(
    ("taken", "outcome"),
    [
        (None, "set_aside"),
        (JudgedLine(ORIGINAL, None), "unchanged"),
        (JudgedLine(replace(ORIGINAL, user=55), None), "unseen"),
        (JudgedLine(ORIGINAL, "one_character"), "right"),
        (JudgedLine(replace(ORIGINAL, user=55), "one_character"), "wrong"),
        (JudgedLine(replace(ORIGINAL, time=1_000_001), "one_character"), "wrong"),
        (JudgedLine(replace(ORIGINAL, time=1_000_700), KAFKA_TIME), "right"),
        (JudgedLine(replace(ORIGINAL, time=1_000_701), KAFKA_TIME), "wrong"),
        (JudgedLine(replace(ORIGINAL, time=999_999), KAFKA_TIME), "wrong"),
        (JudgedLine(replace(ORIGINAL, time=1_000_700, minute=8), KAFKA_TIME), "wrong"),
    ],
)
def test_outcome_of_a_damaged_line(taken: JudgedLine | None, outcome: str) -> None:
    assert repair_accuracy.outcome(ORIGINAL, taken, 1_000_700) == outcome
    assert outcome in repair_accuracy.OUTCOMES


def test_precision_and_recall() -> None:
    counts = Counter(right=6, wrong=2, set_aside=3, unseen=1, unchanged=4)
    assert repair_accuracy.precision(counts) == 6 / 8
    assert repair_accuracy.recall(counts) == 6 / 12
    assert repair_accuracy.precision(Counter(unchanged=3)) is None
    assert repair_accuracy.recall(Counter(unchanged=3)) is None


def lines_of(repair: FieldRepair | repair_accuracy.RepairFigures) -> int:
    return repair.right + repair.wrong + repair.set_aside + repair.unseen + repair.unchanged


def test_every_damaged_line_is_counted_once(source: SimulatedLines) -> None:
    figures = repair_accuracy.measure(source, 1_000)
    assert lines_of(figures) == 1_000
    assert sum(map(lines_of, figures.by_field.values())) == 1_000
    assert {"time", "user", "movie", "minute", "rest"} <= set(figures.by_field) <= set(damage.FIELDS)
    assert {"rating", "host", "status", "movies"} <= set(figures.rare_by_field)
    assert figures.precision is not None
    assert figures.recall is not None
    assert figures.precision >= 0.99
    assert 0.5 < figures.recall <= 1


def test_bad_recorded_lines_are_not_damaged_further(recorded: RecordedLines) -> None:
    outcomes = repair_accuracy.outcomes(recorded, 9, rare=False)
    # "no line" has no form, and the movie of the rating is not in the catalogue
    assert sum(map(Counter.total, outcomes.values())) == 3


def test_events_of_a_batch_are_known_by_row() -> None:
    values = pa.array([LINES["watch"], b"junk", LINES["rate"]], pa.binary())
    by_row = events(judged(values, np.full(3, parse(LINES["watch"], CLOCK).time), context_of({})))
    assert sorted(by_row) == [0, 2]
    assert by_row[0] == JudgedLine(parse(LINES["watch"], CLOCK), None)
