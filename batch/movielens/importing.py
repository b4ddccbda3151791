"""`import-movielens`: ratings of a MovieLens archive as sessions by day, so that models can be compared with published
results, by the same steps that make a release.

A rating becomes a rating and a session without a watched minute, both at its time. Movies get ids of the service's form
(`toy+story+1995`). The days are written to a temporary folder and moved into place in one step, after the records of
the catalogue: a killed import has left no session and can be run again. A `var` with data of another source is refused.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import numpy as np
import orjson
import pyarrow as pa

from batch.errors import MixedSources, MovieLensError
from batch.history.day_store import DayPart, DaySource, DayStore, day_table
from batch.lock import holding
from batch.movielens.archives import Movie, MovieLensArchive, Person, Ratings
from batch.progress import Advance, step
from quality.catalog import Catalog, FoundRecord
from stream import durable
from stream.archive import Archive
from stream.grammar import MAX_MOVIE_CHARACTERS
from stream.settings import BEST_RATING, StreamSettings, load
from stream.zone import DAY_MS, Zone, day_name, zone_named

BEST_STARS = 5
STAGED = ".import.tmp"
_YEAR = re.compile(r"\s*\((\d{4})(?:\s*[-–]\s*(?:\d{4})?)?\)\s*$")
_ASIDE = re.compile(r"(?<=\S)\s*\([^()]*\)\s*$")
"""An alternative title, in brackets."""
_ARTICLE = re.compile(r"(.*), (The|A|An|Le|La|Les|L'|Il|Lo|I|Gli|El|Los|Las|Der|Die|Das|Det|Den|De|O|Os|As)", re.DOTALL)
_TITLE_CHARACTERS = MAX_MOVIE_CHARACTERS // 2
"""Characters of a title in an id; the rest has room for the year, and for what tells equal titles apart."""
_AGES = (8, 90)
"""The ages that the catalogue accepts."""


def movie_id(title: str) -> str:
    """The id of a title such as `Usual Suspects, The (1995)`: `the+usual+suspects+1995`, ending in `+` without a year.

    Titles in other languages, which follow in brackets, are left out: the service's ids have none.
    """
    year = _YEAR.search(title)
    name = title[: year.start()] if year else title
    while aside := _ASIDE.search(name):
        name = name[: aside.start()]
    if article := _ARTICLE.fullmatch(name.strip()):
        name = f"{article[2]}{'' if article[2].endswith(chr(39)) else ' '}{article[1]}"
    words = name.strip().lower().replace(",", "_").split(" ")
    kept = [re.sub(r"[^a-z0-9\-._*]", "", word) for word in words]
    return f"{'+'.join(kept)[:_TITLE_CHARACTERS]}+{year[1] if year else ''}"


def ids_of(movies: list[Movie]) -> list[str]:
    """An id of its own for each movie; if several have the same title, all but the first get their number into it."""
    ids: dict[str, None] = {}
    for movie in movies:
        name = movie_id(movie.title)
        while name in ids:
            title, _, year = name.rpartition("+")
            name = f"{title}+ml{movie.number}+{year}"
        ids[name] = None
    return list(ids)


class ImportSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What an import brought; `import-movielens` prints it."""

    source: str
    """Name of the archive, and a digest of its ratings."""
    ratings: int
    users: int
    """Users with a rating."""
    movies: int
    rated_movies: int
    described_users: int
    """Users of whom age, gender and occupation are known."""
    days: int
    best_rating: int
    """Of the service's scale."""


def import_archive(archive: MovieLensArchive, streaming: StreamSettings) -> ImportSummary:
    """Import everything into an empty `var`.

    Raises `MovieLensError` for a damaged or unknown archive, `MixedSources` if `var` holds data of another source.
    """
    movies, people = archive.movies(), archive.people()
    names = ids_of(movies)
    catalog, staged = Catalog(streaming.var), streaming.var / STAGED
    _require_no_other_data(streaming.var, catalog, set(names), {str(person.number) for person in people})
    with step(f"reading {archive.name}", archive.size) as advance:
        ratings = archive.ratings(np.array([movie.number for movie in movies], np.int64), advance)
    scaled = _scaled(ratings.stars, BEST_RATING[streaming.generation])
    shutil.rmtree(staged, ignore_errors=True)
    source = f"MovieLens {archive.name}, {ratings.digest}"
    try:
        days = _write(DayStore(staged), ratings, scaled, names, zone_named(streaming.timezone), source)
        catalog.keep("movie", [_movie(name, movie) for name, movie in zip(names, movies, strict=True)])
        catalog.keep("user", [_person(person) for person in people])
        (staged / "sessions").rename(streaming.var / "sessions")
        durable.sync(streaming.var)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return ImportSummary(
        source=source,
        ratings=len(ratings.user),
        users=len(np.unique(ratings.user)),
        movies=len(movies),
        rated_movies=len(np.unique(ratings.movie)),
        described_users=len(people),
        days=days,
        best_rating=BEST_RATING[streaming.generation],
    )


def _require_no_other_data(var: Path, catalog: Catalog, movies: set[str], people: set[str]) -> None:
    if entries := Archive(var).condensed():
        raise MixedSources(
            f"import: {var} holds an archive of {len(entries)} batches; import into another [stream] var"
        )
    if days := DayStore(var).days():
        source = next(iter(days.values())).imported or "an archive"
        raise MixedSources(
            f"import: {var} holds {len(days)} days of {source}; remove {var / 'sessions'}, or use another var"
        )
    if not (catalog.statuses("movie").keys() <= movies and catalog.statuses("user").keys() <= people):
        raise MixedSources(f"import: {catalog.path} holds records of another source; import into another [stream] var")


def _scaled(stars: np.ndarray, best: int) -> np.ndarray:
    """Convert half stars to ratings on the service's scale: int8."""
    if best == 2 * BEST_STARS:
        return stars
    if (stars % 2).any():
        raise MovieLensError(
            'import: half stars do not fit a scale of 1 to 5; set generation = "2026" in [stream], which has 1 to 10'
        )
    return stars // 2


def _write(
    day_store: DayStore, ratings: Ratings, scaled: np.ndarray, names: list[str], clock: Zone, source: str
) -> int:
    """Write the days, and return their number."""
    alphabetic = np.argsort(np.array(names, object))
    rank = np.empty(len(names), np.int32)
    rank[alphabetic] = np.arange(len(names), dtype=np.int32)
    number = np.asarray(clock.to_local(ratings.time) // DAY_MS)
    first = int(number.min())
    by_day = np.argsort((number - first).astype(np.uint16), kind="stable")  # so small a type is sorted in linear time
    ends = np.cumsum(np.bincount(number - first))
    words = pa.array([names[number] for number in alphabetic])
    spans = [
        (day, slice(begin, end))
        for day, (begin, end) in enumerate(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True))
        if begin < end
    ]

    def made(advance: Advance) -> Iterator[tuple[str, DaySource, dict[DayPart, pa.Table]]]:
        for day, span in spans:
            rows = by_day[span]
            rows = rows[np.lexsort((ratings.time[rows], rank[ratings.movie[rows]], ratings.user[rows]))]
            source_of_day = DaySource(imported=source, counts={"ratings": len(rows)})
            yield day_name(first + day), source_of_day, _tables(ratings, rows, scaled, rank, words)
            advance(len(rows))

    with step("days", len(by_day)) as advance:
        day_store.fill(made(advance))
    return len(spans)


def _tables(
    ratings: Ratings, rows: np.ndarray, scaled: np.ndarray, rank: np.ndarray, words: pa.Array
) -> dict[DayPart, pa.Table]:
    """One day's ratings (rows in order), and a session of each."""
    used, index = np.unique(rank[ratings.movie[rows]], return_inverse=True)
    movie = pa.DictionaryArray.from_arrays(pa.array(index.astype(np.int32)), words.take(pa.array(used)))
    user, time = ratings.user[rows], ratings.time[rows]
    unseen = np.zeros(len(rows), np.int32)
    return {
        "sessions": day_table(
            "sessions", {"user": user, "movie": movie, "start": time, "last": time, "minutes": unseen}
        ),
        "ratings": day_table("ratings", {"user": user, "movie": movie, "time": time, "rating": scaled[rows]}),
    }


def _movie(name: str, movie: Movie) -> FoundRecord:
    return name, "known", {"id": name, "title": movie.title, "runtime": None, "genres": movie.genres}, ""


def _person(person: Person) -> FoundRecord:
    age = min(max(person.age, _AGES[0]), _AGES[1])
    known = {"user_id": person.number, "age": age, "occupation": person.occupation, "gender": person.gender}
    return str(person.number), "known", known, ""


@click.command("import-movielens")
@click.argument("path", type=click.Path(path_type=Path, exists=True))
def import_movielens(path: Path) -> None:
    """Import a MovieLens archive: the folder, .zip or .tar.gz PATH of 100k, 1M, 10M, 20M, 25M, 32M or latest.

    It goes into an empty `var` ([stream] var, or MARQUEE_STREAM_VAR), as sessions by day and a catalogue. Afterwards:

    \b
        python -m batch sessions
        python -m batch catalog
        python -m batch history
        python -m batch experiment grid.toml    to compare models
        python -m batch nightly                 to make a release

    A rating is a session without a watched minute. Ratings are converted to the scale of [stream] generation:
    1 to 10 with "2026", which half stars need, and 1 to 5 with "2022". A night learns from all imported days.
    """
    streaming = load("stream", StreamSettings)
    archive = MovieLensArchive(path)
    with holding(streaming.var):
        summary = import_archive(archive, streaming)
    click.echo(orjson.dumps(msgspec.to_builtins(summary), option=orjson.OPT_INDENT_2))
