"""Judges lines for the benchmarks: the only module here that knows how `quality` is called.

A batch is judged as the collector does it, against rules that are made once. The catalogue, where there is one, is
whole: a movie that is not in it does not exist.
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
"""The rule of a repair that takes the event's time from Kafka's record."""


class JudgedLine(NamedTuple):
    """An event that a line was taken for."""

    event: Event
    rule: str | None
    """That repaired it; None where the line was accepted."""


def context_of(runtimes: Mapping[str, int | None]) -> JudgingContext:
    """What lines are held against: the settings' defaults, and a catalogue of movies and their minutes."""
    return context_checks.make_context(SETTINGS, QualitySettings(), KnownIds(runtimes=runtimes))


def judged(values: pa.Array, kafka_times: np.ndarray, context: JudgingContext) -> Verdicts:
    """The fates of a batch, from the lines' bytes.

    As in the collector, movies that the catalogue does not have are asked for first; the answer, that there are none,
    is given here at once and for all of them.
    """
    lines = ParsedLines.read(values, kafka_times, context.zone)
    known = context.known
    if known.runtimes:
        missing = lines.movies() - known.runtimes.keys()
        context = replace(context, known=replace(known, missing=known.missing | missing))
    return judge(lines, context)


def places(verdicts: Verdicts) -> dict[str, np.ndarray]:
    """By fate: the places of its lines in the batch (int64)."""
    repaired = [good.rows[list(good.rules)] for good in verdicts.good.values()]
    accepted = [np.delete(good.rows, list(good.rules)) for good in verdicts.good.values()]
    return {
        "accepted": np.concatenate(accepted),
        "repaired": np.concatenate(repaired).astype(np.int64),
        "quarantined": verdicts.quarantined,
        "duplicate": verdicts.duplicates,
    }


def events(verdicts: Verdicts) -> dict[int, JudgedLine]:
    """By place of the line: the event that it was taken for."""
    found: dict[int, JudgedLine] = {}
    for kind, good in verdicts.good.items():
        rows = zip(good.rows.tolist(), events_of(kind, good.table), strict=True)
        found |= {place: JudgedLine(event, good.rules.get(at)) for at, (place, event) in enumerate(rows)}
    return found
