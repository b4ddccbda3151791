"""Archive, ledger, quarantine and catalogue of an earlier version are read as before: `old_files` was written by it."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from quality.catalog import Catalog, KnownIds
from quality.lines.ledger_summary import damaged_files, summarize
from quality.lines.quarantine import quarantined_lines, replay_quarantine
from quality.lines.verdicts import ParsedLines, judge
from stream.archive import Archive
from stream.event import KINDS, Event
from stream.ledger_entry import FateCount, LedgerEntry, TimeRange
from stream.line_columns import events_of
from stream.tables import ARCHIVE_SCHEMAS, EVENT_SCHEMAS, QUARANTINE_SCHEMA
from tests.quality.lines.collected_batches import CLOCK, NOW, context

OLD_FILES = Path(__file__).parent / "old_files"
AT_09_40 = Event("watch", NOW, 5, "aliens+1986", minute=5)
ANSWER = Event("recommend", NOW + 3_123, 9, host="a:1", status=200, movies=("aliens+1986", "endeavour+"), latency_ms=5)
EVENTS = {
    "watch": [AT_09_40, AT_09_40],
    "rate": [Event("rate", NOW - 34_801_000, 7, "endeavour+", rating=3)],
    "recommend": [ANSWER, Event("recommend", NOW + 3_123, 9, host="a:1", status=0, latency_ms=801, error="timed out")],
    "account": [Event("account", NOW + 3_000, 9)],
}


@pytest.fixture
def var(tmp_path: Path) -> Path:
    return Path(shutil.copytree(OLD_FILES, tmp_path / "var"))


def test_the_ledger_is_read(var: Path) -> None:
    batch, gap = Archive(var).entries()
    assert (batch.first, batch.last, batch.lines, batch.kafka_time) == (0, 9, 10, TimeRange(NOW + 1000, NOW + 1000))
    assert batch.counts[-1] == FateCount("repaired", "watch", "2022-10-07", "one_character", 1)
    assert (gap.lines, gap.lost) == (0, 5)
    summary = summarize([batch, gap])
    assert (summary.balanced, summary.lines, summary.quarantined, summary.lost) == (True, 10, 3, 5)
    assert damaged_files(Archive(var), [batch, gap]) == []


def test_an_entry_with_fields_that_are_unknown_or_missing_is_read(var: Path) -> None:
    path = next((var / "archive" / "ledger").glob("*-000000000014.json"))
    entry = msgspec.json.decode(path.read_bytes(), type=dict[str, object])
    kept = {name: entry[name] for name in ("topic", "partition", "first", "last", "lines")}
    path.write_bytes(msgspec.json.encode({**kept, "of a later version": [1]}))
    assert Archive(var).entries()[1] == LedgerEntry(topic="movielog1", partition=0, first=10, last=14, lines=0)


def test_the_events_are_read(var: Path) -> None:
    archive = Archive(var)
    tables = {file.room: archive.read(file) for entry in archive.entries() for file in entry.files}
    for kind in KINDS:
        assert tables[kind].schema.equals(ARCHIVE_SCHEMAS[kind])
        assert events_of(kind, tables[kind].select(EVENT_SCHEMAS[kind].names)) == EVENTS[kind]
    assert tables["quarantine"].schema.equals(QUARANTINE_SCHEMA)


def test_the_quarantine_is_listed_judged_and_replayed(var: Path) -> None:
    archive = Archive(var)
    lines = list(quarantined_lines(archive))
    assert [line.reason for line in lines] == ["minute", "user_unknown", "not_utf8"]
    read = ParsedLines.read(
        pa.array([line.raw for line in lines], pa.binary()), np.array([line.kafka_time for line in lines]), CLOCK
    )
    assert judge(read, context(missing=())).reasons == [line.reason for line in lines]
    assert replay_quarantine(archive, context(max_user=8_000_000, missing=()))["accepted"] == 1
    assert [entry.revision for entry in archive.entries()] == [1, 0]


def test_the_catalogue_is_read(var: Path) -> None:
    catalog = Catalog(var)
    assert catalog.known(1_000_000) == KnownIds(
        {"aliens+1986": 137}, frozenset({"none+1901"}), frozenset({7_801_000}), frozenset({9_999_999})
    )
    assert catalog.statuses("movie") == {"aliens+1986": "known", "none+1901": "unknown", "bad+1999": "bad"}
    assert catalog.records("movie")["aliens+1986"]["tagline"] == "This time it's war."
    assert catalog.people() == [(7_801_000, 28, "M")]
