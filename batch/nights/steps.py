"""The steps of the night, archive to release. Each can be run alone, and again.

| step | reads | writes |
|---|---|---|
| `sessions` | archive | `sessions/day=…`, for the days that changed; in `night/`: `read.json` |
| `catalog` | sessions, APIs | `catalog/catalog.sqlite` |
| `history` | sessions, catalogue | in `night/`: history, `LIST_FACTS`, descriptions, `content.json`, `input.json` |
| `evaluate` | the history, the current release | `night/evaluation.json` with the chosen model |
| `train` | the history, the choice | the other files of the candidate, in `night/` |
| `publish` | the candidate | `releases/<id>`, and `current` if the gate lets it pass |

A step writes each file whole. Lines that are archived while the night runs belong to the next night: `sessions` notes
how far it read, and all later steps use that. `runner.py` runs the steps, and knows which of them are done.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.compute as pc
import scipy.sparse as sp

from batch.collecting.announcements import read_announced
from batch.collecting.api import ServiceApi, refresh_catalog
from batch.errors import CatalogError, EvaluationDamaged, GateRefusal, NightFilesDamaged, NotEnoughData
from batch.evaluation.contest import POPULAR
from batch.evaluation.evaluate import compare_again, evaluate, steps
from batch.evaluation.incumbent import Incumbent, incumbent_of
from batch.evaluation.splits import marked
from batch.evaluation_file import EVALUATION_FILE, Evaluation, read_evaluation, write_evaluation
from batch.gate import rules
from batch.gate.candidate import Candidate
from batch.gate.verdict import GateVerdict
from batch.history import assemble, self_descriptions
from batch.history.day_sessions import archived_days, compact_days, rows_to_read
from batch.history.day_store import PARTS_WITH_USERS, DayStore
from batch.history.interactions import Requests, TrainingHistory
from batch.history.list_facts import LIST_FACTS
from batch.history.movie_content import MovieContent, feature_matrix, shown_lists
from batch.history.proven_movies import find_proven
from batch.history.segments import segments_of, without_small
from batch.models.list_caps import ListCaps
from batch.models.new_movies import NewMovieBudget
from batch.nights import alert_hold, night_inputs, release_movies
from batch.nights.release_facts import made_of
from batch.nights.step_results import (
    CatalogResult,
    EvaluateResult,
    HistoryResult,
    PublishResult,
    SessionsResult,
    TrainResult,
)
from batch.progress import step
from batch.releases import build, publish
from batch.settings import BatchSettings
from quality.alerts.alert_file import raise_alert
from quality.catalog import Catalog, Status, Subject
from quality.settings import QualitySettings
from server import hidden
from server.errors import BadRelease
from server.manifest import InputCounts, InputFacts, Manifest
from server.release import BASELINE, FILES, MINORS, Release
from stream.archive import Archive
from stream.ledger_clock import stream_time
from stream.ledger_entry import LedgerEntry
from stream.settings import BEST_RATING, StreamSettings
from stream.zone import zone_named

log = logging.getLogger(__name__)

_ANEW = "the next night makes everything again: python -m batch nightly"


class NightSteps:
    """The steps of a night for one `var` folder. Every public method is a step, and may be run again at any time."""

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

    def sessions(self) -> SessionsResult:
        """Build sessions from new archive files, and note how far the archive was read."""
        entries = self._archive.condensed()
        night_inputs.require_archive(self._archive, entries, self._day_store)
        days = archived_days(self._archive, entries)
        with step("sessions", rows_to_read(days, self._day_store, self._quality.gap_ms)) as advance:
            counts = compact_days(days, self._day_store, self._quality.gap_ms, advance)
        night_inputs.write_archive_read(self._folder, night_inputs.describe_entries(self._archive, entries))
        return msgspec.convert(counts, SessionsResult)

    def catalog(self) -> CatalogResult:
        """Ask the APIs for the movies and users that the sessions name and the catalogue does not know yet.

        If an API does not answer, the night continues with the existing records, and the result says so. What many
        users watched is a movie as well (`proven.json`) as long as the API has neither known nor denied it.
        """
        days = self._day_store.archived_days()  # an import brings its records, and the APIs do not know its users
        tables = [self._day_store.read(part, days) for part in PARTS_WITH_USERS]
        chunks = [chunk for table in tables[:2] for chunk in table["movie"].chunks]
        named = {name for chunk in chunks for name in chunk.dictionary.to_pylist()}
        movies = named | read_announced(self.var).keys()
        users = np.unique(np.concatenate([pc.unique(table["user"]).to_numpy() for table in tables]))
        api = ServiceApi(self._settings, self._streaming.generation)
        counts: dict[Subject, dict[Status, int]] = {}
        failed = None
        seed = stream_time(self._archive.condensed()) or 0  # goes on from night to night
        subjects: dict[Subject, list[str]] = {"movie": sorted(movies), "user": [str(user) for user in users.tolist()]}
        for subject, ids in subjects.items():
            try:
                with step(f"catalogue: {subject}s", len(ids)) as advance:
                    counts[subject] = dict(refresh_catalog(self._catalog, subject, ids, api, advance, seed))
            except CatalogError as error:
                log.error("%s; going on with the records that are known", error)
                failed = str(error)
        proven = self._write_movie_answers(named, has_failed="movie" not in counts)
        return CatalogResult(
            movies=counts.get("movie"),
            users=counts.get("user"),
            failed=failed,
            proven_movies=None if proven is None else len(proven),
        )

    def history(self) -> HistoryResult:
        """Assemble the sessions of all days, with ratings, runtimes and segments.

        Raises `HiddenUnreadable`: lists that may hold hidden movies are worse than those of yesterday.
        """
        read = self._archive_read()
        days, end = self._days(read.stream_time)
        runtimes = self._catalog.known(self._streaming.max_user).runtimes
        runtimes = {**dict.fromkeys(self._movie_answers().proven), **runtimes}
        with step("history"):
            gathered = assemble.gather_days(self._day_store, days, runtimes, self._quality.gap_ms, end)
            if not len(gathered.spans) and not len(gathered.rated):
                raise NotEnoughData(
                    f"history: {len(days)} days of sessions, {len(runtimes)} known movies, but none of these was"
                    " watched; run `python -m batch collect`, `sessions` and `catalog`; is [batch] api right?"
                )
            minutes = np.array([runtimes[name] or np.nan for name in gathered.movies], np.float64)
            segments = segments_of(gathered.users, self._catalog.people())
            segments = without_small(segments, self._settings.minimum_segment)
            history = assemble.assemble(gathered, minutes, BEST_RATING[self._streaming.generation], segments)
            requests = assemble.requests_of(self._day_store, days, history.users, end)
            assemble.save_history(self._folder, history, requests)
            shown, announced = shown_lists(self._day_store.read("shown", days)), read_announced(self.var)
            unwatched = release_movies.write_movies(self._folder, history, self._catalog, announced, shown)
            self_descriptions.store(self._folder, history.users, history.movies, self._catalog)
        users, movies = history.shape
        counts = InputCounts(
            sessions=len(history.user), users=users, movies=movies, ratings=len(gathered.rated),
            unknown_movie=gathered.unknown,
        )  # fmt: skip
        facts = InputFacts(
            stream_time=read.stream_time or history.until, offsets=read.offsets, hash=read.hash, days=days,
            counts=counts, hidden=sorted(hidden.read(self.var)),
        )  # fmt: skip
        night_inputs.write_input(self._folder, facts)
        return HistoryResult(**msgspec.structs.asdict(counts), unwatched=unwatched)

    def evaluate(self) -> EvaluateResult:
        """Measure the models and choose one."""
        with step("evaluate", steps(self._settings)) as advance:
            history = self._history_with_exposure()
            competition = history, self._settings, advance, self._incumbent(history)
            evaluation = evaluate(*competition, self._caps().first(len(history.movies)), self._descriptions())
        write_evaluation(self._folder, evaluation)
        gives_way = self._settings.model == "best" and evaluation.chosen == POPULAR
        level = logging.WARNING if gives_way else logging.INFO
        log.log(level, "%s makes the lists: %s", evaluation.chosen, evaluation.chosen_by)
        ndcg = {name: msgspec.to_builtins(figures.ndcg) for name, figures in evaluation.test_models.items()}
        return EvaluateResult(chosen=evaluation.chosen, chosen_by=evaluation.chosen_by, ndcg_at_20=ndcg)

    def train(self) -> TrainResult:
        """Fit the chosen model to everything, and write the candidate's lists, index and embeddings."""
        (history, _), texts = self._history(), self._descriptions()
        facts, evaluation, contents = self._input(), self._evaluation(), self._contents()
        hidden_movies, caps = frozenset(facts.hidden or ()), self._caps()
        dimensions = build.build_files(
            self._folder, history, contents, evaluation, self._settings, hidden_movies, caps, facts.stream_time, texts
        )
        users = len(history.users)
        return TrainResult(model=evaluation.chosen, dimensions=dimensions, users=users, movies=len(contents))

    def publish(self) -> PublishResult:
        """Seal the candidate as a release and make it current if the gate lets it pass.

        Raises `GateRefusal`; then the candidate stays under `releases/` for study, and `current` where it was. A
        release that is current already is not refused: it stays current in any case.
        """
        var, facts = self._streaming.var, self._input()
        for name in (*FILES, BASELINE, MINORS):
            self._need(name)
        evaluation = self._compared_evaluation(facts)
        with step("seal"):
            release = publish.publish(var, self._folder, self._manifest(facts, evaluation))
        entries = self._archive.condensed()
        now = stream_time(entries) or facts.stream_time
        with step("gate"):
            verdict = rules.judge(self._candidate(release, entries, frozenset(facts.hidden or ())))
        if release == self._current_id() and verdict.broken:
            log.warning(
                "gate: %s is current and stays so, though it would be refused now: %s", release, verdict.reasons
            )
        else:
            self._require_passed(verdict, now)
        moved = publish.make_current(var, release, now)
        if (answers := self._movie_answers()).proven and not answers.api_answered:
            day = zone_named(self._streaming.timezone).day(now)
            raise_alert(var, night_inputs.unconfirmed_alert(release, len(answers.proven), day))
        removed = publish.prune(var, self._settings.keep_releases)
        return PublishResult(release=release, current=moved, gate=verdict.summary(), removed=removed)

    def _require_passed(self, verdict: GateVerdict, now: int) -> None:
        """Note a refusal, alert and raise `GateRefusal` if a rule is broken."""
        try:
            rules.require_passed(verdict)
        except GateRefusal as refusal:
            publish.refuse(self.var, verdict.release, refusal.broken)
            day = zone_named(self._streaming.timezone).day(now)
            rules.raise_refusal_alert(self.var, verdict.release, refusal, day)
            raise

    def _compared_evaluation(self, facts: InputFacts) -> Evaluation:
        """The evaluation, compared with the release that is current now: `evaluate` may have met another one, as before
        a rollback. That of a release which is current already stays as it is.
        """
        evaluation, current = self._evaluation(), self._current_id()
        if not evaluation.is_measured or evaluation.against_current.release == current:
            return evaluation
        if current and publish.find_sealed(self.var, self._folder, self._manifest(facts, evaluation)) == current:
            return evaluation
        with step(f"compare with {current}"):
            history = self._history_with_exposure()
            caps = self._caps().first(len(history.movies))
            evaluation = compare_again(evaluation, history, self._settings, self._incumbent(history), caps)
        write_evaluation(self._folder, evaluation)
        return evaluation

    def _manifest(self, facts: InputFacts, evaluation: Evaluation) -> Manifest:
        with self._reading("the candidate"):
            dimensions = np.load(self._folder / "items.npy", mmap_mode="r").shape[1]
            exploring = build.read_exploring(self._folder, self._settings.explore_share)
        contents = self._contents()
        restricted = [contents[item].id for item in np.flatnonzero(self._caps().not_for_everyone).tolist()]
        manifest = made_of(facts, evaluation, self._movie_answers(), self._settings, dimensions, restricted, exploring)
        return msgspec.structs.replace(manifest, unwatched_movies=len(contents) - facts.counts.movies)

    def _contents(self) -> list[MovieContent]:
        """The movies of the release, those of the history first."""
        self._need(night_inputs.CONTENT)
        with self._reading("content.json"):
            return release_movies.read_movies(self._folder)

    def _candidate(self, release: str, entries: list[LedgerEntry], hidden_movies: frozenset[str]) -> Candidate:
        history, _ = self._history()
        contents = self._contents()
        size = len(history.users), len(contents)
        known = self._catalog.known(self._streaming.max_user)
        data = history.before(history.until, self._settings.half_life_days)
        return Candidate(
            folder=self._streaming.var / "releases" / release,
            entries=entries,
            alerts=[] if self._despite_alerts else alert_hold.alerts_since(entries, self._streaming, self._quality),
            users=history.users,
            movies=[content.id for content in contents],
            watched=len(history.movies),
            seen=sp.csr_matrix((data.matrix.data, data.matrix.indices, data.matrix.indptr), size),
            popularity=np.pad(data.popularity, (0, len(contents) - len(history.movies))),
            content=feature_matrix(contents),
            shown=np.array([content.shown for content in contents], np.int64),
            budget=NewMovieBudget.of(self._settings),
            segments=history.segments,
            descriptions=self._descriptions(),
            until=history.until,
            catalog_movies=known.runtimes.keys(),
            denied_movies=known.missing,
            proven_users=self._settings.proven_users,
            hidden=hidden_movies,
            caps=self._caps(),
            current=self._current(),
        )

    def _write_movie_answers(self, movies: set[str], has_failed: bool) -> list[str] | None:
        """Write `proven.json`, `movies` being those of the sessions. Returns the movies that the stream alone proves;
        None if the API has answered on all.
        """
        known = self._catalog.known(self._streaming.max_user)
        answered = known.runtimes.keys() | known.missing
        missing = movies - answered
        days, end = self._days(self._archive_read().stream_time)
        least = self._settings.proven_users
        proven = find_proven(self._day_store.read("sessions", days, end), answered, least) if missing else None
        is_answered = not has_failed and 2 * len(missing) <= len(movies)
        answers = night_inputs.MovieAnswers(api_answered=is_answered, proven=proven or [])
        night_inputs.write_movie_answers(self._folder, answers)
        return proven

    def _movie_answers(self) -> night_inputs.MovieAnswers:
        with self._reading("proven.json"), suppress(FileNotFoundError):  # written by this version only
            return night_inputs.parse_movie_answers((self._folder / "proven.json").read_bytes())
        return night_inputs.MovieAnswers()

    def _incumbent(self, history: TrainingHistory) -> Incumbent | None:
        current = self._current()
        return None if current is None else incumbent_of(current, history)

    def _current_id(self) -> str | None:
        current = publish.current_release(self.var)
        return current.name if current else None

    def _current(self) -> Release | None:
        """The current release; None if there is none, or it is damaged: a damaged one stops no new release."""
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
            history, requests = assemble.load_history(self._folder)
            users, movies = history.shape
            fits = history.user.max(initial=-1) < users and history.movie.max(initial=-1) < movies
            if not fits or len(history.segments) != users:
                raise ValueError("its files do not belong together")
        return history, requests

    def _history_with_exposure(self) -> TrainingHistory:
        history, requests = self._history()
        return marked(history, requests, self._quality.window_ms, self._settings)

    def _descriptions(self) -> self_descriptions.SelfDescriptions:
        for name in self_descriptions.FILES:
            self._need(name)
        with self._reading("what users wrote about themselves"):
            return self_descriptions.load(self._folder)

    def _caps(self) -> ListCaps:
        """What the settings cap, by what the catalogue said when the history was assembled: of all movies."""
        for name in (*LIST_FACTS, night_inputs.CONTENT):
            self._need(name)
        with self._reading("the facts of lists"):
            return release_movies.read_caps(self._folder, self._settings)

    def _evaluation(self) -> Evaluation:
        self._need(EVALUATION_FILE)
        try:
            return read_evaluation(self._folder)
        except EvaluationDamaged as error:
            raise NightFilesDamaged(f"night: {self._folder / EVALUATION_FILE} is damaged: {error}; {_ANEW}") from error

    def _days(self, stream_time: int | None) -> tuple[list[str], int | None]:
        """The days of the history, and its end, ms UTC. Without a stream, as after an import, these are all days, whose
        users may have come years ago, and None.
        """
        days = list(self._day_store.days())
        if stream_time is None:
            return days, None
        end = assemble.history_end(self._day_store, days, stream_time)
        last = zone_named(self._streaming.timezone).day(end)
        return [day for day in days if day <= last][-self._settings.history_days :], end

    def _archive_read(self) -> night_inputs.ArchiveRead:
        with self._reading("read.json"):
            return night_inputs.parse_archive_read(self._need("read.json").read_bytes())

    def _input(self) -> InputFacts:
        with self._reading("input.json"):
            return night_inputs.parse_input(self._need("input.json").read_bytes())

    def _need(self, name: str) -> Path:
        path = self._folder / name
        if not path.exists():
            raise NightFilesDamaged(f"night: {path} is missing; {_ANEW}")
        return path

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        """Raise `NightFilesDamaged` if the block cannot read what an earlier step wrote."""
        try:
            yield
        # what NumPy, pyarrow and msgspec raise for a damaged file
        except (OSError, EOFError, ValueError, KeyError, msgspec.DecodeError) as error:
            raise NightFilesDamaged(f"night: {what} in {self._folder} is damaged: {error}; {_ANEW}") from error
