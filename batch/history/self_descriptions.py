"""What users have written about themselves, and the attributes of movies that their tastes are described by.

Both come from the catalogue. They are stored in `night/`, so that all later steps of a night use the same; texts go
nowhere else.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp

from quality.catalog import Catalog
from stream import durable

FILES = TEXTS, ATTRIBUTES = "self_descriptions.parquet", "attributes.npz"
_SCHEMA = pa.schema([("row", pa.int32()), ("likes", pa.string()), ("dislikes", pa.string())])
_YEAR = re.compile(r"\+(\d{4})$")
Written = tuple[int, str | None, str | None]
"""A user's id and texts about likes and dislikes."""


@dataclass(frozen=True)
class SelfDescriptions:
    """The texts of users, and the attributes of movies. n users, m movies."""

    rows: np.ndarray
    """int32 [k], ascending: rows of the users who have written anything."""
    texts: pa.Table
    """[k] texts in the columns `likes` and `dislikes`, "" for none."""
    attributes: sp.csr_matrix
    """float32 [m, a]: genres and decade of each movie. Its genres add up to 1, its decade counts 1; unknown ones, 0."""

    def written_by(self, users: np.ndarray) -> np.ndarray:
        """Which of some users (int64 rows) have written anything: bool [len(users)]."""
        if not len(self.rows):
            return np.zeros(len(users), bool)
        own: np.ndarray = self.rows[self._places(users)] == users
        return own

    def texts_of(self, users: np.ndarray) -> tuple[list[str], list[str]]:
        """Likes and dislikes of some users (int64 rows), "" where there is no text."""
        has_written = self.written_by(users)
        own = self.texts.take(pa.array(self._places(users[has_written])))
        likes, dislikes = [""] * len(users), [""] * len(users)
        columns = (own.column(name).to_pylist() for name in ("likes", "dislikes"))
        for place, likes_text, dislikes_text in zip(np.flatnonzero(has_written).tolist(), *columns, strict=True):
            likes[place], dislikes[place] = likes_text, dislikes_text
        return likes, dislikes

    def _places(self, users: np.ndarray) -> np.ndarray:
        places: np.ndarray = np.minimum(np.searchsorted(self.rows, users), max(len(self.rows) - 1, 0))
        return places


def describe(
    users: np.ndarray, written: Sequence[Written], movies: Sequence[str], genres: Mapping[str, Sequence[str]]
) -> SelfDescriptions:
    """Texts of `users` (ids, ascending), and attributes of `movies` by their `genres` and the year in their ids."""
    ids = np.array([user for user, _, _ in written], np.int64)
    row = np.minimum(np.searchsorted(users, ids), max(len(users) - 1, 0))
    kept = np.flatnonzero(users[row] == ids) if len(users) else np.zeros(0, np.int64)
    kept = kept[np.argsort(row[kept])]
    texts = pa.table({
        "likes": pa.array([written[place][1] or "" for place in kept.tolist()], pa.string()),
        "dislikes": pa.array([written[place][2] or "" for place in kept.tolist()], pa.string()),
    })  # fmt: skip
    return SelfDescriptions(row[kept].astype(np.int32), texts, _attributes(movies, genres))


def store(folder: Path, users: np.ndarray, movies: Sequence[str], catalog: Catalog) -> None:
    """Write what the catalogue has of these users (ids, ascending) and movies for the later steps of the night."""
    save(folder, describe(users, catalog.self_descriptions(), movies, catalog.genres()))


def save(folder: Path, descriptions: SelfDescriptions) -> None:
    """Write both files, each whole."""
    table = pa.Table.from_arrays([pa.array(descriptions.rows), *descriptions.texts.columns], schema=_SCHEMA)
    durable.write(folder / TEXTS, lambda path: pq.write_table(table, path, compression="zstd"))
    durable.write(folder / ATTRIBUTES, lambda path: _save_matrix(path, descriptions.attributes))


def load(folder: Path) -> SelfDescriptions:
    """Read what `save` wrote. Raises `OSError` for a missing file, other errors for damaged ones."""
    table = pq.ParquetFile(folder / TEXTS).read()
    with (folder / ATTRIBUTES).open("rb") as file:
        attributes = sp.csr_matrix(sp.load_npz(file))
    return SelfDescriptions(table.column("row").to_numpy(), table.select(["likes", "dislikes"]), attributes)


def _save_matrix(path: Path, matrix: sp.csr_matrix) -> None:
    with path.open("wb") as file:  # given a path, SciPy would add a suffix to it
        sp.save_npz(file, matrix)


def _attributes(movies: Sequence[str], genres: Mapping[str, Sequence[str]]) -> sp.csr_matrix:
    """float32 [m, a]: genres and decades in alphabetical order."""
    own = [[(name, 1 / len(genres[movie])) for name in genres.get(movie, ())] for movie in movies]
    for movie, attributes in zip(movies, own, strict=True):
        if year := _YEAR.search(movie):
            attributes.append((f"{year[1][:3]}0s", 1.0))
    names = sorted({name for attributes in own for name, _ in attributes})
    column = {name: number for number, name in enumerate(names)}
    counts = np.array([len(attributes) for attributes in own], np.int64)
    cells = [(column[name], weight) for attributes in own for name, weight in attributes]
    columns, weights = (np.array(values) for values in zip(*cells, strict=True)) if cells else (np.zeros(0, int),) * 2
    row = np.repeat(np.arange(len(movies)), counts)
    return sp.csr_matrix((weights.astype(np.float32), (row, columns)), (len(movies), len(names)))
