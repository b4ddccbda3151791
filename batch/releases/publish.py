"""Publishing: a candidate folder becomes a release, whole or not at all, and `current` moves to it.

    releases/<UTC time>-<short hash>/   immutable once it has this name; its files may be read only
    releases/current                    symbolic link, moved by rename
    releases/history.jsonl              every move of `current`: to what, when by the stream and by the wall, by
    what releases/pinned.json                the release that stays current whatever nights make; none where it is
    missing releases/last-good.json     what workers took last, and last but one; they note it
    (`server/good_releases.py`) releases/.refused/<id>.json         why the gate refused a candidate, which stays for
    study releases/manifests/<id>.json        the manifests of releases that were removed

The stream's clock stands in the history so that reports can tell which release was in force when a user asked.

Files are copied, though linking them would be quicker by 0.4 s for 0.5 GB (digests take 0.6 s): a link would let
whatever writes to the night's folder change a release that answers, and each new night would touch its inodes, so that
every host took it for another one and verified it again.
"""

import datetime as dt
import hashlib
import logging
import os
import platform
import shutil
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Literal

import orjson
import threadpoolctl

from batch.errors import ReleaseError
from batch.releases import checkout
from quality.errors import ReleaseHistoryError
from quality.telemetry.release_history import ReleaseChange, append_release_change, read_release_changes
from server.good_releases import good_releases
from server.release import FILES, LAYOUT, RENDERED, forget, sha256
from stream import durable

log = logging.getLogger(__name__)

By = Literal["night", "rollback", "pin"]
KEPT_REFUSED = 3
"""Refused candidates that are kept for study, beside the releases that are kept."""
_LIBRARIES = ("annoy", "implicit", "numpy", "orjson", "pandas", "pyarrow", "sanic", "scipy")


def publish(var: Path, candidate: Path, facts: dict[str, Any], stream_time: int) -> str:
    """Name, seal and keep a candidate (not yet current); `facts` go into its manifest. Returns the release's id.

    Where the same was published before, as by a night that was killed after it, that release is it.
    """
    names = [*FILES, *(name for name in RENDERED if (candidate / name).exists())]
    files = {name: {"size": (candidate / name).stat().st_size, "sha256": sha256(candidate / name)} for name in names}
    content = hashlib.sha256("".join(str(files[name]["sha256"]) for name in names).encode()).hexdigest()
    release = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}-{content[:8]}"
    manifest = {"layout": LAYOUT, "id": release, "stream_time": stream_time, **facts, "versions": versions()}
    manifest["files"] = files
    releases = var / "releases"
    if again := _same(releases, manifest, content[:8]):
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
        durable.write_json(staged / "manifest.json", manifest)
        (staged / "manifest.json").chmod(0o444)
        if (releases / release).exists():  # the same content within one second: it is there already
            return release
        staged.rename(releases / release)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    durable.sync(releases)
    return release


def _same(releases: Path, manifest: dict[str, Any], content: str) -> str | None:
    """The release that was made of the same, with the same files, and still has them; None for none."""
    promised = manifest["files"]
    for path in sorted(releases.glob(f"*-{content}/manifest.json")):
        found = orjson.loads(path.read_bytes())
        if {**found, "id": ""} == {**orjson.loads(orjson.dumps(manifest)), "id": ""} and all(
            (path.parent / name).exists() and sha256(path.parent / name) == file["sha256"]
            for name, file in promised.items()
        ):
            return path.parent.name
    return None


def refuse(var: Path, release: str, broken: dict[str, str]) -> None:
    """Note that the gate refused a release: by rule, why. It is kept for study, and is no release to go back to."""
    entry = {"release": release, "wall_time": _wall_time(), "broken": broken}
    durable.write_bytes(_refused(var, release), orjson.dumps(entry) + b"\n")


def refused_releases(var: Path) -> dict[str, dict[str, str]]:
    """By release: the rules that refused it, and why."""
    notes = [_objects(path, broken=dict)[0] for path in (var / "releases" / ".refused").glob("*.json")]
    return {note["release"]: note["broken"] for note in notes}


def make_current(var: Path, release: str, stream_time: int, by: By = "night") -> bool:
    """Point `current` at a release, and remember when; False where another one is pinned, against the night.

    A night calls this for what its gate has passed, so that an earlier refusal of the same is void.
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
    try:
        append_release_change(var / "releases", ReleaseChange(release, stream_time, _wall_time(), by))
    except OSError:  # as of a full disk: who tries again shall find `current` where it was
        if before is None:
            link.unlink()
        else:
            durable.point(link, str(before))
        raise
    return True


def is_current(var: Path, release: str) -> bool:
    """Whether `current` points at a release, and the history says so as well."""
    here, moves = current_release(var), read_publications(var)
    return bool(moves) and here is not None and here.name == moves[-1].release == release


def read_publications(var: Path) -> list[ReleaseChange]:
    """What became current when, oldest first. Raises `ReleaseError` where the history is damaged."""
    try:
        return read_release_changes(var / "releases")
    except ReleaseHistoryError as error:
        raise ReleaseError(str(error)) from error


def line(var: Path) -> list[str]:
    """How the current release came to be it, the current one last: what was gone back from is not part of it."""
    here = current_release(var)
    found: list[str] = []
    # the link moves before the history: after a crash between the two it knows better
    for release in [*(move.release for move in read_publications(var)), *([here.name] if here else [])]:
        if release in found:
            del found[found.index(release) :]
        found.append(release)
    return found


def pin(var: Path, release: str, stream_time: int) -> None:
    """Let a release stay current whatever nights make, until `unpin`."""
    entry = {"release": release, "stream_time": stream_time, "wall_time": _wall_time()}
    durable.write_bytes(var / "releases" / "pinned.json", orjson.dumps(entry) + b"\n")


def unpin(var: Path) -> None:
    """Let the next night move `current` again."""
    (var / "releases" / "pinned.json").unlink(missing_ok=True)


def pinned(var: Path) -> str | None:
    """The release that is pinned, and is there: one that somebody removed holds nothing."""
    path = var / "releases" / "pinned.json"
    if not path.exists():
        return None
    release = str(_objects(path)[0]["release"])
    return release if (var / "releases" / release).is_dir() else None


def current_release(var: Path) -> Path | None:
    """The folder of the current release."""
    link = var / "releases" / "current"
    return link.resolve() if link.exists() else None


def data_until(var: Path) -> int | None:
    """How far the stream had come when the archive was read for the current release, ms UTC; None if it cannot say."""
    try:
        return int(orjson.loads((var / "releases" / "current" / "manifest.json").read_bytes())["stream_time"])
    except (OSError, KeyError, orjson.JSONDecodeError):
        return None


def sealed(var: Path) -> list[str]:
    """The ids of all releases that are there, refused ones among them, oldest first; none that is half made."""
    found = (var / "releases").glob("*/manifest.json")
    return sorted(path.parent.name for path in found if not path.parent.is_symlink() and path.parent.name[0] != ".")


def prunable(var: Path, keep: int) -> list[str]:
    """What `prune` would remove: all but the `keep` newest, the newest refused, the current and the pinned one, and
    those that workers noted as good: they are what a worker starts from while the current one is bad."""
    names, bad = sealed(var), refused_releases(var)
    here = current_release(var)
    good = [name for name in names if name not in bad]
    studied = [name for name in names if name in bad]
    kept = {*good[-keep:], *studied[-KEPT_REFUSED:], here.name if here else None, pinned(var)}
    kept |= {Path(target).name for target in good_releases(var / "releases")}
    return [name for name in names if name not in kept]


def prune(var: Path, keep: int) -> list[str]:
    """Remove what `prunable` says, but for the manifests, and what a crash left; returns the names of the releases."""
    releases, old = var / "releases", prunable(var, keep)
    for name in old:
        # renamed first: half a release is never seen under its name, and the next call removes it
        (releases / name).rename(releases / f".{name}.{os.getpid()}.tmp")
        forget(releases / name)
        _refused(var, name).unlink(missing_ok=True)
    for leftover in releases.glob(".*.tmp"):
        if leftover.is_dir() and not leftover.is_symlink():
            _remove(leftover, leftover.name[1:].rsplit(".", 2)[0])
        else:
            leftover.unlink()
    return old


def _remove(folder: Path, release: str) -> None:
    """Remove a release, and keep its manifest: that goes last, for on a full disk there must be room for it first."""
    manifest = folder / "manifest.json"
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != manifest:
            path.unlink()
    if manifest.exists():
        durable.write_bytes(folder.parent / "manifests" / f"{release}.json", manifest.read_bytes())
    shutil.rmtree(folder)


def versions() -> dict[str, Any]:
    """What makes a release: the commit of this program where it is known, Python, the libraries, BLAS and the CPU."""
    import_module("scipy.linalg")  # it brings a BLAS of its own, which tells of itself only once it is loaded
    told = ("prefix", "version", "architecture", "num_threads")
    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    blas = sorted(({name: pool[name] for name in told} for pool in pools), key=lambda pool: str(pool["version"]))
    libraries = {name: metadata.version(name) for name in _LIBRARIES}
    return {"commit": _commit(), "python": platform.python_version(), **libraries, "blas": blas, "cpu": _cpu()}


def _objects(path: Path, **told: type) -> list[dict[str, Any]]:
    """The objects of a file, one a line, each with a release and what is `told` by key and type. Raises `ReleaseError`
    where they are not what was written here."""
    told |= {"release": str}
    lines = path.read_bytes().splitlines()
    found = []
    for number, line in enumerate(lines or [b""], 1):
        try:
            one = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise ReleaseError(f"releases: {path}, line {number}, cannot be read: {error}; {_mending(path)}") from error
        if not isinstance(one, dict) or not all(isinstance(one.get(key), kind) for key, kind in told.items()):
            raise ReleaseError(f"releases: {path}, line {number}, does not tell {', '.join(told)}; {_mending(path)}")
        found.append(one)
    return found


def _mending(path: Path) -> str:
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
    """The model of the processor: floating-point results differ in their last digits between some."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        lines = []
    models = (text.partition(":")[2].strip() for text in lines if text.startswith("model name"))
    return next(models, platform.processor() or platform.machine())
