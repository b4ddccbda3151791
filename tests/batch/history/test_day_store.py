"""Days of sessions: whole or not there, and the same rows back."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch.errors import NightFilesDamaged
from batch.history.day_store import DAY_SCHEMAS, DayPart, DaySource, DayStore, day_table

DAY = "2030-01-01"
SESSIONS = day_table(
    "sessions", {"user": [1, 2], "movie": ["b+1999", "a+1999"], "start": [5, 6], "last": [7, 8], "minutes": [1, 2]}
)


def test_a_written_day_is_read_back_with_missing_parts_empty(tmp_path: Path) -> None:
    day_store = DayStore(tmp_path)
    day_store.write(DAY, DaySource(inputs="x", counts={"sessions": 2}), {"sessions": SESSIONS})
    day_store.write("2030-01-02", DaySource(), {"sessions": SESSIONS.slice(1)})
    assert day_store.days() == {DAY: DaySource(inputs="x", counts={"sessions": 2}), "2030-01-02": DaySource()}
    sessions = day_store.read("sessions", [DAY, "2030-01-02"])
    assert sessions.to_pylist() == [*SESSIONS.to_pylist(), *SESSIONS.to_pylist()[1:]]
    assert sessions.column("movie").num_chunks == 1
    empty: tuple[DayPart, ...] = ("ratings", "requests", "accounts")
    for part in empty:
        assert day_store.read(part, [DAY]).num_rows == 0
        assert day_store.read(part, []).schema == DAY_SCHEMAS[part]


def test_an_unfinished_day_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    day_store = DayStore(tmp_path)
    day_store.write(DAY, DaySource(inputs="one"), {"sessions": SESSIONS})
    written: list[Path] = []

    def fails(path: Path, table: pa.Table) -> None:
        written.append(path)
        if len(written) == 3:
            raise OSError("disk full")

    monkeypatch.setattr("batch.history.day_store._write", fails)
    with pytest.raises(OSError, match="disk full"):
        day_store.write(DAY, DaySource(inputs="two"), {})
    assert day_store.days() == {}


@pytest.mark.parametrize("text", ["", "{", '{"layout": 0}', '{"layout": "1"}'])
def test_a_day_of_another_layout_or_with_garbled_files_is_ignored(tmp_path: Path, text: str) -> None:
    day_store = DayStore(tmp_path)
    day_store.write(DAY, DaySource(), {})
    (tmp_path / "sessions" / f"day={DAY}" / "made.json").write_text(text)
    assert day_store.days() == {}


def test_a_removed_day_is_no_longer_listed(tmp_path: Path) -> None:
    day_store = DayStore(tmp_path)
    day_store.write(DAY, DaySource(), {})
    day_store.remove(DAY)
    assert (day_store.days(), list(day_store.folder.iterdir())) == ({}, [])


def test_an_empty_part_has_the_type_of_its_columns(tmp_path: Path) -> None:
    day_store = DayStore(tmp_path)
    day_store.write(DAY, DaySource(), {})
    assert day_store.read("sessions", [DAY]).schema.equals(DAY_SCHEMAS["sessions"])


@pytest.mark.parametrize("column", ["user", "movie", "start", "last", "minutes"])
def test_a_part_without_a_column_is_an_error_that_names_both(tmp_path: Path, column: str) -> None:
    day_store = DayStore(tmp_path)
    day_store.write(DAY, DaySource(), {"sessions": SESSIONS})
    path = tmp_path / "sessions" / f"day={DAY}" / "sessions.parquet"
    pq.write_table(pq.ParquetFile(path).read().drop_columns([column]), path)
    with pytest.raises(NightFilesDamaged, match=f"night: {path} is missing or damaged: it has no column {column}; rem"):
        day_store.read("sessions", [DAY])


@pytest.mark.parametrize("content", [None, b"PAR1 and no more"])
def test_the_error_names_a_missing_or_damaged_part_and_the_remedy(tmp_path: Path, content: bytes | None) -> None:
    day_store = DayStore(tmp_path)
    day_store.write(DAY, DaySource(), {"sessions": SESSIONS})
    path = tmp_path / "sessions" / f"day={DAY}" / "sessions.parquet"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(
        NightFilesDamaged, match=f"{path} is missing or damaged: .*; remove the folder {path.parent}, and the next"
    ):
        day_store.read("sessions", [DAY])
