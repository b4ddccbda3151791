"""The collector's batches: what lies in archive and quarantine is what was read, line for line, wherever it stops."""

import asyncio
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.catalog import Catalog
from batch.collect import Collector, Pending, archived, only_collector
from batch.errors import Busy
from quality.repair import Context
from quality.schemas import event_schemas
from quality.settings import QualitySettings
from stream.archive import Archive, Entry, tally
from stream.event import ARCHIVE_COLUMNS, KINDS, QUARANTINE_COLUMNS
from stream.grammar import parse
from stream.kafka import Fetched, Gap
from stream.settings import StreamSettings
from stream.zone import HOUR_MS, zone

NOW = 1_665_150_000_000  # 2022-10-07T09:40 in New York
CLOCK = zone("America/New_York")
TOPIC = "movielog1"
LINES = [
    b"2022-10-07T09:40,5,GET /data/m/aliens+1986/5.mpg",
    b"2022-10-07T09:40,x5,GET /data/m/aliens+1986/5.mpg",
    b"2022-10-07T09:40,5,GET /data/m/aliens+1986/05.mpg",
    b"2022-10-08T00:00:01,7,GET /rate/endeavour+=3",
    b"2022-10-07T23:59:59,7,GET /rate/endeavour+=9",
    b"2022-10-07T09:40:03,9,GET /create_account",
    b"2022-10-07T09:40:03.123,9,recommendation request a:1, status 200, result: aliens+1986, endeavour+, 5 ms",
    b"2022-10-07T09:40:03.123,9,recommendation request a:1, status 0, result: timed out, 801 ms",
    b"",
    b"\xff\x00",
]


HELD = Context(CLOCK, event_schemas(StreamSettings()), HOUR_MS)


def streaming(var: Path, **more: Any) -> StreamSettings:
    return StreamSettings(var=var, **more)


def fetched(lines: list[bytes], first: int = 0, partition: int = 0, step: int = 1) -> Fetched:
    """Lines at the offsets from `first` on, `step` apart; every tenth comes to Kafka a day later."""
    offsets = np.arange(first, first + len(lines) * step, step, dtype=np.int64)
    return Fetched(partition, lines, offsets, NOW + (offsets % 10 == 9) * 20 * HOUR_MS)


def pending(*pieces: Fetched) -> Pending:
    waiting = Pending()
    for piece in pieces:
        waiting.add(piece)
    return waiting


def rows_of(var: Path, entry: Entry) -> list[dict[str, Any]]:
    """All rows of a batch's files, each with the file it lies in."""
    found = []
    for file in entry.files:
        table = pq.ParquetFile(var / file.path).read()
        assert table.num_rows == file.rows > 0
        kind = Path(file.path).parts[-3]
        schema = QUARANTINE_COLUMNS if kind == "quarantine" else ARCHIVE_COLUMNS[kind]  # type: ignore[index]
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
        entry = archived(Archive(var), TOPIC, 3, pending(*pieces), 90, HELD)  # Kafka has nothing at 90..99
        rows = rows_of(var, entry)
        offsets = np.concatenate([piece.offsets for piece in pieces]).tolist()
        times = np.concatenate([piece.times for piece in pieces]).tolist()
    by_offset = dict(zip(offsets, zip(lines, times, strict=True), strict=True))
    assert (entry.first, entry.last, entry.lines) == (90, offsets[-1], len(lines))
    assert entry.kafka_time is not None
    assert (entry.kafka_time.first, entry.kafka_time.last) == (min(times), max(times))
    assert len({row["offset"] for row in rows}) == len(rows) == len(set(lines))
    assert tally([entry])["duplicate"] == len(lines) - len(set(lines))
    for row in rows:
        check(row, *by_offset[row["offset"]])


def check(row: dict[str, Any], line: bytes, kafka_time: int) -> None:
    assert (row["topic"], row["partition"], row["kafka_time"]) == (TOPIC, 3, kafka_time)
    if "reason" in row:
        assert (row["raw"], row["room"]) == (line, "quality")
        assert row["in"].startswith(f"quarantine/day={CLOCK.day(kafka_time)}/")
    elif row["repair"] is not None:
        assert (row["repair"], row["raw"], row["user"]) == ("one_character", line, 5)
    else:
        event = parse(line, CLOCK)
        assert row["raw"] is None
        assert (row["time"], row["user"], row.get("movie")) == (event.time, event.user, event.movie)
        assert row["in"].startswith(f"archive/{event.kind}/day={CLOCK.day(event.time)}/")


def test_a_batch_is_told_by_fate_kind_and_day(tmp_path: Path) -> None:
    entry = archived(Archive(tmp_path), TOPIC, 0, pending(fetched([*LINES, LINES[0]])), 0, HELD)
    told = Counter({(count.fate, count.kind, count.reason): count.lines for count in entry.counts})
    assert told == {
        ("accepted", "watch", None): 1,
        ("accepted", "rate", None): 1,
        ("accepted", "account", None): 1,
        ("accepted", "recommend", None): 2,
        ("repaired", "watch", "one_character"): 1,
        ("quarantined", None, "minute"): 1,
        ("quarantined", None, "rating_max"): 1,
        ("quarantined", None, "empty"): 1,
        ("quarantined", None, "not_utf8"): 1,
        ("duplicate", None, None): 1,
    }
    assert Archive(tmp_path).entries() == [entry]


def test_the_catalogue_of_the_moment_decides_what_can_be_repaired(tmp_path: Path) -> None:
    collector = Collector(streaming(tmp_path), QualitySettings())
    line = b"2022-10-07T09:40,5,GET /rate/das+boot+19811=3"
    run(collector, [fetched([line])])
    Catalog(tmp_path).keep(
        "movie", [("das+boot+1981", "known", {"id": "das+boot+1981"}, ""), ("das+boot+1911", "unknown", None, "")]
    )
    run(collector, [fetched([line], 1)])
    assert [entry.counts[0].fate for entry in Archive(tmp_path).entries()] == ["quarantined", "repaired"]


def test_a_batch_is_due_when_it_is_full_or_has_waited(tmp_path: Path) -> None:
    patient, hasty = streaming(tmp_path, batch_lines=3, batch_seconds=1e9), streaming(tmp_path, batch_seconds=1e-9)
    assert not Pending().due(hasty)
    waiting = pending(fetched(LINES[:2]))
    assert (waiting.due(patient), waiting.due(hasty)) == (False, True)
    waiting.add(fetched(LINES[:1], 2))
    assert waiting.due(patient)


def test_only_one_process_writes_the_archive(tmp_path: Path) -> None:
    with only_collector(tmp_path):
        with pytest.raises(Busy, match="another process"), only_collector(tmp_path):
            raise AssertionError("two collectors")
        assert Archive(tmp_path).entries() == []
    with only_collector(tmp_path):
        pass


def run(collector: Collector, *polls: list[Fetched | Gap], only_due: bool = False) -> dict[int, int]:
    async def all_of_it() -> dict[int, int]:
        for got in polls:
            await collector.take(got)
        return await collector.flush(only_due)

    return asyncio.run(all_of_it())


def test_partitions_are_archived_apart_and_go_on_where_they_ended(tmp_path: Path) -> None:
    collector = Collector(streaming(tmp_path), QualitySettings())
    assert collector.resume() == {}
    done = run(collector, [fetched(LINES[:3]), fetched(LINES[3:5], 40, 1)], [fetched(LINES[5:], 3)])
    assert done == {0: 8, 1: 42}
    assert [(one.partition, one.first, one.last, one.lines) for one in Archive(tmp_path).entries()] == [
        (0, 0, 7, 8), (1, 40, 41, 2),
    ]  # fmt: skip
    assert run(collector) == {}
    assert Collector(streaming(tmp_path), QualitySettings()).resume() == {0: 8, 1: 42}


def test_what_is_not_due_waits(tmp_path: Path) -> None:
    collector = Collector(streaming(tmp_path, batch_lines=4, batch_seconds=1e9), QualitySettings())
    assert run(collector, [fetched(LINES[:3]), fetched(LINES[:4], 0, 1)], only_due=True) == {1: 4}
    assert run(collector, only_due=False) == {0: 3}


def test_a_gap_is_an_entry_of_its_own_after_what_was_read_before_it(tmp_path: Path) -> None:
    collector = Collector(streaming(tmp_path), QualitySettings())
    run(collector, [fetched(LINES[:3]), Gap(0, 3, 99), fetched(LINES[3:5], 100)])
    entries = Archive(tmp_path).entries()
    assert [(one.first, one.last, one.lines, one.lost) for one in entries] == [
        (0, 2, 3, 0),
        (3, 99, 0, 97),
        (100, 101, 2, 0),
    ]
    [alert] = [orjson.loads(line) for line in (tmp_path / "alerts.jsonl").read_bytes().splitlines()]
    assert (alert["alert"], alert["lines"]) == ("retention_gap", 97)


def test_a_batch_full_of_faults_raises_alerts(tmp_path: Path) -> None:
    collector = Collector(streaming(tmp_path), QualitySettings(alert_lines=10))
    run(collector, [fetched([*LINES, LINES[0]])])
    told = [orjson.loads(line)["alert"] for line in (tmp_path / "alerts.jsonl").read_bytes().splitlines()]
    assert told == ["quarantined", "repaired", "duplicate"]


def test_what_a_crash_left_is_removed_and_its_lines_are_read_again(tmp_path: Path) -> None:
    first = Collector(streaming(tmp_path), QualitySettings())
    run(first, [fetched(LINES[:5])])
    run(first, [fetched(LINES[5:], 5)])
    (lost,) = (tmp_path / "archive/ledger").glob("*-000000000005-*")
    lost.unlink()  # as if it had died right before the commit
    again = Collector(streaming(tmp_path), QualitySettings())
    assert again.resume() == {0: 5}
    left = {path.stem for kind in (*KINDS, "quarantine") for path in tmp_path.rglob(f"{kind}/day=*/*.parquet")}
    assert left == {"movielog1-0-000000000000-000000000004"}
    run(again, [fetched(LINES[5:], 5)])
    assert sum(tally(Archive(tmp_path).entries()).values()) == len(LINES)
