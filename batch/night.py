"""The night: archive to release, in steps that can each be run alone, and again.

| step | reads | writes |
|---|---|---|
| `catalog` | archive, APIs | `catalog/catalog.sqlite` |
| `sessions` | archive, catalogue | in `night/`: sessions, ratings, users, movies, `input.json` |
| `evaluate` | the sessions | `night/evaluation.json` with the chosen model |
| `train` | the sessions, the choice | the other files of the candidate, in `night/` |
| `publish` | the candidate | `releases/<id>`, and `current` where the gate lets it pass |

A step writes each file whole, so one that was killed is simply run again. What the archive gains while the night runs
is the next night's: `sessions` notes how far it read, and everything after it is made of that.
"""

import hashlib
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import annoy
import filelock
import msgspec
import numpy as np
import orjson
import pandas as pd

from batch import gate, lists, publish, rendered
from batch.api import Api, refresh
from batch.errors import Busy, CatalogError, NotEnoughData
from batch.evaluate import evaluate
from batch.hold import require_sound
from batch.interactions import History, runtimes_of
from batch.models import ALS, Model, Popular
from batch.progress import step
from batch.segments import NAMES, segments_of, without_small
from batch.sessions import Words, movies_in, ratings_of, sessions_of, users_in
from batch.settings import BatchSettings
from quality.catalog import Catalog, Subject
from quality.settings import QualitySettings
from server.errors import BadRelease
from server.release import FILES, METRIC, RENDERED, Release
from stream import durable
from stream.archive import Archive, Entry, stream_time
from stream.event import KINDS, Kind
from stream.settings import StreamSettings

log = logging.getLogger("batch.night")


class Night:
    """The steps over one `var` folder. Every method is a step; it may be run again at any time."""

    def __init__(self, streaming: StreamSettings, quality: QualitySettings, settings: BatchSettings) -> None:
        self._streaming, self._quality, self._settings = streaming, quality, settings
        self._archive = Archive(streaming.var)
        self._catalog = Catalog(streaming.var)
        self._folder = streaming.var / "night"
        self._folder.mkdir(parents=True, exist_ok=True)

    def lock(self) -> AbstractContextManager[object]:
        """Held while steps run: two nights at once would mix their files. Raises `Busy`."""
        lock = filelock.FileLock(self._folder / "night.lock", blocking=False)
        try:
            return lock.acquire()
        except filelock.Timeout as error:
            raise Busy(f"night: another night runs in {self._folder}; wait for it, or stop it") from error

    def hold(self, despite_alerts: bool) -> None:
        """Raise `Held` where the data are too bad to learn from, unless that is to be passed over."""
        require_sound(self._archive.entries(), self._streaming, self._quality, despite_alerts)

    def catalog(self) -> dict[str, Any]:
        """Ask the APIs for the movies and users that the archive names and the catalogue does not know yet.

        An API that does not answer is no reason to have no release: the night goes on with what is known, and says so.
        """
        entries = self._archive.entries()
        movies = sorted(movies_in(path for kind in ("watch", "rate") for path in self._paths(kind, entries)))
        users = [str(user) for user in self._users(entries).tolist()]
        api = Api(self._settings, self._streaming.generation)
        told: dict[str, Any] = {}
        subjects: dict[Subject, list[str]] = {"movie": movies, "user": users}
        for subject, ids in subjects.items():
            try:
                with step(f"catalogue: {subject}s", len(ids)) as advance:
                    told[f"{subject}s"] = dict(refresh(self._catalog, subject, ids, api, advance))
            except CatalogError as error:
                log.error("%s; going on with the records that are known", error)
                told["failed"] = str(error)
        return told

    def sessions(self) -> dict[str, Any]:
        """Make sessions and ratings of the archive, and note which part of it that was."""
        entries = self._archive.entries()
        reached = stream_time(entries)
        known = self._catalog.statuses("movie")
        words = Words.of(sorted(name for name, status in known.items() if status == "known"))
        days = self._archive.files("watch", entries)
        if not days or not words.names or reached is None:
            raise NotEnoughData(
                f"sessions: the archive has {len(days)} days with watch events, the catalogue {len(words.names)} known"
                " movies; run `python -m batch collect` and then `python -m batch catalog`"
            )
        with step("sessions", len(days)) as advance:
            gap = self._quality.session_gap_hours
            sessions, counts = sessions_of(days, words, gap, lambda: advance(1))
        ratings, rated = ratings_of(self._archive.files("rate", entries), words)
        if sessions.empty:
            raise NotEnoughData(
                "sessions: no movie that was watched is in the catalogue; is [batch] api the right one?"
            )
        sessions, ratings, names = _only_watched(sessions, ratings, words.names)
        users = self._users(entries)
        durable.write(self._folder / "sessions.parquet", sessions.to_parquet)
        durable.write(self._folder / "ratings.parquet", ratings.to_parquet)
        durable.write_bytes(self._folder / "movies.txt", "".join(f"{name}\n" for name in names).encode())
        durable.write_array(self._folder / "users.npy", users)
        facts: dict[str, Any] = {
            "stream_time": reached,
            "days": list(days),
            "offsets": _offsets(entries),
            "hash": _hash(entries),
            "counts": {"sessions": len(sessions), "users": len(users), "movies": len(names), **counts, **rated},
        }
        durable.write_json(self._folder / "input.json", facts)
        return dict(facts["counts"])

    def evaluate(self) -> dict[str, Any]:
        """Measure the models and choose one."""
        history = self._history()
        with step("evaluate", 2 * (1 if self._settings.model == "popular" else 2)) as advance:
            found = evaluate(history, self._segments(history.users)[1], self._settings, advance)
        durable.write_json(self._folder / "evaluation.json", found)
        test = found["slices"].get("test", {"models": {}})["models"]
        measured = {name: figures["ndcg@20"] for name, figures in test.items()}
        return {"chosen": found["chosen"], "chosen_by": found["chosen_by"], "ndcg@20": measured}

    def train(self) -> dict[str, Any]:
        """Fit the chosen model to everything, and write the candidate's lists, index and embeddings."""
        history = self._history()
        data = history.before(int(history.sessions["start"].max()) + 1, self._settings.half_life_days)
        with step("train"):
            als = ALS(self._settings)
            als.fit(data)
        model = self._chosen(als)
        if model is not als:
            model.fit(data)
        with step("lists", len(history.users)) as advance:
            personal = lists.top_lists(model, data.weights, np.arange(len(history.users)), advance)
        personal[np.diff(data.weights.indptr) == 0] = -1  # no history: the server answers from the segment's list
        _, segments = self._segments(history.users)
        popular = lists.popular_lists(data.popularity, data.weights > 0, segments, len(NAMES) - 1)
        kind = np.uint16 if len(data.popularity) < np.iinfo(np.uint16).max else np.uint32
        none = np.iinfo(kind).max
        personal = np.where(personal < 0, none, personal).astype(kind)
        durable.write_array(self._folder / "lists.npy", personal)
        durable.write_array(self._folder / "fallbacks.npy", np.where(popular < 0, none, popular).astype(kind))
        durable.write_array(self._folder / "segments.npy", segments)
        durable.write_array(self._folder / "items.npy", np.ascontiguousarray(als.item_embeddings, np.float32))
        self._render(personal, none)
        with step("index"):
            durable.write(self._folder / "items.ann", lambda path: self._build_index(als.item_embeddings, str(path)))
        return {"model": model.name, "dimensions": als.item_embeddings.shape[1]}

    def _render(self, personal: np.ndarray, none: int) -> None:
        for name in RENDERED:
            (self._folder / name).unlink(missing_ok=True)
        if self._settings.answers == "rendered":
            names = self._need("movies.txt").read_text("utf-8").splitlines()
            with step("answers", len(personal)) as advance:
                rendered.write(self._folder, personal, names, none, advance)

    def publish(self) -> dict[str, Any]:
        """Seal the candidate as a release and let it become current where the gate says so.

        Raises `Refusal`; the candidate then stays under `releases/` for study, and `current` where it was.
        """
        var, settings = self._streaming.var, self._settings
        evaluation = self._read_json("evaluation.json")
        facts = self._read_json("input.json")
        for name in FILES:
            self._need(name)
        release = publish.publish(
            var,
            self._folder,
            {
                "input": facts,
                "settings": msgspec.to_builtins(settings),
                "model": {
                    "lists": evaluation["chosen"],
                    "index": "als",
                    "metric": METRIC,
                    "dimensions": np.load(self._folder / "items.npy", mmap_mode="r").shape[1],
                    "trees": settings.trees,
                },
                "segments": list(NAMES),
            },
            facts["stream_time"],
        )
        with step("gate"):
            verdict = gate.judge(self._candidate(release, evaluation))
        entries = self._archive.entries()
        publish.make_current(var, release, stream_time(entries) or facts["stream_time"])
        removed = publish.prune(var, settings.keep_releases)
        return {"release": release, "gate": verdict, "removed": removed}

    def _candidate(self, release: str, evaluation: dict[str, Any]) -> gate.Candidate:
        history = self._history()
        seen = history.before(int(history.sessions["start"].max()) + 1, self._settings.half_life_days).weights
        return gate.Candidate(
            Release.open(self._streaming.var / "releases" / release),
            evaluation,
            self._archive.entries(),
            seen,
            self._current(),
        )

    def _current(self) -> Release | None:
        """The release that a candidate is held against; None for none, or one that is damaged: it is to be replaced."""
        current = publish.current(self._streaming.var)
        try:
            return Release.open(current) if current else None
        except BadRelease as error:
            log.error("the current release is damaged: %s", error)
            return None

    def _history(self) -> History:
        names = self._need("movies.txt").read_text("utf-8").splitlines()
        sessions = pd.read_parquet(self._need("sessions.parquet"))
        ratings = pd.read_parquet(self._need("ratings.parquet"))
        runtimes = runtimes_of(names, self._catalog.records("movie"))
        users = np.load(self._need("users.npy"))
        return History(sessions, ratings, users, runtimes, 5 if self._streaming.generation == "2022" else 10)

    def _segments(self, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Segment of each user: as they are, and with the small ones left to everyone."""
        segments = segments_of(users, self._catalog.records("user"))
        return segments, without_small(segments, self._settings.minimum_segment)

    def _chosen(self, als: ALS) -> Model:
        return als if self._read_json("evaluation.json")["chosen"] == als.name else Popular()

    def _build_index(self, items: np.ndarray, path: str) -> None:
        index = annoy.AnnoyIndex(items.shape[1], METRIC)
        index.set_seed(self._settings.seed)
        for number, vector in enumerate(items):
            index.add_item(number, vector)
        index.build(self._settings.trees, n_jobs=1)  # several jobs would build another index every time
        index.save(path)

    def _users(self, entries: list[Entry]) -> np.ndarray:
        return users_in(path for kind in KINDS for path in self._paths(kind, entries))

    def _paths(self, kind: Kind, entries: list[Entry]) -> list[Any]:
        return [path for paths in self._archive.files(kind, entries).values() for path in paths]

    def _need(self, name: str) -> Any:
        path = self._folder / name
        if not path.exists():
            raise NotEnoughData(
                f"night: {path} is missing; run the steps before this one (python -m batch nightly: all)"
            )
        return path

    def _read_json(self, name: str) -> dict[str, Any]:
        return orjson.loads(self._need(name).read_bytes())


STEPS: tuple[tuple[str, Callable[[Night], dict[str, Any]]], ...] = (
    ("catalog", Night.catalog),
    ("sessions", Night.sessions),
    ("evaluate", Night.evaluate),
    ("train", Night.train),
    ("publish", Night.publish),
)


def _only_watched(
    sessions: pd.DataFrame, ratings: pd.DataFrame, names: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """Drop the movies of the catalogue that nobody watched or rated, and number the others anew, in the same order."""
    used = np.zeros(len(names), bool)
    used[sessions["movie"]] = used[ratings["movie"]] = True
    number = np.cumsum(used).astype(np.int32) - 1
    sessions = sessions.assign(movie=number[sessions["movie"]])
    ratings = ratings.assign(movie=number[ratings["movie"]])
    return sessions, ratings, [name for name, is_used in zip(names, used.tolist(), strict=True) if is_used]


def _offsets(entries: list[Entry]) -> dict[str, list[int]]:
    """By topic and partition: the first offset that was read and the last."""
    found: dict[str, list[int]] = {}
    for entry in entries:
        span = found.setdefault(f"{entry.topic}-{entry.partition}", [entry.first, entry.last])
        span[:] = min(span[0], entry.first), max(span[1], entry.last)
    return found


def _hash(entries: list[Entry]) -> str:
    """Of what was read: the ledger without the times of its writing."""
    bare = [msgspec.structs.replace(entry, written="") for entry in entries]
    return hashlib.sha256(msgspec.json.encode(bare)).hexdigest()
