"""The past that `night` is measured on must be one that the collector and the night could have left."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from batch.history.day_sessions import compact_days
from batch.history.day_store import DAY_SCHEMAS, DayStore
from loadtest.bench.night import busy_day, night_benchmark, synthetic_history
from loadtest.bench.night.busy_day import RATING, REQUEST, BusyDay, lines_of
from loadtest.bench.night.synthetic_crowd import AGAIN_SHARE, Crowd, CrowdVisits, Marks
from loadtest.bench.night.synthetic_history import Begun, HistorySize, MovieNames, SyntheticHistory, straight
from loadtest.errors import LoadtestError
from loadtest.simulation.catalogue import make_catalogue
from loadtest.simulation.population import make_population
from quality.catalog import Catalog
from quality.lines.schemas import USER, checked
from stream.archive import Archive
from stream.settings import StreamSettings
from stream.zone import DAY_MS, HOUR_MS, zone_named

SIZE = HistorySize(users=400, movies=150, sessions=2_400, days=4, batch_lines=10_000)
CLOCK = zone_named(StreamSettings().timezone)
BEGINS = CLOCK.bounds(synthetic_history.FIRST_DAY)[0]
GAP_MS = 6 * HOUR_MS


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> SyntheticHistory:
    return synthetic_history.write(tmp_path_factory.mktemp("past") / "var", SIZE, 1)


def crowd(users: int = 2_000, movies: int = 400, seed: int = 1) -> Crowd:
    return Crowd(make_catalogue(movies, seed, "2022"), make_population(users, seed, "2022"), seed)


def rows(table: pa.Table, *names: str) -> list[tuple[Any, ...]]:
    return list(zip(*(table.column(name).to_pylist() for name in names), strict=True))


# The crowd


@hypothesis_settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2**20 - 1), st.integers(0, 26_999)), max_size=60))
def test_what_was_seen_is_marked(pairs: list[tuple[int, int]]) -> None:
    users, movies = np.array(pairs, np.int64).reshape(-1, 2).T
    marks = Marks(27_000)
    assert not marks.seen(users, movies).any()
    marks.add(users, movies)
    assert marks.seen(users, movies).all()


def test_hardly_anything_is_marked_that_was_not_seen() -> None:
    rng, marks = np.random.default_rng(1), Marks(27_000)
    marks.add(rng.integers(0, 10**6, 10**5), rng.integers(0, 27_000, 10**5))
    assert marks.seen(rng.integers(0, 10**6, 10**5), rng.integers(0, 27_000, 10**5)).mean() < 0.001


def test_days_of_a_crowd() -> None:
    people = crowd()
    days = [people.day(BEGINS + number * DAY_MS, 2_000) for number in range(6)]
    for number, visits in enumerate(days):
        assert len(visits.users) == pytest.approx(2_000, rel=0.1)
        assert (np.diff(visits.starts) >= 0).all()
        assert ((visits.starts - BEGINS) // DAY_MS == number).all()
        assert (visits.starts % 1000 == 0).all()
        assert (visits.minutes >= 1).all()
        assert (visits.minutes <= people.catalogue.length_min[visits.movies] * 1.05 + 5).all()
    users, movies = (np.concatenate([getattr(visits, name) for visits in days]) for name in ("users", "movies"))
    again = len(users) - len(set(zip(users.tolist(), movies.tolist(), strict=True)))
    assert 0 < again < 2 * AGAIN_SHARE * len(users)
    visits_a_user = np.sort(np.bincount(users, minlength=2_000))
    assert visits_a_user[-200:].sum() > 0.25 * len(users)  # a tenth of the users does more than a quarter
    top = [set(np.argsort(-np.bincount(visits.movies, minlength=400))[:40].tolist()) for visits in (days[0], days[5])]
    assert 4 < len(top[0] & top[1]) < 40  # what is popular changes, and not altogether


def test_nobody_sees_a_movie_twice_within_two_days() -> None:
    people = crowd(users=200, movies=60)
    days = [people.day(BEGINS + at * DAY_MS, 1_200) for at in range(2)]  # who watches again looks two days back
    users, movies = (np.concatenate([getattr(visits, name) for visits in days]) for name in ("users", "movies"))
    assert np.unique(users.astype(np.int64) * 60 + movies).size == users.size > 1_500


def test_what_is_hot_changes_from_day_to_day() -> None:
    people, charts = crowd(), []
    for at in range(4):
        people.day(BEGINS + at * DAY_MS, 100)
        charts.append(np.log(people._urns.share[:400]))
    moved = [charts[at] - charts[0] for at in (1, 3)]
    # what is in the talk takes from all others alike, which is no change among these
    spread = [float(np.median(np.abs(move - np.median(move)))) for move in moved]
    assert 0.05 < spread[0] < spread[1] < 1


def test_what_follows_is_near_what_was_watched() -> None:
    people = crowd()
    order = np.concatenate([np.stack(people.day(BEGINS + at * DAY_MS, 4_000)[:2]) for at in range(4)], axis=1)
    users, movies = order[:, np.argsort(order[0], kind="stable")]
    same = users[1:] == users[:-1]
    last, following = movies[:-1][same], movies[1:][same]
    sequels = people.catalogue.successor[last]
    assert (sequels == following)[sequels >= 0].mean() > 0.15
    assert (people._related[last] == following[:, None]).any(axis=1).mean() > 0.12
    assert (people._related[last] == np.roll(following, 1)[:, None]).any(axis=1).mean() < 0.09


# A day's lines


def visits_of(starts_s: list[int], minutes: list[int]) -> CrowdVisits:
    count = len(starts_s)
    return CrowdVisits(
        np.arange(count, dtype=np.int32),
        np.arange(count, dtype=np.int32),
        BEGINS + np.array(starts_s, np.int64) * 1000,
        np.array(minutes, np.int32),
        np.full(count, 4, np.int8),
        np.full(count, True),
    )


@hypothesis_settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 86_399), st.integers(1, 200)), max_size=12), st.integers(0, 99))
def test_every_session_writes_its_lines(sessions: list[tuple[int, int]], seed: int) -> None:
    visits = visits_of([start for start, _ in sessions], [minutes for _, minutes in sessions])
    lines = lines_of(visits, 7, BEGINS, np.random.default_rng(seed))
    for row, (start, minutes) in enumerate(sessions):
        own = lines.rows(lines.session == row + 7)
        watched_at = own.time[own.code >= 0]
        assert own.code[own.code >= 0].tolist() == list(range(minutes))
        assert watched_at[0] == start
        assert minutes == 1 or np.diff(watched_at).min() >= 20
        assert own.time[own.code == RATING].tolist() == [watched_at[-1] + 60]
        assert (start - own.time[own.code == REQUEST]).tolist()[0] in range(3, 41)
        assert len(own.code) == minutes + 2


def test_lines_come_in_order_and_none_is_lost() -> None:
    visits = crowd().day(BEGINS, 3_000)
    slots = list(busy_day.in_order(visits, Begun.nothing().lines, BEGINS, np.random.default_rng(1)))
    time, session = (np.concatenate([getattr(slot, name) for slot in slots]) for name in ("time", "session"))
    assert (np.diff(time) >= 0).all()
    assert time[0] >= 0
    assert time[-1] < DAY_MS // 1000
    ends = visits.starts + visits.minutes.astype(np.int64) * 62_000 + 90_000
    counts = np.bincount(session, minlength=len(visits.users))
    whole = ends < BEGINS + DAY_MS
    expected = visits.minutes + (visits.ratings > 0) + visits.asked
    assert (counts == expected)[whole].all()
    assert (counts < expected)[~whole].any()


def test_who_comes_at_midnight_looked_at_midnight() -> None:
    visits = visits_of([0, 1, 30], [2, 2, 2])
    slots = busy_day.in_order(visits, Begun.nothing().lines, BEGINS, np.random.default_rng(1))
    first = next(slots)
    assert (first.time[first.code == REQUEST] >= 0).all()
    assert len(first.time) == 12
    assert (np.diff(first.time) >= 0).all()


# The archive


def test_the_ledger_balances_and_names_what_there_is(written: SyntheticHistory) -> None:
    archive = Archive(written.var)
    entries = archive.entries(StreamSettings().topic)
    assert all(entry.balances() for entry in entries)
    assert [entry.first for entry in entries] == [place * 10_000 for place in range(len(entries))]
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
        found = sorted(
            row for table in tables for row in rows(table.select(["offset", "kafka_time"]), *("offset", "kafka_time"))
        )
        assert [offset for offset, _ in found] == list(range(entry.first, entry.last + 1))
        times = [round(time.timestamp() * 1000) for _, time in found]
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


def test_the_catalogue_knows_everyone(written: SyntheticHistory) -> None:
    catalog = Catalog(written.var)
    assert Counter(catalog.statuses("user").values()) == {"known": SIZE.users}
    assert Counter(catalog.statuses("movie").values()) == {"known": SIZE.movies}
    assert all(checked(record, USER) == (record, "") for record in catalog.records("user").values())


# Days that are written straight


def test_days_are_whole_and_sorted(written: SyntheticHistory) -> None:
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
            found = rows(table, *names)
            assert found == sorted(found)
            assert len(found) > 0
        sessions += day_store.read("sessions", [day]).num_rows
        table = day_store.read("sessions", [day])
        starts, lasts, minutes = (table.column(name).to_numpy() for name in ("start", "last", "minutes"))
        assert begins <= starts.min()
        assert lasts.max() < ends
        assert (lasts - starts <= minutes * 62_000 + 20_000).all()
        assert (lasts - starts >= (minutes - 1) * 20_000).all()
    assert sessions == pytest.approx(SIZE.sessions * 3 / 4, rel=0.15)


def test_no_minute_is_lost_at_midnight() -> None:
    people, rng = crowd(), np.random.default_rng(1)
    names, running, planned, kept, ratings, asked = MovieNames(people.catalogue.ids), Begun.nothing(), 0, 0, 0, 0
    for day in range(3):
        visits = people.day(BEGINS + day * DAY_MS, 1_000)
        tables, running = straight(running, visits, BEGINS + day * DAY_MS, names, rng)
        planned += int(visits.minutes.sum())
        kept += int(tables["sessions"].column("minutes").to_numpy().sum())
        ratings += tables["ratings"].num_rows - int((visits.ratings > 0).sum())
        asked += tables["requests"].num_rows - int(visits.asked.sum())
    assert 0 < int((running.lines.code >= 0).sum()) == planned - kept
    assert 0 < int((running.lines.code == RATING).sum()) == -ratings
    assert asked == 0


def _ended(table: pa.Table) -> list[tuple[Any, ...]]:
    """The sessions that midnight cannot have cut."""
    columns = ("user", "movie", "start", "minutes")
    return [row for row in rows(table, *columns) if row[2] + 62_000 * row[3] < BEGINS + DAY_MS - 90_000]


def test_a_straight_day_is_what_sessions_are_made_of_its_lines(tmp_path: Path) -> None:
    one, other = crowd(), crowd()
    tables, running = straight(
        Begun.nothing(), one.day(BEGINS, 2_000), BEGINS, MovieNames(one.catalogue.ids), np.random.default_rng(1)
    )
    visits, archive, day_store = other.day(BEGINS, 2_000), Archive(tmp_path), DayStore(tmp_path)
    BusyDay(archive, other, visits, BEGINS, synthetic_history.FIRST_DAY, "movielog1").write(
        Begun.nothing().lines, 5_000, np.random.default_rng(2)
    )
    counts = compact_days(archive, archive.entries(), day_store, GAP_MS, lambda rows: None)
    assert counts["duplicates"] == 0
    made = day_store.read("sessions", [synthetic_history.FIRST_DAY])
    expected, found = _ended(tables["sessions"]), _ended(made)
    assert len(expected) > 500
    assert found == expected
    assert made.num_rows == tables["sessions"].num_rows
    rated = {row[:2] for row in rows(tables["ratings"], "user", "movie")}
    assert len(
        rated ^ set(rows(day_store.read("ratings", [synthetic_history.FIRST_DAY]), "user", "movie"))
    ) < 0.02 * len(rated)
    assert day_store.read("requests", [synthetic_history.FIRST_DAY]).num_rows == pytest.approx(
        0.97 * tables["requests"].num_rows, rel=0.03
    )
    assert int((running.lines.code >= 0).sum()) > 0


# Writing it


def whole(var: Path) -> dict[str, str]:
    """Digests of everything but what tells the time of writing."""
    found = night_benchmark.digests(var)
    ledger = {
        path.name: [count for key, count in orjson.loads(path.read_bytes()).items() if key != "written"]
        for path in sorted((var / "archive" / "ledger").glob("*.json"))
    }
    kept = {name: digest for name, digest in found.items() if "ledger" not in name}
    return kept | {"ledger": orjson.dumps(ledger).decode()}


def test_a_seed_makes_the_same_past(written: SyntheticHistory, tmp_path: Path) -> None:
    small = HistorySize(users=100, movies=60, sessions=300, days=2, batch_lines=3_000)
    for name, seed in (("one", 5), ("two", 5), ("three", 6)):
        synthetic_history.write(tmp_path / name, small, seed)
    one, two, three = (whole(tmp_path / name) for name in ("one", "two", "three"))
    assert one == two
    assert one.keys() != three.keys() or all(one[name] != three[name] for name in one if name.endswith(".parquet"))


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    with pytest.raises(LoadtestError, match="not empty"):
        synthetic_history.write(tmp_path, SIZE, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["something"]


def test_a_full_disk_is_told_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 10**9))
    with pytest.raises(LoadtestError, match=r"1,000,000 users needs \d\.\d GB of disk, 1\.0 GB are free"):
        synthetic_history.write(tmp_path / "var", night_benchmark.FULL.past, 1)
    assert list((tmp_path / "var").iterdir()) == []


def test_what_is_needed_of_the_disk_is_enough(written: SyntheticHistory) -> None:
    used = sum(path.stat().st_size for path in written.var.rglob("*") if path.is_file())
    assert used < SIZE.bytes
    assert night_benchmark.FULL.past.bytes < 6e9


def test_a_share_of_a_past() -> None:
    assert HistorySize(1_000, 60, 8_000, 4, 100).of(0.25) == HistorySize(250, 60, 2_000, 4, 100)
