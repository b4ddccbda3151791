"""The catalogue: the records of movies and users that the APIs returned, so that each id is requested once.

One SQLite file, `var/catalog/catalog.sqlite`, has a row for each id: `known` with the normalized record; `unknown` if
the API denies it, so that a mistyped id is not requested every night; `bad` with the reason if a required field of the
record breaks its schema. A known record lacks its other wrong fields, and has the reason beside it. Each night requests
ids without a row again, for which no answer came, bad ids, and some known records that lack wrong fields.

`KnownIds` is the part that lines are checked against.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import orjson

from quality.errors import RecordsError

RUNTIME_SHARE, RUNTIME_MINUTES = 1.05, 5
"""The last minute of a movie is `runtime * RUNTIME_SHARE + RUNTIME_MINUTES`; 99.9 % of real lines stay below 1.013."""

LARGEST_COST = 1_000_000.0
"""A play that costs more is a mistake of the service."""
_FLAGS = {"true": True, "1": True, "false": False, "0": False}
"""Records of older versions have the service's own text, `"False"`; of newer ones, SQLite gives 1 or 0."""

Subject = Literal["movie", "user"]
Status = Literal["known", "unknown", "bad"]
Record = dict[str, Any]  # the API may add fields: fields without rules are kept unchecked
"""A record of the service's APIs by field; `quality.lines.schemas` has the rules of the fields that Marquee uses."""
FoundRecord = tuple[str, Status, Record | None, str]
"""Id, its status, the record if it is known, and the reason if it is bad or lacks wrong fields (else "")."""


@dataclass(frozen=True)
class KnownIds:
    """The movies and users known to exist, or not to, when lines are judged."""

    runtimes: Mapping[str, int | None] = field(default_factory=dict)
    """By known movie: its runtime in minutes, None if the service does not give it. Empty: any movie may exist."""
    missing: frozenset[str] = frozenset()
    """Movies that do not exist, according to the API."""
    users: frozenset[int] = frozenset()
    """Ids above `[stream] max_user` of users that exist."""
    no_users: frozenset[int] = frozenset()
    """Ids above `[stream] max_user` of users that do not exist, according to the API."""

    @cached_property
    def last_minutes(self) -> dict[str, int]:
        """By movie with a known runtime: the last minute that a line may name."""
        return {
            movie: int(runtime * RUNTIME_SHARE) + RUNTIME_MINUTES for movie, runtime in self.runtimes.items() if runtime
        }


class KnownMovie(NamedTuple):
    """What the catalogue has of a movie; None for what the service does not say, or not so that it could be read."""

    runtime: int | None = None
    """Minutes."""
    adult: bool | None = None
    cost: float | None = None
    """What the licence costs per play, in the service's money."""


class Catalog:
    """The stored records below one `var` folder. Every method raises `RecordsError` if the file cannot be used."""

    def __init__(self, var: Path) -> None:
        self.path = var / "catalog" / "catalog.sqlite"

    def state(self) -> tuple[tuple[int, int], ...]:
        """A value that changes whenever any process changes a record."""
        states = []
        for path in (self.path, self.path.with_name(f"{self.path.name}-wal")):
            try:
                status = path.stat()
            except FileNotFoundError:  # SQLite creates and removes the -wal file as it needs
                continue
            states.append((status.st_mtime_ns, status.st_size))
        return tuple(states)

    def statuses(self, subject: Subject) -> dict[str, Status]:
        """The status of each id that has one."""
        return dict(self._rows("SELECT id, status FROM records WHERE subject = ?", subject))

    def partly_known(self, subject: Subject) -> set[str]:
        """The known ids whose records lack fields that were wrong."""
        rows = self._rows("SELECT id FROM records WHERE subject = ? AND status = 'known' AND reason <> ''", subject)
        return {name for (name,) in rows}

    def records(self, subject: Subject) -> dict[str, Record]:
        """The known records by id."""
        rows = self._rows("SELECT id, body FROM records WHERE subject = ? AND status = 'known'", subject)
        return {name: orjson.loads(body) for name, body in rows}

    def people(self) -> list[tuple[int, int, str]]:
        """Id, age and gender of each known user, read without decoding a million whole records."""
        body = "CAST(body AS TEXT)"
        columns = f"CAST(id AS INTEGER), json_extract({body}, '$.age'), json_extract({body}, '$.gender')"
        return self._rows(f"SELECT {columns} FROM records WHERE subject = 'user' AND status = 'known'")  # noqa: S608

    def self_descriptions(self) -> list[tuple[int, str | None, str | None]]:
        """Id, likes and dislikes of each known user who has written either, without decoding whole records."""
        body = "CAST(body AS TEXT)"
        likes, dislikes = (f"json_extract({body}, '$.self_description_{name}')" for name in ("likes", "dislikes"))
        has_any = f"({likes} IS NOT NULL OR {dislikes} IS NOT NULL)"
        known = "subject = 'user' AND status = 'known'"
        return self._rows(f"SELECT CAST(id AS INTEGER), {likes}, {dislikes} FROM records WHERE {known} AND {has_any}")  # noqa: S608

    def genres(self) -> dict[str, list[str]]:
        """The genres of each known movie."""
        body = "CAST(body AS TEXT)"
        query = f"SELECT id, json_extract({body}, '$.genres') FROM records"  # noqa: S608
        rows = self._rows(f"{query} WHERE subject = 'movie' AND status = 'known'")
        return {name: orjson.loads(genres) if genres else [] for name, genres in rows}

    def movies(self) -> dict[str, KnownMovie]:
        """The known movies by id, as records of any version have them."""
        body = "CAST(body AS TEXT)"
        fields = f"json_extract({body}, '$.runtime'), json_extract({body}, '$.adult'), json_extract({body}, '$.cost')"
        rows = self._rows(f"SELECT id, {fields} FROM records WHERE subject = 'movie' AND status = 'known'")  # noqa: S608
        return {
            name: KnownMovie(runtime, _FLAGS.get(str(adult).strip().lower()), _cost(cost))
            for name, runtime, adult, cost in rows
        }

    def known(self, max_user: int) -> KnownIds:
        """The ids that lines are checked against; of users only those above `max_user`."""
        runtime = (
            "SELECT id, status, json_extract(CAST(body AS TEXT), '$.runtime') FROM records WHERE subject = 'movie'"
        )
        movies = self._rows(runtime)
        # compare lengths first: casting a million ids to numbers would take longer than all the rest
        text = (
            "SELECT id, status FROM records WHERE subject = 'user'"
            " AND (length(id) > length(?1) OR (length(id) = length(?1) AND id > ?1))"
        )
        users = self._rows(text, str(max_user))
        return KnownIds(
            {name: runtime for name, status, runtime in movies if status == "known"},
            frozenset(name for name, status, _ in movies if status == "unknown"),
            frozenset(int(name) for name, status in users if status == "known"),
            frozenset(int(name) for name, status in users if status == "unknown"),
        )

    def keep(self, subject: Subject, records: list[FoundRecord]) -> None:
        """Store the API's answers for these ids, durably.

        They replace earlier ones, but only a record replaces a record: the API may fail when it is asked again.
        """
        rows = [
            (subject, name, status, record and orjson.dumps(record), reason) for name, status, record, reason in records
        ]
        with self._opened() as store, store:
            store.executemany(
                "INSERT INTO records VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
                " SET status = excluded.status, body = excluded.body, reason = excluded.reason"
                " WHERE records.status <> 'known' OR excluded.status = 'known'",
                rows,
            )

    def forget_unknown(self) -> int:
        """Drop the ids that the API denied, so that they are requested again; returns how many."""
        with self._opened() as store, store:
            return store.execute("DELETE FROM records WHERE status = 'unknown'").rowcount

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        if not self.path.exists():
            return []
        with self._opened() as store:
            return store.execute(query, values).fetchall()

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(sqlite3.connect(self.path)) as store:
                store.execute("PRAGMA journal_mode = WAL")
                store.execute(
                    "CREATE TABLE IF NOT EXISTS records (subject TEXT, id TEXT, status TEXT, body BLOB, reason TEXT,"
                    " PRIMARY KEY (subject, id)) WITHOUT ROWID"
                )
                yield store
        except sqlite3.Error as error:
            damaged = getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
            advice = "; remove it: the records are then requested again" if damaged else ""
            raise RecordsError(f"catalogue: {self.path}: {error}{advice}") from error


def _cost(value: object) -> float | None:
    """A cost per play; older versions also kept those that are none."""
    return float(value) if isinstance(value, int | float) and 0 <= value <= LARGEST_COST else None
