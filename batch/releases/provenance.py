"""Traces an answer: the data, code, settings and versions behind what a user got at a time.

`python -m batch provenance --user U --at T`. The release in force at t, by the stream's clock, says what it shows the
user and what it was made of; its files are read again and held against their digests. The archive says what was
really answered, where it holds a request of that user within seconds of t. A release that was removed is told of from
the manifest that it left.

Workers follow `current` within seconds, and a line has the clock of who wrote it, so that near a change the answer may
still be of the release before: where the logged list is not what the release in force says, both neighbours are asked.
What was hidden then is not recorded: a logged list that lacks movies, and is otherwise in order, names them.
"""

import datetime as dt
from pathlib import Path
from typing import Any

import click
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.dataset as ds

from batch.errors import ProvenanceError
from quality.telemetry.release_history import ReleaseChange, read_release_history
from server.errors import BadRelease
from server.release import Release, list_source, sha256
from stream.archive import Archive
from stream.event import LIST_LENGTH
from stream.settings import StreamSettings, load
from stream.zone import EARLIEST_MS, LATEST_MS, Zone, zone_named

NEAR_MS = 5_000
"""How far from the time that is asked for a request in the archive may lie."""
_COLUMNS = ["time", "status", "movies", "latency_ms", "error", "topic", "partition", "offset"]


def trace_answer(var: Path, user: int, at_ms: int, clock: Zone) -> dict[str, Any]:
    """All that is known of the answer to a user at a time (ms UTC). Raises `ProvenanceError` where no release was in
    force then, or nothing of it is known any more."""
    history = read_release_history(var / "releases")
    change, before, after = history.around(at_ms)
    if change is None:
        first = f"the first one came at {told(after.stream_time, clock)}" if after else "there has been none"
        raise ProvenanceError(f"provenance: no release was in force at {told(at_ms, clock)}; {first}")
    folder = var / "releases" / change.release
    made_of = _made_of(var, change.release)
    found: dict[str, Any] = {"user": user, "at_ms": at_ms, "at": told(at_ms, clock)}
    found |= {"release": change.release, "moved_by": change.by, "in_force_since": told(change.stream_time, clock)}
    found["in_force_until"] = told(after.stream_time, clock) if after else None
    found |= {"files_kept": folder.is_dir(), "damaged": damaged(folder, made_of) if folder.is_dir() else []}
    shown = _shown(folder, user)
    found["data_until"] = told(int(made_of["stream_time"]), clock) if "stream_time" in made_of else None
    found |= {"answer": shown and {key: shown[key] for key in ("source", "segment", "movies", "is_user_known")}}
    found["made_of"] = made_of
    found["logged"] = _logged(var, user, at_ms, clock)
    if found["logged"]:
        found["logged"] |= _held_against(var, found["logged"], user, [change, before, after])
    return found


def told(time_ms: int, clock: Zone) -> str:
    """A time as people and `--at` read it: ISO, with the offset of the zone."""
    offset = dt.timedelta(milliseconds=int(clock.to_local(time_ms) - time_ms))
    moment = dt.datetime.fromtimestamp(time_ms // 1000, dt.timezone(offset))
    text = moment.replace(microsecond=time_ms % 1000 * 1000).isoformat(timespec="milliseconds")
    return text.replace(".000", "")


def time_of(text: str, clock: Zone) -> int:
    """Read a time: ms since 1970, or ISO, of the zone where it names no offset. Raises `ValueError` for neither."""
    if text.isascii() and text.isdigit() and len(text) > 8:
        found = int(text)
    else:
        moment = dt.datetime.fromisoformat(text)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
        found = (aware - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)
        found = found if moment.tzinfo else clock.to_utc(found)
    if not EARLIEST_MS <= found <= LATEST_MS:
        raise ValueError("it lies outside the years 2000 to 2099")
    return found


def damaged(folder: Path, manifest: dict[str, Any]) -> list[str]:
    """The files of a release that are not what was published; every byte is read."""
    return [name for name, file in manifest["files"].items() if _digest(folder / name) != file["sha256"]]


def _digest(path: Path) -> str:
    try:
        return sha256(path)
    except OSError:
        return ""


def _made_of(var: Path, release: str) -> dict[str, Any]:
    """The manifest of a release, whether it is there or was removed."""
    releases = var / "releases"
    for path in (releases / release / "manifest.json", releases / "manifests" / f"{release}.json"):
        if path.exists():
            break
    else:
        raise ProvenanceError(f"provenance: {release} was in force then, but its files and its manifest are gone")
    try:
        manifest: dict[str, Any] = orjson.loads(path.read_bytes())
        for file in manifest["files"].values():
            file["sha256"], file["size"]
        if not isinstance(manifest.get("stream_time", 0), int):
            raise TypeError("stream_time")
    except (OSError, orjson.JSONDecodeError, KeyError, AttributeError, TypeError) as error:
        raise ProvenanceError(f"provenance: {path} cannot be read: {error!r}") from error
    return manifest


def _shown(folder: Path, user: int) -> dict[str, Any] | None:
    """What a release shows a user while nothing is hidden; `reserve` is what would follow where something is. None
    where it is not there, or cannot be opened."""
    try:
        release = Release.open(folder)
    except BadRelease:
        return None
    none = np.iinfo(release.lists.dtype).max
    row = int(np.searchsorted(release.users, user)) if user <= np.iinfo(np.uint32).max else len(release.users)
    known = row < len(release.users) and int(release.users[row]) == user
    segment = int(release.segments[row]) if known else 0
    own_source = list_source(release, segment)
    segment = segment if release.fallbacks[segment, 0] != none else 0
    personal = [item for item in release.lists[row].tolist() if item != none] if known else []
    popular = [item for item in release.fallbacks[segment].tolist() if item != none]
    names = release.manifest.get("segments", [])
    reserve = [item for item in popular if item not in personal]
    return {
        "source": own_source if personal else "segment" if segment else "popular",
        "segment": names[segment] if segment < len(names) else segment,
        "is_user_known": known,
        "movies": [release.movies[item] for item in personal or popular[:LIST_LENGTH]],
        "reserve": [release.movies[item] for item in (reserve if personal else popular[LIST_LENGTH:])],
    }


def _logged(var: Path, user: int, at_ms: int, clock: Zone) -> dict[str, Any] | None:
    """The request of a user in the archive that lies nearest to a time."""
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
    place = int(np.abs(times - at_ms).argmin())
    found: dict[str, Any] = table.slice(place, 1).drop_columns(["time"]).to_pylist()[0]
    return {"at": told(int(times[place]), clock), "at_ms": int(times[place]), **found}


def _held_against(var: Path, logged: dict[str, Any], user: int, changes: list[ReleaseChange | None]) -> dict[str, Any]:
    """Which of these releases, the first that does, says what was answered, and what must have been hidden for it."""
    for change in changes:
        shown = _shown(var / "releases" / change.release, user) if change else None
        hidden = without(logged["movies"], shown["movies"], shown["reserve"]) if shown else None
        if change and hidden is not None:
            return {"is_of": change.release, "if_hidden": hidden}
    return {"is_of": None, "if_hidden": []}


def without(answered: list[str], movies: list[str], reserve: list[str]) -> list[str] | None:
    """The movies that must be hidden for a list, continued from its reserve, to be what was answered; None where no
    hiding explains it."""
    if answered == movies:
        return []
    order = [*movies, *reserve]
    if not answered or answered[-1] not in order:
        return None
    # a list that is full tells nothing of what would come after its last movie
    end = len(order) if len(answered) < LIST_LENGTH else order.index(answered[-1])
    hidden = [movie for movie in order[:end] if movie not in answered]
    left = [movie for movie in order if movie not in hidden][:LIST_LENGTH]
    # a list of which nothing is hidden is sent as it is
    return hidden if left == answered and not {*movies}.isdisjoint(hidden) else None


def text(found: dict[str, Any]) -> str:
    """What `trace_answer` found, for people."""
    made_of = found["made_of"]
    rows = {
        f"user {found['user']}": f"at {found['at']}",
        "release": f"{found['release']}, made current by {found['moved_by']} at {found['in_force_since']}, in force"
        f" until {found['in_force_until'] or 'now'}",
        "its files": _files(found),
        "answer": _answer(found["answer"]),
        "in the log": _log_line(found),
        "data until": found["data_until"],
        **{name: _flat(made_of.get(name, {})) for name in ("model", "input", "versions", "settings")},
        **{name: f"{file['size']} bytes, sha256 {file['sha256']}" for name, file in made_of["files"].items()},
    }
    return "\n".join(f"{name:<15} {said}" for name, said in rows.items() if said)


def _files(found: dict[str, Any]) -> str:
    if not found["files_kept"]:
        return "removed since (python -m batch prune); what follows is of the manifest that was kept"
    if found["damaged"]:
        return f"DAMAGED, not what was published: {', '.join(found['damaged'])}"
    return "verified just now: all are what was published"


def _answer(answer: dict[str, Any] | None) -> str:
    if answer is None:
        return "cannot be told any more: the release is gone or damaged"
    who = "" if answer["is_user_known"] else "; the release does not know this user"
    of = f" ({answer['segment']})" if answer["source"] == "segment" else ""
    return f"{answer['source']}{of}{who}: {', '.join(answer['movies'])}"


def _log_line(found: dict[str, Any]) -> str:
    logged = found["logged"]
    if logged is None:
        return f"no request of this user within {NEAR_MS // 1000} s is in the archive"
    where = f"{logged['at']}, {logged['topic']}-{logged['partition']} offset {logged['offset']}"
    if logged["status"] != 200:
        return f"{where}: status {logged['status']}, {logged['error']}"
    if logged["is_of"] is None:
        return f"{where}: ANOTHER LIST than any release of that time says: {', '.join(logged['movies'])}"
    of = "" if logged["is_of"] == found["release"] else f", but of {logged['is_of']}, next to it in time"
    hidden = f" without what was hidden then ({', '.join(logged['if_hidden'])})" if logged["if_hidden"] else ""
    return f"{where}: this very list{hidden}{of}"


def _flat(value: Any) -> str:
    """An object in one line."""
    if not isinstance(value, dict):
        return str(value)
    return ", ".join(f"{name} {orjson.dumps(one).decode()}" for name, one in value.items())


@click.command("provenance")
@click.option("--user", required=True, type=click.IntRange(0), metavar="U", help="Id of the user.")
@click.option("--at", required=True, metavar="T", help="When: ISO time (of the service's zone, or with offset), or ms.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def command(user: int, at: str, as_json: bool) -> None:
    """Tell which data, code, settings and versions made the answer that user U got at time T."""
    streaming = load("stream", StreamSettings)
    clock = zone_named(streaming.timezone)
    try:
        at_ms = time_of(at, clock)
    except ValueError as error:
        forms = "2026-02-12T03:00, with Z or +01:00 behind it for another zone than the service's, or ms since 1970"
        raise click.BadParameter(f"'{at}' is no time: {error}; say {forms}", param_hint="--at") from error
    found = trace_answer(streaming.var, user, at_ms, clock)
    click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2) if as_json else text(found))
