"""A stream that the collector's own code has archived, without Kafka."""

from collections.abc import Iterable

import numpy as np

from batch.collecting.collector import PendingLines, archive_batch
from quality.catalog import Catalog
from quality.lines.context_checks import make_context
from quality.settings import QualitySettings
from stream.archive import Archive
from stream.clock import Quorum, TopicClock
from stream.event import Event
from stream.grammar import render
from stream.kafka import FetchedRecords
from stream.set_aside import OpenCases
from stream.settings import StreamSettings
from stream.zone import zone_named


def records_of(
    events: Iterable[Event], first: int = 0, partition: int = 0, times: list[int] | None = None
) -> FetchedRecords:
    """Events as records at the offsets from `first` on; Kafka's times are the events' own unless they are given."""
    events = list(events)
    zone = zone_named(StreamSettings().timezone)
    kafka_times = np.array(times if times is not None else [event.time for event in events], np.int64)
    lines = [render(event, zone) for event in events]
    return FetchedRecords(partition, lines, np.arange(first, first + len(lines)), kafka_times)


class CollectedStream:
    """The archive below `var`, to which batches are added."""

    def __init__(self, streaming: StreamSettings, quality: QualitySettings) -> None:
        self._streaming, self._quality = streaming, quality
        self.archive = Archive(streaming.var)
        self._clock, self._set_aside = TopicClock(Quorum.of(streaming), {}), OpenCases()

    def take(self, *batches: FetchedRecords) -> None:
        """Archive batches, an entry each."""
        known = Catalog(self._streaming.var).known(self._streaming.max_user)
        for records in batches:
            pending = PendingLines(int(records.offsets[0]))
            pending.add(records)
            entry = archive_batch(
                self.archive, self._streaming.topic, records.partition, pending, zone_named(self._streaming.timezone),
                self._clock, self._set_aside, lambda _: make_context(self._streaming, self._quality, known),
            )  # fmt: skip
            self._set_aside.committed(entry)
