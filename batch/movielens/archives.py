"""Reads MovieLens archives as they are published, folder, .zip or .tar.gz, of every size, into arrays and records.

| format | files | separated by | stars |
|---|---|---|---|
| 100k | `u.data`, `u.item`, `u.user` | tab, bar | whole |
| 1M, 10M | `ratings.dat`, `movies.dat`, `users.dat` (not 10M) | `::` | whole, half |
| 20M, 25M, 32M, latest | `ratings.csv`, `movies.csv` | comma | half |

Blank lines are skipped; nothing else is skipped or repaired: a malformed file is one error that names the line.
Ratings are read in blocks of 16 MB; 32 M of them are 0.6 GB of arrays. They are half stars, 1..10, whatever the format.
"""

import csv
import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Generic, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from batch.errors import MovieLensError
from batch.movielens.containers import DAMAGES, open_container
from stream.zone import day_number

_BLOCK_BYTES = 1 << 24
_EARLIEST_S, _END_S = day_number("1990-01-01") * 86_400, day_number("2100-01-01") * 86_400
_GENRES = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
"""Genres of the flags of 100k, in their order."""
_OCCUPATIONS = (
    "other", "academic/educator", "artist", "clerical/admin", "college/grad student", "customer service",
    "doctor/health care", "executive/managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer",
    "retired", "sales/marketing", "scientist", "self-employed", "technician/engineer", "tradesman/craftsman",
    "unemployed", "writer",
)  # fmt: skip
"""Occupations of the codes of 1M."""
_TYPES = {"user": pa.uint32(), "movie": pa.uint32(), "stars": pa.float64(), "time": pa.int64()}
"""Columns of ratings; other columns are the empty strings between the colons of a `::`."""


@dataclass(frozen=True)
class Movie:
    """A movie of an archive."""

    number: int
    title: str
    """Mostly with the year in brackets."""
    genres: list[str]


@dataclass(frozen=True)
class Person:
    """A user whom the archive describes. The age of 1M is the first of its band, 1 for the youngest."""

    number: int
    age: int
    gender: str
    occupation: str


@dataclass(frozen=True)
class Ratings:
    """All r ratings, in the order of the file."""

    user: np.ndarray
    """uint32 [r]."""
    movie: np.ndarray
    """int32 [r]: index of the movie."""
    stars: np.ndarray
    """int8 [r]: half stars, 1..10."""
    time: np.ndarray
    """int64 [r]: ms UTC."""

    @property
    def digest(self) -> str:
        """Digest of the ratings: the same for a folder and its .zip or .tar.gz."""
        digest = hashlib.sha256()
        for column in (self.user, self.movie, self.stars, self.time):
            digest.update(np.ascontiguousarray(column).data)
        return f"sha256 {digest.hexdigest()[:16]}"


Record = TypeVar("Record", Movie, Person)


@dataclass(frozen=True)
class _Records(Generic[Record]):
    """A file with a record a line."""

    name: str
    fields: Callable[[str], list[str]]
    width: int
    record: Callable[[list[str]], Record]
    header: str | None = None


@dataclass(frozen=True)
class _Format:
    """The files of a format."""

    name: str
    ratings: str
    delimiter: str
    movies: _Records[Movie]
    people: _Records[Person] | None
    header: str | None = None
    columns: tuple[str, ...] = field(default=("user", "movie", "stars", "time"))


def _quoted(line: str) -> list[str]:
    try:
        return next(csv.reader([line], strict=True))
    except csv.Error as error:
        raise ValueError(str(error)) from error


def _kinds(text: str) -> list[str]:
    return [] if text == "(no genres listed)" else text.split("|")


def _flagged(fields: list[str]) -> Movie:
    if set(fields[5:]) - {"0", "1"}:
        raise ValueError("a flag that is neither 0 nor 1")
    named = [genre for genre, flag in zip(_GENRES, fields[5:], strict=True) if flag == "1" and genre != "unknown"]
    return Movie(_number(fields[0]), fields[1], named)


def _number(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,8}", text, re.ASCII):
        raise ValueError(f"{text!r} is no number")
    return int(text)


def _gender(text: str) -> str:
    if text not in ("F", "M"):
        raise ValueError(f"{text!r} is neither F nor M")
    return text


def _occupation(text: str) -> str:
    if not text.isascii() or not text.isdigit() or int(text) >= len(_OCCUPATIONS):
        raise ValueError(f"{text!r} is no code of an occupation")
    return _OCCUPATIONS[int(text)]


_FORMATS = (
    _Format(
        "100k",
        "u.data",
        "\t",
        _Records("u.item", lambda line: line.split("|"), 5 + len(_GENRES), _flagged),
        _Records(
            "u.user",
            lambda line: line.split("|"),
            5,
            lambda row: Person(_number(row[0]), _number(row[1]), _gender(row[2]), row[3]),
        ),
    ),
    _Format(
        "1M",
        "ratings.dat",
        ":",
        _Records(
            "movies.dat", lambda line: line.split("::"), 3, lambda row: Movie(_number(row[0]), row[1], _kinds(row[2]))
        ),
        _Records(
            "users.dat",
            lambda line: line.split("::"),
            5,
            lambda row: Person(_number(row[0]), _number(row[2]), _gender(row[1]), _occupation(row[3])),
        ),
        columns=("user", "", "movie", " ", "stars", "  ", "time"),
    ),
    _Format(
        "20M",
        "ratings.csv",
        ",",
        _Records(
            "movies.csv",
            _quoted,
            3,
            lambda row: Movie(_number(row[0]), row[1], _kinds(row[2])),
            header="movieId,title,genres",
        ),
        None,
        header="userId,movieId,rating,timestamp",
    ),
)


class MovieLensArchive:
    """One archive, recognised by the names of its files. Raises `MovieLensError` for another one or a damaged one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._reading(""):
            self._container = open_container(path)
            self._sizes = self._container.sizes()
        by_name = {kind.ratings: kind for kind in _FORMATS}
        rating_files = [file for file in self._sizes if file.name in by_name]
        if len(rating_files) != 1:
            names = " and ".join(map(str, rating_files)) or f"none of {', '.join(by_name)}"
            raise MovieLensError(f"movielens: {path}: it holds {names}, not the ratings of one archive")
        self._folder, self._kind = rating_files[0].parent, by_name[rating_files[0].name]
        self._has_people = self._kind.people is not None and self._folder / self._kind.people.name in self._sizes

    @property
    def name(self) -> str:
        """Name of the archive, such as `ml-1m`."""
        return self._folder.name or self._path.resolve().name

    @property
    def size(self) -> int:
        """Bytes of the ratings."""
        return self._sizes[self._folder / self._kind.ratings]

    def movies(self) -> list[Movie]:
        """All movies, by number."""
        return self._records(self._kind.movies)

    def people(self) -> list[Person]:
        """Users whom the archive describes, by number."""
        return self._records(self._kind.people) if self._kind.people and self._has_people else []

    def ratings(self, numbers: np.ndarray, advance: Callable[[int], object] = lambda bytes_: None) -> Ratings:
        """All ratings. `numbers` are those of the movies, int64 [m], ascending; `advance` gets the bytes read."""
        name, count = self._kind.ratings, 0
        blocks: list[tuple[np.ndarray, ...]] = []
        with self._opened(name) as file:
            if self._kind.header is not None:
                self._require_header(name, file.readline(1000), self._kind.header)
            for block in self._parsed(name, file):
                blocks.append(self._checked(count, block, numbers))
                count += block.num_rows
                advance(block.nbytes)
        if not blocks:
            raise self._bad(name, "there is no rating in it")
        return Ratings(*(np.concatenate(column) for column in zip(*blocks, strict=True)))

    def _parsed(self, name: str, file: IO[bytes]) -> Iterator[pa.RecordBatch]:
        columns = self._kind.columns
        types = {column: _TYPES.get(column, pa.string()) for column in columns}
        try:
            yield from pa_csv.open_csv(
                file,
                # on one thread, so that errors name the row
                pa_csv.ReadOptions(use_threads=False, column_names=columns, block_size=_BLOCK_BYTES),
                pa_csv.ParseOptions(delimiter=self._kind.delimiter, ignore_empty_lines=True),
                pa_csv.ConvertOptions(column_types=types, null_values=[], strings_can_be_null=False),
            )
        except pa.ArrowInvalid as error:
            if "Empty CSV file" in str(error):
                return
            row = re.search(r"Row #(\d+): (.*)", str(error))
            where = f"{name}, line {self._line_of(int(row[1]))}" if row else name
            raise self._bad(where, row[2] if row else str(error)) from error

    def _line_of(self, rating: int) -> int:
        """The line of a rating, counted from 1, in the file, which may have blank lines."""
        with self._opened(self._kind.ratings) as file:
            lines = (number for number, line in enumerate(file, 1) if line.strip(b"\r\n"))
            return next(islice(lines, rating - 1 + (self._kind.header is not None), None))

    def _checked(self, before: int, block: pa.RecordBatch, numbers: np.ndarray) -> tuple[np.ndarray, ...]:
        """The columns of a block, which so many ratings come before."""
        user, movie, stars, time = (block.column(name).to_numpy() for name in _TYPES)
        index = np.minimum(np.searchsorted(numbers, movie), len(numbers) - 1)
        half = stars * 2
        wrong = {
            "no user": user < 1,
            "a movie that the list of movies does not have": numbers[index] != movie,
            "not 0.5 to 5 stars": ~((half >= 1) & (half <= 10) & (half == np.rint(half))),
            "no time in seconds since 1970": (time < _EARLIEST_S) | (time >= _END_S),
        }
        for name in set(self._kind.columns) - set(_TYPES):
            wrong[f"something between two {self._kind.delimiter}{name}"] = (
                block.column(name).to_numpy(zero_copy_only=False) != ""
            )
        for what, rows in wrong.items():
            if rows.any():
                raise self._bad(f"{self._kind.ratings}, line {self._line_of(before + int(rows.argmax()) + 1)}", what)
        return user, index.astype(np.int32), half.astype(np.int8), time * 1000

    def _records(self, kind: _Records[Record]) -> list[Record]:
        with self._opened(kind.name) as file:
            data = file.read()
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("latin-1")  # the encoding of 100k and 1M
        lines = text.replace("\r\n", "\n").split("\n")
        if kind.header is not None:
            self._require_header(kind.name, lines[0].encode(), kind.header)
        records: dict[int, Record] = {}
        for number, line in list(enumerate(lines, 1))[kind.header is not None :]:
            if line:
                record = self._record(kind, number, line)
                if record.number in records:
                    raise self._bad(f"{kind.name}, line {number}", f"{record.number} for the second time")
                records[record.number] = record
        if not records:
            raise self._bad(kind.name, "there is nothing in it")
        return [records[number] for number in sorted(records)]

    def _record(self, kind: _Records[Record], number: int, line: str) -> Record:
        try:
            fields = kind.fields(line)
            if len(fields) != kind.width:
                raise ValueError(f"{len(fields)} columns, not {kind.width}")
            return kind.record(fields)
        except ValueError as error:
            raise self._bad(f"{kind.name}, line {number}", str(error)) from error

    def _require_header(self, name: str, line: bytes, header: str) -> None:
        if line.decode("utf-8-sig", "replace").strip().replace('"', "") != header:
            raise self._bad(f"{name}, line 1", f"not {header}")

    @contextmanager
    def _opened(self, name: str) -> Iterator[IO[bytes]]:
        with self._reading(name), self._container.open(self._folder / name) as file:
            yield file

    @contextmanager
    def _reading(self, name: str) -> Iterator[None]:
        try:
            yield
        except (KeyError, FileNotFoundError) as error:
            raise self._bad(name, "it is missing") from error
        except DAMAGES as error:
            raise self._bad(name, f"it is no .zip or .tar.gz, or a damaged one: {error}") from error

    def _bad(self, where: str, what: str) -> MovieLensError:
        shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in what)
        return MovieLensError(": ".join(["movielens", str(self._path), *filter(None, [where]), shown]))
