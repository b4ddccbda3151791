"""Measures contestants in turn on one core, so that disturbances hit all of them alike.

What counts is the time of the processor, user and system, of all threads: what else runs beside a benchmark then
counts little, and a contestant that were to use a second core would gain nothing by it.
"""

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pyarrow as pa

ROUNDS = 5


@contextmanager
def one_core() -> Iterator[None]:
    """Run the block on one core with one thread of Arrow. (numpy's sums and sorts have no threads of their own.)"""
    threads, cores = pa.cpu_count(), os.sched_getaffinity(0)
    pa.set_cpu_count(1)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        pa.set_cpu_count(threads)


def medians(contestants: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Seconds of the processor that each contestant takes: the median of so many rounds, each round all in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, work in contestants.items():
            seconds[name].append(_seconds(work))
    return {name: statistics.median(found) for name, found in seconds.items()}


def _seconds(work: Callable[[], object]) -> float:
    gc.collect()
    began = time.process_time()
    kept = work()
    ended = time.process_time()
    del kept  # giving the result back is not part of the work
    return ended - began
