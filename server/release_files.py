"""The files of one release, each opened once, so that the mapped file is the checked one.

All files are opened before any is read, must be regular files, and are read through their descriptors only. So a file
that is replaced meanwhile cannot slip in behind the checks.
"""

import hashlib
import mmap
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from server.errors import BadRelease
from server.regular_file import open_regular

Progress = Callable[[], None]
"""Called between the pieces of long work, to show that it makes progress."""
_PIECE = 4 << 20
"""Bytes that are digested between two calls of `Progress`."""


def no_progress() -> None:
    """The `Progress` of unwatched work."""


class ReleaseFiles:
    """Open files of one folder, by name. A context manager: the descriptors are closed on leaving, maps stay valid."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._descriptors: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)

    def open(self, names: Iterable[str]) -> None:
        """Open files. Raises `BadRelease` for one that is missing, unreadable or not a regular file."""
        for name in names:
            try:
                self._descriptors[name] = open_regular(self.folder / name)
            except OSError as error:
                raise BadRelease(f"{self.folder}: {name}: {error.strerror}") from error

    def path(self, name: str) -> Path:
        """A path to the open file, even if another one has its name now."""
        return Path(f"/dev/fd/{self._descriptors[name]}")

    def status(self, name: str) -> os.stat_result:
        """Size, times and identity of a file."""
        return os.fstat(self._descriptors[name])

    def read(self, name: str) -> bytes:
        """The whole content of a file. Raises `OSError`."""
        with os.fdopen(os.dup(self._descriptors[name]), "rb") as file:
            file.seek(0)
            return file.read()

    def map(self, name: str) -> mmap.mmap | bytes:
        """A read-only map of a file. Raises `OSError` and `ValueError`."""
        if not self.status(name).st_size:  # an empty file cannot be mapped
            return b""
        return mmap.mmap(self._descriptors[name], 0, access=mmap.ACCESS_READ)

    def sha256(self, name: str, progress: Progress = no_progress) -> str:
        """Hex digest of a file's bytes. Raises `OSError`."""
        return _digest(self._descriptors[name], progress)


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes. Raises `OSError`."""
    descriptor = open_regular(path)
    try:
        return _digest(descriptor, no_progress)
    finally:
        os.close(descriptor)


def _digest(descriptor: int, progress: Progress) -> str:
    """Digest with `pread`, not through a map: a file that is truncated meanwhile just ends, instead of SIGBUS."""
    digest, offset = hashlib.sha256(), 0
    while piece := os.pread(descriptor, _PIECE, offset):
        digest.update(piece)
        offset += len(piece)
        progress()
    return digest.hexdigest()
