"""Releases: nothing that is not whole and of one piece is ever opened."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import annoy
import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.releases.rendered import write as render
from server.answers import Answers
from server.errors import BadRelease
from server.release import FILES, RENDERED, Release, sha256
from server.release_layout import wrong_files
from stream.grammar import MOVIE, is_movie
from tests.server.sample_releases import MOVIES, arrays, seal, write_release

Change = Callable[[Path], object]
NONE = 65_535


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_release(tmp_path, "20300101T000000Z-12345678")


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    """A release that has its answers as text as well."""
    return write_release(tmp_path, "rendered", text=True)


def test_a_whole_release_is_opened_with_what_the_manifest_says(folder: Path) -> None:
    release = Release.open(folder)
    assert (release.id, len(release.users), len(release.movies)) == ("20300101T000000Z-12345678", 5, 30)
    assert release.manifest.layout == 1
    assert not release.lists.flags.writeable
    assert release.rendered is None


def test_a_release_tells_when_it_was_published(folder: Path) -> None:
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
    empty: dict[str, Any] = {"users": np.zeros(0, np.uint32), "lists": np.zeros((0, 20), np.uint16)}
    empty["segments"] = np.zeros(0, np.uint8)
    assert len(Release.open(write_release(tmp_path, "empty", text=text, **empty)).users) == 0


@pytest.mark.parametrize("text", [False, True])
def test_a_release_of_users_without_a_list_is_opened(tmp_path: Path, text: bool) -> None:
    lists = np.full((5, 20), NONE, np.uint16)
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
def test_a_manifest_that_names_only_one_of_the_two_files_of_text_is_refused(rendered: Path, name: str) -> None:
    manifest = orjson.loads((rendered / "manifest.json").read_bytes())
    del manifest["files"][name]
    (rendered / "manifest.json").write_bytes(orjson.dumps(manifest))
    with pytest.raises(BadRelease, match=r"answers\.(bin|npy)"):
        Release.open(rendered)


def test_files_of_text_that_the_manifest_does_not_name_are_not_looked_at(rendered: Path) -> None:
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
def test_a_manifest_that_says_too_little_is_refused(folder: Path, manifest: bytes) -> None:
    (folder / "manifest.json").write_bytes(manifest)
    with pytest.raises(BadRelease):
        Release.open(folder)


@pytest.mark.parametrize("layout", [0, 2, "1", None])
def test_another_layout_is_refused(folder: Path, layout: object) -> None:
    manifest = {**orjson.loads((folder / "manifest.json").read_bytes()), "layout": layout}
    (folder / "manifest.json").write_bytes(orjson.dumps(manifest))
    with pytest.raises(BadRelease, match="layout 1"):
        Release.open(folder)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRelease):
        Release.open(tmp_path / "none")


def edit(name: str, change: Callable[[np.ndarray], np.ndarray | None]) -> Change:
    """Replace an array by what `change` returns, or by itself as `change` leaves it."""

    def made(folder: Path) -> None:
        array = np.load(folder / f"{name}.npy")
        got = change(array)
        np.save(folder / f"{name}.npy", array if got is None else got)

    return made


def cell(row: int, column: int, value: int) -> Callable[[np.ndarray], None]:
    def change(array: np.ndarray) -> None:
        array[row, column] = value

    return change


def write(name: str, data: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(data)


def other_index(dimensions: int, items: int) -> Change:
    def made(folder: Path) -> None:
        index = annoy.AnnoyIndex(dimensions, "angular")
        for number, vector in enumerate(np.random.default_rng(8).normal(size=(items, dimensions))):
            index.add_item(number, vector)
        index.build(2, n_jobs=1)
        (folder / "items.ann").unlink()
        index.save(str(folder / "items.ann"))

    return made


CONTRADICTIONS = {
    "a list names a movie too many": edit("lists", cell(0, 3, 30)),
    "a list names a movie far too many": edit("lists", cell(4, 19, NONE - 1)),
    "a list repeats a movie": edit("lists", cell(0, 3, 0)),
    "a fallback names a movie too many": edit("fallbacks", cell(1, 0, 30)),
    "the popular list is empty": edit("fallbacks", lambda rows: np.full_like(rows, NONE)),
    "a segment's list is empty": edit("fallbacks", cell(2, 0, NONE)),
    "no fallback at all": edit("fallbacks", lambda rows: rows[:0]),
    "fallbacks of another width": edit("fallbacks", lambda rows: rows[:, :19]),
    "fallbacks of another type": edit("fallbacks", lambda rows: rows.astype(np.uint32)),
    "lists of another width": edit("lists", lambda rows: rows[:, :19]),
    "fewer lists than users": edit("lists", lambda rows: rows[:-1]),
    "lists of signed numbers": edit("lists", lambda rows: rows.astype(np.int64)),
    "lists of fractions": edit("lists", lambda rows: rows.astype(np.float32)),
    "lists in three dimensions": edit("lists", lambda rows: rows[None]),
    "unsorted users": edit("users", lambda users: users[::-1]),
    "a user twice": edit("users", lambda users: np.array([1, 5, 5, 11, 12], np.uint32)),
    "users of another type": edit("users", lambda users: users.astype(np.int64)),
    "users in two dimensions": edit("users", lambda users: users[:, None]),
    "a segment that has no list": edit("segments", lambda rows: rows + 1),
    "fewer segments than users": edit("segments", lambda rows: rows[:-1]),
    "items of another type": edit("items", lambda items: items.astype(np.float64)),
    "fewer items than movies": edit("items", lambda items: items[:-1]),
    "an item that is no number": edit("items", lambda items: np.where(items > 1, np.nan, items).astype(np.float32)),
    "items in one dimension": edit("items", lambda items: items[:, 0]),
    "items that are all nothing": edit("items", np.zeros_like),
    "movies.txt is empty": write("movies.txt", b""),
    "movies.txt is not text": write("movies.txt", b"\xff\n" * 30),
    "movies.txt has fewer lines": write("movies.txt", b"a+2000\n" * 29),
    "movies.txt has one movie thirty times": write("movies.txt", b"a+2000\n" * 30),
    "movies.txt has blank lines": write("movies.txt", b"\n" * 30),
    "an array that is no array": write("lists.npy", b"not an array at all"),
    "an array that would run code": edit("users", lambda users: users.astype(object)),
    "an index of other dimensions": other_index(5, 30),
    "an index of twice the dimensions": other_index(16, 30),
    "an index of fewer movies": other_index(8, 29),
    "an index of other vectors": other_index(8, 30),
    "an index that is no index": write("items.ann", b"not an index"),
    "an index that is empty": write("items.ann", b""),
    "users in no dimension": edit("users", lambda users: np.array(5, np.uint32)),
    "fallbacks in no dimension": edit("fallbacks", lambda rows: np.array(5, np.uint16)),
    "items in no dimension": edit("items", lambda items: np.array(5, np.float32)),
    "items without dimensions": edit("items", lambda items: items[:, :0]),
    "an array that is empty": write("users.npy", b""),
    "segments below nothing": edit("segments", lambda rows: rows.astype(np.int8) - 3),
    "segments of fractions": edit("segments", lambda rows: np.full(rows.shape, np.nan)),
    "a list goes on after its end": edit("lists", cell(1, 7, 3)),
    "a list has a gap before its last movie": edit("lists", cell(0, 3, NONE)),
    "a popular list repeats a movie": edit("fallbacks", cell(0, 3, 0)),
}
"""Releases that are sealed, so every sha256 is right, but contradict the layout or themselves."""
CONTRADICTIONS_OF_TEXT = {
    "the texts do not begin at the beginning": edit("answers", lambda begins: np.maximum(begins, np.uint64(1))),
    "texts begin before those before them": edit("answers", lambda begins: begins[[0, 2, 1, 3, 4, 5]]),
    "texts begin behind the end": edit("answers", lambda begins: begins + (begins > 0).astype(np.uint64)),
    "texts end before the end": edit("answers", lambda begins: begins // np.uint64(2)),
    "fewer texts than users": edit("answers", lambda begins: begins[[0, 1, 2, 3, 5]]),
    "more texts than users": edit("answers", lambda begins: begins[[0, 0, 1, 2, 3, 4, 5]]),
    "no text at all": edit("answers", lambda begins: begins[:0]),
    "texts begin at signed numbers": edit("answers", lambda begins: begins.astype(np.int64)),
    "texts begin at fractions": edit("answers", lambda begins: begins.astype(np.float64)),
    "texts in two dimensions": edit("answers", lambda begins: begins[:, None]),
    "texts in no dimension": edit("answers", lambda begins: np.array(5, np.uint64)),
    "begins of texts that are no array": write("answers.npy", b"not an array at all"),
    "texts that are empty": write("answers.bin", b""),
}


@pytest.mark.parametrize("text", [False, True], ids=["compact", "rendered"])
@pytest.mark.parametrize("change", CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
def test_a_sealed_release_that_contradicts_itself_is_refused(tmp_path: Path, change: Change, text: bool) -> None:
    folder = write_release(tmp_path, "contradiction", text=text)
    change(folder)
    seal(folder)
    with pytest.raises(BadRelease):
        Answers(Release.open(folder)).self_test()


@pytest.mark.parametrize("change", CONTRADICTIONS_OF_TEXT.values(), ids=CONTRADICTIONS_OF_TEXT.keys())
def test_sealed_texts_that_contradict_themselves_are_refused(rendered: Path, change: Change) -> None:
    change(rendered)
    seal(rendered)
    with pytest.raises(BadRelease):
        Answers(Release.open(rendered)).self_test()


@pytest.mark.parametrize("name", ["a\r\nx-other: 1", "a\nb", "", "a\x00b", "ä"])
def test_an_id_that_would_break_a_header_is_refused(folder: Path, name: str) -> None:
    manifest = {**orjson.loads((folder / "manifest.json").read_bytes()), "id": name}
    (folder / "manifest.json").write_bytes(orjson.dumps(manifest))
    with pytest.raises(BadRelease):
        Release.open(folder)


def test_a_list_that_repeats_a_movie_is_found_among_many_users(tmp_path: Path) -> None:
    count = 1000
    lists = np.tile(np.arange(20, dtype=np.uint16), (count, 1))
    lists[777, 3] = 0
    users, segments = np.arange(1, count + 1, dtype=np.uint32), np.zeros(count, np.uint8)
    folder = write_release(tmp_path, "many", users=users, lists=lists, segments=segments)
    with pytest.raises(BadRelease, match=r"lists\.npy"):
        Release.open(folder)


PROBE = """
import sys
from pathlib import Path
from batch.releases.rendered import write as render
from server.answers import Answers
from server.errors import BadRelease
from server.release import Release
for folder in sys.argv[1:]:
    try:
        Answers(Release.open(Path(folder))).self_test()
    except BadRelease:
        pass
    except BaseException as fault:
        print(folder, repr(fault))
"""


def probed(folders: list[Path]) -> str:
    """Open releases in a process of its own; tells what was raised but `BadRelease`."""
    command = [sys.executable, "-c", PROBE, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@settings(deadline=None, max_examples=2)
@given(seed=st.integers(0, 1000))
def test_an_index_of_noise_is_refused_and_never_a_crash(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rng, releases, folders = np.random.default_rng(seed), tmp_path_factory.mktemp("noise"), list[Path]()
    for number in range(8):
        folder = write_release(releases, f"noise-{number}")
        size = (folder / "items.ann").stat().st_size
        (folder / "items.ann").write_bytes(rng.bytes(size))
        seal(folder)
        folders.append(folder)
    assert probed(folders) == ""


@pytest.mark.parametrize("seed", [1, 2])
def test_an_array_with_a_garbled_head_is_refused_or_read(rendered: Path, tmp_path: Path, seed: int) -> None:
    rng, folders = np.random.default_rng(seed), list[Path]()
    odd = np.array([10, 32, 39, 40, 41, 48, 57, 123, 125])
    for name in ["users", "lists", "fallbacks", "segments", "items", "answers"] * 10:
        folder = tmp_path / f"{name}-{len(folders)}"
        shutil.copytree(rendered, folder)
        content = bytearray((folder / f"{name}.npy").read_bytes())
        for place in rng.integers(0, 128, rng.integers(1, 4)).tolist():
            content[place] = int(rng.choice(odd)) if rng.random() < 0.8 else int(rng.integers(0, 256))
        (folder / f"{name}.npy").write_bytes(content)
        seal(folder)
        folders.append(folder)
    assert probed(folders) == ""


@pytest.mark.parametrize("data", [b"", b"abc", bytes(100_000)])
def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    told = subprocess.run(["sha256sum", tmp_path / "file"], capture_output=True, text=True, check=True)
    assert sha256(tmp_path / "file") == told.stdout.split()[0]


def with_movie(folder: Path, name: str) -> Path:
    """A release in which one movie has another name."""
    return write_release(folder, "one", movies=[*MOVIES[:3], name, *MOVIES[4:]])


@pytest.mark.parametrize(
    "name",
    [
        "movie+4+2000", "", "a b", "é+2000", "٣+2000", "a+٢٠٠٠", "Movie", "a,b", "without-a-plus", "a+99", "a+19999",
        "a+2000x", "x" * 296 + "+1999",
    ],
)  # fmt: skip
def test_a_release_with_a_movie_twice_or_with_what_is_no_movie_id_is_refused(tmp_path: Path, name: str) -> None:
    folder = with_movie(tmp_path, name)
    with pytest.raises(BadRelease, match=r"movies\.txt"):
        Release.open(folder)


def test_a_release_with_bytes_that_are_no_utf8_in_a_movie_id_is_refused(tmp_path: Path) -> None:
    folder = write_release(tmp_path, "one")
    (folder / "movies.txt").write_bytes((folder / "movies.txt").read_bytes().replace(b"movie+4", b"movi\xe9+4"))
    seal(folder)
    with pytest.raises(BadRelease, match=r"movies\.txt"):
        Release.open(folder)


@pytest.mark.parametrize("name", ["endeavour+", "+nos+amours+1983", "++++++1959", "m*a*s*h+1970", "x" * 295 + "+1999"])
def test_a_release_may_have_every_movie_id_that_the_stream_has(tmp_path: Path, name: str) -> None:
    assert is_movie(name)
    assert name in Release.open(with_movie(tmp_path, name)).movies


NO_USERS: dict[str, np.ndarray] = {
    "users": np.zeros(0, np.uint32),
    "lists": np.zeros((0, 20), np.uint16),
    "fallbacks": np.array([[0, *[NONE] * 19]], np.uint16),
    "segments": np.zeros(0, np.uint8),
    "items": np.zeros((1, 1), np.float32),
}
"""A release of one movie for nobody."""


@given(st.one_of(st.from_regex(MOVIE, fullmatch=True), st.text("aA09+-._*,é ", max_size=9)))
def test_a_release_and_the_stream_agree_on_what_a_movie_id_is(name: str) -> None:
    assert wrong_files([name.encode()], NO_USERS, None) == ([] if is_movie(name) else ["movies.txt"])


@pytest.mark.parametrize("swapped", [(0, 4), (0, 1)], ids=["of the same length", "of another"])
def test_texts_that_are_not_those_of_the_lists_are_refused(tmp_path: Path, swapped: tuple[int, int]) -> None:
    folder = write_release(tmp_path, "one", text=True)
    lists = arrays(0)["lists"]
    one, other = swapped
    lists[[one, other]] = lists[[other, one]]
    render(folder, lists, MOVIES, NONE)
    seal(folder)
    with pytest.raises(BadRelease, match="answers"):
        Release.open(folder)


def mapped_kb(name: str) -> int:
    """How much of a mapped file is in the page table of this process."""
    smaps = Path("/proc/self/smaps").read_text("utf-8")
    return sum(map(int, re.findall(rf"/{name}\n(?:\w+: .*\n)*?Rss: +([0-9]+) kB", smaps)))


def test_pages_that_were_let_go_are_read_again_where_they_are_asked_for(tmp_path: Path) -> None:
    release = Release.open(write_release(tmp_path, "text", text=True))
    assert release.rendered is not None
    before = bytes(release.rendered.texts)
    assert mapped_kb("answers.bin") > 0
    release.free_pages()
    assert mapped_kb("answers.bin") == 0
    assert bytes(release.rendered.texts) == before
    Release.open(write_release(tmp_path, "compact")).free_pages()
