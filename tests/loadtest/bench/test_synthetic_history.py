"""The synthetic history of `night` must be one that the collector and earlier nights could have written."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest

from batch.history.day_sessions import archived_days, compact_days
from batch.history.day_store import DAY_SCHEMAS, DayStore
from loadtest.bench.night import night_benchmark, synthetic_history
from loadtest.bench.night.busy_day import RATING, BusyDay
from loadtest.bench.night.night_benchmark import NIGHT
from loadtest.bench.night.synthetic_history import (
    HistorySize,
    MovieNames,
    RunningSessions,
    SyntheticHistory,
    day_tables,
)
from loadtest.errors import LoadtestError
from quality.catalog import Catalog
from quality.lines.schemas import USER, checked
from stream.archive import Archive
from stream.settings import StreamSettings
from stream.zone import DAY_MS, HOUR_MS
from tests.loadtest.small_crowd import BEGINS, CLOCK, make_crowd

SIZE = HistorySize(users=400, movies=150, sessions=2_400, days=4, batch_lines=10_000)
GAP_MS = 6 * HOUR_MS


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> SyntheticHistory:
    return synthetic_history.write(tmp_path_factory.mktemp("history") / "var", SIZE, 1)


def rows(table: pa.Table, *names: str) -> list[tuple[Any, ...]]:
    return list(zip(*(table.column(name).to_pylist() for name in names), strict=True))


# The archive


def test_the_ledger_balances_and_names_all_files(written: SyntheticHistory) -> None:
    archive = Archive(written.var)
    entries = archive.entries(StreamSettings().topic)
    assert all(entry.balances() for entry in entries)
    assert [entry.first for entry in entries] == [number * 10_000 for number in range(len(entries))]
    assert [entry.lines for entry in entries[:-1]] == [10_000] * (len(entries) - 1)
    assert sum(entry.lines for entry in entries) == written.all_lines
    assert written.lines == sum(count.lines for entry in entries for count in entry.counts if count.kind == "watch")
    with archive.writing():
        assert archive.sweep() == []


def test_batches_hold_the_offsets_in_the_order_of_time(written: SyntheticHistory) -> None:
    archive = Archive(written.var)
    begins, ends = CLOCK.bounds(written.days[-1])
    reached = 0
    for entry in archive.entries():
        tables = [archive.read(file) for file in entry.files]
        lines = sorted(row for table in tables for row in rows(table, "offset", "kafka_time"))
        assert [offset for offset, _ in lines] == list(range(entry.first, entry.last + 1))
        times = [round(time.timestamp() * 1000) for _, time in lines]
        assert times == sorted(times)
        assert entry.kafka_time is not None
        assert (times[0], times[-1]) == (entry.kafka_time.first, entry.kafka_time.last)
        assert times[0] >= reached
        reached = times[-1]
        for table in tables:
            time = table.column("time").cast(pa.int64()).to_numpy()
            assert begins <= time.min()
            assert time.max() < ends


def test_shown_lists_hold_twenty_movies_or_an_error(written: SyntheticHistory) -> None:
    archive = Archive(written.var)
    known = set(Catalog(written.var).known(10**6).runtimes)
    statuses: Counter[int] = Counter()
    for entry in archive.entries():
        for file in entry.files:
            if file.room == "recommend":
                for status, movies, error in rows(archive.read(file), "status", "movies", "error"):
                    statuses[status] += 1
                    assert (len(set(movies)), error is None) == ((20, True) if status == 200 else (0, False))
                    assert set(movies) <= known
    assert 0 < statuses[0] < 0.1 * statuses[200]


def test_the_catalogue_holds_all_movies_and_users(written: SyntheticHistory) -> None:
    catalog = Catalog(written.var)
    assert Counter(catalog.statuses("user").values()) == {"known": SIZE.users}
    assert Counter(catalog.statuses("movie").values()) == {"known": SIZE.movies}
    assert all(checked(record, USER) == (record, "") for record in catalog.records("user").values())


# The days before


def test_days_are_complete_and_sorted(written: SyntheticHistory) -> None:
    day_store = DayStore(written.var)
    assert list(day_store.days()) == written.days[:-1]
    assert {made.imported for made in day_store.days().values()} == {synthetic_history.SOURCE}
    sessions = 0
    for day in written.days[:-1]:
        begins, ends = CLOCK.bounds(day)
        assert ends - begins == DAY_MS
        for part in ("sessions", "ratings", "requests"):
            table = day_store.read(part, [day])
            assert table.schema == DAY_SCHEMAS[part]
            names = ["user", "movie", "start"] if part == "sessions" else ["user", "time"]
            names = ["user", "movie", "time"] if part == "ratings" else names
            in_file = rows(table, *names)
            assert in_file == sorted(in_file)
            assert len(in_file) > 0
        sessions += day_store.read("sessions", [day]).num_rows
        table = day_store.read("sessions", [day])
        starts, lasts, minutes = (table.column(name).to_numpy() for name in ("start", "last", "minutes"))
        assert begins <= starts.min()
        assert lasts.max() < ends
        assert (lasts - starts <= minutes * 62_000 + 20_000).all()
        assert (lasts - starts >= (minutes - 1) * 20_000).all()
    assert sessions == pytest.approx(SIZE.sessions * 3 / 4, rel=0.15)


def test_no_minute_is_lost_at_midnight() -> None:
    people, rng = make_crowd(), np.random.default_rng(1)
    names, running, planned, kept, ratings, asked = MovieNames(people.catalogue.ids), RunningSessions.none(), 0, 0, 0, 0
    for day in range(3):
        visits = people.day(BEGINS + day * DAY_MS, 1_000)
        tables, running = day_tables(running, visits, BEGINS + day * DAY_MS, names, rng)
        planned += int(visits.minutes.sum())
        kept += int(tables["sessions"].column("minutes").to_numpy().sum())
        ratings += tables["ratings"].num_rows - int((visits.ratings > 0).sum())
        asked += tables["requests"].num_rows - int(visits.asked.sum())
    assert 0 < int((running.lines.code >= 0).sum()) == planned - kept
    assert 0 < int((running.lines.code == RATING).sum()) == -ratings
    assert asked == 0


def _ended(table: pa.Table) -> list[tuple[Any, ...]]:
    """The sessions that surely end before midnight."""
    columns = ("user", "movie", "start", "minutes")
    return [row for row in rows(table, *columns) if row[2] + 62_000 * row[3] < BEGINS + DAY_MS - 90_000]


def test_day_tables_equal_the_sessions_made_of_the_lines_of_a_day(tmp_path: Path) -> None:
    crowd, twin = make_crowd(), make_crowd()
    names, rng = MovieNames(crowd.catalogue.ids), np.random.default_rng(1)
    tables, running = day_tables(RunningSessions.none(), crowd.day(BEGINS, 2_000), BEGINS, names, rng)
    visits, archive, day_store = twin.day(BEGINS, 2_000), Archive(tmp_path), DayStore(tmp_path)
    BusyDay(archive, twin, visits, BEGINS, synthetic_history.FIRST_DAY, "movielog1").write(
        RunningSessions.none().lines, 5_000, np.random.default_rng(2)
    )
    counts = compact_days(archived_days(archive, archive.entries()), day_store, GAP_MS, lambda rows: None)
    assert counts["duplicates"] == 0
    compacted = day_store.read("sessions", [synthetic_history.FIRST_DAY])
    expected = _ended(tables["sessions"])
    assert len(expected) > 500
    assert _ended(compacted) == expected
    assert compacted.num_rows == tables["sessions"].num_rows
    rated = set(rows(tables["ratings"], "user", "movie"))
    compacted_ratings = set(rows(day_store.read("ratings", [synthetic_history.FIRST_DAY]), "user", "movie"))
    assert len(rated ^ compacted_ratings) < 0.02 * len(rated)
    assert day_store.read("requests", [synthetic_history.FIRST_DAY]).num_rows == pytest.approx(
        0.97 * tables["requests"].num_rows, rel=0.03
    )
    assert int((running.lines.code >= 0).sum()) > 0


# Writing it


def digests_of(var: Path) -> dict[str, str]:
    """Digests of all files, without the ledger's times of writing."""
    digests = night_benchmark.digests(var)
    ledger = {
        path.name: [count for key, count in orjson.loads(path.read_bytes()).items() if key != "written"]
        for path in sorted((var / "archive" / "ledger").glob("*.json"))
    }
    kept = {name: digest for name, digest in digests.items() if "ledger" not in name}
    return kept | {"ledger": orjson.dumps(ledger).decode()}


def test_a_seed_makes_the_same_history(written: SyntheticHistory, tmp_path: Path) -> None:
    small = HistorySize(users=100, movies=60, sessions=300, days=2, batch_lines=3_000)
    for name, seed in (("first", 5), ("same", 5), ("other", 6)):
        synthetic_history.write(tmp_path / name, small, seed)
    first, same, other = (digests_of(tmp_path / name) for name in ("first", "same", "other"))
    assert first == same
    parquet = [name for name in first if name.endswith(".parquet")]
    assert first.keys() != other.keys() or all(first[name] != other[name] for name in parquet)


def test_a_folder_with_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    with pytest.raises(LoadtestError, match="not empty"):
        synthetic_history.write(tmp_path, SIZE, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["something"]


def test_a_full_disk_is_an_error_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 10**9))
    with pytest.raises(LoadtestError, match=r"1,000,000 users needs \d\.\d GB of disk, 1\.0 GB are free"):
        synthetic_history.write(tmp_path / "var", NIGHT.full.history, 1)
    assert list((tmp_path / "var").iterdir()) == []


def test_the_estimate_of_disk_space_is_enough(written: SyntheticHistory) -> None:
    used = sum(path.stat().st_size for path in written.var.rglob("*") if path.is_file())
    assert used < SIZE.bytes
    assert NIGHT.full.history.bytes < 6e9


def test_a_share_of_a_history() -> None:
    assert HistorySize(1_000, 60, 8_000, 4, 100).of(0.25) == HistorySize(250, 60, 2_000, 4, 100)
