"""The rows of a day's report, read from the archive.

They are a function of the archived lines alone: of their own times and Kafka's times, not of when or in which batches
they were archived. So a final report can be made again, byte for byte, as long as the archive is there.

Minutes are read a file at a time and merged into sessions, so memory holds the sessions of two days, not their lines.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from quality.metrics.watch_sessions import TimeSpans, merge_spans, session_key
from quality.settings import QualitySettings
from quality.telemetry.day_rows import (
    AnswerRows,
    DayRows,
    LineGap,
    RatingRows,
    answer_digests,
    late_reason,
    milliseconds,
)
from quality.telemetry.report_days import ReportDays
from stream.archive import Archive
from stream.clock import ClockLimit, merged
from stream.event import KINDS, LIST_LENGTH, Kind
from stream.ledger_clock import latest_lines
from stream.ledger_entry import ArchiveFile, LedgerEntry, TimeRange, of_present_topic
from stream.set_aside import OpenCases
from stream.settings import StreamSettings
from stream.zone import day_name, day_number

_JOINED: tuple[Kind, ...] = ("watch", "rate", "recommend")
"""The kinds that reports count."""
_MERGED_AT = 4_000_000
"""Spans held before they are merged: 100 MB."""


@dataclass(frozen=True)
class _NumberedMovies:
    """Numbers movie ids in order of their appearance."""

    numbers: dict[str, int] = field(default_factory=dict)

    def of(self, column: pa.Array) -> np.ndarray:
        """The number of each movie, int64."""
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        words = encoded.dictionary.to_pylist()
        by_word = np.array([self.numbers.setdefault(word, len(self.numbers)) for word in words] or [0], np.int64)
        indices: np.ndarray = by_word[encoded.indices.to_numpy()]
        return indices


@dataclass(frozen=True)
class ArchiveRows:
    """The rows of days, from some entries of the ledger."""

    archive: Archive
    entries: Sequence[LedgerEntry]
    """Those of a topic, in order, from `Archive.condensed`: one by one only where files are read."""
    days: ReportDays
    gap_ms: int
    """Longest pause within a session."""

    @classmethod
    def of(cls, streaming: StreamSettings, quality: QualitySettings, archive: Archive | None = None) -> "ArchiveRows":
        """The rows of the topic of the settings. Raises `ArchiveError` if the ledger cannot be read.

        An `archive` that was read before reads only the entries that are new.
        """
        archive = archive or Archive(streaming.var)
        return cls(archive, archive.condensed(streaming.topic), ReportDays.of(streaming, quality), quality.gap_ms)

    def is_waiting(self) -> bool:
        """Whether the collector is about to archive records that it had set aside: the clock has come near to them."""
        latest = merged(latest_lines(self.entries).values())
        if latest is None or latest.limit is None:
            return False
        return bool(OpenCases(of_present_topic(self.entries)).confirmed(ClockLimit(latest.limit, latest.quorum)))

    def known_days(self) -> list[int]:
        """The days of events, by their own times and by Kafka's, ascending."""
        days = set[int]()
        for entry, times in self._entries_with_events():
            days |= {day_number(each.day) for each in entry.counts if each.kind} | self._arrival_days(entry, times)
        return sorted(days)

    def _entries_with_events(self) -> Iterator[tuple[LedgerEntry, TimeRange]]:
        """With the Kafka times of their events; other entries have those of their refused lines instead."""
        for entry in self.entries:
            if (times := entry.event_times) is not None:
                yield entry, times

    def _arrival_days(self, entry: LedgerEntry, times: TimeRange) -> set[int]:
        """The days of Kafka's times of an entry's events."""
        ends = {self._day(times.first), self._day(times.last)}
        if len(ends) == 1 and not entry.revision:
            return ends
        if entry.entry_count > 1:
            singles = ((single, single.event_times) for single in self.archive.expand([entry]))
            return set[int]().union(*(self._arrival_days(single, span) for single, span in singles if span))
        files = [file for kind in KINDS for file in _files(entry, kind)]
        kept = [file for file in files if self.archive.is_kept(file)]
        tables = [self.archive.read(file, ("kafka_time",)) for file in kept]
        days = {int(day) for table in tables for day in self.days.zone.day_number(milliseconds(table, "kafka_time"))}
        return days if len(kept) == len(files) else ends | days

    def day_rows(self, day: int) -> DayRows:
        """The rows of a day's report. Raises `ArchiveError` if a file cannot be read."""
        first, end = self.days.bounds(day)
        until, closes, numbers = end + self.days.window_ms, self.days.closes(day), _NumberedMovies()
        return DayRows(
            first=first,
            end=end,
            answers=self._answers(first, until, end, closes, numbers),
            sessions=self._sessions(first, until, closes, numbers),
            ratings=self._ratings(first, until, closes, numbers),
            movies=numbers.numbers,
            left_out=self._left_out(day),
            gaps=list(self._gaps(first, until)),
            known_from=min((times.first for _, times in self._entries_with_events()), default=None),
            lines=sum(count.lines for entry in self.entries for count in entry.counts if count.day == day_name(day)),
        )

    def _tables(self, kind: Kind, first: int, until: int, closes: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        """The events with first ≤ time ≤ until that came before the report closed, a file at a time."""
        names = {day_name(day) for day in range(self._day(first), self._day(until) + 1)}
        for file in self._files(kind, names.__contains__, (0, closes)):
            table = self.archive.read(file, ("time", "user", *columns, "kafka_time"))
            times = milliseconds(table, "time")
            chosen = (times >= first) & (times <= until) & (milliseconds(table, "kafka_time") < closes)
            yield table if chosen.all() else table.filter(pa.array(chosen))

    def _files(
        self, room: str, is_of: Callable[[str], bool], times: tuple[int, int] | None = None
    ) -> Iterator[ArchiveFile]:
        """The files of one kind or of the quarantine, of some days; with first and end of Kafka's times, only those
        that may hold such lines.
        """

        def chosen(entry: LedgerEntry) -> bool:
            return (times is None or _may_hold(entry, *times)) and any(
                other == room and is_of(day) for other, day, _ in entry.rows_by_file_day()
            )

        for entry in filter(chosen, self.archive.expand(filter(chosen, self.entries))):
            yield from (file for file in _files(entry, room) if is_of(file.day))

    def _day(self, time_ms: int) -> int:
        return int(self.days.zone.day_number(time_ms))

    def _sessions(self, first: int, until: int, closes: int, numbers: _NumberedMovies) -> TimeSpans:
        """The sessions that started in (first, until]. One that began before it has a minute within the gap before."""
        none = np.zeros(0, np.int64)
        spans, waiting, held = TimeSpans(none.astype(np.uint64), none, none), [], 0
        for table in self._tables("watch", first - self.gap_ms, until, closes, ["movie"]):
            times = milliseconds(table, "time")
            movies = numbers.of(table["movie"].combine_chunks())
            waiting.append(TimeSpans(session_key(table["user"].to_numpy(), movies), times, times))
            held += len(times)
            if held >= _MERGED_AT:
                spans, waiting, held = self._merged([spans, *waiting]), [], 0
        spans = self._merged([spans, *waiting])
        return spans[spans.start > first]

    def _merged(self, parts: Sequence[TimeSpans]) -> TimeSpans:
        columns = (np.concatenate([getattr(part, name) for part in parts]) for name in TimeSpans.__slots__)
        return merge_spans(TimeSpans(*columns), self.gap_ms)[0]

    def _answers(self, first: int, until: int, end: int, closes: int, numbers: _NumberedMovies) -> AnswerRows:
        """Each different answer once, ascending by time, user and digest."""
        columns = ("host", "status", "movies", "latency_ms", "error")
        none: tuple[np.ndarray, ...] = (
            *(np.zeros(0, np.int64) for _ in range(5)),
            np.zeros((0, LIST_LENGTH), np.int32),
        )
        parts = [none]
        for table in self._tables("recommend", first, until - 1, closes, columns):
            times = milliseconds(table, "time")
            is_listed = (table["status"].to_numpy() == 200) & (times < end)
            numeric = (table[name].to_numpy().astype(np.int64) for name in ("user", "status", "latency_ms"))
            user, status, latency_ms = numeric
            digests = np.array(answer_digests(table), np.int64)
            parts.append((times, user, digests, status, latency_ms, _lists(table, is_listed, numbers)))
        time, user, digests, status, latency_ms, lists = map(np.concatenate, zip(*parts, strict=True))
        order = np.lexsort((digests, user, time))
        same = [column[order][1:] == column[order][:-1] for column in (time, user, digests)]
        rows = order[np.concatenate([[True], ~np.logical_and.reduce(same)])[: len(order)]]
        return AnswerRows(time[rows], user[rows], status[rows], latency_ms[rows], lists[rows])

    def _ratings(self, first: int, until: int, closes: int, numbers: _NumberedMovies) -> RatingRows:
        parts = [np.zeros((0, 4), np.int64)]
        for table in self._tables("rate", first + 1, until, closes, ["movie", "rating"]):
            columns = (
                milliseconds(table, "time"), table["user"].to_numpy(),
                numbers.of(table["movie"].combine_chunks()), table["rating"].to_numpy(),
            )  # fmt: skip
            parts.append(np.stack([column.astype(np.int64) for column in columns], axis=1))
        return RatingRows(*np.unique(np.concatenate(parts), axis=0).T)

    def _left_out(self, day: int) -> dict[str, int]:
        """Different lines by reason: whether a copy is one more in the ledger depends on the borders of batches."""
        files = self._files("quarantine", day_name(day).__eq__)
        reasons: dict[bytes, str] = {}
        for table in (self.archive.read(file, ("raw", "reason")) for file in files):
            for raw, reason in zip(table["raw"].to_pylist(), table["reason"].to_pylist(), strict=True):
                reasons[raw] = min(reason, reasons.get(raw, reason))
        counts = Counter(reasons.values())
        counts.update({late_reason(kind): lines for kind in _JOINED if (lines := self._late(kind, day))})
        return dict(sorted(counts.items()))

    def _late(self, kind: Kind, day: int) -> int:
        """How many different lines came on a day (of Kafka's time) after the report of their own day had closed."""
        first, end = self.days.bounds(day)
        last_closed = self.days.last_closed(end - 1)
        suspects: dict[str, list[ArchiveFile]] = {}
        for file in self._files(kind, lambda name: day_number(name) <= last_closed, (first, end)):
            if self.archive.is_kept(file):
                suspects.setdefault(file.day, []).append(file)
        return sum(self._late_of(kind, name, files, first, end) for name, files in suspects.items())

    def _late_of(self, kind: Kind, name: str, suspects: Sequence[ArchiveFile], first: int, end: int) -> int:
        """How many different lines of the day `name` first came with a Kafka time in [first, end), and too late."""
        first = max(first, self.days.closes(day_number(name)))
        users = np.unique(np.concatenate([self._users_since(file, first) for file in suspects]))
        if not len(users):
            return 0
        copies = pd.concat([self._copies(kind, file, users) for file in self._files(kind, name.__eq__)])
        arrived = copies.groupby([column for column in copies.columns if column != "kafka_time"])["kafka_time"].min()
        return int(((arrived >= first) & (arrived < end)).sum())

    def _users_since(self, file: ArchiveFile, first: int) -> np.ndarray:
        table = self.archive.read(file, ("user", "kafka_time"))
        users: np.ndarray = table["user"].to_numpy()[milliseconds(table, "kafka_time") >= first]
        return users

    def _copies(self, kind: Kind, file: ArchiveFile, users: np.ndarray) -> pd.DataFrame:
        """The lines of some users; copies of a line are equal in all columns but `kafka_time`."""
        table = self.archive.read(file)
        table = table.filter(pa.array(np.isin(table["user"].to_numpy(), users)))
        columns = {name: milliseconds(table, name) for name in ("time", "kafka_time")}
        columns["user"] = table["user"].to_numpy()
        if kind == "recommend":
            return pd.DataFrame(columns | {"digest": np.array(answer_digests(table), np.int64)})
        names = [name for name in ("movie", "rating") if name in table.column_names]
        return pd.DataFrame(columns | {name: table[name].to_pylist() for name in names})

    def _gaps(self, first: int, until: int) -> Iterator[LineGap]:
        """The gaps of each partition that may have been of a time.

        They lie between the time that the partition had reached and its first event after them, wherever its batches
        begin and end.
        """
        for _, group in groupby(self.entries, key=lambda entry: (entry.topic, entry.partition)):
            partition = list(group)
            for place in (place for place, entry in enumerate(partition) if entry.lost):
                before = [entry.reached for entry in partition[:place] if entry.kafka_time]
                following = self.archive.expand(partition[place:])
                later = (time for entry in following if (time := self._first_event_time(entry)) is not None)
                after, ended = before[-1] if before else None, next(later, None)
                if (after is None or after < until) and (ended is None or ended >= first):
                    yield LineGap(partition[place].lost, after, ended)

    def _first_event_time(self, entry: LedgerEntry) -> int | None:
        """Kafka's time of the event with the lowest offset, ms UTC; None for an entry without events."""
        files = [file for kind in KINDS for file in _files(entry, kind)]
        if not files:
            return None
        if not all(map(self.archive.is_kept, files)):
            return None if entry.kafka_time is None else entry.kafka_time.first
        table = pa.concat_tables(self.archive.read(file, ("offset", "kafka_time")) for file in files)
        return int(milliseconds(table, "kafka_time")[np.argmin(table["offset"].to_numpy())])


def _may_hold(entry: LedgerEntry, first: int, end: int) -> bool:
    """Whether an entry may hold events with first ≤ Kafka's time < end; a revision may have any."""
    times = entry.kafka_time
    return times is not None and (entry.revision > 0 or (times.first < end and times.last >= first))


def _files(entry: LedgerEntry, room: str) -> Iterator[ArchiveFile]:
    """The files of an entry, of one kind or of the quarantine."""
    return (file for file in entry.files if file.room == room)


def _lists(table: pa.Table, is_listed: np.ndarray, numbers: _NumberedMovies) -> np.ndarray:
    """int32[answers, 20]: numbers of the movies of the answers that are listed, -1 for none."""
    movies = table["movies"].combine_chunks()
    lengths = pc.list_value_length(movies).to_numpy(zero_copy_only=False).astype(np.int64)
    rows = np.repeat(np.arange(len(movies)), lengths)
    places = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    chosen = is_listed[rows]
    lists = np.full((len(movies), LIST_LENGTH), -1, np.int32)
    lists[rows[chosen], places[chosen]] = numbers.of(movies.flatten().filter(pa.array(chosen)))
    return lists
