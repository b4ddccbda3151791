"""Sessions against their definition, written down naively: any minutes, in any files and order, with duplicates."""

import tempfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.errors import MixedSources
from batch.history import day_sessions as sessions_module
from batch.history.assemble import GatheredDays, assemble, gather_days
from batch.history.day_sessions import archived_days, compact_days, rows_to_read
from batch.history.day_store import DaySource, DayStore
from batch.history.interactions import Interactions
from quality.metrics.watch_sessions import split_key
from stream.archive import Archive
from stream.errors import ArchiveError
from stream.event import Event, Kind
from stream.ledger_entry import FateCount, TimeRange
from stream.line_columns import table_of
from stream.zone import DAY_MS, HOUR_MS, day_name, day_number
from tests.ledger_entries import entry

MOVIES = ["aliens+1986", "boxing+helena+1993", "endeavour+"]
KNOWN = dict.fromkeys(MOVIES)
STRANGE = "unheard+of+1999"
FIRST = day_number("2030-01-01") * DAY_MS
GAP_MS = 6 * HOUR_MS
Session = tuple[int, int, int, int, int]
"""User, movie index, first minute, last minute, how many different minutes."""


def minute(user: int, movie: str, time: int, number: int = 0) -> Event:
    return Event("watch", time, user, movie, minute=number)


def rated(user: int, movie: str, hour: int, rating: int) -> Event:
    return Event("rate", FIRST + hour * HOUR_MS, user, movie, rating=rating)


def asked(user: int, time: int, status: int = 200) -> Event:
    movies = (MOVIES[0],) if status == 200 else ()
    return Event("recommend", time, user, host="h:1", status=status, movies=movies, latency_ms=1)


def archive(var: Path, batches: list[list[Event]]) -> Archive:
    """An archive of these batches, one after the other, behind what it has; days are UTC's."""
    extended = Archive(var)
    for batch in batches:
        first = extended.positions("t").get(0, 0)
        times = [event.time for event in batch]
        groups: dict[tuple[Kind, str], list[Event]] = defaultdict(list)
        for event in batch:
            groups[event.kind, day_name(event.time // DAY_MS)].append(event)
        counts = [FateCount("accepted", kind, day, None, len(own)) for (kind, day), own in groups.items()]
        span = TimeRange(min(times), max(times))
        last = first + len(batch) - 1
        batch_entry = entry(first, last, topic="t", counts=counts, kafka_time=span)
        files = [
            extended.write_events(batch_entry, kind, day, table_of(kind, own)) for (kind, day), own in groups.items()
        ]
        extended.commit(batch_entry.with_files(files))
    return extended


def compacted(var: Path, gap_ms: int = GAP_MS) -> Counter[str]:
    store = Archive(var)
    return compact_days(archived_days(store, store.entries()), DayStore(var), gap_ms, lambda rows: None)


def gathered(var: Path, gap_ms: int = GAP_MS) -> GatheredDays:
    return gather_days(DayStore(var), list(DayStore(var).days()), KNOWN, gap_ms)


def rows(days: GatheredDays) -> list[Session]:
    user, movie = split_key(days.spans.key)
    numbers = [MOVIES.index(days.movies[index]) for index in movie.tolist()]
    columns = user.tolist(), numbers, days.spans.start.tolist(), days.spans.last.tolist(), days.minutes.tolist()
    return list(zip(*columns, strict=True))


def by_definition(minutes: list[Event], gap_ms: int) -> list[Session]:
    pairs: dict[tuple[int, str], set[tuple[int, int]]] = defaultdict(set)
    for event in minutes:
        assert event.movie is not None
        assert event.minute is not None
        pairs[event.user, event.movie].add((event.time, event.minute))
    sessions = []
    for (user, movie), watched in pairs.items():
        session: list[int] = []
        for time, _ in sorted(watched):
            if session and time - session[-1] > gap_ms:
                sessions.append((user, MOVIES.index(movie), session[0], session[-1], len(session)))
                session = []
            session.append(time)
        sessions.append((user, MOVIES.index(movie), session[0], session[-1], len(session)))
    return sorted(sessions)


# half an hour apart, so that gaps of exactly six hours and minutes right at midnight are drawn often
times = st.one_of(st.integers(0, 143).map(lambda half: FIRST + half * HOUR_MS // 2), st.integers(FIRST, FIRST + DAY_MS))
minutes = st.builds(minute, st.sampled_from([1, 2, 2**32 - 1]), st.sampled_from(MOVIES), times, st.integers(0, 2))


@st.composite
def batches(draw: st.DrawFn) -> list[list[Event]]:
    """Minutes in any order, with duplicates, in batches."""
    events = draw(st.lists(minutes, min_size=1, max_size=40))
    events = draw(st.permutations(events + draw(st.lists(st.sampled_from(events), max_size=10))))
    cuts = sorted(draw(st.lists(st.integers(0, len(events)), max_size=3)))
    slices = [events[low:high] for low, high in zip([0, *cuts], [*cuts, len(events)], strict=True)]
    return [batch for batch in slices if batch]


@settings(deadline=None, max_examples=20)
@given(batches(), st.sampled_from([2, 4_000_000]))
def test_sessions_of_any_batches_match_a_naive_reference(drawn: list[list[Event]], share: int) -> None:
    """Whether all at once or night by night, and however few minutes are sorted together."""
    events = [event for batch in drawn for event in batch]
    with (
        tempfile.TemporaryDirectory() as at_once,
        tempfile.TemporaryDirectory() as nightly,
        pytest.MonkeyPatch.context() as to,
    ):
        to.setattr(sessions_module, "_SHARE_ROWS", share)
        archive(Path(at_once), drawn)
        counts = compacted(Path(at_once))
        for batch in drawn:
            archive(Path(nightly), [batch])
            compacted(Path(nightly))
        assert rows(gathered(Path(at_once))) == rows(gathered(Path(nightly))) == by_definition(events, GAP_MS)
        assert digests(Path(at_once)) == digests(Path(nightly))
    assert (counts["minutes"], counts["duplicates"]) == (len(events), len(events) - len(set(events)))


def digests(var: Path) -> dict[str, bytes]:
    """Whatever the days hold, but for how the files are called that it was made of."""
    return {str(path.relative_to(var)): path.read_bytes() for path in (var / "sessions").rglob("*.parquet")}


def states(var: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in (var / "sessions").rglob("*.*")}


def test_a_second_run_reads_and_changes_nothing(tmp_path: Path) -> None:
    store = archive(tmp_path, [[minute(1, MOVIES[0], FIRST)], [minute(2, MOVIES[0], FIRST + DAY_MS)]])
    assert compacted(tmp_path)["days"] == 2
    before = states(tmp_path)
    assert rows_to_read(archived_days(store, store.entries()), DayStore(tmp_path), GAP_MS) == 0
    assert compacted(tmp_path) == {"days": 0, "all_days": 2}
    assert states(tmp_path) == before


def test_a_late_line_rewrites_its_day_only(tmp_path: Path) -> None:
    archive(tmp_path, [[minute(1, MOVIES[0], FIRST + n * DAY_MS + HOUR_MS) for n in range(3)]])
    compacted(tmp_path)
    before = states(tmp_path)
    store = archive(tmp_path, [[minute(1, MOVIES[0], FIRST + DAY_MS + HOUR_MS + 60_000)]])
    assert rows_to_read(archived_days(store, store.entries()), DayStore(tmp_path), GAP_MS) == 2
    assert compacted(tmp_path)["days"] == 1
    changed = {path.parent.name for path, state in states(tmp_path).items() if before[path] != state}
    assert changed == {"day=2030-01-02"}
    assert [row[4] for row in rows(gathered(tmp_path))] == [1, 2, 1]


def test_another_gap_setting_rebuilds_all_days(tmp_path: Path) -> None:
    archive(tmp_path, [[minute(1, MOVIES[0], FIRST), minute(1, MOVIES[0], FIRST + 2 * HOUR_MS)]])
    compacted(tmp_path)
    assert len(rows(gathered(tmp_path))) == 1
    assert compacted(tmp_path, HOUR_MS)["days"] == 1
    assert len(rows(gathered(tmp_path, HOUR_MS))) == 2


def test_a_day_that_left_the_archive_is_removed(tmp_path: Path) -> None:
    store = archive(tmp_path, [[minute(1, MOVIES[0], FIRST)], [minute(2, MOVIES[0], FIRST + DAY_MS)]])
    compacted(tmp_path)
    compact_days(archived_days(store, store.entries()[:1]), DayStore(tmp_path), GAP_MS, lambda rows: None)
    assert list(DayStore(tmp_path).days()) == ["2030-01-01"]
    assert not (tmp_path / "sessions" / "day=2030-01-02").exists()


@pytest.mark.parametrize("kind", ["watch", "rate"])
@pytest.mark.parametrize("content", [None, b"PAR1 and no more"])
def test_a_missing_or_damaged_archive_file_is_an_error(tmp_path: Path, kind: str, content: bytes | None) -> None:
    archive(tmp_path, [[minute(1, MOVIES[0], FIRST), rated(1, MOVIES[0], 1, 3)]])
    path = next((tmp_path / "archive" / kind).glob("*/*.parquet"))
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArchiveError, match=f"{path} is missing or damaged"):
        compacted(tmp_path)
    assert DayStore(tmp_path).days() == {}


@pytest.mark.parametrize(
    ("kind", "column"),
    [("watch", "minute"), ("watch", "movie"), ("rate", "rating"), ("recommend", "status"), ("account", "user")],
)
@pytest.mark.parametrize("is_there", [False, True], ids=["without", "as text"])
def test_a_file_without_a_column_or_with_another_type_is_an_error(
    tmp_path: Path, kind: str, column: str, is_there: bool
) -> None:
    new, asked = Event("account", FIRST, 1), Event("recommend", FIRST, 1, host="a:1", status=200, movies=(MOVIES[0],))
    archive(tmp_path, [[minute(1, MOVIES[0], FIRST), rated(1, MOVIES[0], 1, 3), new, asked]])
    path = next((tmp_path / "archive" / kind).glob("*/*.parquet"))
    table = pq.ParquetFile(path).read()
    position, words = table.column_names.index(column), pa.array([[b"x"]] * len(table))
    table = table.remove_column(position)
    pq.write_table(table.add_column(position, column, words) if is_there else table, path)
    problem = "" if is_there else f"it has no column {column}; restore it"
    with pytest.raises(ArchiveError, match=f"archive: {path} is missing or damaged: .*{problem}"):
        compacted(tmp_path)


def test_an_imported_day_stays_apart_from_the_archive(tmp_path: Path) -> None:
    DayStore(tmp_path).write("2029-12-31", DaySource(imported="elsewhere"), {})
    archive(tmp_path, [[minute(1, MOVIES[0], FIRST)]])
    assert compacted(tmp_path)["all_days"] == 2
    DayStore(tmp_path).write("2030-01-01", DaySource(imported="elsewhere"), {})
    with pytest.raises(MixedSources, match="2030-01-01 was imported from elsewhere"):
        compacted(tmp_path)


def test_sessions_join_over_midnight_and_split_at_a_longer_gap(tmp_path: Path) -> None:
    midnight = FIRST + DAY_MS
    before = [minute(1, MOVIES[0], midnight - 60_000 * k) for k in (1, 2, 3)]
    after = [minute(1, MOVIES[0], midnight + 60_000 * k) for k in (0, 1)]
    late = minute(1, MOVIES[0], after[-1].time + GAP_MS + 1)
    archive(tmp_path, [before, [*after, late]])
    compacted(tmp_path)
    sessions = rows(gathered(tmp_path))
    assert sessions == [(1, 0, midnight - 180_000, midnight + 60_000, 5), (1, 0, late.time, late.time, 1)]


def test_unknown_movies_are_kept_by_day_but_only_counted_in_the_history(tmp_path: Path) -> None:
    events = [minute(1, STRANGE, FIRST), minute(1, MOVIES[1], FIRST), rated(2, STRANGE, 1, 3)]
    archive(tmp_path, [events])
    compacted(tmp_path)
    days = gathered(tmp_path)
    assert (rows(days), days.unknown, days.movies) == ([(1, 1, FIRST, FIRST, 1)], 2, [MOVIES[1]])
    days = gather_days(DayStore(tmp_path), ["2030-01-01"], {STRANGE: None}, GAP_MS)
    assert (len(days.spans), len(days.rated), days.unknown) == (1, 1, 1)


def test_without_an_archive_there_are_no_days(tmp_path: Path) -> None:
    assert compacted(tmp_path) == {"days": 0, "all_days": 0}
    days = gathered(tmp_path)
    assert (rows(days), days.movies, days.users.tolist(), len(days.rated)) == ([], [], [], 0)


def test_every_user_with_any_event_is_in_the_history(tmp_path: Path) -> None:
    account = Event("account", FIRST, 2**32 - 1)
    events = [minute(9, MOVIES[0], FIRST), rated(7, MOVIES[1], 1, 3), asked(8, FIRST), asked(6, FIRST, 0), account]
    archive(tmp_path, [events])
    compacted(tmp_path)
    days = gathered(tmp_path)
    assert (days.users.tolist(), str(days.users.dtype)) == ([7, 8, 9, 2**32 - 1], "uint32")
    assert DayStore(tmp_path).read("requests", ["2030-01-01"]).to_pydict() == {"user": [8], "time": [FIRST]}


ratings = st.builds(
    rated, st.integers(1, 2), st.sampled_from([*MOVIES, STRANGE]), st.integers(0, 30), st.integers(1, 5)
)


@settings(deadline=None, max_examples=25)
@given(st.lists(ratings, min_size=1, max_size=14), st.integers(1, 14))
def test_the_latest_rating_counts_and_the_higher_of_two_at_once(events: list[Event], cut: int) -> None:
    latest: dict[tuple[int, str], tuple[int, int]] = {}
    for event in sorted(events, key=lambda event: (event.time, event.rating)):
        if event.movie in MOVIES:
            latest[event.user, event.movie] = (event.time, event.rating or 0)
    with tempfile.TemporaryDirectory() as folder:
        archive(Path(folder), [batch for batch in (events[:cut], events[cut:]) if batch])
        counts = compacted(Path(folder))
        days = gathered(Path(folder))
    user, movie = split_key(days.rated.key)
    pairs = [
        (user_id, days.movies[movie_index]) for user_id, movie_index in zip(user.tolist(), movie.tolist(), strict=True)
    ]
    values = zip(days.rated.last.tolist(), days.ratings.tolist(), strict=True)
    assert dict(zip(pairs, values, strict=True)) == latest
    assert counts["ratings"] == len(set(events))
    assert np.all(np.diff(days.rated.key.astype(np.float64)) > 0)


def known(events: list[Event], until_ms: int) -> tuple[set[tuple[int, str, int]], dict[str, float]]:
    """What a history of some lines knows at a moment: user, movie and latest start; and how popular the movies are."""
    with tempfile.TemporaryDirectory() as folder:
        archive(Path(folder), [events])
        compacted(Path(folder))
        days = gathered(Path(folder))
    history = assemble(days, np.full(len(days.movies), 100.0), 5, np.zeros(len(days.users), np.uint8))
    data: Interactions = history.before(until_ms, 14)
    user = history.users[np.repeat(np.arange(data.shape[0]), np.diff(data.indptr))].tolist()
    movie = [history.movies[index] for index in data.movies.tolist()]
    popularity = zip(history.movies, data.popularity.tolist(), strict=True)
    return set(zip(user, movie, data.starts.tolist(), strict=True)), {
        name: starts for name, starts in popularity if starts
    }


@settings(deadline=None, max_examples=15)
@given(st.lists(minutes, min_size=6, max_size=12), st.lists(ratings, min_size=6, max_size=12), st.integers(6, 24))
def test_a_history_as_of_a_moment_is_made_of_the_lines_before_it(
    watched: list[Event], given_: list[Event], hour: int
) -> None:
    """Whatever came later: a movie that was rated is known of, though it was watched, or rated anew, afterwards."""
    events, until = [*watched, *given_], FIRST + hour * HOUR_MS
    pairs, popularity = known(events, until)
    earlier = [event for event in events if event.time < until]
    assert (pairs, popularity) == (known(earlier, until) if earlier else (set(), {}))
