"""The layout of a release: its files, their shapes, and whether their contents agree with each other.

Mapped arrays are checked in blocks of rows, so that a million users take hardly any memory. The Annoy index is checked
in `annoy_file.py`.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from server.release_files import Progress, no_progress
from stream.event import LIST_LENGTH
from stream.grammar import is_movie

LAYOUT = 1
FILES = (
    "movies.txt",
    "users.npy",
    "lists.npy",
    "fallbacks.npy",
    "segments.npy",
    "items.npy",
    "items.ann",
    "evaluation.json",
)
RENDERED = ("answers.bin", "answers.npy")
"""Optional files: all personal answers as text, one after the other, and the offset of each."""
EXPLORED = ("explorers.npy", "propensities.npy")
"""Optional files: whose lists were drawn by lot, and the chance of each movie on them."""
BASELINE = "baseline.npy"
"""For reports, not read by workers: as `lists.npy`, the popular list without what each user has seen. Older releases
lack it."""
MINORS = "minors.npy"
"""For reports, not read by workers: uint8 for each user, 0 of age, 1 a minor, 2 of unknown age. Older ones lack it."""
ARRAYS = ("users", "lists", "fallbacks", "segments", "items")
METRIC: Literal["angular"] = "angular"
_SAMPLE = 1000
_ROWS = 1 << 16


@dataclass(frozen=True)
class Rendered:
    """Personal answers as they are sent: the one of row i is `texts[begins[i] : begins[i + 1]]`, empty for none."""

    texts: mmap.mmap | bytes
    begins: np.ndarray
    """uint64 [n + 1]."""


@dataclass(frozen=True)
class Explored:
    """Lists that were drawn by lot; k users."""

    rows: np.ndarray
    """uint32 [k]: rows of the users, ascending."""
    propensities: np.ndarray
    """float32 [k, 20]: the chance with which each movie came onto the list; 0 where the list has ended."""

    def propensities_of(self, row: int) -> list[float] | None:
        """The propensities of the list in a row of the release; None if it was not drawn."""
        place = int(np.searchsorted(self.rows, row))
        is_drawn = place < len(self.rows) and int(self.rows[place]) == row
        return self.propensities[place].tolist() if is_drawn else None


def wrong_files(
    names: list[bytes],
    arrays: dict[str, np.ndarray],
    rendered: Rendered | None,
    explored: Explored | None = None,
    progress: Progress = no_progress,
) -> list[str]:
    """The files that break the layout, or contradict other files. `arrays` has the keys of `ARRAYS`."""
    wrong = _wrong_shapes(len(names), arrays, rendered) or _wrong_values(len(names), arrays, progress)
    if not wrong and explored is not None:
        wrong = _wrong_draws(arrays["lists"], explored)
    # latin-1 decodes any byte, and to a character that no movie id has where it is not ASCII
    if not wrong and not (len(set(names)) == len(names) and all(is_movie(name.decode("latin-1")) for name in names)):
        wrong = ["movies.txt"]
    if not wrong and rendered is not None:
        wrong = _wrong_texts(names, arrays["lists"], rendered, progress)
    return wrong


def _wrong_shapes(movies: int, arrays: dict[str, np.ndarray], rendered: Rendered | None) -> list[str]:
    users, lists, fallbacks, segments, items = (arrays[name] for name in ARRAYS)
    forms = {
        "movies.txt": movies > 0,
        "users.npy": users.dtype == np.uint32 and users.ndim == 1,
        "lists.npy": lists.dtype in (np.uint16, np.uint32) and lists.shape == (*users.shape, LIST_LENGTH),
        "fallbacks.npy": fallbacks.dtype == lists.dtype and fallbacks.ndim == 2 and fallbacks.shape[1] >= LIST_LENGTH,
        "segments.npy": segments.dtype == np.uint8 and segments.shape == users.shape,
        "items.npy": items.dtype == np.float32 and items.ndim == 2 and len(items) == movies and items.shape[1] > 0,
        "answers.npy": rendered is None or _is_of(rendered.begins, np.uint64, (users.size + 1,)),
    }
    return [name for name, holds in forms.items() if not holds]


def _is_of(array: np.ndarray, kind: type[np.generic], shape: tuple[int, ...]) -> bool:
    return array.dtype == kind and array.shape == shape


def _wrong_values(movies: int, arrays: dict[str, np.ndarray], progress: Progress) -> list[str]:
    users, lists, fallbacks, segments, items = (arrays[name] for name in ARRAYS)
    none = np.iinfo(lists.dtype).max
    forms = {
        "users.npy": bool(np.all(users[1:] > users[:-1])),
        "lists.npy": all(_are_lists(block, movies, none) for block in _blocks(lists, progress)),
        "fallbacks.npy": len(fallbacks) > 0 and fallbacks[0, 0] != none and _are_lists(fallbacks, movies, none),
        "segments.npy": bool((segments < len(fallbacks)).all()),
        "items.npy": bool(np.isfinite(items).all()),
    }
    return [name for name, holds in forms.items() if not holds]


def _wrong_draws(lists: np.ndarray, explored: Explored) -> list[str]:
    """Check that the drawn lists are of users of the release, and that each of their movies has a chance."""
    rows, chances, none = explored.rows, explored.propensities, np.iinfo(lists.dtype).max
    is_array = rows.dtype == np.uint32 and rows.ndim == 1
    if not (is_array and bool(np.all(rows[1:] > rows[:-1])) and (not len(rows) or int(rows[-1]) < len(lists))):
        return ["explorers.npy"]
    if not _is_of(chances, np.float32, (len(rows), LIST_LENGTH)):
        return ["propensities.npy"]
    is_chance = ((chances > 0) & (chances <= 1)) == (lists[rows] != none)
    return [] if bool((is_chance & (chances >= 0)).all()) else ["propensities.npy"]


def _wrong_texts(names: list[bytes], lists: np.ndarray, rendered: Rendered, progress: Progress) -> list[str]:
    """Check the texts against the lists: the length of every text, and the content of a sample."""
    begins, texts, none = rendered.begins, rendered.texts, np.iinfo(lists.dtype).max
    lengths = np.array([*map(len, names), 0], np.uint64)
    forms = {"answers.npy": begins[0] == 0, "answers.bin": int(begins[-1]) == len(texts)}
    for first in range(0, len(lists), _ROWS):
        progress()
        ends = lists[first : first + _ROWS] == none
        commas = np.maximum(LIST_LENGTH - ends.sum(axis=1), 1) - 1
        sizes = lengths[np.where(ends, len(names), lists[first : first + _ROWS])].sum(axis=1) + commas.astype(np.uint64)
        forms["answers.npy"] &= bool((np.diff(begins[first : first + len(sizes) + 1]) == sizes).all())
    for row in range(0, len(lists) if all(forms.values()) else 0, max(1, len(lists) // _SAMPLE)):
        expected = b",".join(names[item] for item in lists[row].tolist() if item != none)
        forms["answers.bin"] &= texts[int(begins[row]) : int(begins[row + 1])] == expected
    return [name for name, holds in forms.items() if not holds]


def _blocks(rows: np.ndarray, progress: Progress) -> Iterator[np.ndarray]:
    for first in range(0, len(rows), _ROWS):
        progress()
        yield rows[first : first + _ROWS]


def _are_lists(lists: np.ndarray, movies: int, none: int) -> bool:
    """Whether all rows are lists of different movies, with nothing after the first `none`."""
    ordered = np.sort(lists, axis=1)
    ends = lists == none
    return bool(
        ((lists < movies) | ends).all()
        and not (ends[:, :-1] & ~ends[:, 1:]).any()
        and not ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != none)).any()
    )
