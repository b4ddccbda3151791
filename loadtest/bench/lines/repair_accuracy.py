"""Precision and recall of repair: good lines get one stray character each, and the verdicts are compared with the
events they were.

| outcome | meaning |
|---|---|
| `right` | repaired to the same event; where the time came from Kafka's record, it lies within that record's lag |
| `wrong` | repaired to another event |
| `set_aside` | quarantined |
| `unseen` | accepted as another event: it is well-formed and breaks no rule |
| `unchanged` | accepted as the same event |

precision = right / (right + wrong); recall = right / (all - unchanged).
"""

from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
from msgspec import Struct

from loadtest.bench.lines.damage import FIELDS, field_at, with_stray
from loadtest.bench.lines.judged_lines import BATCH, KAFKA_TIME, JudgedLine, context_of, events, judged
from loadtest.bench.lines.line_sources import LineSource
from stream.event import Event

OUTCOMES = ("right", "wrong", "set_aside", "unseen", "unchanged")
_SEED = 23


class FieldRepair(Struct, frozen=True, kw_only=True):
    """Lines whose stray character went into one field: by outcome, see above."""

    precision: float | None
    """None if nothing was repaired."""
    recall: float | None
    """None if no line was changed."""
    right: int
    wrong: int
    set_aside: int
    unseen: int
    unchanged: int


class RepairFigures(Struct, frozen=True, kw_only=True):
    """Lines in the service's proportions, and its rare kinds alone, which hardly occur among these."""

    precision: float | None
    recall: float | None
    right: int
    wrong: int
    set_aside: int
    unseen: int
    unchanged: int
    by_field: dict[str, FieldRepair]
    rare_precision: float | None
    rare_recall: float | None
    rare_by_field: dict[str, FieldRepair]


def measure(source: LineSource, count: int) -> RepairFigures:
    """Damage `count` lines in the service's proportions, and a fifth as many of its rare kinds."""
    usual, rare = outcomes(source, count, False), outcomes(source, count // 5, True)
    total, rare_total = _total(usual), _total(rare)
    return RepairFigures(
        precision=precision(total),
        recall=recall(total),
        right=total["right"],
        wrong=total["wrong"],
        set_aside=total["set_aside"],
        unseen=total["unseen"],
        unchanged=total["unchanged"],
        by_field=_by_field(usual),
        rare_precision=precision(rare_total),
        rare_recall=recall(rare_total),
        rare_by_field=_by_field(rare),
    )


def outcomes(source: LineSource, count: int, rare: bool) -> dict[str, Counter[str]]:
    """Damaged lines by outcome, for each field that the stray character went into."""
    rng = np.random.default_rng([_SEED, rare])
    context, counts = context_of(source.runtimes), {field: Counter[str]() for field in FIELDS}
    for values, kafka_times in source.sample(count, rare).batches(BATCH):
        originals = events(judged(values, kafka_times, context))
        damaged = [with_stray(line, rng) for line in values.to_pylist()]
        verdicts = judged(pa.array([line for line, _ in damaged], pa.binary()), kafka_times, context)
        taken, repeated = events(verdicts), set(verdicts.duplicates.tolist())
        for row, original in originals.items():
            # a line that was not good before says nothing, and two lines may by chance be damaged into the same one
            if original.rule is None and row not in repeated:
                field = field_at(values[row].as_py(), damaged[row][1])
                counts[field][outcome(original.event, taken.get(row), int(kafka_times[row]))] += 1
    return counts


def outcome(original: Event, taken: JudgedLine | None, kafka_time: int) -> str:
    """The outcome of one damaged line: from its event before, what it was judged to be, and its Kafka time (ms)."""
    if taken is None:
        return "set_aside"
    if taken.rule is None:
        return "unchanged" if taken.event == original else "unseen"
    if taken.rule == KAFKA_TIME and original.time <= taken.event.time <= kafka_time:
        original = replace(original, time=taken.event.time)
    return "right" if taken.event == original else "wrong"


def precision(counts: Counter[str]) -> float | None:
    """Share of the repairs that are right; None without any."""
    return _share(counts["right"], counts["right"] + counts["wrong"])


def recall(counts: Counter[str]) -> float | None:
    """Share of the changed lines that are restored; None without any."""
    return _share(counts["right"], counts.total() - counts["unchanged"])


def _total(counts: dict[str, Counter[str]]) -> Counter[str]:
    return sum(counts.values(), Counter[str]())


def _share(some: int, total: int) -> float | None:
    return some / total if total else None


def _by_field(counts: dict[str, Counter[str]]) -> dict[str, FieldRepair]:
    return {
        field: FieldRepair(
            precision=precision(own),
            recall=recall(own),
            right=own["right"],
            wrong=own["wrong"],
            set_aside=own["set_aside"],
            unseen=own["unseen"],
            unchanged=own["unchanged"],
        )
        for field, own in counts.items()
        if own.total()
    }
