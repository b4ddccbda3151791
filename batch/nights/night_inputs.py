"""The input of a night: `night/read.json`, `night/proven.json`, `night/content.json` and `night/input.json`.

`read.json` has the part of the archive that the step `sessions` read, `input.json` also the part that the step
`history` used. The latter becomes `input` in the manifest of the release. `proven.json` says what the movie API left
open, `content.json` what is known of each movie of the release.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from batch.errors import NotEnoughData
from batch.history.day_store import DayStore
from batch.history.movie_content import MovieContent
from quality.alerts.alert_file import Alert
from server.manifest import InputFacts
from stream import durable
from stream.archive import Archive
from stream.decoding import decode_json
from stream.ledger_clock import stream_time
from stream.ledger_entry import LedgerEntry

CONTENT = "content.json"


class ArchiveRead(msgspec.Struct, frozen=True, kw_only=True):
    """`read.json`: the part of the archive that a night has read."""

    stream_time: int | None
    """How far the stream had come, ms UTC; None for an archive without a line."""
    offsets: dict[str, list[int]]
    """By `topic-partition`: the first offset that was read and the last."""
    hash: str
    """sha256 of the ledger entries, without the times of their writing."""


class MovieAnswers(msgspec.Struct, frozen=True, kw_only=True):
    """`proven.json`: what the movie API had answered once the step `catalog` was done."""

    api_answered: bool | None = None
    """Whether it did not fail, and had known or denied at least half of the movies that the sessions name; None if the
    step has not run."""
    proven: list[str] = []
    """Movies that it had neither known nor denied, but that many users watched, ascending."""


def require_archive(archive: Archive, entries: Sequence[LedgerEntry], day_store: DayStore) -> None:
    """Raise `NotEnoughData` if the archive is empty although sessions were made from it: they would be removed."""
    days = day_store.archived_days()
    if days and not entries:
        raise NotEnoughData(
            f"sessions: {archive.ledger} is empty, but {len(days)} days of sessions were made from it; is the"
            f" disk mounted? To start over, remove {day_store.folder}"
        )


def describe_entries(archive: Archive, entries: Sequence[LedgerEntry]) -> ArchiveRead:
    """The part of the archive in these ledger entries, of `Archive.condensed` or single ones: they give the same."""
    return ArchiveRead(stream_time=stream_time(entries), offsets=_offsets(entries), hash=_hash(archive.expand(entries)))


def write_archive_read(folder: Path, read: ArchiveRead) -> None:
    """Write `read.json` into the folder of the night."""
    durable.write_json(folder / "read.json", msgspec.to_builtins(read))


def parse_archive_read(data: bytes) -> ArchiveRead:
    """Parse `read.json`. Raises `msgspec.DecodeError`."""
    return decode_json(data, ArchiveRead)


def write_movie_answers(folder: Path, answers: MovieAnswers) -> None:
    """Write `proven.json` into the folder of the night."""
    durable.write_json(folder / "proven.json", msgspec.to_builtins(answers))


def parse_movie_answers(data: bytes) -> MovieAnswers:
    """Parse `proven.json`. Raises `msgspec.DecodeError`."""
    return decode_json(data, MovieAnswers)


def write_contents(folder: Path, contents: Sequence[MovieContent]) -> None:
    """Write `content.json` into the folder of the night."""
    durable.write_bytes(folder / CONTENT, msgspec.json.encode(contents) + b"\n")


def read_contents(folder: Path) -> list[MovieContent]:
    """Read `content.json`. Raises `OSError`, or `msgspec.DecodeError`."""
    return decode_json((folder / CONTENT).read_bytes(), list[MovieContent])


def unconfirmed_alert(release: str, movies: int, day: str) -> Alert:
    """The alert of a release with movies that only the stream proves, on a day of the stream."""
    text = (
        f"the movie API did not answer in the night of {day}: {release} has {movies} movies that only the stream"
        " proves, without runtimes; once the API answers, the schedule runs another night"
    )
    return Alert(id=f"movies_unconfirmed:{day}", alert="movies_unconfirmed", text=text)


def write_input(folder: Path, facts: InputFacts) -> None:
    """Write `input.json` into the folder of the night."""
    durable.write_json(folder / "input.json", msgspec.to_builtins(facts))


def parse_input(data: bytes) -> InputFacts:
    """Parse `input.json`. Raises `msgspec.DecodeError`, also where a field is missing that a manifest may lack."""
    present = decode_json(data, dict[str, msgspec.Raw])
    if missing := [name for name in InputFacts.__struct_fields__ if name not in present]:
        raise msgspec.ValidationError(f"Object missing required field `{missing[0]}`")
    return decode_json(data, InputFacts)


def _offsets(entries: Iterable[LedgerEntry]) -> dict[str, list[int]]:
    ranges: dict[str, list[int]] = {}
    for entry in entries:
        span = ranges.setdefault(f"{entry.topic}-{entry.partition}", [entry.first, entry.last])
        span[:] = min(span[0], entry.first), max(span[1], entry.last)
    return ranges


def _hash(entries: Iterable[LedgerEntry]) -> str:
    """Digest of the list of entries as JSON, one by one: a year's list would take a gigabyte."""
    digest, before = hashlib.sha256(b"["), b""
    for entry in entries:
        digest.update(before + msgspec.json.encode(msgspec.structs.replace(entry, written="")))
        before = b","
    digest.update(b"]")
    return digest.hexdigest()
