"""`var/hidden.txt`: movies that must not be in any answer, one per line; `#` begins a comment.

Workers leave them out of all answers, and the night builds its lists without them. Both read the file here.

A missing file hides nothing. A file that exists but cannot be read fails closed: the night stops, and a worker keeps
using the last readable list, which it stores in `releases/last-hidden.json`. That file is beside the releases so that
a worker that can read a release can also read it.
"""

import logging
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

import msgspec

from server.errors import HiddenUnreadable
from server.regular_file import read_regular
from stream import durable
from stream.decoding import decode_json

log = logging.getLogger(__name__)

HIDDEN = "hidden.txt"
LAST_HIDDEN = Path("releases", "last-hidden.json")
_LONGEST = 16 << 20
"""Bytes. The ids of a hundred thousand movies take four million."""
_SEPARATORS = re.compile(r"[,;]")
_AROUND = " \t\0\ufeff\u200b\"'`´‘’“”„«»"
"""Characters that editors and spreadsheets leave around a movie id."""


class LastHidden(msgspec.Struct, frozen=True):
    """The content of `last-hidden.json`: the last list that a worker could read from `hidden.txt`."""

    movies: list[str]


def parse(data: bytes) -> frozenset[str]:
    """The movie ids in the content of `hidden.txt`.

    Accepts variations that no movie id contains: capitals, quotes, commas, blanks around it or in place of `+`,
    percent-encoding, UTF-16 with a byte order mark, NUL around it. An id in the alphabet of the catalogue is unchanged.
    """
    lines = (line.partition("#")[0] for line in _decoded(data).splitlines())
    names = (_canonical(name) for line in lines for name in _SEPARATORS.split(line))
    return frozenset(name for name in names if name)


def _decoded(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError:
            pass  # not UTF-16: below, invalid bytes are replaced
    return data.decode("utf-8-sig", errors="replace")


def _canonical(name: str) -> str:
    return "+".join(unquote(name).strip(_AROUND).lower().split())


def read(var: Path) -> frozenset[str]:
    """The hidden movies; none if there is no `hidden.txt`. Raises `HiddenUnreadable`."""
    path = var / HIDDEN
    try:
        return parse(read_regular(path, _LONGEST))
    except FileNotFoundError:
        if path.is_symlink():
            raise HiddenUnreadable(_unreadable(path, f"it leads to {path.readlink()}, which is not there")) from None
        if not var.is_dir():
            raise HiddenUnreadable(_unreadable(path, f"{var} is not there; is it mounted?")) from None
        return frozenset()
    except OSError as error:
        raise HiddenUnreadable(_unreadable(path, str(error.strerror))) from error


def _unreadable(path: Path, why: str) -> str:
    return f"{path} cannot be read: {why}; mend it, or remove it if nothing is to be hidden"


@dataclass(frozen=True)
class HiddenState:
    """A worker's state of `hidden.txt`."""

    movies: frozenset[str] | None = None
    """The hidden movies; None while they are unknown, so that no list may be answered."""
    fault: str | None = None
    """Why `hidden.txt` cannot be read at present; `movies` is then the last list that could be read."""
    stamp: tuple[int, ...] | None = None
    """Inode, size and times of the file that was read, empty if there was none; None if it must be read again."""
    kept: frozenset[str] | None = None
    """The content of `last-hidden.json`; the same object as `movies` if it is equal."""
    keep_fault: str | None = None
    """Why `last-hidden.json` could not be written."""


def read_hidden_state(var: Path, before: HiddenState) -> HiddenState:
    """The state now; the same object as `before` if nothing has changed."""
    stamp = _stamp(var / HIDDEN)
    if stamp is None or stamp != before.stamp:
        before = _read_anew(var, before, stamp)
    if before.fault is None and before.kept is not before.movies:
        before = _keep(var, before)
    return before


def _read_anew(var: Path, before: HiddenState, stamp: tuple[int, ...] | None) -> HiddenState:
    try:
        movies = read(var)
        if stamp == () and not (var / "releases").is_dir() and before.movies:
            raise HiddenUnreadable(_unreadable(var / HIDDEN, f"{var / 'releases'} is gone as well; is it mounted?"))
    except HiddenUnreadable as error:
        kept = _kept(var) if before.movies is None else before.movies
        state = HiddenState(movies=kept, fault=str(error), kept=before.kept, keep_fault=before.keep_fault)
        return before if state == before else state
    kept = _kept(var)
    return HiddenState(movies, stamp=stamp, kept=movies if kept == movies else kept, keep_fault=before.keep_fault)


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None if path.is_symlink() else ()
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _kept(var: Path) -> frozenset[str] | None:
    try:
        last_hidden = decode_json(read_regular(var / LAST_HIDDEN, 8 * _LONGEST), LastHidden)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        log.warning("%s cannot be read: %s", var / LAST_HIDDEN, error)
        return None
    return frozenset(last_hidden.movies)


def _keep(var: Path, state: HiddenState) -> HiddenState:
    """Write the list to `last-hidden.json`; a failure is logged once, until it changes."""
    path = var / LAST_HIDDEN
    if not path.parent.is_dir():  # workers do not create the folder of the releases
        return state
    try:
        durable.write_bytes(path, msgspec.json.encode(LastHidden(sorted(state.movies or ()))) + b"\n")
    except OSError as error:
        if (fault := os.strerror(error.errno or 0)) != state.keep_fault:
            log.warning("%s cannot be written, so a restart needs a readable %s: %s", path, HIDDEN, fault)
        return replace(state, keep_fault=fault)
    return replace(state, kept=state.movies, keep_fault=None)
