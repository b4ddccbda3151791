"""Remembers which releases were verified on this host, so that only one worker digests half a gigabyte.

Releases never change, so a verified release stays verified while its files are the same: same device, inode, size and
times. The note is `releases/.verified/<id>.json`; if it is missing or a file differs, everything is verified again. A
failure to write the note only costs time.
"""

import logging
import os
from collections.abc import Iterable
from pathlib import Path

import orjson

from server.regular_file import read_regular

log = logging.getLogger(__name__)

State = list[list[int]]
_LONGEST = 1 << 16
"""Bytes of a note."""
CHECKS = 3
"""Version of the checks of a release. Raise it with each new check, so that known releases are verified again."""


def state_of(files: Iterable[os.stat_result]) -> State:
    """The identity of files: a row [CHECKS], then device, inode, size and times of each file."""
    rows = [[file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns, file.st_ctime_ns] for file in files]
    return [[CHECKS], *rows]


def is_known(folder: Path, state: State) -> bool:
    """Whether the same files were verified before."""
    try:
        return bool(orjson.loads(read_regular(_note(folder), _LONGEST)) == state)
    except (OSError, orjson.JSONDecodeError):
        return False


def remember(folder: Path, state: State) -> None:
    """Note that these files agree with their manifest."""
    note = _note(folder)
    temporary = note.with_name(f"{note.name}.{os.getpid()}")
    try:
        note.parent.mkdir(exist_ok=True)
        temporary.write_bytes(orjson.dumps(state))
        temporary.replace(note)
    except OSError as error:
        log.warning("%s: the note that it was verified cannot be written: %s", folder.name, error)


def forget(folder: Path) -> None:
    """Remove the note of a removed release."""
    _note(folder).unlink(missing_ok=True)


def _note(folder: Path) -> Path:
    return folder.parent / ".verified" / f"{folder.name}.json"
