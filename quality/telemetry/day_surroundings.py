"""What the releases in force say about a day's requests: segment, source, catalogue; and how popular movies were."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quality.catalog import KnownMovie
from quality.metrics.ranking import self_information
from quality.metrics.watch_sessions import TimeSpans, split_key
from quality.telemetry.day_rows import AnswerRows
from quality.telemetry.release_history import ReleaseHistory
from quality.telemetry.release_lists import SOURCES, UNKNOWN_AGE, ReleaseLists, read_release_lists

_CHUNK = 1 << 14
"""Lists counted at a time: they fit into the processor's cache."""


@dataclass(frozen=True, slots=True)
class GroupNames:
    """Names of the groups by which a day is split; the number of a group is its place here."""

    hour: Sequence[str]
    segment: Sequence[str]
    source: Sequence[str]
    release: Sequence[str]


@dataclass(frozen=True, slots=True)
class MovieFacts:
    """The movies of a day, by their numbers, and the catalogues of its releases; i movies are in any catalogue."""

    bits: np.ndarray
    """float64 [largest number + 2]: self-information by the users who started the movie on the day.

    The last place is for movies that no line mentions.
    """
    number_of_item: np.ndarray
    """int64 [i]: number of each movie of the catalogues; the last place for one that no line mentions."""
    in_catalogue: np.ndarray
    """bool [releases, i]: the catalogue of each release; empty if it is gone or was not in force on the day."""
    cost: np.ndarray
    """float64 [largest number + 2]: what the licence costs per play, NaN for unknown."""
    adult: np.ndarray
    """bool [largest number + 2]: the movie is known to be for adults only."""

    def shown_counts(self, lists: np.ndarray) -> np.ndarray:
        """int64 [largest number + 2]: how often each movie is in `lists` (movie numbers, -1 for none)."""
        counts = np.zeros(len(self.bits) + 1, np.int64)
        for begin in range(0, len(lists), _CHUNK):
            counts += np.bincount(lists[begin : begin + _CHUNK].ravel() + 1, minlength=len(counts))
        return counts[1:]

    def catalogue(self, releases: np.ndarray) -> np.ndarray:
        """int64: numbers of the movies in the catalogue of any of these releases."""
        numbers: np.ndarray = self.number_of_item[self.in_catalogue[releases].any(axis=0)]
        return numbers


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Arrays [requests]; -1 stands for a release that is gone, or none in force."""

    release: np.ndarray
    """int64: number of the release in force."""
    segment: np.ndarray
    """int64: place in `names.segment`."""
    source: np.ndarray
    """int64: place in `names.source`."""
    unlike_release: np.ndarray
    """bool: not the list that the release has for the user; true of requests without a list."""
    minor: np.ndarray
    """int64: 1 for a minor, 0 for a user of age, by that release; 2 for one of whom it does not say it."""
    names: GroupNames
    movies: MovieFacts


def read_surroundings(
    requests: AnswerRows,
    started: TimeSpans,
    numbers: Mapping[str, int],
    releases: Path,
    history: ReleaseHistory,
    known: Mapping[str, KnownMovie],
) -> Surroundings:
    """Read the releases that were in force. `started` are the sessions of the day, `numbers` those of movies by id,
    `known` what the catalogue has of movies.
    """
    release = history.in_force(requests.time)
    in_force = np.unique(release)
    lists_by_release = {
        number: lists
        for number in in_force[in_force >= 0].tolist()
        if (lists := read_release_lists(releases, history.releases[number]))
    }
    segment, source = np.full((2, len(release)), -1, np.int64)
    minor = np.full(len(release), UNKNOWN_AGE, np.int64)
    unlike_release, segment_names = np.zeros(len(release), bool), dict[str, int]()
    for number, lists in lists_by_release.items():
        own = np.flatnonzero(release == number)
        rows = lists.rows_of(requests.user[own])
        names = [segment_names.setdefault(name, len(segment_names)) for name in lists.segment_names()]
        segment[own] = np.array(names)[lists.segments_of(rows)]
        source[own] = lists.sources_of(rows)
        minor[own] = lists.minors_of(rows)
        numbers_of_release = np.array([numbers.get(movie, -2) for movie in lists.movies], np.int32)
        unlike_release[own] = lists.are_unlike(requests.movies[own], rows, numbers_of_release)
    names_of_groups = GroupNames(
        hour=[f"{hour:02}:00" for hour in range(24)],
        segment=list(segment_names),
        source=SOURCES,
        release=history.releases,
    )
    movies = _movie_facts(numbers, started, lists_by_release, len(history.releases), known)
    return Surroundings(release, segment, source, unlike_release, minor, names_of_groups, movies)


def _movie_facts(
    numbers: Mapping[str, int],
    started: TimeSpans,
    lists_by_release: Mapping[int, ReleaseLists],
    releases: int,
    known: Mapping[str, KnownMovie],
) -> MovieFacts:
    items: dict[str, int] = {}
    catalogues = {
        number: [items.setdefault(movie, len(items)) for movie in lists.movies]
        for number, lists in lists_by_release.items()
    }
    in_catalogue = np.zeros((releases, len(items)), bool)
    for number, catalogue in catalogues.items():
        in_catalogue[number, catalogue] = True
    not_mentioned = max(numbers.values(), default=0) + 1
    number_of_item = np.array([numbers.get(movie, not_mentioned) for movie in items], np.int64)
    cost, adult = np.full(not_mentioned + 1, np.nan), np.zeros(not_mentioned + 1, bool)
    for movie, number in numbers.items():
        if record := known.get(movie):
            cost[number], adult[number] = np.nan if record.cost is None else record.cost, record.adult is True
    return MovieFacts(_bits(started, not_mentioned + 1), number_of_item, in_catalogue, cost, adult)


def _bits(started: TimeSpans, width: int) -> np.ndarray:
    """Self-information by the users who started each movie: float64 [width]."""
    keys = np.sort(started.key)
    user, movie = split_key(keys[np.diff(keys, prepend=np.uint64(2**64 - 1)) != 0])
    users = int(np.count_nonzero(np.diff(user, prepend=-1)))
    return self_information(np.bincount(movie, minlength=width), max(1, users))
