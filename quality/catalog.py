"""The catalogue: the records of movies and users that the APIs returned, so that each id is asked for once.

One SQLite file, `var/catalog/catalog.sqlite`, a row a record: `known` with the record as its schema wants it, `unknown`
where the API says there is none (so that a mistyped id is not asked every night), `bad` where it does not fit its
schema, with the reason; bad ones are asked again. What could not be asked is not there, and is asked the next time.

`KnownIds` is what of it lines are held against.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import orjson

from quality.errors import RecordsError

RUNTIME_SHARE, RUNTIME_MINUTES = 1.05, 5
"""Minutes up to `runtime * RUNTIME_SHARE + RUNTIME_MINUTES` are played: of real lines 99.9 % stay below 1.013."""

Subject = Literal["movie", "user"]
Status = Literal["known", "unknown", "bad"]
FoundRecord = tuple[str, Status, dict[str, Any] | None, str]
"""Id, what became of it, the record where it is known, the reason where it is bad."""


@dataclass(frozen=True)
class KnownIds:
    """What is known of movies and users when lines are judged."""

    runtimes: Mapping[str, int | None] = field(default_factory=dict)
    """By known movie: its runtime in minutes, None where the service does not say. Empty: any movie may exist."""
    missing: frozenset[str] = frozenset()
    """Movies of which the API says that there are none."""
    users: frozenset[int] = frozenset()
    """Known users whose ids lie above those that the settings allow."""
    no_users: frozenset[int] = frozenset()
    """Ids above those that the settings allow of which the API says that there are none."""

    @cached_property
    def last_minutes(self) -> dict[str, int]:
        """By movie of known runtime: the last minute that a line may name."""
        return {
            movie: int(runtime * RUNTIME_SHARE) + RUNTIME_MINUTES for movie, runtime in self.runtimes.items() if runtime
        }


class Catalog:
    """The records that are kept."""

    def __init__(self, var: Path) -> None:
        self.path = var / "catalog" / "catalog.sqlite"

    def state(self) -> tuple[tuple[int, int], ...]:
        """Changes whenever a record does, whichever process writes it."""
        states = []
        for path in (self.path, self.path.with_name(f"{self.path.name}-wal")):
            try:
                status = path.stat()
            except FileNotFoundError:  # the other file of the two comes and goes
                continue
            states.append((status.st_mtime_ns, status.st_size))
        return tuple(states)

    def statuses(self, subject: Subject) -> dict[str, Status]:
        """By id: what is known of it."""
        return dict(self._rows("SELECT id, status FROM records WHERE subject = ?", subject))

    def records(self, subject: Subject) -> dict[str, dict[str, Any]]:
        """By id: the known records."""
        rows = self._rows("SELECT id, body FROM records WHERE subject = ? AND status = 'known'", subject)
        return {name: orjson.loads(body) for name, body in rows}

    def people(self) -> list[tuple[int, int, str]]:
        """Id, age and gender of the known users: of a million of them not the whole records."""
        body = "CAST(body AS TEXT)"
        columns = f"CAST(id AS INTEGER), json_extract({body}, '$.age'), json_extract({body}, '$.gender')"
        return self._rows(f"SELECT {columns} FROM records WHERE subject = 'user' AND status = 'known'")  # noqa: S608

    def known(self, max_user: int) -> KnownIds:
        """What lines are held against; of users only those with ids above `max_user`."""
        runtime = (
            "SELECT id, status, json_extract(CAST(body AS TEXT), '$.runtime') FROM records WHERE subject = 'movie'"
        )
        movies = self._rows(runtime)
        # by the length first: turning a million ids into numbers takes longer than all the rest
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

    def keep(self, subject: Subject, found: list[FoundRecord]) -> None:
        """Store what the API said, durably."""
        rows = [(subject, name, status, body and orjson.dumps(body), reason) for name, status, body, reason in found]
        with self._opened() as store, store:
            store.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?)", rows)

    def forget_unknown(self) -> int:
        """Drop what the API said it does not know, so that it is asked again; returns how many."""
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
            mend = "; remove it: the APIs are asked again" if damaged else ""
            raise RecordsError(f"catalogue: {self.path}: {error}{mend}") from error
