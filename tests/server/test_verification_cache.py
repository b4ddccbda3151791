"""A verified release is not read again unless a file has changed: a note saves time but replaces no check."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pytest

from server import verification_cache
from server.errors import BadRelease
from server.release import FILES, RENDERED, Release
from server.release_files import Progress, ReleaseFiles, no_progress
from tests.server.sample_releases import seal, write_release
from tests.server.worker_processes import ROOT

Change = Callable[[Path], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_release(tmp_path / "releases", "one", text=True)


@pytest.fixture
def digested(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose digests were computed so far."""
    names_read: list[str] = []
    real = ReleaseFiles.sha256

    def counting(self: ReleaseFiles, name: str, progress: Progress = no_progress) -> str:
        names_read.append(name)
        return real(self, name, progress)

    monkeypatch.setattr(ReleaseFiles, "sha256", counting)
    return names_read


def test_a_release_that_was_verified_is_not_read_again(folder: Path, digested: list[str]) -> None:
    first = Release.open(folder)
    assert sorted(digested) == sorted([*FILES, *RENDERED])
    second = Release.open(folder)
    assert sorted(digested) == sorted([*FILES, *RENDERED])
    assert second.manifest == first.manifest


def test_another_process_trusts_the_note_as_well(folder: Path) -> None:
    Release.open(folder)
    program = (
        "import sys; from pathlib import Path; import server.release as r;"
        "r.ReleaseFiles.sha256 = None; print(r.Release.open(Path(sys.argv[1])).id)"
    )
    command = [sys.executable, "-c", program, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "one\n", "")


def test_a_note_that_is_a_pipe_is_no_note(folder: Path, digested: list[str]) -> None:
    (folder.parent / ".verified").mkdir()
    os.mkfifo(folder.parent / ".verified" / "one.json")
    for _ in range(2):
        assert Release.open(folder).id == "one"
    assert len(digested) == len([*FILES, *RENDERED])


def test_without_trust_everything_is_verified_despite_the_note(folder: Path, digested: list[str]) -> None:
    Release.open(folder)
    Release.open(folder, trust=False)
    assert len(digested) == 2 * len([*FILES, *RENDERED])


def test_a_release_that_was_refused_is_not_noted(folder: Path) -> None:
    (folder / "lists.npy").write_bytes(b"half")
    for _ in range(2):
        with pytest.raises(BadRelease, match=r"lists\.npy"):
            Release.open(folder)
    assert not (folder.parent / ".verified" / "one.json").exists()


def test_a_release_that_contradicts_itself_is_refused_each_time(folder: Path) -> None:
    """Its digests are right, but digests are not all that is verified."""
    np.save(folder / "lists.npy", np.full((5, 20), 30, np.uint16))
    seal(folder)
    for _ in range(2):
        with pytest.raises(BadRelease, match=r"lists\.npy"):
            Release.open(folder)


@pytest.mark.parametrize("name", [*FILES, *RENDERED])
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_byte_that_changes_later_is_found(folder: Path, name: str, place: float) -> None:
    Release.open(folder)
    path = folder / name
    before, data = path.stat(), bytearray(path.read_bytes())
    data[round(place * (len(data) - 1))] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as who wants to hide it would do
    with pytest.raises(BadRelease, match=f"{name} is not what was published"):
        Release.open(folder)


@pytest.mark.parametrize("name", [*FILES, *RENDERED])
def test_a_file_that_is_cut_off_or_gone_later_is_found(folder: Path, name: str) -> None:
    Release.open(folder)
    (folder / name).write_bytes((folder / name).read_bytes()[:-1])
    with pytest.raises(BadRelease, match=f"{name} has"):
        Release.open(folder)
    (folder / name).unlink()
    with pytest.raises(BadRelease, match=name):
        Release.open(folder)


def touched(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def replaced(path: Path) -> None:
    before = path.stat()
    shutil.copyfile(path, path.with_name("copy"))
    os.utime(path.with_name("copy"), ns=(before.st_atime_ns, before.st_mtime_ns))
    path.with_name("copy").replace(path)


@pytest.mark.parametrize("change", [touched, replaced])
@pytest.mark.parametrize("name", ["lists.npy", "manifest.json", "answers.bin"])
def test_a_file_of_another_time_or_inode_is_read_again_and_noted_anew(
    folder: Path, digested: list[str], name: str, change: Change
) -> None:
    Release.open(folder)
    digested.clear()
    change(folder / name)
    Release.open(folder)
    assert sorted(digested) == sorted([*FILES, *RENDERED])
    Release.open(folder)
    assert len(digested) == len([*FILES, *RENDERED])


def test_a_manifest_that_promises_something_else_later_is_found(folder: Path) -> None:
    Release.open(folder)
    manifest = orjson.loads((folder / "manifest.json").read_bytes())
    manifest["files"]["users.npy"]["sha256"] = manifest["files"]["lists.npy"]["sha256"]
    (folder / "manifest.json").write_bytes(orjson.dumps(manifest))
    with pytest.raises(BadRelease, match="is not what was published"):
        Release.open(folder)


def test_another_release_of_the_same_name_is_verified_anew(folder: Path) -> None:
    Release.open(folder)
    shutil.rmtree(folder)
    write_release(folder.parent, "one", shift=3)
    (folder / "users.npy").write_bytes(b"x")
    with pytest.raises(BadRelease, match=r"users\.npy"):
        Release.open(folder)


def test_a_copy_of_a_release_is_verified_anew(folder: Path, digested: list[str], tmp_path: Path) -> None:
    Release.open(folder)
    digested.clear()
    shutil.copytree(folder.parent, tmp_path / "elsewhere", copy_function=shutil.copy2)
    Release.open(tmp_path / "elsewhere" / "one")
    assert sorted(digested) == sorted([*FILES, *RENDERED])


@pytest.mark.parametrize("note", [b"", b"{", b"null", b"[]", b"{}", b"\xff\xfe", b"[[1,2,3,4,5]]", b"true"])
def test_a_note_that_is_garbage_is_no_note(folder: Path, digested: list[str], note: bytes) -> None:
    (folder.parent / ".verified").mkdir()
    (folder.parent / ".verified" / "one.json").write_bytes(note)
    Release.open(folder)
    assert len(digested) == len([*FILES, *RENDERED])
    Release.open(folder)
    assert len(digested) == len([*FILES, *RENDERED])


def test_a_note_of_earlier_checks_is_no_note(folder: Path, digested: list[str]) -> None:
    Release.open(folder)
    note, before = folder.parent / ".verified" / "one.json", f"[{verification_cache.CHECKS}]"
    assert note.read_text().startswith(f"[{before},")
    note.write_text(note.read_text().replace(before, f"[{verification_cache.CHECKS - 1}]", 1))
    digested.clear()
    Release.open(folder)
    assert len(digested) == len([*FILES, *RENDERED])


@pytest.mark.parametrize("where", [".verified", ".verified/one.json"])
def test_a_release_is_opened_where_no_note_can_be_kept(folder: Path, digested: list[str], where: str) -> None:
    note = folder.parent / where
    if where == ".verified":
        note.write_bytes(b"in the way")
    else:
        note.mkdir(parents=True)
    for _ in range(2):
        assert Release.open(folder).id == "one"
    assert len(digested) == 2 * len([*FILES, *RENDERED])


def test_a_note_that_is_forgotten_is_gone_and_forgetting_twice_is_no_error(folder: Path, digested: list[str]) -> None:
    Release.open(folder)
    digested.clear()
    for _ in range(2):
        verification_cache.forget(folder)
    Release.open(folder)
    assert len(digested) == len([*FILES, *RENDERED])


OPEN = """
import sys
from pathlib import Path
from server.release import Release
for _ in range(20):
    Release.open(Path(sys.argv[1]))
"""


def test_several_processes_verify_at_once(folder: Path) -> None:
    command = [sys.executable, "-c", OPEN, str(folder)]
    processes = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) for _ in range(3)]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert errors == [b""] * 3
    assert [path.name for path in (folder.parent / ".verified").iterdir()] == ["one.json"]


def test_a_release_sealed_anew_after_a_change_is_checked_again(folder: Path) -> None:
    Release.open(folder)
    write_release(folder.parent, "other", shift=1)
    shutil.copyfile(folder.parent / "other" / "items.npy", folder / "segments.npy")
    seal(folder)
    with pytest.raises(BadRelease, match=r"segments\.npy"):
        Release.open(folder)
