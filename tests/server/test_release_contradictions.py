"""Sealed releases with right digests that contradict the layout or themselves: opening refuses each of them."""

from collections.abc import Callable
from pathlib import Path

import annoy
import numpy as np
import pytest

from batch.releases.rendered import write as render
from server.answers import Answers
from server.errors import BadRelease
from server.release import Release
from tests.server.sample_releases import MOVIES, NO_MOVIE, arrays, seal, write_release

Change = Callable[[Path], object]


def edit(name: str, change: Callable[[np.ndarray], np.ndarray | None]) -> Change:
    """Replace an array by the result of `change`, or save it as `change` left it."""

    def apply(folder: Path) -> None:
        array = np.load(folder / f"{name}.npy")
        changed = change(array)
        np.save(folder / f"{name}.npy", array if changed is None else changed)

    return apply


def cell(row: int, column: int, value: int) -> Callable[[np.ndarray], None]:
    def change(array: np.ndarray) -> None:
        array[row, column] = value

    return change


def write(name: str, data: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(data)


def annoy_index(dimensions: int, items: int) -> Change:
    def save(folder: Path) -> None:
        index = annoy.AnnoyIndex(dimensions, "angular")
        for number, vector in enumerate(np.random.default_rng(8).normal(size=(items, dimensions))):
            index.add_item(number, vector)
        index.build(2, n_jobs=1)
        (folder / "items.ann").unlink()
        index.save(str(folder / "items.ann"))

    return save


CONTRADICTIONS = {
    "a list names a movie too many": edit("lists", cell(0, 3, 30)),
    "a list names a movie far too many": edit("lists", cell(4, 19, NO_MOVIE - 1)),
    "a list repeats a movie": edit("lists", cell(0, 3, 0)),
    "a fallback names a movie too many": edit("fallbacks", cell(1, 0, 30)),
    "the popular list is empty": edit("fallbacks", lambda rows: np.full_like(rows, NO_MOVIE)),
    "a segment's list is empty": edit("fallbacks", cell(2, 0, NO_MOVIE)),
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
    "an index of other dimensions": annoy_index(5, 30),
    "an index of twice the dimensions": annoy_index(16, 30),
    "an index of fewer movies": annoy_index(8, 29),
    "an index of other vectors": annoy_index(8, 30),
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
    "a list has a gap before its last movie": edit("lists", cell(0, 3, NO_MOVIE)),
    "a popular list repeats a movie": edit("fallbacks", cell(0, 3, 0)),
}
"""Releases that are sealed, so every sha256 is right, but contradict the layout or themselves."""
TEXT_CONTRADICTIONS = {
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


@pytest.mark.parametrize("change", TEXT_CONTRADICTIONS.values(), ids=TEXT_CONTRADICTIONS.keys())
def test_sealed_texts_that_contradict_themselves_are_refused(rendered: Path, change: Change) -> None:
    change(rendered)
    seal(rendered)
    with pytest.raises(BadRelease):
        Answers(Release.open(rendered)).self_test()


def test_a_list_that_repeats_a_movie_is_found_among_many_users(tmp_path: Path) -> None:
    count = 1000
    lists = np.tile(np.arange(20, dtype=np.uint16), (count, 1))
    lists[777, 3] = 0
    users, segments = np.arange(1, count + 1, dtype=np.uint32), np.zeros(count, np.uint8)
    folder = write_release(tmp_path, "many", users=users, lists=lists, segments=segments)
    with pytest.raises(BadRelease, match=r"lists\.npy"):
        Release.open(folder)


@pytest.mark.parametrize("swapped", [(0, 4), (0, 1)], ids=["of the same length", "of another"])
def test_texts_that_are_not_those_of_the_lists_are_refused(tmp_path: Path, swapped: tuple[int, int]) -> None:
    folder = write_release(tmp_path, "swapped", text=True)
    lists = arrays(0)["lists"]
    first, second = swapped
    lists[[first, second]] = lists[[second, first]]
    render(folder, lists, MOVIES, NO_MOVIE)
    seal(folder)
    with pytest.raises(BadRelease, match="answers"):
        Release.open(folder)
