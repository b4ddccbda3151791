"""The clock of the benchmarks: contestants take turns, on one core."""

import os
from collections.abc import Callable

import pyarrow as pa

from loadtest.bench import cpu_clock


def test_contestants_take_turns() -> None:
    turns: list[str] = []
    work: dict[str, Callable[[], object]] = {name: lambda name=name: turns.append(name) for name in "ab"}  # type: ignore[misc]
    assert set(cpu_clock.medians(work, 3)) == {"a", "b"}
    assert turns == ["a", "b"] * 3


def test_one_core_is_taken_and_given_back() -> None:
    before = os.sched_getaffinity(0), pa.cpu_count()
    with cpu_clock.one_core():
        assert len(os.sched_getaffinity(0)) == pa.cpu_count() == 1
    assert (os.sched_getaffinity(0), pa.cpu_count()) == before
