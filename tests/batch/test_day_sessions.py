"""Sessions against their definition, written down naively: any minutes, in any files and order, with duplicates."""

import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.sessions import SESSION_TYPES, Words, movies_in, ratings_of, sessions_of, users_in
from stream.event import Event
from stream.zone import DAY_MS, HOUR_MS, day_name, day_number

WriteDays = Callable[..., dict[str, list[Path]]]
MOVIES = ["aliens+1986", "boxing+helena+1993", "endeavour+"]
WORDS = Words.of(MOVIES)
FIRST = day_number("2030-01-01") * DAY_MS
GAP_HOURS = 6
Session = tuple[int, int, int, int, int]
"""User, movie index, first minute, last minute, how many different minutes."""


def minute(user: int, movie: str, time: int, number: int = 0) -> Event:
    return Event("watch", time, user, movie, minute=number)


def by_definition(minutes: list[Event], gap_ms: int) -> list[Session]:
    pairs: dict[tuple[int, str], set[tuple[int, int]]] = defaultdict(set)
    for event in minutes:
        assert event.movie is not None
        assert event.minute is not None
        pairs[event.user, event.movie].add((event.time, event.minute))
    found = []
    for (user, movie), watched in pairs.items():
        session: list[int] = []
        for time, _ in sorted(watched):
            if session and time - session[-1] > gap_ms:
                found.append((user, MOVIES.index(movie), session[0], session[-1], len(session)))
                session = []
            session.append(time)
        found.append((user, MOVIES.index(movie), session[0], session[-1], len(session)))
    return sorted(found)


def rows(frame: pd.DataFrame) -> list[Session]:
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == SESSION_TYPES
    return [(r.user, r.movie, r.start, r.last, r.minutes) for r in frame.itertuples(index=False)]  # type: ignore[misc]


# half an hour apart, so that gaps of exactly six hours and minutes right at midnight are drawn often
times = st.one_of(st.integers(0, 143).map(lambda half: FIRST + half * HOUR_MS // 2), st.integers(FIRST, FIRST + DAY_MS))
minutes = st.builds(minute, st.sampled_from([1, 2, 2**32 - 1]), st.sampled_from(MOVIES), times, st.integers(0, 2))


@st.composite
def files(draw: st.DrawFn) -> tuple[list[Event], dict[str, list[list[Event]]]]:
    """Minutes with duplicates; by day, the files they lie in, in any order."""
    events = draw(st.lists(minutes, min_size=1, max_size=40))
    events += draw(st.lists(st.sampled_from(events), max_size=10))
    days: dict[str, list[list[Event]]] = {}
    for day in sorted({event.time // DAY_MS for event in events}):
        own = draw(st.permutations([event for event in events if event.time // DAY_MS == day]))
        cut = draw(st.integers(0, len(own)))
        days[day_name(day)] = [part for part in (own[:cut], own[cut:]) if part]
    return events, days


@settings(deadline=None, max_examples=80)
@given(files())
def test_any_files_give_the_sessions_of_the_definition(
    write_days: WriteDays, drawn: tuple[list[Event], dict[str, list[list[Event]]]]
) -> None:
    events, days = drawn
    seen: list[None] = []
    with tempfile.TemporaryDirectory() as folder:
        paths = write_days(Path(folder), days)
        found, counts = sessions_of(paths, WORDS, GAP_HOURS, lambda: seen.append(None))
    assert rows(found) == by_definition(events, GAP_HOURS * HOUR_MS)
    assert counts == {"minutes": len(events), "duplicates": len(events) - len(set(events)), "unknown_movie": 0}
    assert len(seen) == len(days)


def test_a_session_over_midnight_is_one_and_a_gap_just_too_long_makes_two(
    write_days: WriteDays, tmp_path: Path
) -> None:
    midnight, gap = FIRST + DAY_MS, GAP_HOURS * HOUR_MS
    before = [minute(1, MOVIES[0], midnight - 60_000 * k) for k in (1, 2, 3)]
    after = [minute(1, MOVIES[0], midnight + 60_000 * k) for k in (0, 1)]
    late = minute(1, MOVIES[0], after[-1].time + gap + 1)
    paths = write_days(tmp_path, {"2030-01-01": [before], "2030-01-02": [[*after, late]]})
    found = rows(sessions_of(paths, WORDS, GAP_HOURS)[0])
    assert found == [(1, 0, midnight - 180_000, midnight + 60_000, 5), (1, 0, late.time, late.time, 1)]


def test_sessions_go_over_several_midnights(write_days: WriteDays, tmp_path: Path) -> None:
    events = [minute(1, MOVIES[0], FIRST + hour * HOUR_MS, hour) for hour in range(0, 96, 6)]
    days = {
        day_name(FIRST // DAY_MS + n): [[e for e in events if e.time // DAY_MS == FIRST // DAY_MS + n]]
        for n in range(4)
    }
    found, _ = sessions_of(write_days(tmp_path, days), WORDS, GAP_HOURS)
    assert rows(found) == [(1, 0, FIRST, FIRST + 90 * HOUR_MS, 16)]


def test_movies_that_are_not_known_are_left_out_and_counted(write_days: WriteDays, tmp_path: Path) -> None:
    events = [minute(1, "unheard+of+1999", FIRST), minute(1, MOVIES[1], FIRST), minute(2, "unheard+of+1999", FIRST)]
    found, counts = sessions_of(write_days(tmp_path, {"2030-01-01": [events]}), WORDS, GAP_HOURS)
    assert rows(found) == [(1, 1, FIRST, FIRST, 1)]
    assert counts["unknown_movie"] == 2


def test_a_day_on_which_no_movie_is_known_has_no_sessions(write_days: WriteDays, tmp_path: Path) -> None:
    days = {
        "2030-01-01": [[minute(1, "unheard+of+1999", FIRST)]],
        "2030-01-02": [[minute(1, MOVIES[0], FIRST + DAY_MS)]],
    }
    found, counts = sessions_of(write_days(tmp_path, days), WORDS, GAP_HOURS)
    assert rows(found) == [(1, 0, FIRST + DAY_MS, FIRST + DAY_MS, 1)]
    assert counts["unknown_movie"] == 1


def test_without_files_there_are_no_sessions_no_movies_and_no_users() -> None:
    found, counts = sessions_of({}, WORDS, GAP_HOURS)
    assert rows(found) == []
    assert counts == {}
    assert movies_in(iter([])) == set()
    assert users_in(iter([])).tolist() == []


def test_the_users_and_movies_of_files_are_all_and_once(write_days: WriteDays, tmp_path: Path) -> None:
    one = [minute(2**32 - 1, MOVIES[0], FIRST), minute(7, MOVIES[2], FIRST)]
    two = [minute(7, MOVIES[0], FIRST), minute(3, "unheard+of+1999", FIRST)]
    paths = write_days(tmp_path, {"2030-01-01": [one, two]})["2030-01-01"]
    assert movies_in(iter(paths)) == {MOVIES[0], MOVIES[2], "unheard+of+1999"}
    users = users_in(iter(paths))
    assert (users.tolist(), str(users.dtype)) == ([3, 7, 2**32 - 1], "uint32")


@given(st.lists(st.sampled_from([*MOVIES, "unheard+of+1999"]), max_size=9), st.integers(0, 9))
def test_words_become_indices_whatever_the_chunks(words: list[str], cut: int) -> None:
    chunks = [pa.array(part, pa.string()).dictionary_encode() for part in (words[:cut], words[cut:])]
    column = pa.chunked_array(chunks).unify_dictionaries()
    got = WORDS.indices(column)
    assert got.tolist() == [MOVIES.index(word) if word in MOVIES else -1 for word in words]
    assert got.dtype == np.int32


def test_a_column_without_chunks_has_no_indices() -> None:
    assert WORDS.indices(pa.chunked_array([], pa.dictionary(pa.int32(), pa.string()))).tolist() == []


def rated(user: int, movie: str, hour: int, rating: int) -> Event:
    return Event("rate", FIRST + hour * HOUR_MS, user, movie, rating=rating)


ratings = st.builds(
    rated, st.integers(1, 2), st.sampled_from([*MOVIES, "unheard+of+1999"]), st.integers(0, 9), st.just(0)
)


@settings(deadline=None, max_examples=40)
@given(st.lists(ratings, min_size=1, max_size=14), st.integers(0, 14))
def test_the_latest_rating_counts_and_duplicates_are_no_second_ones(
    write_days: WriteDays, events: list[Event], cut: int
) -> None:
    # the rating follows from the time, so that two at the same time are the same line
    events = [rated(e.user, str(e.movie), (e.time - FIRST) // HOUR_MS, 1 + e.time // HOUR_MS % 5) for e in events]
    latest: dict[tuple[int, int], tuple[int, int]] = {}
    for event in sorted(set(events), key=lambda event: event.time):
        if event.movie in MOVIES:
            latest[event.user, MOVIES.index(event.movie)] = (event.time, event.rating or 0)
    different = Counter((event.user, event.movie) for event in set(events) if event.movie in MOVIES)
    with tempfile.TemporaryDirectory() as folder:
        files = [part for part in (events[:cut], events[cut:]) if part]
        found, counts = ratings_of(write_days(Path(folder), {"2030-01-01": files}), WORDS)
    got = {(r.user, r.movie): (r.time, r.rating) for r in found.itertuples()}
    assert got == latest
    assert len(found) == len(latest)
    assert counts == {"ratings": len(latest), "second_ratings": different.total() - len(different)}


def test_without_files_there_are_no_ratings() -> None:
    found, counts = ratings_of({}, WORDS)
    assert len(found) == 0
    assert counts == {"ratings": 0, "second_ratings": 0}
