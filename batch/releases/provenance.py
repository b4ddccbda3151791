"""Traces an answer to the data, code, settings and versions behind it: `python -m batch provenance --user U --at T`.

The release in force at T, by the stream's clock, says what it shows the user and what it was made of; its files are
verified again. The archive says what was really answered, if it holds a request of that user within seconds of T. Of a
removed release only its manifest is left.

Workers follow `current` within seconds, and each line has the clock of the machine that wrote it. So an answer near a
change may come from the release before or after: if the logged list is not that of the release in force, these two are
compared as well. The movies that were hidden at the time are not recorded; they are inferred from those that a logged
list leaves out.
"""

import datetime as dt
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.dataset as ds

from batch.errors import ProvenanceError
from quality.telemetry.release_history import ReleaseChange, ReleaseHistory, read_release_changes
from server.errors import BadRelease
from server.manifest import FileDigest, Manifest, parse_manifest
from server.release import Release, list_source, sha256
from stream.archive import Archive
from stream.event import LIST_LENGTH
from stream.settings import StreamSettings, load
from stream.zone import EARLIEST_MS, LATEST_MS, Zone, zone_named

NEAR_MS = 5_000
"""How far a logged request may lie from the time in question."""
_COLUMNS = ["time", "status", "movies", "latency_ms", "error", "topic", "partition", "offset"]


class DrawnList(msgspec.Struct, frozen=True, kw_only=True):
    """How a list of an exploring user was drawn, see `batch.models.exploring`."""

    pool: int
    """From how many movies."""
    chances: list[float]
    """The chance with which each movie came onto the list."""
    share: float | None
    """The chance with which the user was drawn; None if the manifest does not say it."""


class ShownAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a release answers a user while no movie is hidden."""

    source: str
    """`personal`, `segment`, `popular` or `exploring`."""
    segment: str | int
    """Name of the segment whose popular list fills gaps; its number in releases that do not name segments."""
    movies: list[str]
    """Best first."""
    is_user_known: bool
    drawn: DrawnList | None = None
    """None if the list was not drawn by lot."""


class LoggedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The line of the archive in which the service logged the answer."""

    at: str
    at_ms: int
    status: int
    movies: list[str] | None
    latency_ms: int | None
    error: str | None
    topic: str
    partition: int
    offset: int
    is_of: str | None = None
    """The release that answers this list; None if none does that was in force about then."""
    if_hidden: list[str] = []
    """The movies that must have been hidden for it to do so."""


class AnswerTrace(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of one answer. Times are ISO, in the service's zone; those in `_ms` are ms UTC."""

    user: int
    at_ms: int
    at: str
    release: str
    moved_by: str
    """What made the release current: `night`, `rollback` or `pin`."""
    in_force_since: str
    in_force_until: str | None
    files_kept: bool
    """False if the release was removed since."""
    damaged: list[str]
    """Files that are not what was published."""
    data_until: str | None
    """How far the night of the release had read the stream."""
    answer: ShownAnswer | None
    """None if the release was removed or is damaged."""
    made_of: dict[str, Any]
    """`manifest.json` as it stands, with what other versions may have written into it."""
    logged: LoggedRequest | None


def trace_answer(var: Path, user: int, at_ms: int, clock: Zone) -> AnswerTrace:
    """Trace the answer to a user at a time (ms UTC).

    Raises `ProvenanceError` if no release was in force then, or its manifest is lost.
    """
    change, before, after = ReleaseHistory(read_release_changes(var / "releases")).around(at_ms)
    if change is None:
        first = f"the first one came at {iso_time(after.stream_time, clock)}" if after else "there has been none"
        raise ProvenanceError(f"provenance: no release was in force at {iso_time(at_ms, clock)}; {first}")
    folder = var / "releases" / change.release
    manifest, made_of = _read_manifest(var, change.release)
    shown, _ = _shown_answer(folder, user)
    logged = _logged_request(var, user, at_ms, clock)
    return AnswerTrace(
        user=user,
        at_ms=at_ms,
        at=iso_time(at_ms, clock),
        release=change.release,
        moved_by=change.by,
        in_force_since=iso_time(change.stream_time, clock),
        in_force_until=iso_time(after.stream_time, clock) if after else None,
        files_kept=folder.is_dir(),
        damaged=damaged_files(folder, manifest.files) if folder.is_dir() else [],
        data_until=None if manifest.stream_time is None else iso_time(manifest.stream_time, clock),
        answer=shown,
        made_of=made_of,
        logged=logged and _explain(var, logged, user, [change, before, after]),
    )


def iso_time(time_ms: int, clock: Zone) -> str:
    """A time as people and `--at` read it: ISO, with the offset of the zone."""
    offset = dt.timedelta(milliseconds=int(clock.to_local(time_ms) - time_ms))
    moment = dt.datetime.fromtimestamp(time_ms // 1000, dt.timezone(offset))
    text = moment.replace(microsecond=time_ms % 1000 * 1000).isoformat(timespec="milliseconds")
    return text.replace(".000", "")


def time_of(text: str, clock: Zone) -> int:
    """Parse a time, in ms since 1970 or in ISO (of the zone if it has no offset), to ms UTC. Raises `ValueError`."""
    if text.isascii() and text.isdigit() and len(text) > 8:
        time_ms = int(text)
    else:
        moment = dt.datetime.fromisoformat(text)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
        time_ms = (aware - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)
        time_ms = time_ms if moment.tzinfo else clock.to_utc(time_ms)
    if not EARLIEST_MS <= time_ms <= LATEST_MS:
        raise ValueError("it lies outside the years 2000 to 2099")
    return time_ms


def damaged_files(folder: Path, files: dict[str, FileDigest]) -> list[str]:
    """The files of a release that differ from what was published; reads every byte."""
    return [name for name, file in files.items() if _digest(folder / name) != file.sha256]


def _digest(path: Path) -> str:
    try:
        return sha256(path)
    except OSError:
        return ""


def _read_manifest(var: Path, release: str) -> tuple[Manifest, dict[str, Any]]:
    """The manifest of a release that is there or was removed, and the JSON that it was parsed from.

    `Any`, since other versions may have written further fields of any type.
    """
    releases = var / "releases"
    for path in (releases / release / "manifest.json", releases / "manifests" / f"{release}.json"):
        if path.exists():
            break
    else:
        raise ProvenanceError(f"provenance: {release} was in force then, but its files and its manifest are gone")
    try:
        data = path.read_bytes()
        manifest = parse_manifest(data)
        if not manifest.files:
            raise ValueError("it lists no files with size and sha256")
        return manifest, orjson.loads(data)
    except (OSError, msgspec.DecodeError, ValueError) as error:
        raise ProvenanceError(f"provenance: {path} cannot be read: {error}") from error


def _shown_answer(folder: Path, user: int) -> tuple[ShownAnswer | None, list[str]]:
    """What a release answers a user while no movie is hidden, and the movies that would replace hidden ones.

    None and no movies if the release was removed or cannot be opened.
    """
    try:
        release = Release.open(folder)
    except BadRelease:
        return None, []
    none = np.iinfo(release.lists.dtype).max
    row = int(np.searchsorted(release.users, user)) if user <= np.iinfo(np.uint32).max else len(release.users)
    is_known = row < len(release.users) and int(release.users[row]) == user
    segment = int(release.segments[row]) if is_known else 0
    own_source = list_source(release, segment)
    segment = segment if release.fallbacks[segment, 0] != none else 0
    personal = [item for item in release.lists[row].tolist() if item != none] if is_known else []
    popular = [item for item in release.fallbacks[segment].tolist() if item != none]
    names = release.manifest.segments
    reserve = [item for item in popular if item not in personal] if personal else popular[LIST_LENGTH:]
    drawn = _drawn_list(release, row) if personal else None
    fallback = "segment" if segment else "popular"
    answer = ShownAnswer(
        source="exploring" if drawn else own_source if personal else fallback,
        segment=names[segment] if segment < len(names) else segment,
        movies=[release.movies[item] for item in personal or popular[:LIST_LENGTH]],
        is_user_known=is_known,
        drawn=drawn,
    )
    return answer, [release.movies[item] for item in reserve]


def _drawn_list(release: Release, row: int) -> DrawnList | None:
    """How the list in a row of a release was drawn; None if it was not."""
    propensities = release.explored.propensities_of(row) if release.explored else None
    if propensities is None:
        return None
    chances, stated = [chance for chance in propensities if chance > 0], release.manifest.exploring
    return DrawnList(
        pool=round(len(chances) / chances[0]), chances=chances, share=None if stated is None else stated.share
    )


def _logged_request(var: Path, user: int, at_ms: int, clock: Zone) -> LoggedRequest | None:
    """The archived request of a user that is nearest to a time; None if there is none within `NEAR_MS`."""
    days = {clock.day(at_ms - NEAR_MS), clock.day(at_ms + NEAR_MS)}
    paths = [path for day, files in Archive(var).files("recommend").items() if day in days for path in files]
    if not paths or user > np.iinfo(np.uint32).max:
        return None
    since, until = (np.datetime64(at_ms + off, "ms") for off in (-NEAR_MS, NEAR_MS))
    time = ds.field("time").cast("timestamp[ms]")
    wanted = (ds.field("user") == user) & (time >= since) & (time <= until)
    try:
        table = ds.dataset([str(path) for path in paths], format="parquet").to_table(_COLUMNS, filter=wanted)
    except (OSError, pa.ArrowException) as error:
        raise ProvenanceError(f"provenance: the archive cannot be read: {error}") from error
    times = table.column("time").cast("int64").to_numpy()
    if not len(times):
        return None
    nearest = int(np.abs(times - at_ms).argmin())
    row = table.slice(nearest, 1).drop_columns(["time"]).to_pylist()[0]
    return LoggedRequest(at=iso_time(int(times[nearest]), clock), at_ms=int(times[nearest]), **row)


def _explain(var: Path, logged: LoggedRequest, user: int, changes: list[ReleaseChange | None]) -> LoggedRequest:
    """The request with the first of these releases that answers its list, and the movies that were hidden then."""
    for change in changes:
        if change is None:
            continue
        shown, reserve = _shown_answer(var / "releases" / change.release, user)
        hidden = infer_hidden(logged.movies or [], shown.movies, reserve) if shown else None
        if hidden is not None:
            return msgspec.structs.replace(logged, is_of=change.release, if_hidden=hidden)
    return logged


def infer_hidden(answered: list[str], movies: list[str], reserve: list[str]) -> list[str] | None:
    """The movies whose hiding turns a list, continued from its reserve, into what was answered.

    None if no hiding does.
    """
    if answered == movies:
        return []
    order = [*movies, *reserve]
    if not answered or answered[-1] not in order:
        return None
    # a full list says nothing of what would come after its last movie
    end = len(order) if len(answered) < LIST_LENGTH else order.index(answered[-1])
    hidden = [movie for movie in order[:end] if movie not in answered]
    visible = [movie for movie in order if movie not in hidden][:LIST_LENGTH]
    # a list without a hidden movie is not continued
    return hidden if visible == answered and not {*movies}.isdisjoint(hidden) else None


def text(trace: AnswerTrace) -> str:
    """A trace for people: a row each for the release, the answer, what it was made of, and every file."""
    rows = {
        f"user {trace.user}": f"at {trace.at}",
        "release": f"{trace.release}, made current by {trace.moved_by} at {trace.in_force_since}, in force"
        f" until {trace.in_force_until or 'now'}",
        "its files": _files(trace),
        "answer": _answer(trace.answer),
        "in the log": _log_line(trace),
        "data until": trace.data_until,
        **{name: _flat(trace.made_of.get(name, {})) for name in ("model", "input", "versions", "settings")},
        **{name: f"{file['size']} bytes, sha256 {file['sha256']}" for name, file in trace.made_of["files"].items()},
    }
    return "\n".join(f"{name:<15} {row}" for name, row in rows.items() if row)


def _files(trace: AnswerTrace) -> str:
    if not trace.files_kept:
        return "removed since (python -m batch prune); what follows is from the manifest that was kept"
    if trace.damaged:
        return f"DAMAGED, not what was published: {', '.join(trace.damaged)}"
    return "verified just now: all are what was published"


def _answer(answer: ShownAnswer | None) -> str:
    if answer is None:
        return "unknown: the release was removed or is damaged"
    unknown = "" if answer.is_user_known else "; the release does not know this user"
    detail = f" ({answer.segment})" if answer.source == "segment" else ""
    if drawn := answer.drawn:
        share = "" if drawn.share is None else f"; {drawn.share:.1%} of the users explore"
        detail = f" (drawn by lot from {drawn.pool} movies, each with the chance {drawn.chances[0]:.3f}{share})"
    return f"{answer.source}{detail}{unknown}: {', '.join(answer.movies)}"


def _log_line(trace: AnswerTrace) -> str:
    logged = trace.logged
    if logged is None:
        return f"no request of this user within {NEAR_MS // 1000} s is in the archive"
    line = f"{logged.at}, {logged.topic}-{logged.partition} offset {logged.offset}"
    if logged.status != 200:
        return f"{line}: status {logged.status}, {logged.error}"
    if logged.is_of is None:
        return f"{line}: ANOTHER LIST than that of any release at that time: {', '.join(logged.movies or [])}"
    release = "" if logged.is_of == trace.release else f", but of {logged.is_of}, next to it in time"
    hidden = f" without the movies hidden then ({', '.join(logged.if_hidden)})" if logged.if_hidden else ""
    return f"{line}: this very list{hidden}{release}"


def _flat(value: Any) -> str:
    """A JSON object in one line."""
    if not isinstance(value, dict):
        return str(value)
    return ", ".join(f"{name} {orjson.dumps(member).decode()}" for name, member in value.items())


@click.command("provenance")
@click.option("--user", required=True, type=click.IntRange(0), metavar="U", help="Id of the user.")
@click.option("--at", required=True, metavar="T", help="When: ISO time (of the service's zone, or with offset), or ms.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def command(user: int, at: str, as_json: bool) -> None:
    """Show which data, code, settings and versions made the answer that user U got at time T."""
    streaming = load("stream", StreamSettings)
    clock = zone_named(streaming.timezone)
    try:
        at_ms = time_of(at, clock)
    except ValueError as error:
        forms = "2026-02-12T03:00, with Z or +01:00 behind it for another zone than the service's, or ms since 1970"
        raise click.BadParameter(f"'{at}' is no time: {error}; give {forms}", param_hint="--at") from error
    trace = trace_answer(streaming.var, user, at_ms, clock)
    click.echo(orjson.dumps(msgspec.to_builtins(trace), option=orjson.OPT_INDENT_2) if as_json else text(trace))
