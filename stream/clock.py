"""The stream's clock: how far a topic has come, as many lines say, and never one.

A record's Kafka time is set by its sender, whose clock can be wrong by days. So a time is *confirmed* once a quorum of
lines is at it or later: `lines` lines of at least `users` users, where a user counts once a minute. Two times follow:

    limit   the latest confirmed time, plus the allowance `ahead_ms`; a record beyond it is set aside
    time    the latest time that a quorum of the lines within the limit confirms: how far the stream has come

Both are functions of the *set* of lines, so the order of arrival and the borders of batches do not matter. A new line
can only raise them, so they never go backwards. Fewer wrong lines than a quorum do not move the time at all while they
are beyond the limit, and by that many lines when their time has come; a true jump is followed once a quorum has made
it. A quiet stream is late by two quorums of lines at most.

While a stream is young (fewer lines than two quorums, or fewer than 30 users), more than half of its lines, and of its
users, are the quorum: the time may then go backwards, which heals a stream that began with a wrong record.

`LatestLines` is what must be remembered of the lines: the latest of them, some forty in a busy stream, 320 where there
are very few users. It is stored in each ledger entry, for its partition; those of several partitions are merged to the
clock of the topic.
"""

import time as wall
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np

from stream.settings import StreamSettings
from stream.zone import LATEST_MS

CLOCK_AHEAD = "clock_ahead"
"""Why a record that is ahead of the clock is in the quarantine."""
_MINUTE_MS = 60_000
_SAMPLE = 2_048
"""So many of the latest lines of a batch nearly always hold those that are remembered."""


@dataclass(frozen=True, slots=True)
class Quorum:
    """How many lines confirm a time, and how far beyond it a record may be."""

    lines: int = 20
    users: int = 10
    ahead_ms: int = 3_600_000

    @classmethod
    def of(cls, settings: StreamSettings) -> "Quorum":
        """The quorum of the settings."""
        return cls(settings.clock_lines, settings.clock_users, round(settings.clock_ahead_minutes * _MINUTE_MS))

    def near_ms(self, kafka_time: int) -> int:
        """From when on other times are near one that is ahead, ms UTC: earlier ones are of the old pace."""
        return kafka_time - self.ahead_ms // 2

    @property
    def _enough_users(self) -> int:
        return max(self.lines, self.users) + self.users

    def kept(self, user: np.ndarray) -> int:
        """How many of some lines, the latest first, decide all times (`user`: theirs).

        Lines beyond the limit are no quorum, so fewer than `lines`, or of fewer than `users`. Therefore what is kept
        has a quorum of the other lines as well.
        """
        full = (_count(user) >= 2 * self.lines) & (_users_so_far(user) >= self._enough_users)
        return int(np.argmax(full)) + 1 if full.any() else len(user)

    @property
    def most(self) -> int:
        """Most lines to remember: more are of few users, who are then thinned.

        So many hold all lines of users who are too few to confirm a time, and beside them enough of others.
        """
        return max(300, self.users * self.lines + 4 * (self.lines + self.users))

    def is_full(self, user: np.ndarray) -> bool:
        """Whether lines (`user`: theirs) are so many that the earlier ones do not matter: the stream is not young."""
        return len(user) >= 2 * self.lines and len(np.unique(user)) >= self._enough_users

    def first_confirmed(self, user: np.ndarray, is_young: bool) -> int:
        """Which of some lines, the latest first, is the first that a quorum of them confirms; there is at least one."""
        users_so_far = _users_so_far(user)
        lines = min(self.lines, len(user) // 2 + 1) if is_young else self.lines
        users = min(self.users, int(users_so_far[-1]) // 2 + 1) if is_young else self.users
        return int(np.argmax((_count(user) >= lines) & (users_so_far >= users)))


@dataclass(frozen=True, slots=True)
class LatestLines:
    """The latest lines of a partition or a topic, each user once a minute; n lines, the latest first."""

    quorum: Quorum
    time: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """Kafka's time: int64[n], ms UTC, descending."""
    user: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint32))
    """uint32[n]."""

    @classmethod
    def of(cls, quorum: Quorum, time: np.ndarray, user: np.ndarray) -> "LatestLines":
        """The latest of some lines. A time after the year 2099, clipped to it, is none, and does not count."""
        valid = time < LATEST_MS
        if not valid.all():
            time, user = time[valid], user[valid]
        size = _SAMPLE
        while size < len(time):
            since = np.partition(time, len(time) - size)[len(time) - size]
            sample = time > since
            latest = cls(quorum)._merged(time[sample], user[sample])
            if quorum.is_full(latest.user):  # otherwise lines at `since` may be among the latest
                return latest
            size *= 8
        return cls(quorum)._merged(time, user)

    def __add__(self, other: "LatestLines") -> "LatestLines":
        return self._merged(other.time, other.user)

    @property
    def limit(self) -> int | None:
        """The latest time that a record may have, ms UTC; None without lines."""
        confirmed = self._confirmed(self.user)
        return None if confirmed is None else confirmed + self.quorum.ahead_ms

    @property
    def reached(self) -> int | None:
        """How far the stream has come, ms UTC; None without lines."""
        limit = self.limit
        return None if limit is None else self._confirmed(self.user[self.time <= limit])

    def _confirmed(self, user: np.ndarray) -> int | None:
        """The latest time that a quorum of the last so many lines confirms (`user`: theirs)."""
        if not len(user):
            return None
        is_young = not self.quorum.is_full(self.user)
        return int(self.time[len(self.time) - len(user) :][self.quorum.first_confirmed(user, is_young)])

    def _merged(self, time: np.ndarray, user: np.ndarray) -> "LatestLines":
        time, user = np.concatenate([self.time, time]), np.concatenate([self.user, user.astype(np.uint32)])
        order = np.lexsort((user, -time))
        time, user = time[order], user[order]
        minutes = time // _MINUTE_MS * (1 << 32) + user
        first = np.sort(np.unique(minutes, return_index=True)[1])  # the latest line of each user and minute
        time, user = time[first], user[first]
        kept = self.quorum.kept(user)
        if kept > self.quorum.most:  # few users: more than a quorum of lines of one of them confirm nothing more
            few = _count_by_user(user) <= self.quorum.lines
            time, user = time[few], user[few]
            kept = min(self.quorum.kept(user), self.quorum.most)
        return LatestLines(self.quorum, time[:kept], user[:kept])


class PartitionClock(msgspec.Struct, frozen=True, kw_only=True):
    """The clock of a partition after a batch, in its ledger entry."""

    lines: int
    users: int
    ahead_ms: int
    """The three numbers of the quorum, as the collector's settings had them."""
    reached: int | None
    """How far the partition has come, ms UTC; None if no line of it had a time."""
    latest: bytes
    """The latest lines: their Kafka times (n × int64, ms UTC) and users (n × uint32), little-endian; base64 in JSON."""
    ahead_from: int | None = None
    """The earliest Kafka time of the batch's records that are set aside as `clock_ahead`, ms UTC; None without any."""
    behind: dict[str, int] = {}
    """By earlier entry with records that are set aside: how many lines of this one came at the old pace."""

    @classmethod
    def of(
        cls, latest: LatestLines, ahead_from: int | None = None, behind: Mapping[str, int] | None = None
    ) -> "PartitionClock":
        """The stored form."""
        quorum = latest.quorum
        return cls(
            lines=quorum.lines,
            users=quorum.users,
            ahead_ms=quorum.ahead_ms,
            reached=latest.reached,
            latest=latest.time.astype("<i8").tobytes() + latest.user.astype("<u4").tobytes(),
            ahead_from=ahead_from,
            behind=dict(behind or {}),
        )

    @property
    def quorum(self) -> Quorum:
        """The quorum that the clock went by."""
        return Quorum(self.lines, self.users, self.ahead_ms)

    def read(self) -> LatestLines:
        """The latest lines."""
        count = len(self.latest) // 12
        time = np.frombuffer(self.latest, "<i8", count).astype(np.int64)
        user = np.frombuffer(self.latest, "<u4", count, offset=8 * count).astype(np.uint32)
        return LatestLines(self.quorum, time, user)


def merged(partitions: Iterable[LatestLines]) -> LatestLines | None:
    """The latest lines of a topic from those of its partitions; None without a partition."""
    latest = None
    for part in partitions:
        latest = part if latest is None else latest + part
    return latest


@dataclass(frozen=True, slots=True)
class ClockLimit:
    """Which records are ahead of the stream's clock: those beyond the limit, unless they are of this very hour.

    In a quiet live stream the limit is late, but a record whose time is that of this machine's clock is none of a
    sender whose clock is wrong.
    """

    latest_ms: int
    """The limit of the topic, ms UTC."""
    quorum: Quorum
    now_ms: int | None = None
    """This machine's clock, ms UTC, where records are read as they come; None where old ones are judged again."""

    def is_ahead(self, kafka_times: np.ndarray) -> np.ndarray:
        """Which records (int64 ms UTC) are ahead: bool."""
        ahead: np.ndarray = kafka_times > self.latest_ms
        if self.now_ms is not None:
            ahead &= np.abs(kafka_times - self.now_ms) > self.quorum.ahead_ms
        return ahead

    def confirms(self, kafka_time: int) -> bool:
        """Whether a quorum of lines has come near to a time that was ahead (ms UTC): the clock really jumped."""
        return self.quorum.near_ms(kafka_time) <= self.latest_ms - self.quorum.ahead_ms


class TopicClock:
    """The clock of a topic while a process reads it.

    Where the stream is live, this machine's clock bounds it: times beyond it and the allowance confirm nothing, however
    many lines have them. A stream is live once it has kept within the allowance of this machine's clock for ten
    minutes, so that a simulation or a replay, whose time runs faster, is none; or at once if it `was_live` before.
    """

    LIVE_S = 600.0

    def __init__(
        self,
        quorum: Quorum,
        partitions: Mapping[int, LatestLines],
        was_live: bool = False,
        now_s: Callable[[], float] = wall.time,
        monotonic_s: Callable[[], float] = wall.monotonic,
    ) -> None:
        self._quorum, self._now_s, self._monotonic_s = quorum, now_s, monotonic_s
        # the settings may have changed since the lines were stored
        self._partitions = {number: LatestLines(quorum) + latest for number, latest in partitions.items()}
        self._live_since: float | None = monotonic_s() - self.LIVE_S if was_live else None

    def add(self, partition: int, kafka_times: np.ndarray, users: np.ndarray) -> None:
        """Take lines of a partition into account: n of them, int64 ms UTC and integers."""
        bound = self._bound()
        if bound is not None:
            within = kafka_times <= bound
            kafka_times, users = kafka_times[within], users[within]
        latest = LatestLines.of(self._quorum, kafka_times, users)
        self._partitions[partition] = self.latest(partition) + latest

    def latest(self, partition: int) -> LatestLines:
        """The latest lines of a partition."""
        return self._partitions.get(partition, LatestLines(self._quorum))

    @property
    def reached(self) -> int | None:
        """How far the topic has come, ms UTC; None without lines."""
        latest = merged(self._partitions.values())
        return None if latest is None else latest.reached

    def limit(self) -> ClockLimit | None:
        """The limit for records that come now; None without lines."""
        latest = merged(self._partitions.values())
        if latest is None or latest.limit is None:
            return None
        return ClockLimit(latest.limit, self._quorum, self._now_ms())

    def is_live(self) -> bool:
        """Whether the stream has kept in step with this machine's clock."""
        reached = self.reached
        if reached is None or abs(self._now_ms() - reached) > self._quorum.ahead_ms:
            self._live_since = None
            return False
        if self._live_since is None:
            self._live_since = self._monotonic_s()
        return self._monotonic_s() - self._live_since >= self.LIVE_S

    def _bound(self) -> int | None:
        return self._now_ms() + self._quorum.ahead_ms if self.is_live() else None

    def _now_ms(self) -> int:
        return round(self._now_s() * 1000)


def _count_by_user(user: np.ndarray) -> np.ndarray:
    """How many lines up to each one are of its user: int64[n]."""
    order = np.argsort(user, kind="stable")
    first = np.searchsorted(user[order], user[order])
    counts = np.empty(len(user), np.int64)
    counts[order] = np.arange(len(user)) - first + 1
    return counts


def _count(user: np.ndarray) -> np.ndarray:
    return np.arange(1, len(user) + 1)


def _users_so_far(user: np.ndarray) -> np.ndarray:
    """How many different users the lines up to each one have: int64[n]."""
    is_new = np.zeros(len(user), np.int64)
    is_new[np.unique(user, return_index=True)[1]] = 1
    return np.cumsum(is_new)
