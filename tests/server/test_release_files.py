"""Files of a release are regular files, opened once: what is checked is what is mapped."""

import hashlib
import os
from pathlib import Path

import pytest

from server.errors import BadRelease
from server.release import FILES, RENDERED, Release
from server.release_files import ReleaseFiles


@pytest.mark.parametrize("name", [*FILES, *RENDERED, "manifest.json"])
@pytest.mark.parametrize("known", [False, True])
def test_a_pipe_or_a_folder_in_place_of_a_file_is_refused_at_once(rendered: Path, name: str, known: bool) -> None:
    if known:
        Release.open(rendered)
    (rendered / name).unlink()
    os.mkfifo(rendered / name)
    with pytest.raises(BadRelease, match=rf"{name}: not a regular file"):
        Release.open(rendered)
    (rendered / name).unlink()
    (rendered / name).mkdir()
    with pytest.raises(BadRelease, match=rf"{name}: not a regular file"):
        Release.open(rendered)


def test_opening_leaves_no_descriptor_open(rendered: Path) -> None:
    descriptors = Path("/proc/self/fd")
    release = Release.open(rendered)
    before = len(list(descriptors.iterdir()))
    for _ in range(3):
        release = Release.open(rendered)
    (rendered / "answers.npy").unlink()
    with pytest.raises(BadRelease):
        Release.open(rendered)
    assert len(list(descriptors.iterdir())) == before
    assert release.id == "rendered"


def test_a_file_that_is_replaced_after_it_was_opened_changes_nothing(rendered: Path) -> None:
    before = (rendered / "lists.npy").read_bytes()
    with ReleaseFiles(rendered) as files:
        files.open(["lists.npy"])
        (rendered / "other").write_bytes(b"something else")
        (rendered / "other").replace(rendered / "lists.npy")
        assert files.read("lists.npy") == bytes(files.map("lists.npy")) == before
        assert files.path("lists.npy").read_bytes() == before
        assert files.sha256("lists.npy") == hashlib.sha256(before).hexdigest()
        assert files.status("lists.npy").st_size == len(before)
