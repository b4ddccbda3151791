"""Opening a release: a whole one is opened; a missing, changed or cut file or manifest is refused."""

import os
import re
import subprocess
from pathlib import Path

import numpy as np
import orjson
import pytest

from server.errors import BadRelease
from server.release import FILES, RENDERED, Release, sha256
from tests.server.sample_releases import NO_MOVIE, write_release


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_release(tmp_path, "20300101T000000Z-12345678")


def test_a_whole_release_is_opened_with_what_the_manifest_says(folder: Path) -> None:
    release = Release.open(folder)
    assert (release.id, len(release.users), len(release.movies)) == ("20300101T000000Z-12345678", 5, 30)
    assert release.manifest.layout == 1
    assert not release.lists.flags.writeable
    assert release.rendered is None


def test_a_release_says_when_it_was_published(folder: Path) -> None:
    os.utime(folder / "manifest.json", (1_900_000_000, 1_900_000_000))
    assert Release.open(folder).published == 1_900_000_000


def test_a_release_of_more_movies_than_16_bits_number_is_opened(tmp_path: Path) -> None:
    lists = np.full((5, 20), 2**32 - 1, np.uint32)
    lists[0, 0] = 29
    fallbacks = np.tile(np.arange(20, dtype=np.uint32), (3, 1))
    release = Release.open(write_release(tmp_path, "wide", text=True, lists=lists, fallbacks=fallbacks))
    assert release.lists.dtype == np.uint32


@pytest.mark.parametrize("text", [False, True])
def test_a_release_without_users_is_opened(tmp_path: Path, text: bool) -> None:
    users, lists, segments = np.zeros(0, np.uint32), np.zeros((0, 20), np.uint16), np.zeros(0, np.uint8)
    folder = write_release(tmp_path, "empty", text=text, users=users, lists=lists, segments=segments)
    assert len(Release.open(folder).users) == 0


@pytest.mark.parametrize("text", [False, True])
def test_a_release_of_users_without_a_list_is_opened(tmp_path: Path, text: bool) -> None:
    lists = np.full((5, 20), NO_MOVIE, np.uint16)
    assert len(Release.open(write_release(tmp_path, "none", text=text, lists=lists)).users) == 5


def test_a_release_may_hold_more_popular_movies_than_are_shown(tmp_path: Path) -> None:
    fallbacks = np.tile(np.arange(30, dtype=np.uint16), (3, 1))
    assert Release.open(write_release(tmp_path, "long", fallbacks=fallbacks)).fallbacks.shape == (3, 30)


@pytest.mark.parametrize("name", [*FILES, *RENDERED, "manifest.json"])
def test_a_file_that_is_missing_is_refused(rendered: Path, name: str) -> None:
    (rendered / name).unlink()
    with pytest.raises(BadRelease, match=name):
        Release.open(rendered)


@pytest.mark.parametrize("name", [*FILES, *RENDERED])
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_flipped_bit_is_refused(rendered: Path, name: str, place: float) -> None:
    data = bytearray((rendered / name).read_bytes())
    data[round(place * (len(data) - 1))] ^= 1
    (rendered / name).write_bytes(data)
    with pytest.raises(BadRelease, match=f"{name} is not what was published"):
        Release.open(rendered)


@pytest.mark.parametrize("name", [*FILES, *RENDERED])
def test_a_file_cut_off_or_grown_is_refused(rendered: Path, name: str) -> None:
    data = (rendered / name).read_bytes()
    for wrong in (b"", data[:-1], data + b"\n"):
        (rendered / name).write_bytes(wrong)
        with pytest.raises(BadRelease, match=f"{name} has {len(wrong)} bytes"):
            Release.open(rendered)


@pytest.mark.parametrize("name", RENDERED)
def test_a_manifest_that_names_one_of_the_two_text_files_is_refused(rendered: Path, name: str) -> None:
    manifest = orjson.loads((rendered / "manifest.json").read_bytes())
    del manifest["files"][name]
    (rendered / "manifest.json").write_bytes(orjson.dumps(manifest))
    with pytest.raises(BadRelease, match=r"answers\.(bin|npy)"):
        Release.open(rendered)


def test_text_files_that_the_manifest_does_not_name_are_ignored(rendered: Path) -> None:
    manifest = orjson.loads((rendered / "manifest.json").read_bytes())
    for name in RENDERED:
        del manifest["files"][name]
        (rendered / name).write_bytes(b"garbage")
    (rendered / "manifest.json").write_bytes(orjson.dumps(manifest))
    assert Release.open(rendered).rendered is None


@pytest.mark.parametrize(
    "manifest",
    [
        b"", b"{", b"\xff", b"[]", b"null", b"{}", b'{"layout": 1}', b'{"layout": 1, "id": "x"}',
        b'{"layout": 1, "id": 5, "files": {}}', b'{"layout": 1, "id": "x", "files": []}',
        b'{"layout": 1, "id": "x", "files": {}}', b'{"layout": 1, "id": "x", "files": {"movies.txt": 7}}',
        b'{"layout": 1, "id": "x", "files": {"movies.txt": {}}}',
        b'{"layout": 1, "id": "x", "files": {"answers.bin": {}}}', b'{"layout": 1, "id": "x", "files": null}',
    ],
)  # fmt: skip
def test_an_incomplete_manifest_is_refused(folder: Path, manifest: bytes) -> None:
    (folder / "manifest.json").write_bytes(manifest)
    with pytest.raises(BadRelease):
        Release.open(folder)


@pytest.mark.parametrize("layout", [0, 2, "1", None])
def test_another_layout_is_refused(folder: Path, layout: object) -> None:
    manifest = {**orjson.loads((folder / "manifest.json").read_bytes()), "layout": layout}
    (folder / "manifest.json").write_bytes(orjson.dumps(manifest))
    with pytest.raises(BadRelease, match="layout 1"):
        Release.open(folder)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRelease):
        Release.open(tmp_path / "none")


@pytest.mark.parametrize("name", ["a\r\nx-other: 1", "a\nb", "", "a\x00b", "ä"])
def test_an_id_that_would_break_a_header_is_refused(folder: Path, name: str) -> None:
    manifest = {**orjson.loads((folder / "manifest.json").read_bytes()), "id": name}
    (folder / "manifest.json").write_bytes(orjson.dumps(manifest))
    with pytest.raises(BadRelease):
        Release.open(folder)


@pytest.mark.parametrize("data", [b"", b"abc", bytes(100_000)])
def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    process = subprocess.run(["sha256sum", tmp_path / "file"], capture_output=True, text=True, check=True)
    assert sha256(tmp_path / "file") == process.stdout.split()[0]


def mapped_kb(name: str) -> int:
    """How much of a mapped file is in the page table of this process."""
    smaps = Path("/proc/self/smaps").read_text("utf-8")
    return sum(map(int, re.findall(rf"/{name}\n(?:\w+: .*\n)*?Rss: +([0-9]+) kB", smaps)))


def test_freed_pages_are_read_again_when_needed(tmp_path: Path) -> None:
    release = Release.open(write_release(tmp_path, "text", text=True))
    assert release.rendered is not None
    before = bytes(release.rendered.texts)
    assert mapped_kb("answers.bin") > 0
    release.free_pages()
    assert mapped_kb("answers.bin") == 0
    assert bytes(release.rendered.texts) == before
    Release.open(write_release(tmp_path, "compact")).free_pages()
