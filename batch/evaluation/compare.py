"""`compare`: two releases side by side: what made them, what they are worth, and how alike their lists are.

Figures of the evaluation are each release's own, on the hours that its night held out, and compare only where these
are the same. What decides is which of the two ranks better what happened after both were made, as far as sessions of
that time are there: paired, and only for users who were shown no list then, since a list steers what is watched.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
import orjson

from batch.errors import ReleaseError
from batch.evaluation.figures import difference
from batch.evaluation.incumbent import LEAST_USERS
from batch.history.assemble import gather_days
from batch.history.day_store import DayStore
from batch.releases import publish
from quality.metrics import ranking
from quality.metrics.watch_sessions import split_key
from quality.settings import QualitySettings
from server.release import Release
from stream.settings import StreamSettings, load
from stream.zone import Zone, day_name, day_number, zone_named

if TYPE_CHECKING:
    from rich.table import Table

_METRICS = ("ndcg@20", "recall@20", "hr@20", "mrr")
_PLAIN = ("coverage", "novelty_bits", "personal")
_MOVED = 10
"""Movies that are told to have gained places, and to have lost them."""
_ROWS = 1 << 14
"""Lists that are compared at once."""
Pair = tuple[Release, Release]


@dataclass(frozen=True)
class ComparedRelease:
    """One of the two."""

    release: Release
    evaluation: Any
    """What its `evaluation.json` says."""


def open_release(var: Path, name: str) -> ComparedRelease:
    """A release by its id, `current`, or its folder. Raises `ReleaseError`, or `BadRelease` for a damaged one."""
    folder = publish.current_release(var) if name == "current" else var / "releases" / name
    if folder is None or not folder.is_dir():
        folder = Path(name)
    if not (folder / "manifest.json").is_file():
        raise ReleaseError(
            f"compare: there is no release '{name}' in {var / 'releases'}, and no folder of one of that name"
        )
    return ComparedRelease(Release.open(folder), orjson.loads((folder / "evaluation.json").read_bytes()))


def compare_releases(
    one: ComparedRelease, other: ComparedRelease, day_store: DayStore, clock: Zone, gap_ms: int
) -> dict[str, Any]:
    """All that is to be said of two releases; what is told of each is a list of two."""
    pair = one.release, other.release
    manifests = [release.manifest for release in pair]
    slices = [_within(side.evaluation, "slices", "test") or {} for side in (one, other)]
    return {
        "releases": [release.id for release in pair],
        "made": [_made(release) for release in pair],
        "settings": _differing(*(_within(manifest, "settings") or {} for manifest in manifests)),
        "versions": _differing(*(_within(manifest, "versions") or {} for manifest in manifests)),
        "figures": [_figures(part, _within(m, "model", "lists")) for part, m in zip(slices, manifests, strict=True)],
        "same_hours": bool(slices[0]) and _hours(slices[0]) == _hours(slices[1]),
        "lists": alike(pair),
        "later": later(pair, day_store, clock, gap_ms),
    }


def alike(pair: Pair) -> dict[str, Any]:
    """How alike the lists are that users of both releases are shown.

    `overlap@20` is the mean share of movies that two lists have in common, of the longer one. `gained` and `lost` are
    the movies that are in more or fewer lists of the second, with by how many.
    """
    names = _names(pair)
    users = np.intersect1d(pair[0].users, pair[1].users)
    if not len(users):
        return {"users": 0, "overlap@20": None, "unchanged": None, "gained": {}, "lost": {}}
    one, other = (_lists(release, users, names) for release in pair)
    return {
        "users": len(users),
        "overlap@20": float(_overlap(one, other).mean()),
        "unchanged": float((one == other).all(axis=1).mean()),
        **_moved(one, other, names),
    }


def later(pair: Pair, day_store: DayStore, clock: Zone, gap_ms: int) -> dict[str, Any]:
    """By how much the second ranks better what users started after both had been made, or why that cannot be said."""
    since = max(int(release.manifest["stream_time"]) for release in pair)
    before = day_name(day_number(clock.day(since)) - 1)  # a session may have begun on the day before
    days = [day for day in day_store.days() if day >= before]
    users, movies, names = _started(pair, day_store, days, since, gap_ms)
    shown = day_store.read("requests", days)
    asked = np.unique(shown["user"].to_numpy()[shown["time"].to_numpy() > since])
    free = ~np.isin(users, asked)
    users, movies = users[free], movies[free]
    who, counts = np.unique(users, return_counts=True)
    if len(who) < LEAST_USERS:
        few = f"{len(who)} users began something after both were made and were shown no list; {LEAST_USERS} are needed"
        return {"since_ms": since, "none": few}
    indptr = np.concatenate([[0], np.cumsum(counts)])
    scores = [ranking.rank_metrics(_lists(release, who, names), indptr, movies).ndcg for release in pair]
    means = [float(one.mean()) for one in scores]
    return {"since_ms": since, "users": len(who), "means": means, **difference(scores[1], scores[0], 1)}


def _started(
    pair: Pair, day_store: DayStore, days: list[str], since: int, gap_ms: int
) -> tuple[np.ndarray, np.ndarray, Mapping[str, int]]:
    """Who started what after a moment, each pair once: user ids, ascending, and movies by their place among `names`."""
    names = _names(pair)
    gathered = gather_days(day_store, days, names, gap_ms)
    fresh = np.unique(gathered.spans.key[gathered.spans.start > since])
    user, movie = split_key(fresh)
    place = np.array([names[name] for name in gathered.movies] or [0], np.int64)
    return user, place[movie], names


def _names(pair: Pair) -> dict[str, int]:
    """All movies of both, and their places."""
    return {name: place for place, name in enumerate(sorted({*pair[0].movies, *pair[1].movies}))}


def _lists(release: Release, users: np.ndarray, names: Mapping[str, int]) -> np.ndarray:
    """What some users (ids) are shown, by the places of the movies in `names`: int32 [users, 20], -1 for none."""
    places = np.array([*(names[name] for name in release.movies), -1], np.int32)
    lists: np.ndarray = places[release.shown_lists(users)]
    return lists


def _overlap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of each two lists: the share of movies in common, 1 where both are empty: float64 [users]."""
    common = np.empty(len(one), np.int64)
    for at in range(0, len(one), _ROWS):
        left, right = one[at : at + _ROWS, :, None], other[at : at + _ROWS, None, :]
        common[at : at + _ROWS] = ((left == right) & (left >= 0)).sum(axis=(1, 2))
    longer = np.maximum((one >= 0).sum(axis=1), (other >= 0).sum(axis=1))
    return np.where(longer > 0, common / np.maximum(longer, 1), 1)


def _moved(one: np.ndarray, other: np.ndarray, names: Mapping[str, int]) -> dict[str, dict[str, int]]:
    before, after = (np.bincount(lists[lists >= 0], minlength=len(names)) for lists in (one, other))
    change, by_place = after - before, list(names)
    order = np.argsort(change, kind="stable")
    return {
        "gained": {by_place[at]: int(change[at]) for at in order[::-1][:_MOVED] if change[at] > 0},
        "lost": {by_place[at]: int(change[at]) for at in order[:_MOVED] if change[at] < 0},
    }


def _made(release: Release) -> dict[str, Any]:
    facts, model = (release.manifest.get(name) or {} for name in ("input", "model"))
    days = facts.get("days") or []
    return {
        "model": model.get("lists"),
        "parameters": model.get("parameters") or {},
        "chosen_by": model.get("chosen_by"),
        "stream_time_ms": release.manifest["stream_time"],
        "days": {"count": len(days), "first": days[0], "last": days[-1]} if days else {"count": 0},
        "offsets": facts.get("offsets") or {},
        "counts": {**(facts.get("counts") or {}), "users": len(release.users), "movies": len(release.names)},
        "personal_lists": int((release.lists[:, 0] != np.iinfo(release.lists.dtype).max).sum()),
    }


def _figures(part: Any, model: str | None) -> dict[str, Any]:
    figures = _within(part, "models", model) or {}
    return {name: figures.get(name) for name in ("users", *_METRICS, *_PLAIN)}


def _hours(part: Mapping[str, Any]) -> tuple[Any, Any]:
    return part.get("from_ms"), part.get("until_ms")


def _within(value: Any, *keys: str | None) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, list[Any]]:
    keys = sorted({*one, *other})
    return {key: [one.get(key), other.get(key)] for key in keys if one.get(key) != other.get(key)}


def comparison_table(found: Mapping[str, Any], clock: Zone) -> "Table":
    """The comparison as a table of three columns."""
    from rich.table import Table

    shown = Table("", *found["releases"])
    for what, told in _told(found["made"], clock):
        shown.add_row(what, *told)
    for part in ("settings", "versions"):
        for name, values in found[part].items():
            shown.add_row(f"{part}: {name}", *map(str, values))
    shown.add_section()
    for metric in _METRICS:
        shown.add_row(f"{metric} (95 %)", *(_interval(figures[metric]) for figures in found["figures"]))
    for name in _PLAIN:
        shown.add_row(name, *("–" if figures[name] is None else f"{figures[name]:.3f}" for figures in found["figures"]))
    return shown


def sentences(found: Mapping[str, Any], clock: Zone) -> list[str]:
    """What the two are to each other."""
    lists, ahead = found["lists"], found["later"]
    same = "the same hours" if found["same_hours"] else "different hours: they do not compare"
    said = [f"The figures are of {same}."]
    if lists["users"]:
        said.append(
            f"Lists of {lists['users']:,} users of both: {lists['overlap@20']:.1%} of the movies in common,"
            f" {lists['unchanged']:.1%} of the lists unchanged."
        )
        for what in ("gained", "lost"):
            moved = ", ".join(f"{movie} {change:+,}" for movie, change in lists[what].items())
            said.append(f"Movies that {what} most places: {moved or 'none'}.")
    else:
        said.append("They have no user in common.")
    since = _clock_time(ahead["since_ms"], clock)
    if "none" in ahead:
        return [*said, f"Which ranks better what came after {since} cannot be said: {ahead['none']}."]
    verdict = "no difference beyond noise"
    if ahead["low"] > 0 or ahead["high"] < 0:
        verdict = f"the {'second' if ahead['mean'] > 0 else 'first'} ranks better"
    return [
        *said,
        f"On what {ahead['users']:,} users who were shown no list began after {since}, NDCG@20 of the second is"
        f" {ahead['mean']:+.4f} [{ahead['low']:+.4f}, {ahead['high']:+.4f}]: {verdict}.",
    ]


def _told(made: list[dict[str, Any]], clock: Zone) -> list[tuple[str, list[str]]]:
    def days(one: dict[str, Any]) -> str:
        told = one["days"]
        return f"{told['count']}: {told['first']} to {told['last']}" if told["count"] else "none"

    def pairs(told: Mapping[str, Any]) -> str:
        return "\n".join(
            f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}" for name, value in told.items()
        )

    return [
        ("model", [str(one["model"]) for one in made]),
        ("chosen by", [str(one["chosen_by"]) for one in made]),
        ("parameters", [pairs(one["parameters"]) for one in made]),
        ("stream read until", [_clock_time(one["stream_time_ms"], clock) for one in made]),
        ("days", [days(one) for one in made]),
        ("offsets", [pairs(one["offsets"]) for one in made]),
        ("counts", [pairs(one["counts"]) for one in made]),
        ("personal lists", [f"{one['personal_lists']:,}" for one in made]),
    ]


def _clock_time(time_ms: int, clock: Zone) -> str:
    return str(np.datetime64(clock.to_local(int(time_ms)), "ms"))[:16].replace("T", " ")


def _interval(found: Mapping[str, float] | None) -> str:
    return "–" if not found else "{mean:.4f} [{low:.4f}, {high:.4f}]".format(**found)


@click.command()
@click.argument("one")
@click.argument("other")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def compare(one: str, other: str, as_json: bool) -> None:
    """Compare two releases: each ONE and OTHER is an id, `current`, or a folder.

    Tells model, settings that differ, data, counts and figures with 95 % intervals side by side; how alike the lists
    are; and which of them ranks better what users began after both were made, where sessions of that time are there
    (python -m batch sessions).
    """
    streaming = load("stream", StreamSettings)
    sides = open_release(streaming.var, one), open_release(streaming.var, other)
    clock = zone_named(streaming.timezone)
    comparison = compare_releases(*sides, DayStore(streaming.var), clock, load("quality", QualitySettings).gap_ms)
    if as_json:
        click.echo(orjson.dumps(comparison, option=orjson.OPT_INDENT_2))
        return
    from rich.console import Console

    console = Console()
    console.width = console.width if console.is_terminal else 160
    console.print(comparison_table(comparison, clock))
    for sentence in sentences(comparison, clock):
        click.echo(sentence)
