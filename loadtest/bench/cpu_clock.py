"""Measures contestants in turn on one core, so that disturbances hit all of them alike.

CPU time counts, user and system, of all threads. So other work on the machine matters little, and a contestant has no
advantage from a second core.
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
    """Run the block on one core with one Arrow thread. (numpy's sums and sorts have no threads of their own.)"""
    threads, cores = pa.cpu_count(), os.sched_getaffinity(0)
    pa.set_cpu_count(1)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)
        pa.set_cpu_count(threads)


def medians(contestants: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """CPU seconds by contestant: the median over the rounds. In each round all contestants run once, in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, work in contestants.items():
            seconds[name].append(_cpu_seconds(work))
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def _cpu_seconds(work: Callable[[], object]) -> float:
    gc.collect()
    began = time.process_time()
    output = work()
    ended = time.process_time()
    del output  # freeing the output is not part of the work
    return ended - began
