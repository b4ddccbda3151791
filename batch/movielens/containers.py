"""What the files of an archive lie in: a folder, a .zip, or a .tar, compressed or not. Nothing is unpacked to disk.

Files may lie up to two folders deep in a folder, and at any depth elsewhere; those that macOS adds are left out.
"""

import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

DAMAGES = (
    zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError,
    RuntimeError,  # of zipfile, for an encrypted file or an unknown method
)  # fmt: skip
"""What opening and reading raise for a damaged container, or a file that is none."""
_ADDED_BY_MACOS = "__MACOSX"
_DEPTHS = ("*", "*/*", "*/*/*")


class Container(Protocol):
    """Opening one raises `OSError` and `DAMAGES`, and so do its methods."""

    def sizes(self) -> dict[PurePosixPath, int]:
        """The bytes of each file."""

    def open(self, file: PurePosixPath) -> AbstractContextManager[IO[bytes]]:
        """Open a file. Raises `KeyError` or `FileNotFoundError` if it is missing."""


def open_container(path: Path) -> Container:
    """The container at a path, by what is in it, not by its name."""
    if path.is_dir():
        return _Folder(path)
    return _Zip(path) if zipfile.is_zipfile(path) else _Tar(path)


def _is_wanted(file: PurePosixPath) -> bool:
    return _ADDED_BY_MACOS not in file.parts and not file.name.startswith("._")


class _Folder:
    def __init__(self, path: Path) -> None:
        self._path = path

    def sizes(self) -> dict[PurePosixPath, int]:
        paths = [path for depth in _DEPTHS for path in self._path.glob(depth) if path.is_file()]
        files = {PurePosixPath(path.relative_to(self._path)): path.stat().st_size for path in paths}
        return {file: size for file, size in files.items() if _is_wanted(file)}

    def open(self, file: PurePosixPath) -> AbstractContextManager[IO[bytes]]:
        return (self._path / file).open("rb")


class _Zip:
    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path)

    def sizes(self) -> dict[PurePosixPath, int]:
        files = {PurePosixPath(info.filename): info.file_size for info in self._zip.infolist() if not info.is_dir()}
        return {file: size for file, size in files.items() if _is_wanted(file)}

    def open(self, file: PurePosixPath) -> AbstractContextManager[IO[bytes]]:
        return self._zip.open(str(file))


class _Tar:
    def __init__(self, path: Path) -> None:
        self._path = path

    def sizes(self) -> dict[PurePosixPath, int]:
        with tarfile.open(self._path) as tar:
            files = {PurePosixPath(member.name): member.size for member in tar if member.isfile()}
        return {file: size for file, size in files.items() if _is_wanted(file)}

    @contextmanager
    def open(self, file: PurePosixPath) -> Iterator[IO[bytes]]:
        with tarfile.open(self._path) as tar:
            members = {PurePosixPath(member.name): member for member in tar if member.isfile()}
            opened = tar.extractfile(members[file])
            assert opened is not None  # it is a file
            yield opened
