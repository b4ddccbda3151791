"""Precision and recall of repair: good lines get one stray character each, and what comes of them is held against
what they were.

| came out | meaning |
|---|---|
| `right` | repaired, and the same event; where the time was taken from Kafka's record, within the lag of that record |
| `wrong` | repaired, and another event |
| `set_aside` | quarantined |
| `unseen` | accepted, though another event: it is well-formed and nothing speaks against it |
| `unchanged` | accepted, and the same event |

precision = right / (right + wrong); recall = right / all that were changed.
"""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from loadtest.bench.lines.damage import FIELDS, field_at, with_stray
from loadtest.bench.lines.judged_lines import BATCH, KAFKA_TIME, JudgedLine, context_of, events, judged
from loadtest.bench.lines.line_sources import LineSource
from stream.event import Event

OUTCOMES = ("right", "wrong", "set_aside", "unseen", "unchanged")
_SEED = 23


def measure(source: LineSource, count: int) -> dict[str, Any]:
    """Of lines in the service's proportions, and of its rare kinds alone, which hardly occur among these."""
    usual, rare = outcomes(source, count, False), outcomes(source, count // 5, True)
    total = _total(usual)
    return {
        "repair_precision": precision(total),
        "repair_recall": recall(total),
        **{f"repair_{name}": total[name] for name in OUTCOMES},
        "repair_by_field": _by_field(usual),
        "repair_rare_precision": precision(_total(rare)),
        "repair_rare_recall": recall(_total(rare)),
        "repair_rare_by_field": _by_field(rare),
    }


def outcomes(source: LineSource, count: int, rare: bool) -> dict[str, Counter[str]]:
    """What became of damaged lines, by the field that the stray character went into."""
    rng = np.random.default_rng([_SEED, rare])
    context, found = context_of(source.runtimes), {field: Counter[str]() for field in FIELDS}
    for values, kafka_times in source.sample(count, rare).batches(BATCH):
        whole = events(judged(values, kafka_times, context))
        damaged = [with_stray(line, rng) for line in values.to_pylist()]
        verdicts = judged(pa.array([line for line, _ in damaged], pa.binary()), kafka_times, context)
        taken, repeated = events(verdicts), set(verdicts.duplicates.tolist())
        for at, meant in whole.items():
            # what was no good line before says nothing, and two lines may by chance be damaged into one
            if meant.rule is None and at not in repeated:
                field = field_at(values[at].as_py(), damaged[at][1])
                found[field][outcome(meant.event, taken.get(at), int(kafka_times[at]))] += 1
    return found


def outcome(meant: Event, taken: JudgedLine | None, kafka_time: int) -> str:
    """What came out of a damaged line: what was meant, what it was taken for, and Kafka's time of it."""
    if taken is None:
        return "set_aside"
    if taken.rule is None:
        return "unchanged" if taken.event == meant else "unseen"
    if taken.rule == KAFKA_TIME and meant.time <= taken.event.time <= kafka_time:
        meant = replace(meant, time=taken.event.time)
    return "right" if taken.event == meant else "wrong"


def precision(counts: Counter[str]) -> float | None:
    """Share of the repairs that are right, None without any."""
    return _share(counts["right"], counts["right"] + counts["wrong"])


def recall(counts: Counter[str]) -> float | None:
    """Share of the lines that the damage changed that are restored, None without any."""
    return _share(counts["right"], counts.total() - counts["unchanged"])


def _total(found: dict[str, Counter[str]]) -> Counter[str]:
    return sum(found.values(), Counter[str]())


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _by_field(found: dict[str, Counter[str]]) -> dict[str, dict[str, Any]]:
    return {
        field: {
            "precision": precision(counts),
            "recall": recall(counts),
            **{name: counts[name] for name in OUTCOMES},
        }
        for field, counts in found.items()
        if counts.total()
    }
