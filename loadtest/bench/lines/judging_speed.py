"""Speed of judging lines, compared with pydantic, pandera and Cerberus: lines per second of one core, see
`cpu_clock.py`.

Splitting alone splits lines into the text fields of a watch line, with the pattern that parsing begins with. No
columnar parser can do less and still have time, user, movie and minute. Splitting at the two commas is faster, but
leaves movie and minute in one piece; it is measured for comparison.
"""

import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from loadtest.bench.cpu_clock import medians, one_core
from loadtest.bench.lines.damage import bad_lines, corrupted
from loadtest.bench.lines.judged_lines import BATCH, context_of, judged
from loadtest.bench.lines.line_sources import LineSample, LineSource
from loadtest.bench.lines.validators import Contestant, contestants
from quality.lines.context_checks import JudgingContext

log = logging.getLogger(__name__)

CORRUPTED = 0.0005
"""Share of lines with a stray character."""
DAMAGE_SEED = 29
_WATCH = (
    r"^(?P<time>[0-9T:.\-]+),(?P<user>[1-9][0-9]{0,9}),"
    r"GET /data/m/(?P<movie>[a-z0-9+\-._*]+)/(?P<minute>0|[1-9][0-9]{0,4})\.mpg$"
)


class SpeedFigures(Struct, frozen=True, kw_only=True):
    """Speeds, and their ratios. `schema_only` is parsing and schemas alone: the work that the others also do."""

    lines_per_s: int
    """Of all of judging, as the collector does it."""
    schema_only_lines_per_s: int
    pydantic_lines_per_s: int
    pandera_lines_per_s: int
    cerberus_lines_per_s: int
    """With a validator made for each line."""
    cerberus_kept_lines_per_s: int
    """With one validator per kind."""
    split_lines_per_s: int
    split_commas_lines_per_s: int
    split_ratio: float
    """How many times as fast as judging it is to only split the lines."""
    schema_only_split_ratio: float
    pydantic_ratio: float
    """How many times as fast `schema_only` is; the next three alike."""
    pandera_ratio: float
    cerberus_ratio: float
    cerberus_kept_ratio: float
    judge_pydantic_ratio: float
    """How many times as fast all of judging is, which does more than they do; the next three alike."""
    judge_pandera_ratio: float
    judge_cerberus_ratio: float
    judge_cerberus_kept_ratio: float
    verdicts_equal: bool
    """Whether all contestants gave each line the same verdict."""
    verdicts_compared: int


def measure(source: LineSource, count: int, compared: dict[str, int], rounds: int, seed: int) -> SpeedFigures:
    """Judge `count` lines, and let each contestant have as many as `compared` says; all in turn on one core.

    `seed` makes the difficult lines that verdicts are compared on.
    """
    others = contestants()
    sample = corrupted(source.sample(count), CORRUPTED, np.random.default_rng(DAMAGE_SEED))
    counts = {name: min(compared[name], len(sample)) for name in others}
    same = Counter[bool]()
    for lines in (sample.lines, difficult_lines(sample, seed)):
        same += _compared(others, {name: lines[:most] for name, most in counts.items()})
    work: dict[str, Callable[[], object]] = {
        name: partial(_each, other.work, [other.prepared(batch) for batch in _batches(sample.lines[: counts[name]])])
        for name, other in others.items()
    }
    batches, context = sample.batches(BATCH), context_of(source.runtimes)
    work["judge"] = partial(_judge_all, batches, context)
    work["split"] = partial(_each, lambda values: pc.extract_regex(values, _WATCH), [values for values, _ in batches])
    work["split_commas"] = partial(_each, _split_commas, [values for values, _ in batches])
    with one_core():
        seconds = medians(work, rounds)
    rates = {name: counts.get(name, len(sample)) / taken for name, taken in seconds.items()}
    return speed_figures(rates, same)


def speed_figures(rates: dict[str, float], same: Counter[bool]) -> SpeedFigures:
    """From lines per second, by contestant and for `judge`, `split` and `split_commas`; and how many verdicts agree."""
    ours, judging = rates["schema_only"], rates["judge"]
    return SpeedFigures(
        lines_per_s=round(judging),
        schema_only_lines_per_s=round(ours),
        pydantic_lines_per_s=round(rates["pydantic"]),
        pandera_lines_per_s=round(rates["pandera"]),
        cerberus_lines_per_s=round(rates["cerberus"]),
        cerberus_kept_lines_per_s=round(rates["cerberus_kept"]),
        split_lines_per_s=round(rates["split"]),
        split_commas_lines_per_s=round(rates["split_commas"]),
        split_ratio=round(rates["split"] / judging, 2),
        schema_only_split_ratio=round(rates["split"] / ours, 2),
        pydantic_ratio=round(ours / rates["pydantic"], 1),
        pandera_ratio=round(ours / rates["pandera"], 1),
        cerberus_ratio=round(ours / rates["cerberus"], 1),
        cerberus_kept_ratio=round(ours / rates["cerberus_kept"], 1),
        judge_pydantic_ratio=round(judging / rates["pydantic"], 1),
        judge_pandera_ratio=round(judging / rates["pandera"], 1),
        judge_cerberus_ratio=round(judging / rates["cerberus"], 1),
        judge_cerberus_kept_ratio=round(judging / rates["cerberus_kept"], 1),
        verdicts_equal=not same[False],
        verdicts_compared=same.total(),
    )


def difficult_lines(sample: LineSample, seed: int) -> list[bytes]:
    """As many lines, hardly one of them good; half of them have one stray character."""
    lines = corrupted(sample, 1.0, np.random.default_rng([DAMAGE_SEED, 1])).lines
    lines[::2] = islice(bad_lines(sample.lines[:5_000], random.Random(seed)), len(lines[::2]))
    return lines


def verdicts(contestant: Contestant, lines: list[bytes]) -> np.ndarray:
    """Which lines a contestant finds good: bool [lines]."""
    return contestant.verdicts(contestant.work(contestant.prepared(lines)), len(lines))


def _compared(others: dict[str, Contestant], lines: dict[str, list[bytes]]) -> Counter[bool]:
    """How many verdicts of the contestants equal ours, and how many do not."""
    ours = verdicts(others["schema_only"], max(lines.values(), key=len))
    counts = Counter[bool]()
    for name, other in others.items():
        if name != "schema_only":
            same = verdicts(other, lines[name]) == ours[: len(lines[name])]
            counts.update(same.tolist())
            for row in np.flatnonzero(~same)[:3].tolist():
                log.warning("%s does not agree on %r", name, lines[name][row][:200])
    return counts


def _each(work: Callable[[Any], object], batches: list[Any]) -> list[object]:
    return [work(batch) for batch in batches]


def _batches(lines: list[bytes]) -> Iterator[list[bytes]]:
    """The lines in batches, as the collector gets them."""
    return (lines[start : start + BATCH] for start in range(0, len(lines), BATCH))


def _judge_all(batches: list[tuple[pa.Array, np.ndarray]], context: JudgingContext) -> list[object]:
    return [judged(values, kafka_times, context) for values, kafka_times in batches]


def _split_commas(values: pa.Array) -> pa.Array:
    return pc.split_pattern(values, b",", max_splits=2)
