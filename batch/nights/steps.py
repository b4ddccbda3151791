"""The steps of the night, archive to release. Each can be run alone, and again.

| step | reads | writes |
|---|---|---|
| `sessions` | archive | `sessions/day=…`, for the days that changed; in `night/`: `read.json` |
| `catalog` | sessions, APIs | `catalog/catalog.sqlite` |
| `history` | sessions, catalogue | in `night/`: `assemble.FILES`, `input.json` |
| `evaluate` | the history, the current release | `night/evaluation.json` with the chosen model |
| `train` | the history, the choice | the other files of the candidate, in `night/` |
| `publish` | the candidate | `releases/<id>`, and `current` where the gate lets it pass |

A step writes each file whole. What the archive gains while the night runs is the next night's: `sessions` notes how
far it read, and everything after it is made of that. `runner.py` runs the steps, and knows which of them are done.
"""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import orjson
import pyarrow.compute as pc

from batch.collecting.api import ServiceApi, refresh_catalog
from batch.errors import CatalogError, EvaluationDamaged, GateRefusal, NightFilesDamaged, NotEnoughData
from batch.evaluation.evaluate import evaluate, steps
from batch.evaluation.incumbent import Incumbent, incumbent_of
from batch.evaluation_file import EVALUATION_FILE, NDCG, Evaluation, read_evaluation, write_evaluation
from batch.gate import rules
from batch.gate.candidate import Candidate
from batch.history import assemble
from batch.history.day_sessions import compact_days, rows_to_read
from batch.history.day_store import DAY_SCHEMAS, DayStore
from batch.history.interactions import Requests, TrainingHistory
from batch.history.segments import NAMES, segments_of, without_small
from batch.nights import alert_hold
from batch.progress import step
from batch.releases import build, publish
from batch.settings import BatchSettings
from quality.catalog import Catalog, Subject
from quality.settings import QualitySettings
from server import hidden
from server.errors import BadRelease
from server.release import FILES, METRIC, Release
from stream import durable
from stream.archive import Archive, LedgerEntry, stream_time
from stream.redaction import public_settings
from stream.settings import BEST_RATING, StreamSettings
from stream.zone import zone_named

log = logging.getLogger(__name__)

_ANEW = "the next night makes all of it anew: python -m batch nightly"


class NightSteps:
    """The steps over one `var` folder. Every public method is a step; it may be run again at any time."""

    def __init__(
        self, streaming: StreamSettings, quality: QualitySettings, settings: BatchSettings, despite_alerts: bool = False
    ) -> None:
        self._streaming, self._quality, self._settings = streaming, quality, settings
        self._despite_alerts = despite_alerts
        self._archive, self._day_store = Archive(streaming.var), DayStore(streaming.var)
        self._catalog = Catalog(streaming.var)
        self._folder = streaming.var / "night"

    @property
    def var(self) -> Path:
        return self._streaming.var

    def sessions(self) -> dict[str, Any]:
        """Make sessions of what is new in the archive, and note how far that goes."""
        entries = self._archive.entries()
        self._require_archive(entries)
        arguments = (self._archive, entries, self._day_store, self._quality.gap_ms)
        with step("sessions", rows_to_read(*arguments)) as advance:
            counts = compact_days(*arguments, advance)
        read = {"stream_time": stream_time(entries), "offsets": _offsets(entries), "hash": _hash(entries)}
        durable.write_json(self._folder / "read.json", read)
        return dict(counts)

    def catalog(self) -> dict[str, Any]:
        """Ask the APIs for the movies and users that the sessions name and the catalogue does not know yet.

        An API that does not answer is no reason to have no release: the night goes on with what is known, and says so.
        """
        # an import has brought its own records, and its users are nobody the APIs know
        days = [day for day, made in self._day_store.days().items() if made.imported is None]
        tables = [self._day_store.read(part, days) for part in DAY_SCHEMAS]
        chunks = [chunk for table in tables[:2] for chunk in table["movie"].chunks]
        movies = {name for chunk in chunks for name in chunk.dictionary.to_pylist()}
        users = np.unique(np.concatenate([pc.unique(table["user"]).to_numpy() for table in tables]))
        api = ServiceApi(self._settings, self._streaming.generation)
        told: dict[str, Any] = {}
        subjects: dict[Subject, list[str]] = {"movie": sorted(movies), "user": [str(user) for user in users.tolist()]}
        for subject, ids in subjects.items():
            try:
                with step(f"catalogue: {subject}s", len(ids)) as advance:
                    told[f"{subject}s"] = dict(refresh_catalog(self._catalog, subject, ids, api, advance))
            except CatalogError as error:
                log.error("%s; going on with the records that are known", error)
                told["failed"] = str(error)
        return told

    def history(self) -> dict[str, Any]:
        """Put the sessions of all days together, with ratings, runtimes and segments.

        Raises `HiddenUnreadable`: lists that may hold what is hidden are worse than those of yesterday.
        """
        read, days = self._read_json("read.json", "stream_time"), self._days()
        runtimes = self._catalog.known(self._streaming.max_user).runtimes
        with step("history"):
            gathered = assemble.gather_days(self._day_store, days, runtimes, self._quality.gap_ms)
            if not len(gathered.spans) and not len(gathered.rated):
                raise NotEnoughData(
                    f"history: {len(days)} days of sessions, {len(runtimes)} known movies, and no movie that was"
                    " watched is known; run `python -m batch collect`, `sessions` and `catalog`; is [batch] api right?"
                )
            minutes = np.array([runtimes[name] or np.nan for name in gathered.movies], np.float64)
            segments = segments_of(gathered.users, self._catalog.people())
            segments = without_small(segments, self._settings.minimum_segment)
            found = assemble.assemble(gathered, minutes, BEST_RATING[self._streaming.generation], segments)
            assemble.save_history(self._folder, found, assemble.requests_of(self._day_store, days, found.users))
        counts = {"sessions": len(found.user), "users": len(found.users), "movies": len(found.movies)}
        counts |= {"ratings": len(gathered.rated), "unknown_movie": gathered.unknown}
        facts = {**read, "stream_time": read["stream_time"] or found.until, "days": days, "counts": counts}
        facts["hidden"] = sorted(hidden.read(self.var))
        durable.write_json(self._folder / "input.json", facts)
        return counts

    def evaluate(self) -> dict[str, Any]:
        """Measure the models and choose one."""
        known, requests = self._history()
        with step("evaluate", steps(self._settings)) as advance:
            evaluation = evaluate(known, self._settings, advance, self._rival(known), requests)
        write_evaluation(self._folder, evaluation)
        ndcg = {name: msgspec.to_builtins(figures.ndcg) for name, figures in evaluation.test_models.items()}
        return {"chosen": evaluation.chosen, "chosen_by": evaluation.chosen_by, NDCG: ndcg}

    def train(self) -> dict[str, Any]:
        """Fit the chosen model to everything, and write the candidate's lists, index and embeddings."""
        known, _ = self._history()
        gone = frozenset(self._read_json("input.json", "hidden")["hidden"])
        return build.build_files(self._folder, known, self._evaluation(), self._settings, gone)

    def publish(self) -> dict[str, Any]:
        """Seal the candidate as a release and let it become current where the gate says so.

        Raises `GateRefusal`; the candidate then stays under `releases/` for study, and `current` where it was.
        """
        var, facts = self._streaming.var, self._read_json("input.json", "stream_time", "hidden")
        evaluation = self._evaluation()
        for name in FILES:
            self._need(name)
        with step("seal"):
            release = publish.publish(var, self._folder, self._manifest(facts, evaluation), facts["stream_time"])
        entries = self._archive.entries()
        now = stream_time(entries) or facts["stream_time"]
        try:
            with step("gate"):
                verdict = rules.judge(self._candidate(release, entries, frozenset(facts["hidden"])))
        except GateRefusal as refusal:
            publish.refuse(var, release, refusal.broken)
            rules.raise_refusal_alert(var, release, refusal, zone_named(self._streaming.timezone).day(now))
            raise
        moved = publish.make_current(var, release, now)
        removed = publish.prune(var, self._settings.keep_releases)
        return {"release": release, "current": moved, "gate": verdict.summary(), "removed": removed}

    def _manifest(self, facts: dict[str, Any], evaluation: Evaluation) -> dict[str, Any]:
        with self._reading("items.npy"):
            dimensions = np.load(self._folder / "items.npy", mmap_mode="r").shape[1]
        return {
            "input": facts,
            "settings": public_settings(self._settings),
            "model": {
                "lists": evaluation.chosen,
                "parameters": evaluation.parameters.get(evaluation.chosen, {}),
                "chosen_by": evaluation.chosen_by,
                "index": "als",
                "metric": METRIC,
                "dimensions": dimensions,
                "trees": self._settings.trees,
            },
            "segments": list(NAMES),
        }

    def _candidate(self, release: str, entries: list[LedgerEntry], gone: frozenset[str]) -> Candidate:
        known, _ = self._history()
        return Candidate(
            folder=self._streaming.var / "releases" / release,
            entries=entries,
            alerts=[] if self._despite_alerts else alert_hold.alerts_since(entries, self._streaming, self._quality),
            users=known.users,
            movies=known.movies,
            seen=known.before(known.until, self._settings.half_life_days).matrix,
            segments=known.segments,
            until=known.until,
            catalog_movies=self._catalog.known(self._streaming.max_user).runtimes.keys(),
            hidden=gone,
            current=self._current(),
        )

    def _require_archive(self, entries: list[LedgerEntry]) -> None:
        """Raise `NotEnoughData` where all of the archive is gone that sessions were made of: they would go with it."""
        made = [day for day, made in self._day_store.days().items() if made.imported is None]
        if made and not entries:
            raise NotEnoughData(
                f"sessions: {self._archive.ledger} is empty, and {len(made)} days of sessions were made of it; is all"
                f" that should be mounted there? If it is to begin anew, remove {self._day_store.folder}"
            )

    def _rival(self, known: TrainingHistory) -> Incumbent | None:
        current = self._current()
        return None if current is None else incumbent_of(current, known)

    def _current(self) -> Release | None:
        """The release that a candidate is held against; None for none, or one that is damaged: it is to be replaced."""
        current = publish.current_release(self._streaming.var)
        try:
            return Release.open(current) if current else None
        except BadRelease as error:
            log.error("the current release is damaged: %s", error)
            return None

    def _history(self) -> tuple[TrainingHistory, Requests]:
        for name in assemble.FILES:
            self._need(name)
        with self._reading("the history"):
            known, requests = assemble.load_history(self._folder)
            ends = known.user.max(initial=-1) < len(known.users), known.movie.max(initial=-1) < len(known.movies)
            if not all(ends) or len(known.segments) != len(known.users):
                raise ValueError("they are not of one history")
        return known, requests

    def _evaluation(self) -> Evaluation:
        self._need(EVALUATION_FILE)
        try:
            return read_evaluation(self._folder)
        except EvaluationDamaged as error:
            raise NightFilesDamaged(f"night: {self._folder / EVALUATION_FILE} is damaged: {error}; {_ANEW}") from error

    def _days(self) -> list[str]:
        return list(self._day_store.days())[-self._settings.history_days :]

    def _need(self, name: str) -> Path:
        path = self._folder / name
        if not path.exists():
            raise NightFilesDamaged(f"night: {path} is missing; {_ANEW}")
        return path

    def _read_json(self, name: str, *keys: str) -> dict[str, Any]:
        with self._reading(name):
            found = orjson.loads(self._need(name).read_bytes())
            if not isinstance(found, dict) or not found.keys() >= {*keys}:
                raise ValueError(f"it lacks {' or '.join(keys)}")
        return found

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """Raise `NightFilesDamaged` where what an earlier step wrote cannot be read."""
        try:
            yield
        except (OSError, EOFError, ValueError, KeyError) as error:  # what numpy and pyarrow raise over a damaged file
            raise NightFilesDamaged(f"night: {what} in {self._folder} is damaged: {error}; {_ANEW}") from error


def _offsets(entries: list[LedgerEntry]) -> dict[str, list[int]]:
    """By topic and partition: the first offset that was read and the last."""
    found: dict[str, list[int]] = {}
    for entry in entries:
        span = found.setdefault(f"{entry.topic}-{entry.partition}", [entry.first, entry.last])
        span[:] = min(span[0], entry.first), max(span[1], entry.last)
    return found


def _hash(entries: list[LedgerEntry]) -> str:
    """Of what was read: the ledger without the times of its writing."""
    bare = [msgspec.structs.replace(entry, written="") for entry in entries]
    return hashlib.sha256(msgspec.json.encode(bare)).hexdigest()
