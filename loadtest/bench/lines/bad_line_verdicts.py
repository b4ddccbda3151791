"""Bad lines through `judge`: far worse than any line of the stream. No exception, and exactly one fate for each."""

import gc
import logging
import random
import time
from collections import Counter
from itertools import islice

import numpy as np
import pyarrow as pa
from msgspec import Struct

from loadtest.bench.cpu_clock import one_core
from loadtest.bench.lines.damage import bad_lines
from loadtest.bench.lines.judged_lines import BATCH, context_of, judged, rows_by_fate
from loadtest.bench.lines.line_sources import LineSource

log = logging.getLogger(__name__)


class BadLinesFigures(Struct, frozen=True, kw_only=True):
    """The verdicts on the bad lines."""

    bad_lines: int
    bad_lines_per_s: int
    """Of one core."""
    bad_lines_fates: dict[str, int]
    """Lines by fate."""
    bad_lines_accounted: bool
    """Whether every line has exactly one fate."""
    bad_lines_seed: int
    """The seed that makes the same lines again."""


def measure(source: LineSource, count: int, seed: int) -> BadLinesFigures:
    """Judge `count` bad lines, derived from the source's good ones."""
    context, good = context_of(source.runtimes), source.sample(20_000)
    lines, fates, seconds = bad_lines(good.lines, random.Random(seed)), Counter[str](), 0.0
    accounted, left = True, count
    with one_core():
        while left:
            values = pa.array(list(islice(lines, min(left, BATCH))), pa.binary())
            kafka_times = np.resize(good.kafka_times, len(values))
            gc.collect()
            began = time.process_time()
            rows = rows_by_fate(judged(values, kafka_times, context))
            seconds += time.process_time() - began
            fates.update({fate: len(own) for fate, own in rows.items()})
            accounted &= np.array_equal(np.sort(np.concatenate([*rows.values()])), np.arange(len(values)))
            left -= len(values)
            log.info("bad lines: %d left", left)
    return BadLinesFigures(
        bad_lines=count,
        bad_lines_per_s=round(count / seconds),
        bad_lines_fates=dict(fates),
        bad_lines_accounted=bool(accounted and fates.total() == count),
        bad_lines_seed=seed,
    )
