"""The report of one day: from rows of the telemetry store to the figures, and to files that others read.

`Reports.build` is a function of the store, the releases and a watermark; `report-schema.json` beside this file
describes what it returns and `validate_report` holds it to that. A report is rewritten while answers of its day have
open windows; once the watermark has passed the day's end by the window and the grace it is written as final and never
again. A final report depends on the lines only, not on when or in which batches they were read.
"""

import datetime as dt
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import numpy as np
import orjson

from quality.errors import ReportError
from quality.metrics.bootstrap import ratio_difference_interval, ratio_interval
from quality.settings import QualitySettings
from quality.telemetry.attribution import attribute_starts, hit_ranks
from quality.telemetry.release_history import ReleaseHistory, popular_list, read_release_history
from quality.telemetry.report_html import render_html
from quality.telemetry.store import LIST, Store, StoredAnswers
from stream import durable
from stream.settings import StreamSettings
from stream.zone import day_name, zone_named

LAYOUT = 1
_SCHEMA = resources.files("quality.telemetry") / "report-schema.json"
_STEERED = (
    "Lists that were shown also steer what is watched: the uplift over the popular list is a comparison, not a "
    "randomised experiment."
)


@dataclass(frozen=True, slots=True)
class JudgedAnswers:
    """Answers of one day with status 200 and what became of them; arrays [answers]."""

    user: np.ndarray
    """int64."""
    release: np.ndarray
    """int64: number of the release in force, -1 for none."""
    closed: np.ndarray
    """bool: the window has closed."""
    rank: np.ndarray
    """int64: rank of the hit, 0 for none."""
    baseline: np.ndarray
    """int64: rank that the popular list would have had, 0 for none, -1 where that list is not known."""

    def __getitem__(self, rows: np.ndarray) -> "JudgedAnswers":
        return JudgedAnswers(*(getattr(self, name)[rows] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class Reports:
    """Makes and writes reports."""

    store: Store
    stream: StreamSettings
    settings: QualitySettings

    @property
    def releases(self) -> Path:
        """The folder of the releases."""
        return self.stream.var / "releases"

    def path(self, day: int) -> Path:
        """The file of a day's report."""
        return self.stream.var / "reports" / f"{day_name(day)}.json"

    def closes(self, day: int) -> int:
        """The watermark from which a day's report is final, ms UTC."""
        _, end = zone_named(self.stream.timezone).bounds(day_name(day))
        return end + self.settings.window_ms + self.settings.grace_ms

    def written(self, day: int) -> dict[str, Any] | None:
        """The final report of a day, if there is one."""
        path = self.path(day)
        try:
            report: dict[str, Any] = orjson.loads(path.read_bytes()) if path.exists() else {}
        except (OSError, orjson.JSONDecodeError) as error:
            raise ReportError(f"report: cannot read {path}: {error}") from error
        return report if report.get("final") else None

    def write(self, day: int, watermark: int) -> None:
        """Write a day's report and its page; one that is final stays as it is."""
        if self.written(day):
            return
        report = self.build(day, watermark)
        validate_report(report)
        path = self.path(day)
        # the page first: the JSON is what says that a report is final
        durable.write_bytes(path.with_suffix(".html"), render_html(report).encode())
        durable.write_json(path, report)

    def build(self, day: int, watermark: int) -> dict[str, Any]:
        """The report of a day as of a watermark."""
        watermark = min(watermark, self.closes(day))
        history = read_release_history(self.releases)
        answers, judged = self._judge(day, watermark, history)
        figures = self._figures(judged)
        left_out = self.store.left_out(day)
        return {
            "layout": LAYOUT,
            "day": day_name(day),
            "timezone": self.stream.timezone,
            "final": watermark == self.closes(day),
            "window_hours": self.settings.window_hours,
            "watermark": _utc(watermark),
            "answers": _counts(answers, judged),
            "latency_ms": _latency(answers.latency_ms),
            "hits": figures["hits"],
            "hit_rate": figures["hit_rate"],
            "baseline": figures["baseline"],
            "uplift": figures["uplift"],
            **_ranks(judged),
            "movies_shown": int(np.count_nonzero(np.bincount(answers.movies[answers.movies >= 0]))),
            "by_release": self._by_release(judged, history),
            "left_out": {"lines": sum(left_out.values()), "by_reason": left_out},
            "notes": self._notes(day, judged),
        }

    def _judge(self, day: int, watermark: int, history: ReleaseHistory) -> tuple[StoredAnswers, JudgedAnswers]:
        """A day's answers of every status, and the judged ones among them."""
        first, end = zone_named(self.stream.timezone).bounds(day_name(day))
        window_ms = self.settings.window_ms
        # later answers take starts from those of the day: last touch
        answers = self.store.answers(first, end + window_ms, listed_until=end)
        shown = answers[answers.status == 200]
        attribution = attribute_starts(shown, self.store.sessions(first, end + window_ms), window_ms)
        release = history.in_force(shown.time)
        lists, known = self._popular(history)
        list_of = np.where(known[release], release, -1)
        baseline = np.where(list_of >= 0, hit_ranks(attribution, lists, list_of), -1)
        rank = hit_ranks(attribution, shown.movies, np.arange(len(shown.time)))
        judged = JudgedAnswers(shown.user, release, shown.time + window_ms <= watermark, rank, baseline)
        return answers[answers.time < end], judged[shown.time < end]

    def _popular(self, history: ReleaseHistory) -> tuple[np.ndarray, np.ndarray]:
        """Popular lists by number of the release, int32[releases + 1, 20]; which are known. The last is for none."""
        movies = self.store.movies()
        lists = np.full((len(history.releases) + 1, LIST), -1, np.int32)
        known = np.zeros(len(lists), bool)
        for number, release in enumerate(history.releases):
            names = popular_list(self.releases, release)
            known[number] = names is not None
            # a movie that no line mentions has no number, and no start
            lists[number, : len(names or ())] = [movies.get(name, -1) for name in names or ()]
        return lists, known

    def _figures(self, judged: JudgedAnswers) -> dict[str, Any]:
        closed = judged[judged.closed]
        compared = closed[closed.baseline >= 0]
        options = self.settings.bootstrap_samples, self.settings.seed
        hits, answers = _by_user(closed.user, closed.rank > 0)
        shown, popular_, compared_answers = _by_user(compared.user, compared.rank > 0, compared.baseline > 0)
        return {
            "answers": len(judged.user),
            "closed": len(closed.user),
            "hits": int(hits.sum()),
            "hit_rate": _plain(ratio_interval(hits, answers, *options)),
            "baseline": {
                "answers": len(compared.user),
                "unknown": len(closed.user) - len(compared.user),
                "hits": int(popular_.sum()),
                "hit_rate": _plain(ratio_interval(popular_, compared_answers, *options)),
            },
            "uplift": _plain(ratio_difference_interval(shown, popular_, compared_answers, *options)),
        }

    def _by_release(self, judged: JudgedAnswers, history: ReleaseHistory) -> list[dict[str, Any]]:
        names = [*history.releases, None]
        return [
            {"release": names[number], **self._figures(judged[judged.release == number])}
            for number in np.unique(judged.release).tolist()
        ]

    def _notes(self, day: int, judged: JudgedAnswers) -> list[str]:
        begins, _ = zone_named(self.stream.timezone).bounds(day_name(day))
        first = self.store.state("first")
        still_open = int((~judged.closed).sum())
        unknown = int((judged.closed & (judged.baseline < 0)).sum())
        notes = [_STEERED]
        if still_open:
            notes.append(f"The windows of {still_open} answers are still open; they are in no rate.")
        if unknown:
            notes.append(f"The baseline of {unknown} answers is unknown: no release was in force, or it is gone.")
        if first is not None and first > begins - self.settings.gap_ms:
            notes.append(f"The stream is known from {_utc(first)} on; a session that ran then seems to start then.")
        return notes


def validate_report(report: dict[str, Any]) -> None:
    """Raise `ReportError` where a report does not follow its schema."""
    try:
        _validator().validate(report)
    except jsonschema.ValidationError as error:
        raise ReportError(f"report: {error.json_path}: {error.message}") from error


@lru_cache(maxsize=1)
def _validator() -> jsonschema.Draft202012Validator:
    try:
        return jsonschema.Draft202012Validator(orjson.loads(_SCHEMA.read_bytes()))
    except (OSError, orjson.JSONDecodeError) as error:
        raise ReportError(f"report: cannot read {_SCHEMA}: {error}; install Marquee again") from error


def _by_user(user: np.ndarray, *hits: np.ndarray) -> list[np.ndarray]:
    """Sums by user of each of `hits` (bool[answers]), and last how many answers he got; all [users]."""
    users, rows = np.unique(user, return_inverse=True)
    sums = [np.bincount(rows, weights=hit, minlength=len(users)) for hit in hits]
    return [*sums, np.bincount(rows, minlength=len(users))]


def _counts(answers: StoredAnswers, judged: JudgedAnswers) -> dict[str, Any]:
    statuses, counts = np.unique(answers.status, return_counts=True)
    return {
        "requests": len(answers.status),
        "by_status": dict(zip(map(str, statuses.tolist()), counts.tolist(), strict=True)),
        "closed": int(judged.closed.sum()),
        "provisional": int((~judged.closed).sum()),
    }


def _latency(latency_ms: np.ndarray) -> dict[str, int | None]:
    """Percentiles that occurred (inverse of the empirical distribution), whole milliseconds."""
    names, levels = ("p50", "p95", "p99", "max"), (50, 95, 99, 100)
    if not len(latency_ms):
        return dict.fromkeys(names)
    found = np.percentile(latency_ms, levels, method="inverted_cdf")
    return {name: int(value) for name, value in zip(names, found, strict=True)}


def _ranks(judged: JudgedAnswers) -> dict[str, Any]:
    """Hits by rank and mean reciprocal rank (0 where there was no hit; Voorhees 1999) of the closed answers."""
    rank = judged.rank[judged.closed]
    reciprocal = np.divide(1.0, rank, where=rank > 0, out=np.zeros(len(rank)))
    return {
        "hits_by_rank": np.bincount(rank, minlength=LIST + 1)[1:].tolist(),
        "mean_reciprocal_rank": float(reciprocal.mean()) if len(rank) else None,
    }


def _plain(value: msgspec.Struct) -> dict[str, Any]:
    return msgspec.structs.asdict(value)


def _utc(time_ms: int) -> str:
    moment = dt.datetime.fromtimestamp(time_ms // 1000, dt.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_ms % 1000:03}Z"
