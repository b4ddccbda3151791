"""Publishing: a candidate folder becomes a release, whole or not at all, and `current` moves to it.

    releases/<UTC time>-<short hash>/   immutable once it has this name
    releases/current                    symbolic link, moved by rename
    releases/history.jsonl              which release became current when, by the stream's clock and by the wall's

The stream's clock stands in the history so that reports can tell which release was in force when a user asked.
"""

import datetime as dt
import hashlib
import os
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson

from server.release import FILES, LAYOUT, RENDERED, forget, sha256
from stream import durable

_LIBRARIES = ("annoy", "implicit", "numpy", "orjson", "pandas", "pyarrow", "sanic", "scipy")


def publish(var: Path, candidate: Path, facts: dict[str, Any], stream_time: int) -> str:
    """Name, seal and keep a candidate (not yet current); `facts` go into its manifest. Returns the release's id."""
    names = [*FILES, *(name for name in RENDERED if (candidate / name).exists())]
    files = {name: {"size": (candidate / name).stat().st_size, "sha256": sha256(candidate / name)} for name in names}
    content = hashlib.sha256("".join(str(files[name]["sha256"]) for name in names).encode()).hexdigest()
    release = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}-{content[:8]}"
    manifest = {"layout": LAYOUT, "id": release, "stream_time": stream_time, **facts, "versions": versions()}
    releases = var / "releases"
    releases.mkdir(parents=True, exist_ok=True)
    staged = releases / f".{release}.{os.getpid()}.tmp"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir()
    try:
        for name in names:
            shutil.copyfile(candidate / name, staged / name)
            durable.sync(staged / name)
        durable.write_json(staged / "manifest.json", {**manifest, "files": files})
        if (releases / release).exists():  # the same content within one second: it is there already
            return release
        staged.rename(releases / release)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    durable.sync(releases)
    return release


def make_current(var: Path, release: str, stream_time: int) -> None:
    """Point `current` at a release, and remember when."""
    releases = var / "releases"
    durable.point(releases / "current", release)
    entry = {"release": release, "stream_time": stream_time, "wall_time": dt.datetime.now(dt.UTC).isoformat()}
    path = releases / "history.jsonl"
    before = path.read_bytes() if path.exists() else b""
    durable.write_bytes(path, before + orjson.dumps(entry) + b"\n")


def history(var: Path) -> list[dict[str, Any]]:
    """What became current when, oldest first."""
    path = var / "releases" / "history.jsonl"
    return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def current(var: Path) -> Path | None:
    """The folder of the current release."""
    link = var / "releases" / "current"
    return link.resolve() if link.exists() else None


def reached(var: Path) -> int | None:
    """How far the stream had come when the archive was read for the current release, ms UTC; None if it cannot say."""
    try:
        return int(orjson.loads((var / "releases" / "current" / "manifest.json").read_bytes())["stream_time"])
    except (OSError, KeyError, orjson.JSONDecodeError):
        return None


def prune(var: Path, keep: int) -> list[str]:
    """Remove all but the `keep` newest releases and the current one, and what a crash left; returns their names."""
    releases, now = var / "releases", current(var)
    sealed = [path for path in releases.iterdir() if (path / "manifest.json").is_file() and not path.is_symlink()]
    names = sorted(path.name for path in sealed)
    old = [name for name in names[:-keep] if now is None or name != now.name]
    for leftover in releases.glob(".*.tmp"):
        shutil.rmtree(leftover)
    for name in old:
        shutil.rmtree(releases / name)
        forget(releases / name)
    return old


def versions() -> dict[str, str | None]:
    """Of the libraries that make a release, and the commit of this program where it is known."""
    return {"commit": _commit(), **{name: metadata.version(name) for name in _LIBRARIES}}


def _commit() -> str | None:
    if named := os.environ.get("MARQUEE_COMMIT"):
        return named
    git = shutil.which("git")
    if git is None:
        return None
    here = Path(__file__).parent
    told = subprocess.run([git, "-C", here, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return told.stdout.strip() or None
