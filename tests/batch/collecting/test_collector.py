"""The collector's batches: archive and quarantine hold what was read, line for line, wherever it stops."""

import asyncio
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.collecting import collector
from batch.collecting.collector import PendingLines, archive_batch
from quality.catalog import Catalog
from quality.lines.ledger_summary import summarize
from quality.lines.quarantine import quarantined_lines
from stream.archive import Archive
from stream.event import KINDS
from stream.grammar import parse
from stream.kafka import RetentionGap
from stream.ledger_entry import TimeRange, count_by_fate
from stream.set_aside import OpenCases
from stream.zone import DAY_MS, HOUR_MS
from tests.batch.collecting.collected_lines import (
    CLOCK,
    LINES,
    NOW,
    TOPIC,
    Row,
    alerts,
    collector_of,
    fetched,
    held,
    pending,
    rows_of,
    run,
    streaming,
)
from tests.ledger_entries import credulous


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(LINES), min_size=1, max_size=25), st.integers(0, 25), st.sampled_from([1, 3]))
def test_every_line_lies_once_in_the_archive_or_is_counted_as_a_duplicate(
    lines: list[bytes], cut: int, step: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        var = Path(folder)
        first, second = fetched(lines[:cut], 100, 3, step), fetched(lines[cut:], 100 + cut * step, 3, step)
        pieces = [piece for piece in (first, second) if piece.values]
        entry = archive_batch(
            Archive(var), TOPIC, 3, pending(*pieces, first=90), CLOCK, credulous(), OpenCases(), held
        )  # Kafka has nothing at 90..99
        rows = rows_of(var, entry)
        offsets = np.concatenate([piece.offsets for piece in pieces]).tolist()
        times = np.concatenate([piece.times for piece in pieces]).tolist()
    by_offset = dict(zip(offsets, zip(lines, times, strict=True), strict=True))
    assert (entry.first, entry.last, entry.lines) == (90, offsets[-1], len(lines))
    assert (entry.redelivered, entry.revision) == (0, 0)
    assert summarize([entry]).balanced
    kept = [row["kafka_time"] for row in rows if "reason" not in row]
    if kept:
        assert entry.kafka_time == TimeRange(min(kept), max(kept))
    else:  # of refused lines no time counts that is ahead of the clock
        assert entry.kafka_time in (TimeRange(min(times), max(times)), TimeRange(min(times), NOW + HOUR_MS))
    assert len({row["offset"] for row in rows}) == len(rows) == len(set(lines))
    assert count_by_fate([entry])["duplicate"] == len(lines) - len(set(lines))
    for row in rows:
        check(row, *by_offset[row["offset"]])


def check(row: Row, line: bytes, kafka_time: int) -> None:
    assert (row["topic"], row["partition"], row["kafka_time"]) == (TOPIC, 3, kafka_time)
    if "reason" in row:
        assert (row["raw"], row["room"]) == (line, "quality")
        assert row["in"].startswith(f"quarantine/day={CLOCK.day(kafka_time)}/")
    elif row["repair"] is not None:
        rule = "kafka_time" if line == LINES[10] else "one_character"
        assert (row["repair"], row["raw"], row["user"]) == (rule, line, 5)
        assert row["time"] == (kafka_time if rule == "kafka_time" else NOW)
    else:
        event = parse(line, CLOCK)
        assert row["raw"] is None
        assert (row["time"], row["user"], row.get("movie")) == (event.time, event.user, event.movie)
        assert row["in"].startswith(f"archive/{event.kind}/day={CLOCK.day(event.time)}/")


def test_a_batch_is_counted_by_fate_kind_and_day(tmp_path: Path) -> None:
    entry = archive_batch(
        Archive(tmp_path), TOPIC, 0, pending(fetched([*LINES, LINES[0]])), CLOCK, credulous(), OpenCases(), held
    )
    counts = Counter({(count.fate, count.kind, count.reason): count.lines for count in entry.counts})
    assert counts == {
        ("accepted", "watch", None): 1,
        ("accepted", "rate", None): 1,
        ("accepted", "account", None): 1,
        ("accepted", "recommend", None): 2,
        ("repaired", "watch", "one_character"): 1,
        ("repaired", "watch", "kafka_time"): 1,
        ("quarantined", None, "minute"): 1,
        ("quarantined", None, "rating_max"): 1,
        ("quarantined", None, "empty"): 1,
        ("quarantined", None, "not_utf8"): 1,
        ("duplicate", None, None): 1,
    }
    assert Archive(tmp_path).entries() == [entry]


def test_repairs_use_the_current_catalogue(tmp_path: Path) -> None:
    collector = collector_of(tmp_path)
    line = b"2022-10-07T09:40,5,GET /rate/das+boot+19811=3"
    run(collector, [fetched([line])])
    Catalog(tmp_path).keep(
        "movie", [("das+boot+1981", "known", {"id": "das+boot+1981"}, ""), ("das+boot+1911", "unknown", None, "")]
    )
    run(collector, [fetched([line], 1)])
    assert [entry.counts[0].fate for entry in Archive(tmp_path).entries()] == ["quarantined", "repaired"]


def test_a_batch_is_due_when_full_or_old(tmp_path: Path) -> None:
    patient, hasty = streaming(tmp_path, batch_lines=3, batch_seconds=1e9), streaming(tmp_path, batch_seconds=1e-9)
    assert not PendingLines(0).due(hasty)
    waiting = pending(fetched(LINES[:2]))
    assert (waiting.due(patient), waiting.due(hasty)) == (False, True)
    waiting.add(fetched(LINES[:1], 2))
    assert waiting.due(patient)


def test_a_batch_of_few_long_lines_is_due_when_it_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "BATCH_BYTES", 3_000)
    patient = streaming(tmp_path, batch_lines=1_000, batch_seconds=1e9)
    waiting = pending(fetched([b"x" * 1_000] * 2))
    waiting.add(fetched([b"x" * 1_000] * 2))  # handed out again: they do not wait
    assert (waiting.size, waiting.due(patient)) == (2_000, False)
    waiting.add(fetched([b"x" * 1_000] * 2, 1))  # one of them again
    assert (waiting.size, waiting.due(patient)) == (3_000, True)


def test_partitions_are_archived_apart_and_continue_at_their_ends(tmp_path: Path) -> None:
    collector = collector_of(tmp_path)
    assert collector.resume() == {}
    done = run(collector, [fetched(LINES[:3]), fetched(LINES[3:5], 40, 1)], [fetched(LINES[5:10], 3)])
    assert done == {0: 8, 1: 42}
    assert [(entry.partition, entry.first, entry.last, entry.lines) for entry in Archive(tmp_path).entries()] == [
        (0, 0, 7, 8), (1, 40, 41, 2),
    ]  # fmt: skip
    assert run(collector) == {}
    assert collector_of(tmp_path).resume() == {0: 8, 1: 42}


def test_a_batch_that_is_not_due_waits(tmp_path: Path) -> None:
    collector = collector_of(tmp_path, batch_lines=4, batch_seconds=1e9)
    assert run(collector, [fetched(LINES[:3]), fetched(LINES[:4], 0, 1)], only_due=True) == {1: 4}
    assert run(collector, only_due=False) == {0: 3}


def test_a_gap_is_its_own_entry_after_the_lines_before_it(tmp_path: Path) -> None:
    collector = collector_of(tmp_path)
    run(collector, [fetched(LINES[:3]), RetentionGap(0, 3, 99), fetched(LINES[3:5], 100)])
    entries = Archive(tmp_path).entries()
    assert [(entry.first, entry.last, entry.lines, entry.lost) for entry in entries] == [
        (0, 2, 3, 0),
        (3, 99, 0, 97),
        (100, 101, 2, 0),
    ]
    assert [(alert["alert"], alert["lines"]) for alert in alerts(tmp_path)] == [("retention_gap", 97)]


def test_a_gap_begins_after_the_last_entry_also_if_the_reader_passed_the_mark_of_a_transaction(tmp_path: Path) -> None:
    run(collector_of(tmp_path), [fetched(LINES[:3]), RetentionGap(0, 5, 99)])  # no record at 3 and 4
    entries = Archive(tmp_path).entries()
    assert [(entry.first, entry.last, entry.lost) for entry in entries] == [(0, 2, 0), (3, 99, 95)]
    assert collector_of(tmp_path).resume() == {0: 100}


def test_only_lines_that_are_surely_of_the_old_topic_are_archived_when_it_was_made_anew(tmp_path: Path) -> None:
    collector = collector_of(tmp_path)

    polled = [fetched(LINES[:3]), fetched(LINES[3:5], 7, 1), fetched(LINES[5:6], 3), fetched(LINES, 0, 2)]

    async def end() -> None:
        await collector.take([*polled])
        await collector.flush_until({0: 1, 1: 8})

    asyncio.run(end())
    entries = Archive(tmp_path).entries()
    ranges = [(entry.partition, entry.first, entry.last, entry.lines) for entry in entries]
    assert ranges == [(0, 0, 1, 2), (1, 7, 8, 2)]
    assert collector_of(tmp_path).resume() == {0: 2, 1: 9}


def test_leftovers_of_a_crash_are_removed_and_their_lines_read_again(tmp_path: Path) -> None:
    first = collector_of(tmp_path)
    run(first, [fetched(LINES[:5])])
    run(first, [fetched(LINES[5:], 5)])
    (lost,) = (tmp_path / "archive/ledger").glob("*-000000000005-*")
    lost.unlink()  # as if it had died right before the commit
    again = collector_of(tmp_path)
    assert again.resume() == {0: 5}
    left = {path.stem for kind in (*KINDS, "quarantine") for path in tmp_path.rglob(f"{kind}/day=*/*.parquet")}
    assert left == {"movielog1-0-000000000000-000000000004"}
    run(again, [fetched(LINES[5:], 5)])
    assert sum(count_by_fate(Archive(tmp_path).entries()).values()) == len(LINES)


def test_a_batch_whose_clocks_are_apart_records_it_and_refuses_no_line_for_its_time(tmp_path: Path) -> None:
    good = [f"2022-10-07T09:40,{user},GET /create_account".encode() for user in range(1, 31)]
    piece = replace(fetched([*good, b"yesterday,7,GET /create_account"]), times=np.full(31, NOW - 5 * HOUR_MS))
    entry = archive_batch(Archive(tmp_path), TOPIC, 0, pending(piece), CLOCK, credulous(), OpenCases(), held)
    assert entry.clocks_apart_ms == -5 * HOUR_MS
    assert count_by_fate([entry]) == {"accepted": 30, "repaired": 0, "quarantined": 1, "duplicate": 0}


def test_a_batch_with_some_late_lines_quarantines_these(tmp_path: Path) -> None:
    good = [f"2022-10-07T09:40,{user},GET /create_account".encode() for user in range(1, 6)]
    piece = replace(fetched(good), times=np.array([NOW, NOW, NOW, NOW + 2 * DAY_MS, NOW - 2 * HOUR_MS]))
    entry = archive_batch(Archive(tmp_path), TOPIC, 0, pending(piece), CLOCK, credulous(), OpenCases(), held)
    assert entry.clocks_apart_ms is None
    assert {count.reason for count in entry.counts} == {None, "time_ahead", "time_behind"}


@pytest.mark.parametrize("kafka_time", [-(2**63) + 1, -1, 0, NOW * 1_000, NOW * 1_000_000, 2**63 - 1])
@pytest.mark.parametrize("others", [0, 3])
def test_an_impossible_kafka_time_stops_nothing_and_loses_no_line(tmp_path: Path, kafka_time: int, others: int) -> None:
    values = [f"2022-10-07T09:40,{1 + user},GET /create_account".encode() for user in range(others)]
    values += [b"2022-10-07T09:40,7,GET /create_account", b"nonsense", b"nonsense"]
    times = np.array([NOW] * others + [kafka_time] * 3)
    collector = collector_of(tmp_path)
    run(collector, [replace(fetched(values), times=times)])
    [entry] = Archive(tmp_path).entries()
    assert summarize([entry]).balanced
    assert sum(count_by_fate([entry]).values()) == others + 3
    assert collector_of(tmp_path).resume() == {0: others + 3}
    assert {aside.raw for aside in quarantined_lines(Archive(tmp_path))} >= {b"nonsense"}
