"""The collector's batches: what lies in archive and quarantine is what was read, line for line, wherever it stops."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batch.collecting import collector
from batch.collecting.collector import Collector, PendingLines, archive_batch
from batch.settings import BatchSettings
from quality.catalog import Catalog
from quality.lines.context_checks import JudgingContext
from quality.lines.ledger_summary import summarize
from quality.lines.quarantine import quarantined_lines
from quality.lines.schemas import event_schemas
from quality.lines.verdicts import ParsedLines
from quality.settings import QualitySettings, Threshold, Thresholds
from stream.archive import Archive, LedgerEntry, TimeRange, count_by_fate
from stream.event import KINDS
from stream.grammar import parse
from stream.kafka import FetchedRecords, RetentionGap
from stream.settings import StreamSettings
from stream.tables import ARCHIVE_SCHEMAS, QUARANTINE_SCHEMA
from stream.zone import DAY_MS, HOUR_MS, zone_named

NOW = 1_665_150_000_000  # 2022-10-07T09:40 in New York
CLOCK = zone_named("America/New_York")
TOPIC = "movielog1"
LINES = [
    b"2022-10-07T09:40,5,GET /data/m/aliens+1986/5.mpg",
    b"2022-10-07T09:40,x5,GET /data/m/aliens+1986/5.mpg",
    b"2022-10-07T09:40,5,GET /data/m/aliens+1986/05.mpg",
    b"2022-10-06T23:59:59,7,GET /rate/endeavour+=3",
    b"2022-10-07T23:59:59,7,GET /rate/endeavour+=9",
    b"2022-10-07T09:40:03,9,GET /create_account",
    b"2022-10-07T09:40:03.123,9,recommendation request a:1, status 200, result: aliens+1986, endeavour+, 5 ms",
    b"2022-10-07T09:40:03.123,9,recommendation request a:1, status 0, result: timed out, 801 ms",
    b"",
    b"\xff\x00",
    b"2022-10-07T09:460,5,GET /data/m/aliens+1986/7.mpg",
]


HELD = JudgingContext(CLOCK, event_schemas(StreamSettings()), 1_000_000, HOUR_MS, DAY_MS)


def held(_: ParsedLines) -> JudgingContext:
    return HELD


def streaming(var: Path, **more: Any) -> StreamSettings:
    return StreamSettings(var=var, **more)


def collector_of(var: Path, quality: QualitySettings | None = None, **more: Any) -> Collector:
    """A collector that knows no movies, so it asks no API."""
    settings = BatchSettings(api="http://127.0.0.1:1", api_timeout_s=0.2)
    return Collector(streaming(var, **more), quality or QualitySettings(), settings)


def fetched(lines: list[bytes], first: int = 0, partition: int = 0, step: int = 1) -> FetchedRecords:
    """Lines at the offsets from `first` on, `step` apart; every tenth comes to Kafka on the next day."""
    offsets = np.arange(first, first + len(lines) * step, step, dtype=np.int64)
    return FetchedRecords(partition, lines, offsets, NOW + (offsets % 10 == 9) * 20 * HOUR_MS)


def pending(*pieces: FetchedRecords, first: int = 0) -> PendingLines:
    waiting = PendingLines(first)
    for piece in pieces:
        waiting.add(piece)
    return waiting


def rows_of(var: Path, entry: LedgerEntry) -> list[dict[str, Any]]:
    """All rows of a batch's files, each with the file it lies in."""
    found = []
    for file in entry.files:
        table = pq.ParquetFile(var / file.path).read()
        assert table.num_rows == file.rows > 0
        kind = Path(file.path).parts[-3]
        schema = QUARANTINE_SCHEMA if kind == "quarantine" else ARCHIVE_SCHEMAS[kind]  # type: ignore[index]
        assert table.schema.equals(schema)
        plain = table.set_column(
            table.schema.get_field_index("kafka_time"), "kafka_time", milliseconds(table, "kafka_time")
        )
        if "time" in table.column_names:
            plain = plain.set_column(0, "time", milliseconds(table, "time"))
        found += [{**row, "in": file.path} for row in plain.to_pylist()]
    return found


def milliseconds(table: pa.Table, name: str) -> pa.ChunkedArray:
    return table.column(name).cast(pa.int64())


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(LINES), min_size=1, max_size=25), st.integers(0, 25), st.sampled_from([1, 3]))
def test_every_line_lies_once_in_the_archive_or_is_counted_as_a_duplicate(
    lines: list[bytes], cut: int, step: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        var = Path(folder)
        one, two = fetched(lines[:cut], 100, 3, step), fetched(lines[cut:], 100 + cut * step, 3, step)
        pieces = [piece for piece in (one, two) if piece.values]
        entry = archive_batch(
            Archive(var), TOPIC, 3, pending(*pieces, first=90), CLOCK, held
        )  # Kafka has nothing at 90..99
        rows = rows_of(var, entry)
        offsets = np.concatenate([piece.offsets for piece in pieces]).tolist()
        times = np.concatenate([piece.times for piece in pieces]).tolist()
    by_offset = dict(zip(offsets, zip(lines, times, strict=True), strict=True))
    assert (entry.first, entry.last, entry.lines) == (90, offsets[-1], len(lines))
    assert (entry.redelivered, entry.revision) == (0, 0)
    assert summarize([entry])["balanced"]
    kept = [row["kafka_time"] for row in rows if "reason" not in row] or times
    assert entry.kafka_time == TimeRange(min(kept), max(kept))
    assert len({row["offset"] for row in rows}) == len(rows) == len(set(lines))
    assert count_by_fate([entry])["duplicate"] == len(lines) - len(set(lines))
    for row in rows:
        check(row, *by_offset[row["offset"]])


def check(row: dict[str, Any], line: bytes, kafka_time: int) -> None:
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


def test_a_batch_is_told_by_fate_kind_and_day(tmp_path: Path) -> None:
    entry = archive_batch(Archive(tmp_path), TOPIC, 0, pending(fetched([*LINES, LINES[0]])), CLOCK, held)
    told = Counter({(count.fate, count.kind, count.reason): count.lines for count in entry.counts})
    assert told == {
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


def test_the_catalogue_of_the_moment_decides_what_can_be_repaired(tmp_path: Path) -> None:
    collector = collector_of(tmp_path)
    line = b"2022-10-07T09:40,5,GET /rate/das+boot+19811=3"
    run(collector, [fetched([line])])
    Catalog(tmp_path).keep(
        "movie", [("das+boot+1981", "known", {"id": "das+boot+1981"}, ""), ("das+boot+1911", "unknown", None, "")]
    )
    run(collector, [fetched([line], 1)])
    assert [entry.counts[0].fate for entry in Archive(tmp_path).entries()] == ["quarantined", "repaired"]


def test_a_batch_is_due_when_it_is_full_or_has_waited(tmp_path: Path) -> None:
    patient, hasty = streaming(tmp_path, batch_lines=3, batch_seconds=1e9), streaming(tmp_path, batch_seconds=1e-9)
    assert not PendingLines(0).due(hasty)
    waiting = pending(fetched(LINES[:2]))
    assert (waiting.due(patient), waiting.due(hasty)) == (False, True)
    waiting.add(fetched(LINES[:1], 2))
    assert waiting.due(patient)


def test_a_batch_of_few_but_long_lines_is_due_when_it_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "BATCH_BYTES", 3_000)
    patient = streaming(tmp_path, batch_lines=1_000, batch_seconds=1e9)
    waiting = pending(fetched([b"x" * 1_000] * 2))
    waiting.add(fetched([b"x" * 1_000] * 2))  # handed out again: they do not wait
    assert (waiting.size, waiting.due(patient)) == (2_000, False)
    waiting.add(fetched([b"x" * 1_000] * 2, 1))  # one of them again
    assert (waiting.size, waiting.due(patient)) == (3_000, True)


def run(
    collector: Collector, *polls: list[FetchedRecords | RetentionGap], only_due: bool = False, flush: bool = True
) -> dict[int, int]:
    async def all_of_it() -> dict[int, int]:
        for got in polls:
            await collector.take(got)
        return await collector.flush(only_due) if flush else {}

    return asyncio.run(all_of_it())


def test_partitions_are_archived_apart_and_go_on_where_they_ended(tmp_path: Path) -> None:
    collector = collector_of(tmp_path)
    assert collector.resume() == {}
    done = run(collector, [fetched(LINES[:3]), fetched(LINES[3:5], 40, 1)], [fetched(LINES[5:10], 3)])
    assert done == {0: 8, 1: 42}
    assert [(one.partition, one.first, one.last, one.lines) for one in Archive(tmp_path).entries()] == [
        (0, 0, 7, 8), (1, 40, 41, 2),
    ]  # fmt: skip
    assert run(collector) == {}
    assert collector_of(tmp_path).resume() == {0: 8, 1: 42}


def test_what_is_not_due_waits(tmp_path: Path) -> None:
    collector = collector_of(tmp_path, batch_lines=4, batch_seconds=1e9)
    assert run(collector, [fetched(LINES[:3]), fetched(LINES[:4], 0, 1)], only_due=True) == {1: 4}
    assert run(collector, only_due=False) == {0: 3}


def test_a_gap_is_an_entry_of_its_own_after_what_was_read_before_it(tmp_path: Path) -> None:
    collector = collector_of(tmp_path)
    run(collector, [fetched(LINES[:3]), RetentionGap(0, 3, 99), fetched(LINES[3:5], 100)])
    entries = Archive(tmp_path).entries()
    assert [(one.first, one.last, one.lines, one.lost) for one in entries] == [
        (0, 2, 3, 0),
        (3, 99, 0, 97),
        (100, 101, 2, 0),
    ]
    assert [(alert["alert"], alert["lines"]) for alert in alerts(tmp_path)] == [("retention_gap", 97)]


def alerts(var: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in (var / "alerts.jsonl").read_bytes().splitlines()]


STRICT = QualitySettings(thresholds=Thresholds(quarantined=Threshold(share=0.01, count=1)))


def test_a_batch_full_of_faults_raises_an_alert_once(tmp_path: Path) -> None:
    collector = collector_of(tmp_path, STRICT)
    run(collector, [fetched([*LINES, LINES[0]])])
    raised = alerts(tmp_path)
    assert "quarantined" in [alert["alert"] for alert in raised]
    collector_of(tmp_path, STRICT).resume()
    assert alerts(tmp_path) == raised


def test_an_alert_that_a_crash_kept_from_being_raised_is_raised_by_the_next_start(tmp_path: Path) -> None:
    run(collector_of(tmp_path, STRICT), [fetched(LINES)])
    raised = alerts(tmp_path)
    (tmp_path / "alerts.jsonl").unlink()  # as if it had died right after the commit
    collector_of(tmp_path, STRICT).resume()
    assert [alert["id"] for alert in alerts(tmp_path)] == [alert["id"] for alert in raised] != []


def test_what_a_crash_left_is_removed_and_its_lines_are_read_again(tmp_path: Path) -> None:
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


# a clock that is wrong -----------------------------------------------------------------------------------------


def test_a_batch_whose_clocks_are_apart_says_so_and_blames_no_line(tmp_path: Path) -> None:
    good = [f"2022-10-07T09:40,{user},GET /create_account".encode() for user in range(1, 31)]
    piece = replace(fetched([*good, b"yesterday,7,GET /create_account"]), times=np.full(31, NOW - 5 * HOUR_MS))
    entry = archive_batch(Archive(tmp_path), TOPIC, 0, pending(piece), CLOCK, held)
    assert entry.clocks_apart_ms == -5 * HOUR_MS
    assert count_by_fate([entry]) == {"accepted": 30, "repaired": 0, "quarantined": 1, "duplicate": 0}


def test_a_batch_with_some_lines_too_late_blames_these(tmp_path: Path) -> None:
    good = [f"2022-10-07T09:40,{user},GET /create_account".encode() for user in range(1, 6)]
    piece = replace(fetched(good), times=np.array([NOW, NOW, NOW, NOW + 2 * DAY_MS, NOW - 2 * HOUR_MS]))
    entry = archive_batch(Archive(tmp_path), TOPIC, 0, pending(piece), CLOCK, held)
    assert entry.clocks_apart_ms is None
    assert {count.reason for count in entry.counts} == {None, "time_ahead", "time_behind"}


@pytest.mark.parametrize("kafka_time", [-(2**63) + 1, -1, 0, NOW * 1_000, NOW * 1_000_000, 2**63 - 1])
@pytest.mark.parametrize("others", [0, 3])
def test_a_time_of_kafka_that_no_calendar_has_ends_nothing_and_costs_no_line(
    tmp_path: Path, kafka_time: int, others: int
) -> None:
    values = [f"2022-10-07T09:40,{1 + user},GET /create_account".encode() for user in range(others)]
    values += [b"2022-10-07T09:40,7,GET /create_account", b"nonsense", b"nonsense"]
    times = np.array([NOW] * others + [kafka_time] * 3)
    collector = collector_of(tmp_path)
    run(collector, [replace(fetched(values), times=times)])
    [entry] = Archive(tmp_path).entries()
    assert summarize([entry])["balanced"]
    assert sum(count_by_fate([entry]).values()) == others + 3
    assert collector_of(tmp_path).resume() == {0: others + 3}
    assert {aside.raw for aside in quarantined_lines(Archive(tmp_path))} >= {b"nonsense"}


# what Kafka hands out again ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 5), st.lists(st.tuples(st.integers(0, 12), st.integers(1, 6)), max_size=8))
def test_pending_takes_each_offset_once_in_order_and_counts_the_rest(first: int, polls: list[tuple[int, int]]) -> None:
    waiting, taken, again = PendingLines(first), list[int](), 0
    for at, count in polls:
        offsets = list(range(at, at + count))
        waiting.add(FetchedRecords(0, [b"%d" % one for one in offsets], np.array(offsets), np.array(offsets) + NOW))
        for one in offsets:
            if one >= (taken[-1] + 1 if taken else first):
                taken.append(one)
            else:
                again += 1
    assert waiting.values == [b"%d" % one for one in taken]
    assert [one for part in waiting.offsets for one in part.tolist()] == taken
    assert [one for part in waiting.times for one in part.tolist()] == [one + NOW for one in taken]
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
    """Handed out again right before a crash: a gap may have told of them or not."""


Step = tuple[str, int, int, int]
"""What happens: `poll` (partition, how many offsets back it begins, how many it brings), `gap` (partition, 0,
how many), `flush`, `restart` (after a flush), `crash`."""
steps = st.one_of(
    st.tuples(st.just("poll"), st.integers(0, 1), st.integers(0, 6), st.integers(1, 6)),
    st.tuples(st.sampled_from(["gap", "flush", "restart", "crash"]), st.integers(0, 1), st.just(0), st.integers(1, 4)),
)


def flushed(parts: list[Played]) -> None:
    for part in parts:
        if part.waiting:
            part.done += range(part.next - part.waiting, part.next)
            part.again += part.waiting_again
            part.waiting = part.waiting_again = 0


def play(collector: Collector, begin: Callable[[], Collector], played: list[Played], step: Step) -> Collector:
    what, at, back, count = step
    part = played[at]
    if what == "poll":
        first = max(10, part.next - back)
        got = list(range(first, first + count))
        new = [offset for offset in got if offset >= part.next]
        piece = FetchedRecords(at, [line_at(at, one) for one in got], np.array(got), np.full(count, NOW))
        run(collector, [piece], flush=False)
        part.next, part.waiting = part.next + len(new), part.waiting + len(new)
        part.waiting_again += count - len(new)
    elif what == "gap":
        run(collector, [RetentionGap(at, part.next, part.next + count - 1)], flush=False)
        flushed(played)
        part.next, part.lost = part.next + count, part.lost + count
    elif what == "crash":
        for one in played:
            one.untold += one.waiting_again
            one.next, one.waiting, one.waiting_again = one.next - one.waiting, 0, 0
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
def test_whatever_is_handed_out_again_is_archived_once_and_the_ranges_lie_end_to_end(what: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        var, played = Path(folder), [Played(), Played()]

        def begin() -> Collector:
            collector = collector_of(var)
            positions = collector.resume()
            assert positions == {at: one.next for at, one in enumerate(played) if one.done or one.lost}
            return collector

        collector = begin()
        for step in [*what, ("flush", 0, 0, 1)]:
            collector = play(collector, begin, played, step)
        entries = Archive(var).entries()
        assert summarize(entries)["balanced"]
        for at, one in enumerate(played):
            own = [entry for entry in entries if entry.partition == at]
            rows = sorted((row["offset"], row["user"]) for entry in own for row in rows_of(var, entry))
            assert rows == [(offset, 1 + offset) for offset in one.done]
            assert sum(entry.lost for entry in own) == one.lost
            told = sum(entry.redelivered for entry in own)
            assert one.again <= told <= one.again + one.untold + one.waiting_again
            assert sum(entry.lines for entry in own) == len(one.done)
            assert Archive(var).positions(TOPIC).get(at, 10) == one.next


def test_lines_handed_out_again_alone_make_no_entry_but_are_counted_by_the_next(tmp_path: Path) -> None:
    collector = collector_of(tmp_path)
    run(collector, [fetched(LINES[:3])])
    assert run(collector, [fetched(LINES[:3])]) == {}
    assert run(collector, [fetched(LINES[1:5], 1)]) == {0: 5}
    entries = Archive(tmp_path).entries()
    assert [(one.first, one.last, one.lines, one.redelivered) for one in entries] == [(0, 2, 3, 0), (3, 4, 2, 5)]


def test_after_a_restart_what_was_archived_before_is_passed_over(tmp_path: Path) -> None:
    run(collector_of(tmp_path), [fetched(LINES[:5])])
    collector = collector_of(tmp_path)
    collector.resume()
    run(collector, [fetched(LINES[3:8], 3)])
    assert [(one.first, one.last, one.redelivered) for one in Archive(tmp_path).entries()] == [(0, 4, 0), (5, 7, 2)]
