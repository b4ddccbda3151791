"""Candidates for the gate, made by hand: a service whose users have planted tastes, and a release that matches them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import annoy
import msgspec
import numpy as np
import orjson
import pytest
import scipy.sparse as sp

from batch.errors import GateRefusal
from batch.gate.candidate import Candidate
from batch.gate.rules import judge, require_passed
from batch.gate.verdict import GateVerdict
from batch.history.list_facts import ListFacts
from batch.history.self_descriptions import SelfDescriptions
from batch.models.list_caps import ListCaps
from batch.models.new_movies import NewMovieBudget
from batch.releases import publish, rendered
from batch.settings import BatchSettings
from quality.alerts.alert_file import Alert
from server.manifest import Manifest
from server.release import Explored, Release
from stream.ledger_entry import FateCount, LedgerEntry, TimeRange
from stream.zone import DAY_MS, HOUR_MS
from tests.batch.gate.candidate_evaluations import NOW, JsonObject, by_length, evaluation
from tests.ledger_entries import entry

DAYS = [f"2030-01-0{day}" for day in range(1, 8)]
TASTES = 6


@dataclass
class CandidateParts:
    """All parts of a candidate, to be spoilt before it is sealed. n users, m movies."""

    users: np.ndarray
    movies: list[str]
    seen: np.ndarray
    """bool [n, m]."""
    scores: np.ndarray
    """float [n, m]: what the lists are made of."""
    items: np.ndarray
    evaluation: JsonObject
    facts: JsonObject
    manifest: JsonObject
    entries: list[LedgerEntry]
    catalog_movies: set[str]
    denied_movies: set[str] = field(default_factory=set)
    lists: np.ndarray | None = None
    """int [n, 20], -1 for none, where they are not what follows from the scores."""
    fallbacks: np.ndarray | None = None
    """int [s + 1, 100], -1 for none, where they are not what follows from what was seen."""
    baseline: np.ndarray | None = None
    """int [n, 20], -1 for none, where it is not what follows from the popular list and what was seen."""
    popularity: np.ndarray | None = None
    """float [m], where it is not how many users have seen each movie."""
    segments: np.ndarray | None = None
    """uint8 [n], where they are not 0, 1 and 2 in turn."""
    sealed_segments: np.ndarray | None = None
    unwatched: int = 0
    """How many movies, the last ones, nobody has watched."""
    newest_shown: int = 0
    """In how many lists the last movie was shown."""
    sealed_users: np.ndarray | None = None
    sealed_movies: list[str] | None = None
    """What the release says where that is not what the history says."""
    ages: dict[int, int] = field(default_factory=dict)
    """By row: the age of a user who is not 30; 0 for unknown."""
    adult: set[int] = field(default_factory=set)
    """Adult movies."""
    costs: dict[int, float] = field(default_factory=dict)
    """By movie: what it costs where that is not 1."""
    caps: dict[str, Any] = field(default_factory=dict)
    """Settings of the caps that are not the defaults."""
    sealed_minors: np.ndarray | None = None
    """uint8 [n], where they do not go with the ages."""
    alerts: list[Alert] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)
    current: Release | None = None
    kind: type[np.unsignedinteger[Any]] = np.uint16
    descriptions: SelfDescriptions | None = None
    text: bool = False
    """Whether the answers lie in the release as text as well."""
    explored: Explored | None = None
    """The users whose lists were drawn, and the chances."""

    @property
    def is_unwatched(self) -> np.ndarray:
        """bool [m]."""
        return np.arange(len(self.movies)) >= len(self.movies) - self.unwatched

    def made_lists(self) -> np.ndarray:
        """The best 20 that each user has not seen, none for users without a history: int64 [n, 20]."""
        if self.lists is not None:
            return self.lists
        lists = self.best_lists()
        lists[~self.seen.any(axis=1)] = -1
        return lists

    def best_lists(self) -> np.ndarray:
        """The best 20 that each user has not seen, also for users without a history: int64 [n, 20]."""
        caps = self.made_caps()
        scores = np.where(self.seen | self.off_lists(), -np.inf, self.scores)
        for row in np.flatnonzero(caps.facts.ages < caps.below_age).tolist():
            adult = sorted(self.adult, key=lambda movie: (-scores[row, movie], movie))
            scores[row, adult[caps.most_adult :]] = -np.inf
        best = np.argsort(-scores, axis=1, kind="stable")[:, :20]
        lists = np.full((len(best), 20), -1)
        lists[:, : best.shape[1]] = np.where(np.isneginf(np.take_along_axis(scores, best, axis=1)), -1, best)
        return lists

    def made_fallbacks(self) -> np.ndarray:
        """The movies seen by most users of all, and of each segment, without what is hidden: int64 [3, 100]."""
        if self.fallbacks is not None:
            return self.fallbacks
        is_hidden = self.off_lists()
        if self.made_caps().most_adult < 20:
            is_hidden[sorted(self.adult)] = True  # minors may be of any of the three segments
        everyone, segments = self.made_popularity(), self.made_segments()
        counts = [everyone, *(self.seen[segments == segment].sum(axis=0) for segment in (1, 2))]
        best = np.stack([np.lexsort((-everyone, -own, is_hidden)) for own in counts])
        best = best[:, : min(100, int((~is_hidden).sum()))]
        return np.pad(best, ((0, 0), (0, 100 - best.shape[1])), constant_values=-1)

    def off_lists(self) -> np.ndarray:
        """bool [m]: hidden movies, those that cost too much, and those that nobody has watched."""
        dearest = self.caps.get("max_cost", np.inf)
        off = [name in self.hidden or self.costs.get(at, 1) > dearest for at, name in enumerate(self.movies)]
        return np.array(off) | self.is_unwatched

    def made_caps(self) -> ListCaps:
        """The caps, and the facts that they go by."""
        users, movies = range(len(self.users)), range(len(self.movies))
        facts = ListFacts(
            np.array([self.ages.get(row, 30) for row in users], np.uint8),
            np.array([movie in self.adult for movie in movies], np.int8),
            np.array([self.costs.get(movie, 1.0) for movie in movies]),
        )
        return ListCaps.of(facts, BatchSettings(**self.caps))

    def made_popularity(self) -> np.ndarray:
        """How many users have seen each movie: int64 [m]."""
        return self.seen.sum(axis=0) if self.popularity is None else self.popularity

    def made_segments(self) -> np.ndarray:
        """uint8 [n]: 0, 1 and 2 in turn."""
        return (np.arange(len(self.users)) % 3).astype(np.uint8) if self.segments is None else self.segments

    def made_baseline(self) -> np.ndarray:
        """The first 20 of the popular list that each user has not seen: int64 [n, 20]."""
        if self.baseline is not None:
            return self.baseline
        popular = [movie for movie in self.made_fallbacks()[0].tolist() if movie >= 0]
        unseen = ([movie for movie in popular if not seen[movie]][:20] for seen in self.seen)
        return np.array([movies + [-1] * (20 - len(movies)) for movies in unseen]).reshape(-1, 20)


Spoil = Callable[[CandidateParts], object]
"""What is done to a candidate before it is sealed."""


def build_parts(users: int = 400, movies: int = 120, seed: int = 1) -> CandidateParts:
    """A good candidate, without a current release: each user has one of six tastes, and lists that go with it."""
    rng = np.random.default_rng(seed)
    taste, genre = rng.integers(0, TASTES, users), np.arange(movies) % TASTES
    liked = taste[:, None] == genre
    popularity = rng.permutation(1 / (1 + np.arange(movies)) ** 0.5)
    seen = rng.random((users, movies)) < np.minimum(popularity * np.where(liked, 1.6, 0.12), 0.6)
    seen[np.arange(users), rng.integers(0, movies, users)] = True
    items = np.eye(TASTES)[genre] + rng.normal(scale=0.1, size=(movies, TASTES))
    names = [f"movie+{number:05}+2000" for number in range(movies)]
    span = TimeRange(NOW - 7 * DAY_MS, NOW)
    counted = [FateCount("accepted", "watch", "2030-01-07", None, 1000)]
    return CandidateParts(
        users=np.arange(11, 11 + users, dtype=np.uint32),
        movies=names,
        seen=seen,
        scores=liked + popularity + rng.normal(scale=0.1, size=(users, movies)),
        items=items.astype(np.float32),
        evaluation=evaluation(),
        facts={
            "stream_time": NOW,
            "days": list(DAYS),
            "offsets": {"movielog1-0": [0, 999]},
            "counts": {"users": users, "movies": movies, "sessions": 2 * int(seen.sum())},
        },
        manifest={"model": {"lists": "als"}, "settings": {"model": "best"}, "api_answered": True},
        entries=[entry(counts=counted, kafka_time=span)],
        catalog_movies=set(names),
    )


def sealed(var: Path, parts: CandidateParts) -> Candidate:
    """The candidate with a release of its own below `var`."""
    folder, none = var / "night", np.iinfo(parts.kind).max
    folder.mkdir(parents=True, exist_ok=True)
    names, segments, arrays = parts.sealed_movies or parts.movies, parts.made_segments(), _arrays(parts)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "movies.txt").write_text("".join(f"{name}\n" for name in names))
    (folder / "evaluation.json").write_bytes(orjson.dumps(parts.evaluation))
    if parts.text:
        rendered.write(folder, arrays["lists"], names, int(none))
    save_index(parts.items, folder / "items.ann")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MARQUEE_COMMIT", "none")  # git would take longer than all the rest
        restricted = [parts.movies[at] for at in np.flatnonzero(parts.made_caps().not_for_everyone)]
        made_of = {
            "restricted": restricted,
            "stream_time": NOW,
            **({"input": parts.facts} if parts.facts else {}),
            **parts.manifest,
        }
        release = publish.publish(var, folder, msgspec.convert(made_of, Manifest))
    return Candidate(
        folder=var / "releases" / release,
        entries=parts.entries,
        alerts=parts.alerts,
        users=parts.users,
        movies=parts.movies,
        watched=len(parts.movies) - parts.unwatched,
        content=sp.csr_matrix(np.eye(TASTES, dtype=np.float32)[np.arange(len(parts.movies)) % TASTES]),
        shown=np.append(np.zeros(len(parts.movies) - 1, np.int64), parts.newest_shown),
        budget=NewMovieBudget.of(BatchSettings()),
        seen=sp.csr_matrix(parts.seen.astype(np.float32)),
        popularity=parts.made_popularity(),
        segments=segments,
        until=NOW,
        catalog_movies=parts.catalog_movies,
        denied_movies=parts.denied_movies,
        proven_users=10,
        hidden=parts.hidden,
        caps=parts.made_caps(),
        current=parts.current,
        descriptions=parts.descriptions,
    )


def _arrays(parts: CandidateParts) -> dict[str, np.ndarray]:
    """The arrays of the release, by file."""
    none, segments = np.iinfo(parts.kind).max, parts.sealed_segments
    lists = {
        "lists": parts.made_lists(),
        "baseline": parts.made_baseline(),
        "fallbacks": parts.made_fallbacks(),
    }
    drawn = {} if parts.explored is None else {
        "explorers": parts.explored.rows, "propensities": parts.explored.propensities,
    }  # fmt: skip
    return {
        **drawn,
        **{name: np.where(movies < 0, none, movies).astype(parts.kind) for name, movies in lists.items()},
        "users": parts.users if parts.sealed_users is None else parts.sealed_users,
        "segments": parts.made_segments() if segments is None else segments,
        "items": parts.items,
        "minors": parts.made_caps().minor_kinds if parts.sealed_minors is None else parts.sealed_minors,
    }


def save_index(items: np.ndarray, path: Path) -> None:
    index = annoy.AnnoyIndex(items.shape[1], "angular")
    index.set_seed(1)
    for number, vector in enumerate(items):
        index.add_item(number, vector)
    index.build(2, n_jobs=1)
    index.save(str(path))


def previous(var: Path) -> Release:
    """What the night before made of the same service.

    It was measured on slices of its own: with the same files in the same second it would have the candidate's id.
    """
    parts = build_parts()
    parts.evaluation = evaluation(NOW - DAY_MS)
    parts.facts = {
        "stream_time": NOW - DAY_MS,
        "days": DAYS[1:6],
        "offsets": {"movielog1-0": [0, 899]},
        "counts": {**parts.facts["counts"], "sessions": parts.facts["counts"]["sessions"] - 100},
    }
    return sealed(var, parts).release


def passed(candidate: Candidate) -> GateVerdict:
    """The verdict on a candidate that passes."""
    require_passed(verdict := judge(candidate))
    return verdict


def refused(candidate: Candidate) -> dict[str, str]:
    """By rule that is broken: what is wrong."""
    with pytest.raises(GateRefusal) as refusal:
        passed(candidate)
    assert refusal.value.exit_code == 3
    assert "\n" not in str(refusal.value)
    assert all(f"{rule}: {why}" in str(refusal.value) for rule, why in refusal.value.broken.items())
    return refusal.value.broken


def against(current: Release, mean: float, half: float) -> JsonObject:
    interval = {"mean": mean, "low": mean - half, "high": mean + half}
    return {"release": current.id, "users": 150, "metric": "ndcg@20", **interval}


def after(parts: CandidateParts, current: Release) -> CandidateParts:
    """The candidate, compared with a current release."""
    parts.current = current
    parts.evaluation["against_current"] = against(current, 0.01, 0.005)
    return parts


def week_entry(first: int = 0, last: int = 999, accepted: int | None = None, until: int = NOW) -> LedgerEntry:
    """An entry of the last day of the week; `accepted` where its lines do not add up."""
    lines = last - first + 1
    counts = [FateCount("accepted", "watch", "2030-01-07", None, lines if accepted is None else accepted)]
    return entry(first, last, counts=counts, kafka_time=TimeRange(NOW - DAY_MS, until))


def proven(parts: CandidateParts, movies: int) -> None:
    """The API has not answered on the first so many movies; ten users watched each."""
    parts.catalog_movies -= set(parts.movies[:movies])
    parts.manifest.update(proven_movies=movies, api_answered=False)
    parts.seen[10:, 0], parts.seen[:10, 0] = False, True


def one_ranking(parts: CandidateParts) -> None:
    parts.scores = np.tile(parts.seen.sum(axis=0), (len(parts.seen), 1))


def not_personal(parts: CandidateParts, model: str) -> None:
    """As if another model than ALS had been chosen, which is as good as the popular list."""
    for part in ("choice", "test"):
        models(parts, part)[model] = models(parts, part)["popular"]
        for figures_of_length in parts.evaluation["slices"][part]["history_lengths"].values():
            figures_of_length["models"].setdefault(model, figures_of_length["models"]["popular"])
    difference = {"metric": "ndcg@20", "mean": 0, "low": 0, "high": 0}
    parts.evaluation.update(chosen=model, against_popular=difference)
    parts.manifest["model"] = {"lists": model}


def popular(parts: CandidateParts) -> None:
    not_personal(parts, "popular")
    one_ranking(parts)


def popular_for_short(parts: CandidateParts, below: int) -> None:
    """Users who have seen fewer movies have the popular list."""
    counts = parts.seen.sum(axis=0).astype(float)
    ranks = -np.argsort(np.argsort(-counts, kind="stable")).astype(float)
    parts.scores = np.where(parts.seen.sum(axis=1, keepdims=True) < below, ranks, parts.scores)


def unmeasured(parts: CandidateParts) -> None:
    """Nothing could be held out, as in the first hours, so the popular list is taken."""
    popular(parts)
    why = "nothing could be held out: nothing new within a slice"
    nothing = {"metric": "ndcg@20", "mean": None, "low": None, "high": None}
    parts.evaluation.update(slices={}, against_popular=nothing, chosen_by=why, against_current={"none": why})


def measured_on(parts: CandidateParts, choice: int, test: int) -> None:
    """All models were measured on so many users of the slices."""
    for part, users in (("choice", choice), ("test", test)):
        for figures_of_model in models(parts, part).values():
            figures_of_model["users"] = users
        parts.evaluation["slices"][part]["history_lengths"] = by_length({"11-50": users}, models(parts, part))


def models(parts: CandidateParts, part: str) -> JsonObject:
    return parts.evaluation["slices"][part]["models"]


def measured(choice: JsonObject, test: JsonObject) -> Spoil:
    def measure(parts: CandidateParts) -> None:
        models(parts, "choice").update(als=choice)
        models(parts, "test").update(als=test)
        ahead = test["ndcg@20"]["mean"] - models(parts, "test")["popular"]["ndcg@20"]["mean"]
        parts.evaluation["against_popular"]["mean"] = ahead
        for part, users in (("choice", choice["users"]), ("test", test["users"])):
            parts.evaluation["slices"][part]["history_lengths"] = by_length({"3-5": users}, models(parts, part))

    return measure


def days_end_before(parts: CandidateParts, before_ms: int) -> None:
    """The days end so long before the stream does, which goes on."""
    now = NOW + 4 * HOUR_MS + before_ms  # 2030-01-07 ends four hours after NOW
    parts.facts["stream_time"], parts.entries = now, [week_entry(until=now)]
