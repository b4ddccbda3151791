"""What Kafka delivers again is archived once and counted, whatever the collector is doing."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batch.collecting.collector import Collector, PendingLines
from quality.lines.ledger_summary import summarize
from stream.archive import Archive
from stream.kafka import FetchedRecords, RetentionGap
from tests.batch.collecting.collected_lines import (
    LINES,
    NOW,
    TOPIC,
    collector_of,
    fetched,
    rows_of,
    run,
)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 5), st.lists(st.tuples(st.integers(0, 12), st.integers(1, 6)), max_size=8))
def test_pending_lines_hold_each_offset_once_in_order_and_count_repeats(
    first: int, polls: list[tuple[int, int]]
) -> None:
    waiting, taken, again = PendingLines(first), list[int](), 0
    for start, count in polls:
        offsets = list(range(start, start + count))
        waiting.add(
            FetchedRecords(0, [b"%d" % offset for offset in offsets], np.array(offsets), np.array(offsets) + NOW)
        )
        for offset in offsets:
            if offset >= (taken[-1] + 1 if taken else first):
                taken.append(offset)
            else:
                again += 1
    assert waiting.values == [b"%d" % offset for offset in taken]
    assert [offset for piece in waiting.offsets for offset in piece.tolist()] == taken
    assert [offset for piece in waiting.times for offset in piece.tolist()] == [offset + NOW for offset in taken]
    assert (waiting.redelivered, waiting.end) == (again, taken[-1] + 1 if taken else first)


def line_at(partition: int, offset: int) -> bytes:
    return f"2022-10-07T09:4{partition},{1 + offset},GET /create_account".encode()


@dataclass
class Played:
    """What must be in the archive of one partition after some steps."""

    next: int = 10
    """The offset to read next; Kafka's first is 10."""
    waiting: int = 0
    """Of the lines read, those that are not archived yet."""
    waiting_again: int = 0
    done: list[int] = field(default_factory=list)
    lost: int = 0
    again: int = 0
    untold: int = 0
    """Records delivered again right before a crash: the entry of a gap may have counted them or not."""


Step = tuple[str, int, int, int]
"""What happens: `poll` (partition, how many offsets back it begins, how many it brings), `gap` (partition, 0,
how many), `flush`, `restart` (after a flush), `crash`."""
steps = st.one_of(
    st.tuples(st.just("poll"), st.integers(0, 1), st.integers(0, 6), st.integers(1, 6)),
    st.tuples(st.sampled_from(["gap", "flush", "restart", "crash"]), st.integers(0, 1), st.just(0), st.integers(1, 4)),
)


def flushed(states: list[Played]) -> None:
    for state in states:
        if state.waiting:
            state.done += range(state.next - state.waiting, state.next)
            state.again += state.waiting_again
            state.waiting = state.waiting_again = 0


def play(collector: Collector, begin: Callable[[], Collector], played: list[Played], step: Step) -> Collector:
    what, partition, back, count = step
    state = played[partition]
    if what == "poll":
        first = max(10, state.next - back)
        offsets = list(range(first, first + count))
        new = [offset for offset in offsets if offset >= state.next]
        piece = FetchedRecords(
            partition, [line_at(partition, offset) for offset in offsets], np.array(offsets), np.full(count, NOW)
        )
        run(collector, [piece], flush=False)
        state.next, state.waiting = state.next + len(new), state.waiting + len(new)
        state.waiting_again += count - len(new)
    elif what == "gap":
        run(collector, [RetentionGap(partition, state.next, state.next + count - 1)], flush=False)
        flushed(played)
        state.next, state.lost = state.next + count, state.lost + count
    elif what == "crash":
        for state in played:
            state.untold += state.waiting_again
            state.next, state.waiting, state.waiting_again = state.next - state.waiting, 0, 0
        return begin()
    else:
        run(collector)
        flushed(played)
        if what == "restart":
            return play(collector, begin, played, ("crash", 0, 0, 0))
    return collector


@settings(deadline=None, max_examples=40)
@given(st.lists(steps, max_size=12))
@example([("poll", 0, 0, 3), ("flush", 0, 0, 1), ("poll", 0, 3, 2), ("gap", 0, 0, 4), ("poll", 0, 0, 2)])
def test_redelivered_lines_are_archived_once_in_adjacent_ranges(what: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        var, played = Path(folder), [Played(), Played()]

        def begin() -> Collector:
            collector = collector_of(var)
            positions = collector.resume()
            assert positions == {
                partition: state.next for partition, state in enumerate(played) if state.done or state.lost
            }
            return collector

        collector = begin()
        for step in [*what, ("flush", 0, 0, 1)]:
            collector = play(collector, begin, played, step)
        entries = Archive(var).entries()
        assert summarize(entries).balanced
        for partition, state in enumerate(played):
            own = [entry for entry in entries if entry.partition == partition]
            rows = sorted((row["offset"], row["user"]) for entry in own for row in rows_of(var, entry))
            assert rows == [(offset, 1 + offset) for offset in state.done]
            assert sum(entry.lost for entry in own) == state.lost
            redelivered = sum(entry.redelivered for entry in own)
            assert state.again <= redelivered <= state.again + state.untold + state.waiting_again
            assert sum(entry.lines for entry in own) == len(state.done)
            assert Archive(var).positions(TOPIC).get(partition, 10) == state.next


def test_redelivered_lines_alone_make_no_entry_and_are_counted_by_the_next(tmp_path: Path) -> None:
    collector = collector_of(tmp_path)
    run(collector, [fetched(LINES[:3])])
    assert run(collector, [fetched(LINES[:3])]) == {}
    assert run(collector, [fetched(LINES[1:5], 1)]) == {0: 5}
    entries = Archive(tmp_path).entries()
    assert [(entry.first, entry.last, entry.lines, entry.redelivered) for entry in entries] == [
        (0, 2, 3, 0),
        (3, 4, 2, 5),
    ]


def test_after_a_restart_archived_lines_are_skipped(tmp_path: Path) -> None:
    run(collector_of(tmp_path), [fetched(LINES[:5])])
    collector = collector_of(tmp_path)
    collector.resume()
    run(collector, [fetched(LINES[3:8], 3)])
    assert [(entry.first, entry.last, entry.redelivered) for entry in Archive(tmp_path).entries()] == [
        (0, 4, 0),
        (5, 7, 2),
    ]
