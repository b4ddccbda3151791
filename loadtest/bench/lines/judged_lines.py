"""Judges lines for the benchmarks: the only module of the benchmarks that calls `quality`.

Batches are judged as the collector judges them, with rules compiled once. The catalogue, if there is one, is
complete: a movie that is not in it does not exist.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from loadtest.bench.lines.line_sources import SETTINGS
from quality.catalog import KnownIds
from quality.lines import context_checks
from quality.lines.context_checks import JudgingContext
from quality.lines.schemas import event_schemas
from quality.lines.verdicts import ParsedLines, Verdicts, judge
from quality.settings import QualitySettings
from stream.event import Event
from stream.line_columns import events_of

BATCH = SETTINGS.batch_lines
SCHEMAS = event_schemas(SETTINGS)
KAFKA_TIME = "kafka_time"
"""The repair rule that takes the event's time from Kafka's record."""


class JudgedLine(NamedTuple):
    """The event that a line was judged to be."""

    event: Event
    rule: str | None
    """The rule that repaired it; None if the line was accepted."""


def context_of(runtimes: Mapping[str, int | None]) -> JudgingContext:
    """The context of judging: the default settings, and a catalogue of movies with their minutes."""
    return context_checks.make_context(SETTINGS, QualitySettings(), KnownIds(runtimes=runtimes))


def judged(values: pa.Array, kafka_times: np.ndarray, context: JudgingContext) -> Verdicts:
    """The verdicts on a batch, from the lines' bytes.

    The collector asks the APIs about movies that the catalogue does not have; here all of them are unknown at once.
    """
    lines = ParsedLines.read(values, kafka_times, context.zone)
    known = context.known
    if known.runtimes:
        missing = lines.movies() - known.runtimes.keys()
        context = replace(context, known=replace(known, missing=known.missing | missing))
    return judge(lines, context)


def rows_by_fate(verdicts: Verdicts) -> dict[str, np.ndarray]:
    """By fate: the rows of its lines in the batch (int64)."""
    repaired = [good.rows[list(good.rules)] for good in verdicts.kept.values()]
    accepted = [np.delete(good.rows, list(good.rules)) for good in verdicts.kept.values()]
    return {
        "accepted": np.concatenate(accepted),
        "repaired": np.concatenate(repaired).astype(np.int64),
        "quarantined": verdicts.quarantined,
        "duplicate": verdicts.duplicates,
    }


def events(verdicts: Verdicts) -> dict[int, JudgedLine]:
    """By row of the line in the batch: the event that it was judged to be."""
    judged_lines: dict[int, JudgedLine] = {}
    for kind, good in verdicts.kept.items():
        events_by_row = zip(good.rows.tolist(), events_of(kind, good.table), strict=True)
        judged_lines |= {
            row: JudgedLine(event, good.rules.get(number)) for number, (row, event) in enumerate(events_by_row)
        }
    return judged_lines
