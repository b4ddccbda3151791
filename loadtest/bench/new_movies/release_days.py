"""Days of a simulated world in which movies are released, played in memory: no Kafka, no HTTP, the night's own code.

A past without lists comes first. Then, each day, `build_files` makes a release from all sessions so far, with a fixed
model, and everyone who comes is shown its lists. The new movies are announced before the first of these days. Users
come to them from a list only, so what they find is what lists have shown them.

Guarantee: the same settings give the same days.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from batch.evaluation_file import CHOICE_METRIC, Evaluation, MeasuredSlices, ScoreDifference
from batch.history.interactions import TrainingHistory
from batch.history.list_facts import ListFacts
from batch.history.movie_content import MovieContent, contents_of
from batch.history.segments import segments_of
from batch.models.list_caps import ListCaps
from batch.releases.build import build_files
from batch.settings import BatchSettings
from loadtest.settings import WorldSettings
from loadtest.simulation.visits import Audience
from loadtest.simulation.world import World, list_acceptance
from quality.lines.schemas import MOVIE_RECORD, checked
from stream.event import LIST_LENGTH
from stream.settings import StreamSettings
from stream.zone import HOUR_MS, day_name, day_number, zone_named

_BEGINS = "2022-01-10"


@dataclass
class ReleaseDays:
    """What happened on the days with lists. u users, k new movies, d days."""

    suits: np.ndarray
    """bool [u, k]: whom each new movie suits."""
    shown_on: np.ndarray
    """int64 [u, k]: the first day, from 1, on which a user was shown a list with the movie; 0 for never."""
    started_on: np.ndarray
    """int64 [u, k]: the day on which a user took the movie from a list; 0 for never."""
    answers: int = 0
    """Lists that were shown."""
    hits: int = 0
    """Of them, those from which the user took a movie."""
    other_hits: int = 0
    """Of these, those with a movie that is not new."""
    expected: float = 0.0
    """Chance that a user takes something from the list of the day, by what the world knows; summed over days and users.
    """
    expected_without: float = 0.0
    """The same of the lists that would have been made without new movies."""
    lists: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """int64 [k]: the lists with each movie that were shown."""

    def reached(self, days: int) -> float:
        """Share of the users whom a new movie suits who were shown it within so many days, mean over the movies."""
        return self._share(self.shown_on, days)

    def found(self, days: int) -> float:
        """The same of those who started it."""
        return self._share(self.started_on, days)

    def _share(self, on: np.ndarray, days: int) -> float:
        return float((((on > 0) & (on <= days) & self.suits).sum(axis=0) / self.suits.sum(axis=0)).mean())


class ReleaseWorld:
    """A world, its users and what they have begun so far."""

    def __init__(self, settings: WorldSettings, past_days: int) -> None:
        """Play the days before the release: users choose for themselves."""
        self._clock = zone_named(StreamSettings().timezone)
        self.world = World(settings)
        self._audience = Audience(self.world, self._clock, settings.seed, self._clock.bounds(_BEGINS)[0])
        self._sessions: list[np.ndarray] = []
        self._shown: dict[str, int] = {}
        self._past_days = past_days
        catalogue = self.world.catalogue
        usable = (checked(catalogue.record(row), MOVIE_RECORD)[0] for row in range(len(catalogue)))
        self._records = {name: record for name, record in zip(catalogue.ids, usable, strict=True) if record}
        for day in range(past_days):
            for hour in self._hours(day):
                visits = self._audience.visits(hour, HOUR_MS)
                self._watch(visits.users, self.world.choose(visits.users, self._audience.seen, self._audience.rng),
                            visits.times)  # fmt: skip

    def play(self, folder: Path, days: int, settings: BatchSettings) -> ReleaseDays:
        """Play some days, with a release made before each."""
        new = self.world.new_movies
        users = np.arange(len(self.world.people))
        shape = len(users), len(new)
        past = ReleaseDays(
            self.world.suits(users)[:, new], np.zeros(shape, np.int64), np.zeros(shape, np.int64),
            lists=np.zeros(len(new), np.int64),
        )  # fmt: skip
        for day in range(1, days + 1):
            lists = self._night(folder, settings)
            without = self._night(folder, replace(settings, new_movie_share=0.0))
            past.expected += self._acceptance(lists)
            past.expected_without += self._acceptance(without)
            for hour in self._hours(self._past_days + day - 1):
                visits = self._audience.visits(hour, HOUR_MS)
                self._visit(visits.users, visits.times, lists[visits.users], day, past)
        return past

    def _visit(self, users: np.ndarray, times: np.ndarray, lists: np.ndarray, day: int, past: ReleaseDays) -> None:
        """Let users come within one hour; a user who comes twice in it has seen the same before both visits."""
        world, seen, rng, new = self.world, self._audience.seen, self._audience.rng, self.world.new_movies
        asks = rng.random(len(users)) < world.settings.ask_share
        movies = world.choose(users, seen, rng)
        taken = np.full(len(users), -1)
        taken[asks] = world.react_all(users[asks], lists[asks], seen, rng)
        past.answers += int(asks.sum())
        past.hits += int((taken >= 0).sum())
        past.other_hits += int(((taken >= 0) & ~np.isin(taken, new)).sum())
        for number, row in enumerate(new.tolist()):
            shown_to, by = users[asks & (lists == row).any(axis=1)], users[taken == row]
            name = world.catalogue.ids[row]
            self._shown[name] = self._shown.get(name, 0) + len(shown_to)
            past.lists[number] += len(shown_to)
            for on, own in ((past.shown_on, shown_to), (past.started_on, by)):
                on[own, number] = np.where(on[own, number] > 0, on[own, number], day)
        self._watch(users, np.where(taken >= 0, taken, movies), times)

    def _acceptance(self, lists: np.ndarray) -> float:
        return float(
            list_acceptance(self.world.take_odds(np.arange(len(lists))[:, None], lists, self._audience.seen)).sum()
        )

    def _watch(self, users: np.ndarray, movies: np.ndarray, times: np.ndarray) -> None:
        plan = self.world.watch_plan(users, movies, self._audience.rng)
        self._audience.seen.add(users, movies)
        self._sessions.append(np.stack([users, movies, times, plan.last_minute + 1]).astype(np.int64))

    def _night(self, folder: Path, settings: BatchSettings) -> np.ndarray:
        """Make a release; the rows of the catalogue that each user is shown: int64 [u, 20]."""
        folder.mkdir(parents=True, exist_ok=True)
        history, contents = self._history()
        facts = ListFacts.of(history.users, [], [content.id for content in contents], {})  # no list is capped
        caps, chosen = ListCaps.of(facts, settings), _chosen(settings.model)
        build_files(folder, history, contents, chosen, settings, frozenset(), caps, history.until)
        lists, popular = np.load(folder / "lists.npy"), np.load(folder / "fallbacks.npy")[:1, :LIST_LENGTH]
        own = np.repeat(popular, len(self.world.people), axis=0)
        own[history.users - 1] = np.where(lists[:, :1] == np.iinfo(lists.dtype).max, popular, lists)
        rows = np.array([self.world.catalogue.index[content.id] for content in contents])
        return rows[own]

    def _history(self) -> tuple[TrainingHistory, list[MovieContent]]:
        user, movie, start, minutes = np.concatenate(self._sessions, axis=1)
        order = np.lexsort((movie, start, user))
        user, movie, start, minutes = user[order], movie[order], start[order], minutes[order]
        ids = self.world.catalogue.ids
        watched = sorted(ids[row] for row in np.unique(movie).tolist())
        index = {name: number for number, name in enumerate(watched)}
        by_row = np.array([index.get(name, -1) for name in ids])
        users, row = np.unique(user, return_inverse=True)
        people = self.world.people
        known = [(user + 1, int(people.ages[user]), "F" if people.women[user] else "M") for user in users.tolist()]
        history = TrainingHistory(
            user=row.astype(np.int32),
            movie=by_row[movie].astype(np.int32),
            start=start,
            minutes=minutes.astype(np.int32),
            share=np.minimum(minutes / (self.world.catalogue.length_min[movie] + 1), 1).astype(np.float32),
            rating=np.full(len(user), np.nan, np.float32),
            rated=np.zeros(len(user), np.int64),
            users=(users + 1).astype(np.uint32),
            movies=watched,
            segments=segments_of((users + 1).astype(np.uint32), known),
        )
        announced = {ids[row]: line for line, row in enumerate(self.world.new_movies.tolist(), 1)}
        return history, contents_of(watched, self._records, announced, self._shown)

    def _hours(self, day: int) -> Sequence[int]:
        return range(*self._clock.bounds(day_name(day_number(_BEGINS) + day)), HOUR_MS)


def _chosen(model: str) -> Evaluation:
    """The evaluation of a night whose settings name the model: nothing is measured here."""
    return Evaluation(
        chosen=model,
        chosen_by="settings",
        parameters={},
        slices=MeasuredSlices(),
        against_popular=ScoreDifference(CHOICE_METRIC, None, None, None),
    )
