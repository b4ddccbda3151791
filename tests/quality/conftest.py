"""What the tests of telemetry share: batches from events, as if from Kafka, and a release to compare with."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import orjson
import pytest

from quality.telemetry.batch import TelemetryBatch
from quality.telemetry.batch import batch_of as telemetry_batch
from stream.event import Event
from stream.grammar import render
from stream.kafka import FetchedRecords
from stream.zone import zone_named

ZONE = zone_named("America/New_York")
BatchOf = Callable[..., TelemetryBatch]
PublishRelease = Callable[..., None]


@pytest.fixture(scope="session")
def batch_of() -> BatchOf:
    """`batch_of(events, first=0, partition=0, times=None)`: events at the offsets from `first` on.

    Kafka's times are the events' own unless they are given.
    """

    def make(
        events: Sequence[Event], first: int = 0, partition: int = 0, times: list[int] | None = None
    ) -> TelemetryBatch:
        lines = [render(event, ZONE) for event in events]
        kafka_times = np.array(times if times is not None else [event.time for event in events], np.int64)
        fetched = FetchedRecords(partition, lines, np.arange(first, first + len(events)), kafka_times)
        return telemetry_batch([fetched] if events else [], {partition: first + len(events)}, ZONE)

    return make


@pytest.fixture(scope="session")
def publish() -> PublishRelease:
    """`publish(releases, release, stream_time, popular, seen=None)`: a release with nothing but a popular list, made
    current.

    `seen` is what each of its users had seen; without it the release is of an older version, which does not say.
    """

    def make(
        releases: Path,
        release: str,
        stream_time: int,
        popular: Sequence[str] | None,
        seen: Mapping[int, Sequence[str]] | None = None,
    ) -> None:
        releases.mkdir(parents=True, exist_ok=True)
        with (releases / "history.jsonl").open("ab") as history:
            change = {"release": release, "stream_time": stream_time, "wall_time": "2030-01-01T00:00:00Z"}
            history.write(orjson.dumps(change, option=orjson.OPT_APPEND_NEWLINE))
        if popular is None:
            return
        folder = releases / release
        folder.mkdir()
        # the list is not in the order of the catalogue, and does not fill its row
        (folder / "movies.txt").write_text("\n".join(["unseen+1950", *reversed(popular)]) + "\n", "utf-8")
        none, ranking = np.iinfo(np.uint16).max, np.arange(len(popular), 0, -1)
        fallbacks = np.full((3, 100), none, np.uint16)
        fallbacks[0, : len(popular)] = ranking
        fallbacks[1:, 0] = 0
        np.save(folder / "fallbacks.npy", fallbacks)
        if seen is not None:
            np.save(folder / "users.npy", np.array(sorted(seen), np.uint32))
            unseen = [[item for item, movie in zip(ranking, popular, strict=True) if movie not in seen[user]][:20]
                      for user in sorted(seen)]  # fmt: skip
            lists = np.array([items + [none] * (20 - len(items)) for items in unseen], np.uint16)
            np.save(folder / "baseline.npy", lists.reshape(-1, 20))

    return make
