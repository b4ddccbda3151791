"""Durable writes: whole or not there, whatever happens while they are made."""

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import orjson
import pytest

from stream import durable


class BrokenError(Exception):
    """What a test breaks a write with."""


def test_a_file_is_written_with_its_folders_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.bin"
    durable.write_bytes(path, b"old")
    durable.write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    durable.write_bytes(path, b"old")

    def fill(temporary: Path) -> None:
        temporary.write_bytes(b"half of the ne")
        raise BrokenError

    with pytest.raises(BrokenError):
        durable.write(path, fill)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_fill_that_writes_nothing_fails_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    durable.write_bytes(path, b"old")
    with pytest.raises(FileNotFoundError):
        durable.write(path, lambda temporary: None)
    assert path.read_bytes() == b"old"


def test_an_error_without_a_file_name_gets_it(tmp_path: Path) -> None:
    def fill(_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left on device") as caught:
        durable.write(tmp_path / "x.json", fill)
    assert caught.value.filename == str(tmp_path / "x.json")


def test_the_temporary_file_lies_beside_the_file_and_is_recognized_as_a_leftover(tmp_path: Path) -> None:
    seen: list[Path] = []

    def fill(temporary: Path) -> None:
        seen.append(temporary)
        temporary.touch()

    durable.write(tmp_path / "x.json", fill)
    assert seen[0].parent == tmp_path
    assert durable.is_leftover(seen[0])
    assert not durable.is_leftover(tmp_path / "x.json")
    assert not durable.is_leftover(tmp_path / ".hidden")
    assert not durable.is_leftover(tmp_path / "x.tmp")


KILLED = """
import os, signal, sys
from pathlib import Path
from stream import durable
def fill(temporary):
    temporary.write_bytes(b"half of the ne")
    os.kill(os.getpid(), signal.SIGKILL)
durable.write(Path(sys.argv[1]), fill)
"""


def test_a_process_killed_while_it_writes_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    durable.write_bytes(path, b"old")
    killed = subprocess.run([sys.executable, "-c", KILLED, path], check=False, timeout=600)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert [durable.is_leftover(left) for left in tmp_path.iterdir() if left != path] == [True]


@pytest.mark.parametrize("value", [{}, {"b": 1, "a": [None, "é"]}, [1, 2], "text", None])
def test_json_is_read_back_with_its_keys_in_order(tmp_path: Path, value: object) -> None:
    durable.write_json(tmp_path / "value.json", value)
    data = (tmp_path / "value.json").read_bytes()
    assert repr(orjson.loads(data)) == repr(value)
    assert data.endswith(b"\n")


def test_a_link_is_made_and_moved(tmp_path: Path) -> None:
    link = tmp_path / "current"
    durable.point(link, "one")
    durable.point(link, "two")
    assert str(link.readlink()) == "two"
    assert list(tmp_path.iterdir()) == [link]


def test_a_link_is_moved_over_the_leftover_of_a_crash(tmp_path: Path) -> None:
    (tmp_path / f".current.{os.getpid()}.tmp").symlink_to("half")
    durable.point(tmp_path / "current", "two")
    assert [path.name for path in tmp_path.iterdir()] == ["current"]


def test_a_reader_always_sees_the_old_or_the_new_target(tmp_path: Path) -> None:
    link, stop = tmp_path / "current", threading.Event()
    durable.point(link, "0")
    seen: set[str] = set()

    def look() -> None:
        while not stop.is_set():
            try:
                seen.add(str(link.readlink()))
            except OSError as error:
                seen.add(repr(error))

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(200):
        durable.point(link, str(number % 2))
    stop.set()
    reader.join()
    assert seen <= {"0", "1"}
