"""`compare`: two releases side by side: what they were made of, how good they are, and how alike their lists are.

The figures of the evaluations are each release's own, on the hours that its night held out; they can be compared only
if these hours are the same. What decides is which of the two ranks better what users started after both were made, as
far as sessions of that time exist: paired by user, and only for users to whom no list was shown then, since a list
that is shown steers what its user watches.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np
import orjson

from batch.errors import EvaluationDamaged, ReleaseError
from batch.evaluation import compare_report
from batch.evaluation.comparison import (
    ComparedFigures,
    ListOverlap,
    MadeOf,
    ReadDays,
    ReleaseComparison,
    StartedLater,
)
from batch.evaluation.figures import score_difference
from batch.evaluation_file import LEAST_USERS, Evaluation, ModelFigures, SliceFigures, read_evaluation
from batch.history.assemble import gather_days
from batch.history.day_store import DayStore
from batch.releases import publish
from quality.metrics import ranking
from quality.metrics.watch_sessions import split_key
from quality.settings import QualitySettings
from server.release import Release
from stream.settings import StreamSettings, load
from stream.zone import Zone, day_name, day_number, zone_named

_MOST_MOVED = 10
"""Movies that are named as having gained lists, and as having lost them."""
_BLOCK_LISTS = 1 << 14
"""Lists that are compared at once."""
ReleasePair = tuple[Release, Release]


@dataclass(frozen=True)
class ComparedRelease:
    """One of the two."""

    release: Release
    evaluation: Evaluation | None
    """None if the release has none that can be read."""

    @property
    def test_slice(self) -> SliceFigures | None:
        """The figures of all its night's models on the test slice."""
        return self.evaluation.slices.test if self.evaluation else None

    @property
    def figures(self) -> ModelFigures | None:
        """The figures of the model that made its lists, on the test slice."""
        model = self.release.manifest.model.lists
        return self.test_slice.models.get(model or "") if self.test_slice else None


def open_release(var: Path, name: str) -> ComparedRelease:
    """A release by its id, `current`, or its folder. Raises `ReleaseError`, or `BadRelease` for a damaged one."""
    folder = publish.current_release(var) if name == "current" else var / "releases" / name
    if folder is None or not folder.is_dir():
        folder = Path(name)
    if not (folder / "manifest.json").is_file():
        raise ReleaseError(
            f"compare: there is no release '{name}' in {var / 'releases'}, and no folder '{name}' with a release in it"
        )
    release = Release.open(folder)
    try:
        return ComparedRelease(release, read_evaluation(folder))
    except EvaluationDamaged:  # the file is as it was published: the release was made without an evaluation
        return ComparedRelease(release, None)


def compare_releases(
    first: ComparedRelease, second: ComparedRelease, day_store: DayStore, clock: Zone, gap_ms: int
) -> ReleaseComparison:
    """Compare two releases in every respect."""
    pair = first.release, second.release
    manifests = [release.manifest for release in pair]
    slices = first.test_slice, second.test_slice
    hours = [(part.from_ms, part.until_ms) if part else None for part in slices]
    return ReleaseComparison(
        releases=(pair[0].id, pair[1].id),
        made=(_made_of(pair[0]), _made_of(pair[1])),
        settings=_differing(*(manifest.settings for manifest in manifests)),
        versions=_differing(*(msgspec.to_builtins(manifest.versions) for manifest in manifests)),
        figures=(_compared_figures(first.figures), _compared_figures(second.figures)),
        same_hours=hours[0] is not None and hours[0] == hours[1],
        lists=list_overlap(pair),
        later=started_later(pair, day_store, clock, gap_ms),
    )


def list_overlap(pair: ReleasePair) -> ListOverlap:
    """How alike the lists are that users of both releases are shown."""
    movie_index = _index_movies(pair)
    users = np.intersect1d(pair[0].users, pair[1].users)
    if not len(users):
        return ListOverlap(users=0, overlap=None, unchanged=None, gained={}, lost={})
    first, second = (_shown_lists(release, users, movie_index) for release in pair)
    movies = list(movie_index)
    before, after = (np.bincount(lists[lists >= 0], minlength=len(movies)) for lists in (first, second))
    change = after - before
    order = np.argsort(change, kind="stable")
    return ListOverlap(
        users=len(users),
        overlap=float(_shared_shares(first, second).mean()),
        unchanged=float((first == second).all(axis=1).mean()),
        gained={movies[index]: int(change[index]) for index in order[::-1][:_MOST_MOVED] if change[index] > 0},
        lost={movies[index]: int(change[index]) for index in order[:_MOST_MOVED] if change[index] < 0},
    )


def started_later(pair: ReleasePair, day_store: DayStore, clock: Zone, gap_ms: int) -> StartedLater:
    """How much better the second ranks what users started after both were made, or why that cannot be said."""
    since = max(release.manifest.require_stream_time() for release in pair)
    day_before = day_name(day_number(clock.day(since)) - 1)  # a session may have begun then
    days = [day for day in day_store.days() if day >= day_before]
    movie_index = _index_movies(pair)
    users, movies = _starts(day_store, days, movie_index, since, gap_ms)
    requests = day_store.read("requests", days)
    shown_to = np.unique(requests["user"].to_numpy()[requests["time"].to_numpy() > since])
    drawn = np.concatenate([release.explorers for release in pair])
    unsteered = ~np.isin(users, np.concatenate([shown_to, drawn]))
    measured, counts = np.unique(users[unsteered], return_counts=True)
    if len(measured) < LEAST_USERS:
        reason = (
            f"{len(measured)} users began something after both were made and were shown no list;"
            f" {LEAST_USERS} are needed"
        )
        return StartedLater(since_ms=since, reason=reason)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    first, second = (
        ranking.rank_metrics(_shown_lists(release, measured, movie_index), indptr, movies[unsteered]).ndcg
        for release in pair
    )
    ahead = score_difference(second, first)
    return StartedLater(
        since_ms=since,
        users=len(measured),
        means=(float(first.mean()), float(second.mean())),
        metric=ahead.metric,
        mean=ahead.mean,
        low=ahead.low,
        high=ahead.high,
    )


def _starts(
    day_store: DayStore, days: list[str], movie_index: Mapping[str, int], since: int, gap_ms: int
) -> tuple[np.ndarray, np.ndarray]:
    """Which users started which movies after a moment, each pair once: user ids, ascending, and movie indices."""
    gathered = gather_days(day_store, days, movie_index, gap_ms)
    users, movies = split_key(np.unique(gathered.spans.key[gathered.spans.start > since]))
    indices = np.array([movie_index[movie] for movie in gathered.movies] or [0], np.int64)
    return users, indices[movies]


def _index_movies(pair: ReleasePair) -> dict[str, int]:
    """Indices for the movies of both releases together."""
    return {movie: index for index, movie in enumerate(sorted({*pair[0].movies, *pair[1].movies}))}


def _shown_lists(release: Release, users: np.ndarray, movie_index: Mapping[str, int]) -> np.ndarray:
    """What users (ids) are shown, as indices of `movie_index`: int32 [users, 20], -1 for none."""
    indices = np.array([*(movie_index[movie] for movie in release.movies), -1], np.int32)
    lists: np.ndarray = indices[release.shown_lists(users)]  # the last entry, index -1, stands for none
    return lists


def _shared_shares(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """By user, the share of the longer list that is in both, 1 where both are empty: float64 [users]."""
    shared = np.empty(len(first), np.int64)
    for start in range(0, len(first), _BLOCK_LISTS):
        block = slice(start, start + _BLOCK_LISTS)
        one, other = first[block, :, None], second[block, None, :]
        shared[block] = ((one == other) & (one >= 0)).sum(axis=(1, 2))
    longer = np.maximum((first >= 0).sum(axis=1), (second >= 0).sum(axis=1))
    return np.where(longer > 0, shared / np.maximum(longer, 1), 1)


def _made_of(release: Release) -> MadeOf:
    facts, model = release.manifest.input, release.manifest.model
    days = facts.days if facts else []
    counts: dict[str, int] = msgspec.to_builtins(facts.counts) if facts else {}
    return MadeOf(
        model=model.lists,
        parameters=model.parameters,
        chosen_by=model.chosen_by,
        stream_time_ms=release.manifest.require_stream_time(),
        days=ReadDays(count=len(days), first=days[0], last=days[-1]) if days else ReadDays(count=0),
        offsets=facts.offsets if facts else {},
        counts={**counts, "users": len(release.users), "movies": len(release.names)},
        personal_lists=int((release.lists[:, 0] != np.iinfo(release.lists.dtype).max).sum()),
    )


def _compared_figures(figures: ModelFigures | None) -> ComparedFigures:
    return msgspec.convert(figures, ComparedFigures, from_attributes=True) if figures else ComparedFigures()


def _differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The values of both, of any type, under the keys where they differ."""
    keys = sorted({*first, *second})
    return {key: (first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)}


@click.command()
@click.argument("first", metavar="ONE")
@click.argument("second", metavar="OTHER")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def compare(first: str, second: str, as_json: bool) -> None:
    """Compare two releases: each ONE and OTHER is an id, `current`, or a folder.

    Shows side by side their models, the settings that differ, data, counts and figures with 95 % intervals; how alike
    their lists are; and which ranks better what users started after both were made, where sessions of that time exist
    (python -m batch sessions).
    """
    streaming = load("stream", StreamSettings)
    sides = open_release(streaming.var, first), open_release(streaming.var, second)
    clock = zone_named(streaming.timezone)
    comparison = compare_releases(*sides, DayStore(streaming.var), clock, load("quality", QualitySettings).gap_ms)
    if as_json:
        click.echo(orjson.dumps(msgspec.to_builtins(comparison), option=orjson.OPT_INDENT_2))
        return
    compare_report.print_comparison(comparison, clock)
