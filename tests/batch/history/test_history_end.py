"""The history ends where the stream's clock is, and holds nothing of what a sender dated later."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from batch.history.assemble import gather_days, history_end, requests_of
from batch.history.day_store import PARTS_WITH_USERS, DaySource, DayStore, day_table
from stream.zone import DAY_MS, HOUR_MS, day_name

NOW = 1_893_600_000_000  # 2030-01-02T16:00Z
Starts = Iterable[tuple[int, int]]
"""User and ms UTC."""


def stored(var: Path, starts: Starts) -> tuple[DayStore, list[str]]:
    """Days with one session of `a+1999` for each start, as days of UTC."""
    by_day: dict[str, list[tuple[int, int]]] = {}
    for user, at in sorted(starts):
        by_day.setdefault(day_name(at // DAY_MS), []).append((user, at))
    store = DayStore(var)
    for day, rows in by_day.items():
        user, start = np.array(rows).T
        movie = pa.array(["a+1999"] * len(rows)).dictionary_encode()
        columns = {"user": user, "movie": movie, "start": start, "last": start, "minutes": np.ones(len(rows), np.int32)}
        store.write(day, DaySource(), {"sessions": day_table("sessions", columns)})
    return store, sorted(by_day)


def usual(users: int) -> list[tuple[int, int]]:
    return [(user, NOW - user * HOUR_MS // 60) for user in range(1, users + 1)]


@pytest.mark.parametrize("ahead_ms", [1, HOUR_MS, 5_000 * 60_000])
@pytest.mark.parametrize("users", [1, 29])
def test_what_a_few_users_do_later_is_ahead_of_the_history(tmp_path: Path, users: int, ahead_ms: int) -> None:
    later = [(user, NOW + ahead_ms) for user in range(1, users + 1)]
    assert history_end(*stored(tmp_path, [*usual(100), *later]), NOW) == NOW


def test_what_thirty_users_do_later_is_history_as_far_as_all_thirty_have_come(tmp_path: Path) -> None:
    later = [(user, NOW + user * HOUR_MS) for user in range(1, 31)] + [(7, NOW + 90 * HOUR_MS)]
    assert history_end(*stored(tmp_path, [*usual(100), *later]), NOW) == NOW + HOUR_MS
    assert history_end(*stored(tmp_path, [*usual(100), *later, (31, NOW + 80 * HOUR_MS)]), NOW) == NOW + 2 * HOUR_MS


@pytest.mark.parametrize(("users", "end"), [(5, NOW), (6, NOW + HOUR_MS)])
def test_in_a_small_archive_more_than_half_of_the_users_are_many(tmp_path: Path, users: int, end: int) -> None:
    later = [(user, NOW + HOUR_MS) for user in range(1, users + 1)]
    assert history_end(*stored(tmp_path, [*usual(10), *later]), NOW) == end


def test_an_archive_of_long_ago_or_of_nothing_ends_with_the_stream(tmp_path: Path) -> None:
    assert history_end(*stored(tmp_path, usual(3)), NOW + 30 * DAY_MS) == NOW + 30 * DAY_MS
    assert history_end(DayStore(tmp_path / "none"), [], NOW) == NOW


def test_later_events_of_all_kinds_are_left_out_with_their_users_and_movies(tmp_path: Path) -> None:
    def at(name: str, *rows: tuple[int, str, int, int]) -> pa.Table:
        user, movie, time, value = zip(*rows, strict=True)
        columns = {"user": user, "movie": pa.array(movie).dictionary_encode(), "time": time, "start": time,
                   "last": time, "minutes": value, "rating": value}  # fmt: skip
        return day_table("ratings" if name == "ratings" else "sessions", columns)

    rows = [(1, "a+1999", NOW, 1), (2, "b+1999", NOW, 2), (1, "b+1999", NOW + 1, 3), (3, "c+1999", NOW + 1, 4)]
    asked = day_table("requests", {"user": [1, 4, 5], "time": [NOW, NOW, NOW + 1]})
    store = DayStore(tmp_path)
    store.write("d", DaySource(), {"sessions": at("sessions", *rows), "ratings": at("ratings", *rows),
                                   "requests": asked, "accounts": asked})  # fmt: skip
    days = gather_days(store, ["d"], dict.fromkeys(["a+1999", "b+1999", "c+1999"]), HOUR_MS, NOW)
    assert (days.users.tolist(), days.movies, days.unknown) == ([1, 2, 4], ["a+1999", "b+1999"], 0)
    assert (days.spans.start.tolist(), days.rated.last.tolist(), days.ratings.tolist()) == (
        [NOW] * 2,
        [NOW] * 2,
        [1, 2],
    )
    shown = requests_of(store, ["d"], days.users, NOW)
    assert (shown.user.tolist(), shown.time.tolist()) == ([0, 2], [NOW, NOW])
    assert all(len(store.read(part, ["d"])) in (3, 4) for part in PARTS_WITH_USERS)
    assert len(gather_days(store, ["d"], {"c+1999": None}, HOUR_MS).spans) == 1
