"""One thing that may go: its files, and how they are removed."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Removal:
    """Files that go together."""

    what: str
    """In words, such as `archive of 2026-02-10`."""
    size: int
    """Bytes."""
    remove: Callable[[], object]
    """Removes them, for good. May be called again after a crash."""


def removal_of(what: str, paths: Iterable[Path], before: Callable[[], object] = lambda: None) -> Removal:
    """The removal of files, and of folders with all their files; `before` is done first."""
    chosen = list(paths)

    def remove() -> None:
        before()
        for path in chosen:
            remove_tree(path)

    return Removal(what, sum(map(size_of, chosen)), remove)


def size_of(path: Path) -> int:
    """The bytes of a file, or of all files below a folder; 0 for one that is gone."""
    return sum(each.lstat().st_size for each in _files(path))


def remove_tree(path: Path) -> None:
    """Remove a file, or a folder with what it had in it; a file that another process writes meanwhile stays."""
    for file in _files(path):
        file.unlink(missing_ok=True)
    if path.is_dir():
        for folder in sorted([path, *(each for each in path.rglob("*") if each.is_dir())], reverse=True):
            if not any(folder.iterdir()):
                folder.rmdir()


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir() and not path.is_symlink():
        yield from (each for each in path.rglob("*") if not each.is_dir() or each.is_symlink())
    elif path.exists() or path.is_symlink():
        yield path
