"""Atomic, durable writes: temporary name on the same disk, fsync, rename, fsync the folder.

A reader never sees a half-written file under its final name, even after a power failure. Leftovers of a crash start
with a dot and end in `.tmp`, so that code that lists a folder can skip them.
"""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson


def sync(path: Path) -> None:
    """Flush a file or a folder to disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_tree(folder: Path) -> None:
    """Flush all files and folders below a folder, and itself, to disk.

    On Linux `os.sync` waits until everything is written, so the calls after it have nothing left to write: one by one
    each of them would wait for the disk.
    """
    os.sync()
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


def write(path: Path, fill: Callable[[Path], object]) -> None:
    """Create or replace `path`; `fill` gets a temporary path and writes the content there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        fill(temporary)
        sync(temporary)
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # a full disk, for example
            error.filename = str(path)
        raise
    sync(path.parent)


def write_array(path: Path, array: np.ndarray) -> None:
    """Create or replace `path` with an array in numpy's format."""

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as file:  # numpy would append .npy to a name
            np.save(file, array)

    write(path, fill)


def write_bytes(path: Path, data: bytes) -> None:
    """Create or replace `path` with `data`."""
    write(path, lambda temporary: temporary.write_bytes(data))


def write_json(path: Path, value: object) -> None:
    """Create or replace `path` with `value` as indented JSON, keys in the order given."""
    write_bytes(path, orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def point(link: Path, target: str) -> None:
    """Make the symbolic link `link` point at `target` atomically: a reader sees the old target or the new one."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
    sync(link.parent)


def is_leftover(path: Path) -> bool:
    """Whether `path` is a temporary file that a crash left behind."""
    return path.name.startswith(".") and path.name.endswith(".tmp")
