"""Releases: whoever asks gets the right list, and nothing that is not whole and of one piece is ever opened."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import annoy
import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.errors import BadRelease
from server.release import FILES, Release, sha256

WriteRelease = Callable[..., Path]
Seal = Callable[[Path], None]
Change = Callable[[Path], object]
NONE = 65_535


@pytest.fixture
def folder(write_release: WriteRelease, tmp_path: Path) -> Path:
    return write_release(tmp_path, "20300101T000000Z-12345678")


@pytest.fixture(scope="module")
def release(write_release: WriteRelease, tmp_path_factory: pytest.TempPathFactory) -> Release:
    return Release.open(write_release(tmp_path_factory.mktemp("releases"), "r"))


def names(*numbers: int) -> str:
    return ",".join(f"movie+{number}+2000" for number in numbers)


def test_a_whole_release_is_opened_with_what_the_manifest_says(folder: Path) -> None:
    release = Release.open(folder)
    assert (release.id, len(release.users), len(release.movies)) == ("20300101T000000Z-12345678", 5, 30)
    assert release.manifest["layout"] == 1
    assert not release.lists.flags.writeable


@pytest.mark.parametrize(
    ("user", "answer", "source"),
    [
        (1, names(*range(20)), "personal"),
        (5, names(7, 0, 29), "personal"),
        (2**32 - 1, names(*range(29, 9, -1)), "personal"),
        (9, names(25, 24, 23, 22), "segment"),
        (11, names(*range(20)), "popular"),
        (0, names(*range(20)), "popular"),
        (2, names(*range(20)), "popular"),
        (2**32, names(*range(20)), "popular"),
        (2**32 + 1, names(*range(20)), "popular"),
        (10**19 - 1, names(*range(20)), "popular"),
    ],
)
def test_every_user_gets_their_list_their_segments_or_the_popular_one(
    release: Release, user: int, answer: str, source: str
) -> None:
    assert release.answer(user) == (answer, source)


@settings(deadline=None)
@given(st.integers(0, 10**19 - 1))
def test_any_user_id_is_answered_with_one_to_twenty_different_movies(release: Release, user: int) -> None:
    movies = release.answer(user)[0].split(",")
    assert 1 <= len(movies) == len(set(movies)) <= 20
    assert set(movies) <= set(release.movies)


def test_a_release_of_more_movies_than_16_bits_number_is_answered_from(
    write_release: WriteRelease, seal: Seal, tmp_path: Path
) -> None:
    lists = np.full((5, 20), 2**32 - 1, np.uint32)
    lists[0, 0] = 29
    fallbacks = np.tile(np.arange(20, dtype=np.uint32), (3, 1))
    release = Release.open(write_release(tmp_path, "wide", lists=lists, fallbacks=fallbacks))
    assert release.answer(1) == (names(29), "personal")
    assert release.answer(9) == (names(*range(20)), "segment")


def test_a_release_without_users_answers_everyone_with_the_popular_list(
    write_release: WriteRelease, tmp_path: Path
) -> None:
    empty = {"users": np.zeros(0, np.uint32), "lists": np.zeros((0, 20), np.uint16), "segments": np.zeros(0, np.uint8)}
    assert Release.open(write_release(tmp_path, "empty", **empty)).answer(1)[1] == "popular"


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_file_that_is_missing_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BadRelease, match=name):
        Release.open(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_flipped_bit_is_refused(folder: Path, name: str, place: float) -> None:
    data = bytearray((folder / name).read_bytes())
    data[round(place * (len(data) - 1))] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(BadRelease, match=f"{name} is not what was published"):
        Release.open(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_off_or_grown_is_refused(folder: Path, name: str) -> None:
    data = (folder / name).read_bytes()
    for wrong in (b"", data[:-1], data + b"\n"):
        (folder / name).write_bytes(wrong)
        with pytest.raises(BadRelease, match=f"{name} has {len(wrong)} bytes"):
            Release.open(folder)


@pytest.mark.parametrize(
    "manifest",
    [
        b"", b"{", b"\xff", b"[]", b"null", b"{}", b'{"layout": 1}', b'{"layout": 1, "id": "x"}',
        b'{"layout": 1, "id": 5, "files": {}}', b'{"layout": 1, "id": "x", "files": []}',
        b'{"layout": 1, "id": "x", "files": {}}', b'{"layout": 1, "id": "x", "files": {"movies.txt": 7}}',
        b'{"layout": 1, "id": "x", "files": {"movies.txt": {}}}',
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
}
"""Releases that are sealed, so every sha256 is right, but contradict the layout or themselves."""


@pytest.mark.parametrize("change", CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
def test_a_sealed_release_that_contradicts_itself_is_refused(folder: Path, seal: Seal, change: Change) -> None:
    change(folder)
    seal(folder)
    with pytest.raises(BadRelease):
        Release.open(folder)


PROBE = """
import sys
from pathlib import Path
from server.errors import BadRelease
from server.release import Release
for folder in sys.argv[1:]:
    try:
        Release.open(Path(folder))
    except BadRelease:
        pass
"""


@settings(deadline=None, max_examples=2)
@given(seed=st.integers(0, 1000))
def test_an_index_of_noise_is_refused_and_never_a_crash(
    write_release: WriteRelease, seal: Seal, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    rng, releases, folders = np.random.default_rng(seed), tmp_path_factory.mktemp("noise"), []
    for number in range(8):
        folder = write_release(releases, f"noise-{number}")
        size = (folder / "items.ann").stat().st_size
        (folder / "items.ann").write_bytes(rng.bytes(size))
        seal(folder)
        folders.append(str(folder))
    done = subprocess.run([sys.executable, "-c", PROBE, *folders], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("data", [b"", b"abc", bytes(100_000)])
def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "file").write_bytes(data)
    told = subprocess.run(["sha256sum", tmp_path / "file"], capture_output=True, text=True, check=True)
    assert sha256(tmp_path / "file") == told.stdout.split()[0]


def test_a_look_up_does_not_grow_with_the_users(write_release: WriteRelease, tmp_path: Path) -> None:
    def release(count: int) -> Release:
        many = {
            "users": np.arange(1, count + 1, dtype=np.uint32),
            "lists": np.tile(np.arange(20, dtype=np.uint16), (count, 1)),
            "segments": np.zeros(count, np.uint8),
        }
        return Release.open(write_release(tmp_path, f"of-{count}", **many))

    def seconds(release: Release) -> float:
        began, count = time.process_time(), len(release.users)
        for user in range(1, 301):
            assert release.indices(user * 997 % count + 1)[1] == "personal"
        return time.process_time() - began

    few, many = release(1_000), release(1_000_000)
    assert min(seconds(many) for _ in range(3)) < 8 * min(seconds(few) for _ in range(3))
