"""How far telemetry has read the stream, and what it waits for: the input of its metrics and alerts."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from quality.telemetry.idle_partitions import IdlePartitions
from quality.telemetry.ingest import Ingest
from stream.kafka import FetchedRecords, RetentionGap


@dataclass(frozen=True, kw_only=True)
class StreamState:
    """The state after a batch. Partitions are named by their numbers."""

    watermark: int | None = None
    """ms UTC; None while it is not known."""
    stream_time: int | None = None
    """How far the stream has come by its clock, ms UTC; None without lines."""
    waiting: int = 0
    """Records that are ahead of the stream's clock."""
    unread: Mapping[int, int | None] = field(default_factory=dict)
    """Records that are left; None if not known."""
    lag_ms: Mapping[int, int] = field(default_factory=dict)
    """Of partitions with lines: how far what was read is behind the stream, ms of stream time."""
    idle: Collection[int] = ()
    """The partitions that are not waited for."""
    silent: Collection[int] = ()
    """The partitions that had lines and have none now, while others go on."""
    live: bool = False
    """Whether the stream keeps in step with this machine's clock, or did when it was last read to its end."""
    silent_s: float = 0.0
    """Since the last line, or since the process began to read, seconds of this machine's clock."""
    lines: int = 0
    """Lines that this process has stored."""
    last_line_s: float | None = None
    """When the last of them came, and when it was committed: seconds since 1970 by this machine's clock."""
    last_commit_s: float | None = None


class StreamProgress:
    """Follows the batches of one process."""

    def __init__(
        self,
        ingest: Ingest,
        idle_s: float,
        now_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ingest, self._now_s, self._monotonic_s = ingest, now_s, monotonic_s
        self._partitions = IdlePartitions(idle_s, monotonic_s)
        self._live = ingest.was_live
        self._last_arrival, self._lines = monotonic_s(), 0
        self._last_line_s: float | None = None
        self._last_commit_s: float | None = None

    def polled(self, polled: Sequence[FetchedRecords | RetentionGap]) -> None:
        """Note when records came, which are not stored yet."""
        if _count(polled):
            self._last_arrival, self._last_line_s = self._monotonic_s(), self._now_s()

    def stored(self, polled: Sequence[FetchedRecords | RetentionGap], unread: Mapping[int, int | None]) -> StreamState:
        """The state after these records were committed; tells `ingest` which partitions are idle."""
        ingest, times = self._ingest, self._ingest.partition_times
        self._partitions.update({piece.partition for piece in polled}, unread, times)
        ingest.idle = self._partitions.idle
        if polled:
            self._lines += _count(polled)
            self._last_commit_s = self._now_s()
            if not any(left or left is None for left in unread.values()):
                self._live = ingest.is_live  # a live stream that is not read to its end is behind, not slow
        return StreamState(
            watermark=ingest.watermark,
            stream_time=ingest.stream_time,
            waiting=ingest.waiting,
            unread=unread,
            lag_ms=lags(times, unread, self._present()),
            idle=self._partitions.idle,
            silent=self._partitions.silent,
            live=self._live,
            silent_s=self._monotonic_s() - self._last_arrival,
            lines=self._lines,
            last_line_s=self._last_line_s,
            last_commit_s=self._last_commit_s,
        )

    def _present(self) -> int:
        """Where the stream is, ms UTC: at this machine's clock if it is live, else as far as its furthest lines."""
        return round(self._now_s() * 1000) if self._live else self._ingest.stream_time or 0


def _count(polled: Sequence[FetchedRecords | RetentionGap]) -> int:
    return sum(len(piece.values) for piece in polled if isinstance(piece, FetchedRecords))


def lags(times: Mapping[int, int], unread: Mapping[int, int | None], present: int) -> dict[int, int]:
    """By partition with lines: how far its time is behind the present, all ms UTC; 0 if it is read to its end."""
    return {number: max(0, present - time_ms) if unread.get(number) != 0 else 0 for number, time_ms in times.items()}
