"""What is known of a movie before anyone has watched it: genres, language, year and collection, from its API record.

`night/content.json` has a `MovieContent` for each movie of a release: first the movies of the history, in their order,
then those that the catalogue knows but nobody has begun in these days. So a night learns from content without asking
anyone twice, and its later steps agree on which movies there are.
"""

import re
from collections.abc import Collection, Mapping, Sequence

import msgspec
import numpy as np
import pyarrow as pa
import scipy.sparse as sp

from quality.catalog import Record

KINDS = ("genre:", "decade:", "language:", "collection:")
"""The kinds of features, which their names begin with."""
_YEAR = re.compile(r"^\d{4}(?=-|$)")
_ID_YEAR = re.compile(r"(?<=\+)\d{4}$")


class MovieContent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A movie before anyone has watched it; None and [] for what the service does not say."""

    id: str
    genres: list[str] = []
    language: str | None = None
    year: int | None = None
    collection: str | None = None
    announced: int = 0
    """Its line in `new_movies.txt`, from 1, so that later lines are newer; 0 if it was not announced."""
    shown: int = 0
    """How many lists with it were shown in the days of the history."""

    @property
    def features(self) -> dict[str, float]:
        """Weights by name, `genre:Drama`, those of each kind adding up to 1.

        A movie counts half for its decade, and a quarter for each decade beside it: tastes do not end in a year.
        """
        weights = {f"genre:{name}": 1 / len(self.genres) for name in self.genres}
        if self.year is not None:
            decade = self.year // 10
            weights |= {f"decade:{near}": 0.5 / (1 + abs(near - decade)) for near in range(decade - 1, decade + 2)}
        if self.language:
            weights[f"language:{self.language}"] = 1.0
        if self.collection:
            weights[f"collection:{self.collection}"] = 1.0
        return weights


def content_of(name: str, record: Record, announced: int = 0, shown: int = 0) -> MovieContent:
    """The content of a movie from its record, in which any field may be missing; the year may also end its id."""
    dated, named = _YEAR.search(str(record.get("release_date") or "")), _ID_YEAR.search(name)
    year = dated or named
    collection, language = record.get("belongs_to_collection"), record.get("original_language")
    number = collection.get("id") if isinstance(collection, dict) else None
    return MovieContent(
        id=name,
        genres=sorted(set(record.get("genres") or ())),
        language=language if isinstance(language, str) and language else None,
        year=int(year[0]) if year else None,
        collection=None if number is None else str(number),
        announced=announced,
        shown=shown,
    )


def contents_of(
    watched: Sequence[str],
    records: Mapping[str, Record],
    announced: Mapping[str, int],
    shown: Mapping[str, int],
    left_out: Collection[str] = (),
) -> list[MovieContent]:
    """The content of the watched movies in their order, then of all others that have a record, ascending.

    `announced` and `shown` are the fields of `MovieContent` by movie, 0 where they lack it. Of the others those in
    `left_out` are no part of it.
    """
    unwatched = sorted(records.keys() - set(watched) - set(left_out))
    return [
        content_of(name, records.get(name, {}), announced.get(name, 0), shown.get(name, 0))
        for name in (*watched, *unwatched)
    ]


def shown_lists(table: pa.Table) -> dict[str, int]:
    """By movie: the lists with it, from the part `shown` of some days."""
    counted = table.cast(pa.schema([("movie", pa.string()), ("lists", pa.int64())])).group_by("movie")
    rows = counted.aggregate([("lists", "sum")]).to_pylist()
    return {row["movie"]: row["lists_sum"] for row in rows}


def feature_matrix(contents: Sequence[MovieContent], names: Sequence[str] | None = None) -> sp.csr_matrix:
    """The features of some movies: float32 [m, f]; columns are the `names`, by default all that occur, ascending."""
    weights = [content.features for content in contents]
    if names is None:
        names = sorted({name for own in weights for name in own})
    column = {name: number for number, name in enumerate(names)}
    cells = [(row, column[name], weight) for row, own in enumerate(weights) for name, weight in own.items()
             if name in column]  # fmt: skip
    rows, columns, values = zip(*cells, strict=True) if cells else ((), (), ())
    return sp.csr_matrix(
        (np.array(values, np.float32), (np.array(rows, np.int64), np.array(columns, np.int64))),
        (len(weights), len(names)),
    )
