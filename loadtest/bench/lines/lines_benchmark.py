"""The benchmark `quality`: how fast lines become typed, checked columns, how that compares, and how careful it is.

| part | what is measured |
|---|---|
| `speed` | judging as the collector does it; reading and schemas alone; splitting alone; the contestants |
| `repair` | precision and recall of repair, see `repair_accuracy.py` |
| `collect` | Kafka to the archive, as a process, see `collector_speed.py` |
| `bad_lines` | lines far worse than any of the stream: no exception, and exactly one fate each |

Speeds are lines per second of one core, see `cpu_clock.py`.

Splitting alone is taking the lines apart into the text fields of a watch line by the pattern that reading begins with:
the least that a columnar reader can do to have time, user, movie and minute. Splitting at the two commas, which is
faster, leaves movie and minute in one piece; it is shown beside it.
"""

import gc
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from loadtest.bench.cpu_clock import ROUNDS, medians, one_core
from loadtest.bench.lines import collector_speed, repair_accuracy
from loadtest.bench.lines.damage import bad_lines, corrupted
from loadtest.bench.lines.judged_lines import BATCH, context_of, judged, places
from loadtest.bench.lines.line_sources import LineSample, LineSource
from loadtest.bench.lines.validators import Contestant, contestants
from loadtest.bench.result import BenchmarkResult, Target

log = logging.getLogger(__name__)

TARGETS: dict[str, Target] = {
    "lines_per_s": (">=", 400_000),
    "split_ratio": ("<=", 2.0),
    "pydantic_ratio": (">=", 5.0),
    "cerberus_ratio": (">=", 100.0),
    "verdicts_equal": ("==", True),
    "repair_precision": (">=", 0.995),
    "collect_lines_per_s": (">=", 50_000),
    "bad_lines_accounted": ("==", True),
}
CORRUPTED = 0.0005
"""Share of lines with a stray character."""
_SEED = 29
_WATCH = (
    r"^(?P<time>[0-9T:.\-]+),(?P<user>[1-9][0-9]{0,9}),"
    r"GET /data/m/(?P<movie>[a-z0-9+\-._*]+)/(?P<minute>0|[1-9][0-9]{0,4})\.mpg$"
)


@dataclass(frozen=True)
class LinesSize:
    """How much is measured: lines, but for `rounds` and `collects`."""

    judged: int
    compared: dict[str, int]
    """Lines that each contestant gets of those; the slow ones fewer."""
    repaired: int
    collected: int
    collects: int
    """How often they are collected."""
    bad: int
    rounds: int = ROUNDS


FULL = LinesSize(
    judged=300_000,
    compared={
        "schema_only": 300_000,
        "pydantic": 50_000,
        "pandera": 100_000,
        "cerberus": 1_000,
        "cerberus_kept": 1_000,
    },
    repaired=100_000,
    collected=500_000,
    collects=3,
    bad=1_000_000,
)
QUICK = LinesSize(
    judged=100_000,
    compared={"schema_only": 100_000, "pydantic": 20_000, "pandera": 20_000, "cerberus": 300, "cerberus_kept": 300},
    repaired=5_000,
    collected=200_000,
    collects=1,
    bad=20_000,
)


def run(source: LineSource, size: LinesSize, seed: int, parts: tuple[str, ...] = ()) -> BenchmarkResult:
    """Measure the parts, all where none is named; `seed` makes the bad lines."""
    figures: dict[str, Any] = {}
    for name, part in PARTS.items():
        if not parts or name in parts:
            log.info("%s …", name)
            began = time.monotonic()
            figures |= part(source, size, seed)
            log.info("%s: %.1f s", name, time.monotonic() - began)
    return BenchmarkResult("quality", figures, TARGETS)


def speed(source: LineSource, size: LinesSize, seed: int) -> dict[str, Any]:
    """Lines per second of us and the others, all in turn on one core; ratios; whether all verdicts are the same."""
    others = contestants()
    sample = corrupted(source.sample(size.judged), CORRUPTED, np.random.default_rng(_SEED))
    counts = {name: min(size.compared[name], len(sample)) for name in others}
    same = Counter[bool]()
    for lines in (sample.lines, _difficult(sample, seed)):
        same += _compared(others, {name: lines[:count] for name, count in counts.items()})
    work: dict[str, Callable[[], object]] = {
        name: partial(_each, other.work, [other.prepared(part) for part in _pieces(sample.lines[: counts[name]])])
        for name, other in others.items()
    }
    batches, context = sample.batches(BATCH), context_of(source.runtimes)
    work["judge"] = partial(_judge_all, batches, context)
    work["split"] = partial(_each, lambda values: pc.extract_regex(values, _WATCH), [values for values, _ in batches])
    work["split_commas"] = partial(_each, _split_commas, [values for values, _ in batches])
    with one_core():
        seconds = medians(work, size.rounds)
    rates = {name: counts.get(name, len(sample)) / taken for name, taken in seconds.items()}
    return {**_speeds(rates), "verdicts_equal": not same[False], "verdicts_compared": same.total()}


def _speeds(rates: dict[str, float]) -> dict[str, Any]:
    ours, others = rates["schema_only"], ("pydantic", "pandera", "cerberus", "cerberus_kept")
    return {
        "lines_per_s": round(rates["judge"]),
        **{f"{name}_lines_per_s": round(rate) for name, rate in rates.items() if name != "judge"},
        "split_ratio": round(rates["split"] / rates["judge"], 2),
        "schema_only_split_ratio": round(rates["split"] / ours, 2),
        **{f"{name}_ratio": round(ours / rates[name], 1) for name in others},
        **{f"judge_{name}_ratio": round(rates["judge"] / rates[name], 1) for name in others},
    }


def _difficult(sample: LineSample, seed: int) -> list[bytes]:
    """As many lines of which hardly one is good, half of them by one stray character."""
    worse = corrupted(sample, 1.0, np.random.default_rng([_SEED, 1])).lines
    worse[::2] = islice(bad_lines(sample.lines[:5_000], random.Random(seed)), len(worse[::2]))
    return worse


def _compared(others: dict[str, Contestant], lines: dict[str, list[bytes]]) -> Counter[bool]:
    """How many verdicts of the contestants are the same as ours, and how many are not."""
    ours = _verdicts(others["schema_only"], max(lines.values(), key=len))
    found = Counter[bool]()
    for name, other in others.items():
        if name != "schema_only":
            same = _verdicts(other, lines[name]) == ours[: len(lines[name])]
            found.update(same.tolist())
            for at in np.flatnonzero(~same)[:3].tolist():
                log.warning("%s does not agree on %r", name, lines[name][at][:200])
    return found


def _verdicts(contestant: Contestant, lines: list[bytes]) -> np.ndarray:
    return contestant.verdicts(contestant.work(contestant.prepared(lines)), len(lines))


def _each(work: Callable[[Any], object], pieces: list[Any]) -> list[object]:
    return [work(piece) for piece in pieces]


def _pieces(lines: list[bytes]) -> Iterator[list[bytes]]:
    """The lines in batches, as they come in."""
    return (lines[at : at + BATCH] for at in range(0, len(lines), BATCH))


def _judge_all(batches: list[tuple[pa.Array, np.ndarray]], context: Any) -> list[object]:
    return [judged(values, kafka_times, context) for values, kafka_times in batches]


def _split_commas(values: pa.Array) -> pa.Array:
    return pc.split_pattern(values, b",", max_splits=2)


def repair(source: LineSource, size: LinesSize, seed: int) -> dict[str, Any]:
    """Precision and recall of repair."""
    return repair_accuracy.measure(source, size.repaired)


def collect(source: LineSource, size: LinesSize, seed: int) -> dict[str, Any]:
    """Kafka to the archive."""
    sample = corrupted(source.sample(size.collected), CORRUPTED, np.random.default_rng(_SEED))
    return collector_speed.measure(sample, source.runtimes, size.collects)


def bad(source: LineSource, size: LinesSize, seed: int) -> dict[str, Any]:
    """Bad lines through `judge`: each has exactly one fate."""
    context, good = context_of(source.runtimes), source.sample(20_000)
    made, fates, taken = bad_lines(good.lines, random.Random(seed)), Counter[str](), 0.0
    accounted, left = True, size.bad
    with one_core():
        while left:
            values = pa.array(list(islice(made, min(left, BATCH))), pa.binary())
            kafka_times = np.resize(good.kafka_times, len(values))
            gc.collect()
            began = time.process_time()
            found = places(judged(values, kafka_times, context))
            taken += time.process_time() - began
            fates.update({fate: len(rows) for fate, rows in found.items()})
            accounted &= np.array_equal(np.sort(np.concatenate([*found.values()])), np.arange(len(values)))
            left -= len(values)
            log.info("bad lines: %d left", left)
    return {
        "bad_lines": size.bad,
        "bad_lines_per_s": round(size.bad / taken),
        "bad_lines_fates": dict(fates),
        "bad_lines_accounted": bool(accounted and fates.total() == size.bad),
        "bad_lines_seed": seed,
    }


PARTS: dict[str, Callable[[LineSource, LinesSize, int], dict[str, Any]]] = {
    "speed": speed,
    "repair": repair,
    "collect": collect,
    "bad_lines": bad,
}
