"""Small MovieLens archives in every format, as files and as what they say."""

import csv
import io
import random
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from batch.movielens.archives import _GENRES
from stream.settings import StreamSettings

Rating = tuple[int, int, float, int]
"""User, movie, stars, seconds since 1970."""


@dataclass
class ArchiveContent:
    """What a small archive says."""

    ratings: list[Rating]
    movies: list[tuple[int, str, list[str]]] = field(
        default_factory=lambda: [
            (1, "Toy Story (1995)", ["Animation", "Comedy"]),
            (2, "American President, The (1995)", ["Drama"]),
            (7, 'Amélie "Poulain", (Fabuleux destin, Le) (2001)', []),
            (90, "Chaos (2005)", ["Crime"]),
            (91, "Chaos (2005)", ["Drama"]),
            (300, "Star Wars: Episode IV (1977)", ["War"]),
        ]
    )
    people: list[tuple[int, int, str, int]] = field(default_factory=lambda: [(1, 1, "F", 10), (2, 56, "M", 16)])
    """User, age, gender, code of the occupation."""


def small_archive(half: bool, count: int = 60, seed: int = 1) -> ArchiveContent:
    rng = random.Random(seed)
    pairs = rng.sample([(user, movie) for user in (1, 2, 5, 4_000_000_000) for movie in (1, 2, 7, 90, 91)] * 3, count)
    stars = [value / 2 for value in range(1, 11)] if half else [1.0, 2.0, 3.0, 4.0, 5.0]
    return ArchiveContent(
        [(*pair, rng.choice(stars), 900_000_000 + rng.randrange(400_000)) for pair in dict.fromkeys(pairs)]
    )


IDS = [
    "toy+story+1995", "the+american+president+1995", "amlie+poulain_+2001", "chaos+2005", "chaos+ml91+2005",
    "star+wars+episode+iv+1977",
]  # fmt: skip


def as_100k(content: ArchiveContent) -> dict[str, bytes]:
    def movie(number: int, title: str, genres: list[str]) -> str:
        flags = "|".join(str(int(genre in genres or (genre == "unknown" and not genres))) for genre in _GENRES)
        return f"{number}|{title}|01-Jan-1995||http://us.imdb.com/M/title|{flags}\n"

    ratings = "".join(f"{user}\t{movie}\t{stars:.0f}\t{time}\n" for user, movie, stars, time in content.ratings)
    people = [f"{user}|{age}|{gender}|writer|85711\n" for user, age, gender, _ in content.people]
    return {
        "u.data": ratings.encode(),
        "u.item": "".join(movie(*row) for row in content.movies).encode("latin-1") + b"\n",
        "u.user": "".join(people).encode(),
    }


def as_dat(content: ArchiveContent, people: bool) -> dict[str, bytes]:
    ratings = "".join(f"{user}::{movie}::{stars:g}::{time}\n" for user, movie, stars, time in content.ratings)
    kinds = [(number, title, "|".join(genres) or "(no genres listed)") for number, title, genres in content.movies]
    movies = "".join(f"{number}::{title}::{genres}\n" for number, title, genres in kinds)
    found = {"ratings.dat": ratings.encode(), "movies.dat": movies.encode("latin-1" if people else "utf-8")}
    if people:
        lines = [f"{user}::{gender}::{age}::{code}::48067\n" for user, age, gender, code in content.people]
        found["users.dat"] = "".join(lines).encode()
    return found


def as_csv(content: ArchiveContent) -> dict[str, bytes]:
    def written(header: str, rows: list[tuple[object, ...]]) -> bytes:
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([header.split(","), *rows])
        return out.getvalue().encode()

    movies = [(number, title, "|".join(genres) or "(no genres listed)") for number, title, genres in content.movies]
    return {
        "ratings.csv": written("userId,movieId,rating,timestamp", list(content.ratings)),
        "movies.csv": written("movieId,title,genres", list(movies)),
        "tags.csv": b"userId,movieId,tag,timestamp\n",
    }


FORMS: dict[str, Callable[[], tuple[ArchiveContent, dict[str, bytes]]]] = {
    "100k": lambda: (content := small_archive(half=False), as_100k(content)),
    "1M": lambda: (content := small_archive(half=False), as_dat(content, people=True)),
    "10M": lambda: (content := small_archive(half=True), as_dat(content, people=False)),
    "20M": lambda: (content := small_archive(half=True), as_csv(content)),
}


def write_archive(folder: Path, files: dict[str, bytes], zipped: bool, crlf: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if crlf:
        files = {name: data.replace(b"\n", b"\r\n") for name, data in files.items()}
    if not zipped:
        for name, data in files.items():
            (folder / name).write_bytes(data)
        return folder
    path = folder / "archive.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("ml-small/", b"")
        out.writestr("__MACOSX/ml-small/._ratings.csv", b"\x00")
        for name, data in files.items():
            out.writestr(f"ml-small/{name}", data)
    return path


def settings(var: Path, generation: str = "2026") -> StreamSettings:
    return msgspec.convert(
        {"var": str(var), "generation": generation}, StreamSettings, dec_hook=lambda kind, v: Path(v)
    )
