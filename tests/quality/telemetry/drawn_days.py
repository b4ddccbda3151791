"""Days drawn at random, as rows, and the releases that were in force: what the figures of a report are tested on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import orjson
from hypothesis import strategies as st

from quality.catalog import KnownMovie
from quality.metrics.watch_sessions import TimeSpans, session_key
from quality.settings import QualitySettings
from quality.telemetry.day_rows import AnswerRows, DayRows, LineGap, RatingRows
from quality.telemetry.judged_day import JudgedDay, judge_day
from quality.telemetry.release_history import ReleaseChange, append_release_change
from stream.event import LIST_LENGTH
from stream.zone import HOUR_MS, zone_named

ZONE = zone_named("America/New_York")
FIRST, END = ZONE.bounds("2026-02-10")
MINUTE = 60_000
SETTINGS = QualitySettings(window_hours=4.0, session_gap_hours=1.0)
MOVIES = [f"movie+{number}+2000" for number in range(1, 8)]
NUMBERS = {movie: number for number, movie in enumerate(MOVIES, 1)}
KNOWN = {
    MOVIES[0]: KnownMovie(60, False, 0.0),
    MOVIES[1]: KnownMovie(90, True, 2.99),
    MOVIES[2]: KnownMovie(None, True),
    MOVIES[3]: KnownMovie(cost=0.1),
}
NO_ITEM = np.iinfo(np.uint16).max


@dataclass(frozen=True)
class Answer:
    time: int
    user: int
    status: int
    latency_ms: int
    movies: tuple[int, ...]


@dataclass(frozen=True)
class Session:
    start: int
    user: int
    movie: int
    last: int


@dataclass(frozen=True)
class Rating:
    time: int
    user: int
    movie: int
    rating: int


@dataclass(frozen=True)
class PublishedRelease:
    """A release as it is written: lists of item indices, by user."""

    name: str
    since: int
    movies: Sequence[str]
    lists: dict[int, Sequence[int]]
    segments: dict[int, int]
    fallbacks: Sequence[Sequence[int]]
    minors: dict[int, int] | None = None
    """0 of age, 1 a minor, 2 unknown; None: an older version made the release."""
    seen: dict[int, Sequence[int]] | None = None
    """What users had seen, item indices; None: an older version made the release, which does not say it."""
    model: str = "blend"
    explorers: Sequence[int] = ()
    """Users whose lists were drawn by lot."""
    segment_names: Sequence[str] = ("everyone", "18-24, F", "18-24, M")

    def baseline_of(self, user: int) -> list[int]:
        """Item indices of the popular list, as the user would have been shown it."""
        seen = (self.seen or {}).get(user, ())
        return [item for item in self.fallbacks[0] if item not in seen]


@dataclass(frozen=True)
class DrawnDay:
    answers: list[Answer]
    sessions: list[Session]
    ratings: list[Rating]
    watermark: int
    left_out: dict[str, int] = field(default_factory=dict)
    lines: int | None = None
    gaps: Sequence[LineGap] = ()


FIRST_RELEASE = PublishedRelease(
    name="first",
    since=FIRST + 2 * HOUR_MS,
    movies=MOVIES[:5],
    lists={1: [0, 1, 2], 2: [], 3: [2, 3]},
    segments={1: 1, 2: 1, 3: 2},
    fallbacks=[[0, 4], [1, 3], []],
    minors={1: 1, 2: 0, 3: 2},
    seen={1: [0], 3: [2, 4]},
    explorers=(3,),
)
SECOND_RELEASE = PublishedRelease(
    name="second",
    since=FIRST + 13 * HOUR_MS + 30 * MINUTE,
    movies=["unseen+1950", *reversed(MOVIES)],
    lists={1: [7], 2: [1, 2], 4: []},
    segments={1: 2, 2: 1, 4: 2},
    fallbacks=[[3, 4], [], [5]],
    model="segment",
)
GONE = FIRST + 20 * HOUR_MS
"""From then on a release is in force whose files are gone."""


def write_release(releases: Path, release: PublishedRelease) -> None:
    """Write what a report reads of a release, and add it to the history."""
    folder = releases / release.name
    folder.mkdir(parents=True)
    (folder / "movies.txt").write_text("".join(f"{movie}\n" for movie in release.movies), "utf-8")
    users = sorted(release.lists)
    np.save(folder / "users.npy", np.array(users, np.uint32))
    np.save(folder / "lists.npy", padded([release.lists[user] for user in users]))
    np.save(folder / "segments.npy", np.array([release.segments[user] for user in users], np.uint8))
    np.save(folder / "fallbacks.npy", padded(release.fallbacks))
    if release.explorers:
        np.save(folder / "explorers.npy", np.flatnonzero(np.isin(users, release.explorers)).astype(np.uint32))
    if release.minors is not None:
        np.save(folder / "minors.npy", np.array([release.minors[user] for user in users], np.uint8))
    if release.seen is not None:
        np.save(folder / "baseline.npy", padded([release.baseline_of(user) for user in users]))
    manifest = {"segments": release.segment_names, "model": {"lists": release.model}}
    (folder / "manifest.json").write_bytes(orjson.dumps(manifest))
    append_release_change(releases, ReleaseChange(release.name, release.since))


def padded(lists: Sequence[Sequence[int]]) -> np.ndarray:
    rows = np.full((len(lists), LIST_LENGTH), NO_ITEM, np.uint16)
    for row, items in zip(rows, lists, strict=True):
        row[: len(items)] = items
    return rows


def write_releases(releases: Path) -> None:
    """Two releases, and a third that was pruned."""
    write_release(releases, FIRST_RELEASE)
    write_release(releases, SECOND_RELEASE)
    append_release_change(releases, ReleaseChange("gone", GONE))


def rows_of(day: DrawnDay) -> DayRows:
    answers = sorted(day.answers, key=lambda answer: answer.time)
    lists = np.full((len(answers), LIST_LENGTH), -1, np.int32)
    for row, answer in zip(lists, answers, strict=True):
        if answer.time < END:
            row[: len(answer.movies)] = answer.movies
    time, user_of_answer, status, latency_ms = (
        np.array([getattr(answer, name) for answer in answers], np.int64)
        for name in ("time", "user", "status", "latency_ms")
    )
    sessions = sorted(day.sessions, key=lambda session: session.start)
    start, user, movie, last = (
        np.array([getattr(session, name) for session in sessions], np.int64)
        for name in ("start", "user", "movie", "last")
    )
    ratings = (
        np.array([getattr(rating, name) for rating in day.ratings], np.int64)
        for name in ("time", "user", "movie", "rating")
    )
    return DayRows(
        first=FIRST,
        end=END,
        answers=AnswerRows(time, user_of_answer, status, latency_ms, lists),
        sessions=TimeSpans(session_key(user, movie), start, last),
        ratings=RatingRows(*ratings),
        movies=NUMBERS,
        left_out=day.left_out,
        gaps=day.gaps,
        known_from=None,
        lines=day.lines,
    )


def judged(day: DrawnDay, releases: Path, settings: QualitySettings = SETTINGS) -> JudgedDay:
    return judge_day(rows_of(day), releases, day.watermark, settings, ZONE, KNOWN)


half_hours = st.one_of(st.integers(2, 8), st.integers(25, 30), st.integers(38, 55)).map(
    lambda half: FIRST + half * HOUR_MS // 2
)
"""Around the changes of the release and the end of the day, dense enough for hits."""
users = st.integers(1, 4)
numbers = st.integers(1, len(MOVIES))
lists = st.lists(numbers, min_size=1, max_size=4, unique=True).map(tuple)
answered = st.builds(Answer, half_hours, users, st.just(200), st.sampled_from([3, 9, 700]), lists)
refused = st.builds(Answer, half_hours, users, st.sampled_from([0, 503]), st.sampled_from([1, 700]), st.just(()))
LENGTHS = [0, 30, 53, 59, 200]
"""Minutes: 54 and 60 of the movie of 60 minutes are finished."""
sessions = st.builds(
    lambda half, late, user, movie, minutes: Session(half + late, user, movie, half + late + minutes * MINUTE),
    half_hours, st.sampled_from([1, 90_500]), users, numbers, st.sampled_from(LENGTHS),
)  # fmt: skip


@st.composite
def chosen_sessions(draw: st.DrawFn, asked: list[Answer]) -> list[Session]:
    """Starts of listed movies, soon after the answers."""
    chosen = []
    for answer in asked:
        if draw(st.booleans()) and answer.movies:
            start = answer.time + draw(st.sampled_from([1, 61_000, 2 * HOUR_MS]))
            movie, minutes = draw(st.sampled_from(answer.movies)), draw(st.sampled_from(LENGTHS))
            chosen.append(Session(start, answer.user, movie, start + minutes * MINUTE))
    return chosen


ratings = st.builds(Rating, half_hours.map(lambda half: half + 5 * MINUTE), users, numbers, st.integers(1, 10))
requests = st.lists(
    st.one_of(answered, answered, answered, refused),
    min_size=4, max_size=20, unique_by=lambda each: (each.time, each.user),
)  # fmt: skip


@st.composite
def drawn_days(draw: st.DrawFn) -> DrawnDay:
    """A day with hits, other starts, and ratings of both."""
    asked = draw(requests)
    by_start = {
        (each.start, each.user, each.movie): each
        for each in [*draw(chosen_sessions(asked)), *draw(st.lists(sessions, max_size=8))]
    }
    started = list(by_start.values())
    rated = draw(st.lists(ratings, max_size=4))
    for each in started:
        if draw(st.booleans()):
            time = each.last + draw(st.sampled_from([-MINUTE, MINUTE]))
            rated.append(Rating(time, each.user, each.movie, draw(st.integers(1, 10))))
    watermark = draw(st.one_of(half_hours.map(lambda half: half + 2 * HOUR_MS), st.just(END + 5 * HOUR_MS)))
    return DrawnDay(asked, started, rated, watermark)


days = drawn_days()
