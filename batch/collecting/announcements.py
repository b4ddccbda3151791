"""`var/new_movies.txt`: ids of new movies, one a line, the newest last; `#` begins a comment.

The stream names a movie only once somebody has begun it, and the service's API has no list of its movies. So whoever
runs the service announces new ones here: by hand, by `python -m batch new-movies`, or by a job that appends a line.
Each night asks the API for the announced movies as it does for those of the stream.

A line that is no movie id is left out with a warning, and so is a file that cannot be read: it costs no release.
"""

import logging
from pathlib import Path
from typing import TextIO

import click

from batch.errors import CatalogError
from stream import durable
from stream.grammar import is_movie
from stream.settings import StreamSettings, load

log = logging.getLogger(__name__)

NEW_MOVIES = "new_movies.txt"


def read_announced(var: Path) -> dict[str, int]:
    """By announced movie: its last line, from 1; {} without a file."""
    path = var / NEW_MOVIES
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        log.error("%s cannot be read: %s; no new movies are announced until it can", path, error.strerror)
        return {}
    lines = _numbered(data.decode("utf-8-sig", errors="replace"))
    if wrong := [number for number, name in lines if not is_movie(name)]:
        log.warning("%s: %d lines are no movie ids, the first is line %d; mend it", path, len(wrong), wrong[0])
    return {name: number for number, name in lines if is_movie(name)}


def announce(var: Path, movies: list[str]) -> int:
    """Append the movies that `new_movies.txt` lacks, all of them or none; returns how many.

    Raises `CatalogError` if one is no movie id, or the file cannot be read or written.
    """
    path = var / NEW_MOVIES
    if wrong := [name for name in movies if not is_movie(name)]:
        raise CatalogError(f"new-movies: {wrong[0]!r} is no movie id, such as aliens+1986; nothing was added")
    try:
        before = path.read_bytes() if path.exists() else b""
        known = {name for _, name in _numbered(before.decode("utf-8-sig", errors="replace"))}
        new = [name for name in dict.fromkeys(movies) if name not in known]
        if new:
            separator = b"" if before.endswith(b"\n") or not before else b"\n"
            durable.write_bytes(path, before + separator + "".join(f"{name}\n" for name in new).encode())
    except OSError as error:
        raise CatalogError(f"new-movies: {path}: {error.strerror}; nothing was added") from error
    return len(new)


def _numbered(text: str) -> list[tuple[int, str]]:
    """The lines that say something, with their numbers from 1, without comments and blanks."""
    lines = ((number, line.partition("#")[0].strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, line) for number, line in lines if line]


@click.command("new-movies")
@click.argument("file", type=click.File(encoding="utf-8", errors="replace"))
def new_movies(file: TextIO) -> None:
    """Announce new movies: the ids in FILE, one a line (`-` for standard input), are added to var/new_movies.txt."""
    names = [name for _, name in _numbered(file.read())]
    added = announce(load("stream", StreamSettings).var, names)
    click.echo(f"{added} movies announced; the next night asks the API for them")
