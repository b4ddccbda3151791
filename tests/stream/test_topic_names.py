"""A topic that was made anew has another name in the ledger; what was read of the old one stays as it is."""

from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from batch.gate.ledger_gaps import first_gap
from batch.nights.night_inputs import describe_entries
from stream.archive import Archive
from stream.record_mark import RecordMark
from tests.ledger_entries import TOPIC, entry

MARK = RecordMark(49, 1_700_000_000_000, "00" * 16)


def test_a_topic_made_anew_begins_at_0_and_keeps_what_was_read(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    old = [archive.commit(entry(0, 49, mark=MARK)), archive.commit(entry(0, 9, partition=1))]
    assert (archive.name_of(TOPIC), archive.positions(TOPIC)) == (TOPIC, {0: 50, 1: 10})
    assert archive.marks(TOPIC) == {0: MARK}
    begun = archive.begin_again(TOPIC, "offset 49 holds another record")
    assert (begun.topic, begun.remade) == (f"{TOPIC}~1", "offset 49 holds another record")
    assert (archive.positions(TOPIC), archive.marks(TOPIC)) == ({0: 0}, {})
    new = [archive.commit(entry(0, 79, topic=f"{TOPIC}~1"))]
    assert archive.positions(TOPIC) == {0: 80}
    assert archive.entries(TOPIC) == archive.entries() == [*old, begun, *new]
    read = describe_entries(archive, archive.entries())
    assert read.offsets == {f"{TOPIC}-0": [0, 49], f"{TOPIC}-1": [0, 9], f"{TOPIC}~1-0": [0, 79]}
    assert first_gap(archive.entries(), read.offsets) == ""
    assert archive.begin_again(TOPIC, "again").topic == f"{TOPIC}~2"
    assert archive.times_remade(f"{TOPIC}2") == 0


def test_an_entry_without_a_mark_still_reads(tmp_path: Path) -> None:
    archive = Archive(tmp_path)
    written = archive.commit(entry(0, 49))
    path = archive.ledger / f"{written.name}.json"
    fields = msgspec.json.decode(path.read_bytes(), type=dict[str, object])
    path.write_bytes(msgspec.json.encode({name: fields[name] for name in fields if name not in ("mark", "remade")}))
    assert Archive(tmp_path).entries() == [written]


@given(st.binary(max_size=50), st.binary(max_size=50), st.integers(), st.integers())
def test_a_mark_is_of_one_record(value: bytes, other: bytes, time: int, other_time: int) -> None:
    times = min(max(time, 946_684_800_000), 4_102_444_799_999), min(max(other_time, 946_684_800_000), 4_102_444_799_999)
    same = RecordMark.of(7, time, value) == RecordMark.of(7, other_time, other)
    assert same == (value == other and times[0] == times[1])
