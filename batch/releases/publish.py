"""Publishing: a candidate folder becomes a release, whole or not at all, and `current` moves to it.

    releases/<UTC time>-<short hash>/   immutable once it has this name; its files are read-only
    releases/current                    symbolic link, moved by rename
    releases/history.jsonl              every move of `current`: its target, stream and wall-clock time, and cause
    releases/pinned.json                the release that stays current whatever nights make; absent if none is pinned
    releases/last-good.json             the last two releases that workers took, see `server/good_releases.py`
    releases/.refused/<id>.json         why the gate refused a candidate, which stays for study
    releases/manifests/<id>.json        the manifests of releases that were removed

The history has stream times, so that reports can tell which release was in force when a user asked.

Files are copied, though linking them would be quicker by 0.4 s for 0.5 GB (digests take 0.6 s): with links, a write to
the night's folder would change a release in use, and each new night would touch its inodes, so that every host would
take it for another release and verify it again.
"""

import datetime as dt
import hashlib
import logging
import os
import platform
import shutil
from collections.abc import Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
import threadpoolctl

from batch.errors import ReleaseError
from batch.releases import checkout
from quality.errors import ReleaseHistoryError
from quality.telemetry.release_history import (
    ReleaseChange,
    ReleaseHistory,
    append_release_change,
    read_release_changes,
)
from server.good_releases import good_releases
from server.manifest import BlasLibrary, FileDigest, Manifest, Versions, parse_manifest
from server.release import BASELINE, EXPLORED, FILES, LAYOUT, MINORS, RENDERED, forget, sha256
from stream import durable
from stream.decoding import decode_json
from stream.zone import DAY_MS

log = logging.getLogger(__name__)

By = Literal["night", "rollback", "pin"]
KEPT_REFUSED = 3
"""Refused candidates that are kept for study, beside the releases that are kept."""
_REPORTS_MS = 3 * DAY_MS
"""A report needs the releases that were in force on its day until the windows have closed: two days, and one to spare
for late reading. It counts back from the last change of `current`."""
_LIBRARIES = ("annoy", "implicit", "lightgbm", "numpy", "orjson", "pandas", "pyarrow", "sanic", "scipy")


class RefusalNote(msgspec.Struct, frozen=True, kw_only=True):
    """`.refused/<id>.json`: why the gate refused a candidate."""

    release: str
    wall_time: str = ""
    broken: dict[str, str]
    """By rule: what is wrong."""


class ReleasePin(msgspec.Struct, frozen=True, kw_only=True):
    """`pinned.json`: the release that stays current."""

    release: str
    stream_time: int = 0
    """When it was pinned, by the stream's clock, ms UTC."""
    wall_time: str = ""


Note = TypeVar("Note", RefusalNote, ReleasePin, ReleaseChange)


def publish(var: Path, candidate: Path, made_of: Manifest) -> str:
    """Name, seal and keep a candidate (not yet current), and return the release's id.

    `made_of` lacks layout, id, versions and files, which are filled in here. If a release of the same content exists
    already, as after a night that was killed behind this step, nothing is written and its id is returned.
    """
    manifest = _completed(candidate, made_of)
    release, names, releases = manifest.id, list(manifest.files), var / "releases"
    if again := _same(releases, manifest):
        return again
    releases.mkdir(parents=True, exist_ok=True)
    staged = releases / f".{release}.{os.getpid()}.tmp"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    try:
        for name in names:
            shutil.copyfile(candidate / name, staged / name)
            (staged / name).chmod(0o444)
            durable.sync(staged / name)
        write_manifest(staged, manifest)
        (staged / "manifest.json").chmod(0o444)
        if (releases / release).exists():  # the same content within one second: it is there already
            return release
        staged.rename(releases / release)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    durable.sync(releases)
    return release


def find_sealed(var: Path, candidate: Path, made_of: Manifest) -> str | None:
    """The id under which `publish` has sealed the same candidate before; None for a new one."""
    return _same(var / "releases", _completed(candidate, made_of))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json` of a release."""
    durable.write_json(folder / "manifest.json", msgspec.to_builtins(manifest))


def file_digest(path: Path) -> FileDigest:
    """Size and sha256 of a file. Raises `OSError`."""
    return FileDigest(size=path.stat().st_size, sha256=sha256(path))


def _completed(candidate: Path, made_of: Manifest) -> Manifest:
    """`made_of` with layout, versions, files, and an id of now."""
    names = [*FILES, BASELINE, *(name for name in (MINORS, *RENDERED, *EXPLORED) if (candidate / name).exists())]
    files = {name: file_digest(candidate / name) for name in names}
    content = hashlib.sha256("".join(file.sha256 for file in files.values()).encode()).hexdigest()
    release = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}-{content[:8]}"
    return msgspec.structs.replace(made_of, layout=LAYOUT, id=release, versions=versions(), files=files)


def _same(releases: Path, manifest: Manifest) -> str | None:
    """The id of a release that differs from `manifest` in its id alone, and still has its files; None for none."""
    content = manifest.id.rpartition("-")[2]
    for path in sorted(releases.glob(f"*-{content}/manifest.json")):
        try:
            earlier = parse_manifest(path.read_bytes())
        except msgspec.DecodeError:
            continue
        if msgspec.structs.replace(earlier, id=manifest.id) == manifest and all(
            (path.parent / name).exists() and sha256(path.parent / name) == file.sha256
            for name, file in manifest.files.items()
        ):
            return path.parent.name
    return None


def refuse(var: Path, release: str, broken: dict[str, str]) -> None:
    """Note that the gate refused a release: by rule, why. It is kept for study, and no rollback goes to it."""
    refusal = RefusalNote(release=release, wall_time=_wall_time(), broken=broken)
    durable.write_bytes(_refused(var, release), msgspec.json.encode(refusal) + b"\n")


def refused_releases(var: Path) -> dict[str, dict[str, str]]:
    """By release: the rules that refused it, and why."""
    refusals = [_read_notes(path, RefusalNote)[0] for path in (var / "releases" / ".refused").glob("*.json")]
    return {refusal.release: refusal.broken for refusal in refusals}


def make_current(var: Path, release: str, stream_time: int, by: By = "night") -> bool:
    """Point `current` at a release, and add it to the history; False if a night finds another release pinned.

    A night calls this for a release that its gate has passed, so an earlier refusal of the same release is dropped.
    """
    if by == "night":
        _refused(var, release).unlink(missing_ok=True)
        if (held := pinned(var)) not in (None, release):
            log.warning("release %s is published, but %s is pinned and stays current", release, held)
            return False
    if is_current(var, release):
        return True
    link = var / "releases" / "current"
    before = link.readlink() if link.is_symlink() else None
    durable.point(link, release)
    change = ReleaseChange(release=release, stream_time=stream_time, wall_time=_wall_time(), by=by)
    try:
        append_release_change(var / "releases", change)
    except OSError:  # such as a full disk: the next try must find `current` where it was
        if before is None:
            link.unlink()
        else:
            durable.point(link, str(before))
        raise
    return True


def is_current(var: Path, release: str) -> bool:
    """Whether `current` points at a release, and the history says so as well."""
    current, changes = current_release(var), read_publications(var)
    return bool(changes) and current is not None and current.name == changes[-1].release == release


def read_publications(var: Path) -> list[ReleaseChange]:
    """Every move of `current`, oldest first. Raises `ReleaseError` for a damaged history."""
    try:
        return read_release_changes(var / "releases")
    except ReleaseHistoryError as error:
        raise ReleaseError(str(error)) from error


def line(var: Path) -> list[str]:
    """The releases that led to the current one, which is last; without those that a rollback has undone."""
    current = current_release(var)
    ids: list[str] = []
    # the link moves before the history is written, so after a crash between the two the link is right
    for release in [*(change.release for change in read_publications(var)), *([current.name] if current else [])]:
        if release in ids:
            del ids[ids.index(release) :]
        ids.append(release)
    return ids


def pin(var: Path, release: str, stream_time: int) -> None:
    """Let a release stay current whatever nights make, until `unpin`."""
    note = ReleasePin(release=release, stream_time=stream_time, wall_time=_wall_time())
    durable.write_bytes(var / "releases" / "pinned.json", msgspec.json.encode(note) + b"\n")


def unpin(var: Path) -> None:
    """Let the next night move `current` again."""
    (var / "releases" / "pinned.json").unlink(missing_ok=True)


def pinned(var: Path) -> str | None:
    """The id of the pinned release; None for none, or one that was removed."""
    path = var / "releases" / "pinned.json"
    if not path.exists():
        return None
    release = _read_notes(path, ReleasePin)[0].release
    return release if (var / "releases" / release).is_dir() else None


def current_release(var: Path) -> Path | None:
    """The folder of the current release."""
    link = var / "releases" / "current"
    return link.resolve() if link.exists() else None


def data_until(var: Path) -> int | None:
    """How far the stream had come when the archive was read for the current release, ms UTC; None if unknown."""
    try:
        return parse_manifest((var / "releases" / "current" / "manifest.json").read_bytes()).stream_time
    except (OSError, msgspec.DecodeError):
        return None


def sealed(var: Path) -> list[str]:
    """The ids of all whole releases, refused ones included, oldest first."""
    folders = (path.parent for path in (var / "releases").glob("*/manifest.json"))
    return sorted(folder.name for folder in folders if not folder.is_symlink() and folder.name[0] != ".")


def prunable(var: Path, keep: int, keep_refused: int = KEPT_REFUSED) -> list[str]:
    """The ids that `prune` would remove: all but the `keep` newest, some of the newest refused, the current and the
    pinned one, the last good ones, which a worker starts from while the current release is bad, and those that reports
    need.
    """
    names, refusals = sealed(var), refused_releases(var)
    current = current_release(var)
    passed = [name for name in names if name not in refusals]
    refused = [name for name in names if name in refusals]
    kept = {
        *passed[-keep:],
        *refused[max(0, len(refused) - keep_refused) :],
        current.name if current else None,
        pinned(var),
    }
    kept |= {Path(target).name for target in good_releases(var / "releases")}
    if changes := read_publications(var):
        kept |= ReleaseHistory(changes).releases_since(changes[-1].stream_time - _REPORTS_MS)
    return [name for name in names if name not in kept]


def prune(var: Path, keep: int) -> list[str]:
    """Remove the releases of `prunable`; returns their ids."""
    old = prunable(var, keep)
    remove_releases(var, old)
    return old


def remove_releases(var: Path, names: Sequence[str]) -> None:
    """Remove releases, but keep their manifests, and remove leftovers of crashes. The caller holds the night's lock."""
    releases = var / "releases"
    for name in names:
        # renamed first: a half-removed release never has its name, and the next call removes the rest
        (releases / name).rename(releases / f".{name}.{os.getpid()}.tmp")
        forget(releases / name)
        _refused(var, name).unlink(missing_ok=True)
    for leftover in releases.glob(".*.tmp"):
        if leftover.is_dir() and not leftover.is_symlink():
            _remove(leftover, leftover.name[1:].rsplit(".", 2)[0])
        else:
            leftover.unlink()


def _remove(folder: Path, release: str) -> None:
    """Remove a release, and keep its manifest; that is copied last, since a full disk has no room for it before."""
    manifest = folder / "manifest.json"
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != manifest:
            path.unlink()
    if manifest.exists():
        durable.write_bytes(folder.parent / "manifests" / f"{release}.json", manifest.read_bytes())
    shutil.rmtree(folder)


def versions() -> Versions:
    """The versions of this process, with the BLAS libraries that it has loaded."""
    import_module("scipy.linalg")  # SciPy has its own BLAS, which threadpoolctl lists only once it is loaded
    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    blas = [BlasLibrary(**{name: pool[name] for name in BlasLibrary.__struct_fields__}) for pool in pools]
    return Versions(
        commit=_commit(),
        python=platform.python_version(),
        **{name: metadata.version(name) for name in _LIBRARIES},
        blas=sorted(blas, key=lambda library: str(library.version)),
        cpu=_cpu(),
    )


def _read_notes(path: Path, kind: type[Note]) -> list[Note]:
    """The notes of a file, one a line, at least one. Raises `ReleaseError` for a damaged one."""
    notes = []
    for number, text in enumerate(path.read_bytes().splitlines() or [b""], 1):
        try:
            notes.append(decode_json(text, kind))
        except msgspec.DecodeError as error:
            raise ReleaseError(f"releases: {path}, line {number}, cannot be read: {error}; {_remedy(path)}") from error
    return notes


def _remedy(path: Path) -> str:
    if path.name == "pinned.json":
        return "restore it, or remove it: python -m batch unpin"
    return "restore it, or remove it"


def _refused(var: Path, release: str) -> Path:
    return var / "releases" / ".refused" / f"{release}.json"


def _wall_time() -> str:
    return dt.datetime.now(dt.UTC).isoformat()


def _commit() -> str | None:
    if named := os.environ.get("MARQUEE_COMMIT"):
        return named
    return checkout.git("rev-parse", "HEAD")


def _cpu() -> str:
    """The model of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    models = (text.partition(":")[2].strip() for text in lines if text.startswith("model name"))
    return next(models, platform.processor() or platform.machine())
