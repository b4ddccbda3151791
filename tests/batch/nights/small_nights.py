"""Nights on the past of a small service, in this process."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec

from batch.nights.runner import STEPS
from batch.nights.step_results import StepName
from batch.nights.steps import NightSteps
from batch.settings import BatchSettings
from quality.settings import QualitySettings
from server.answers import SOURCES, Answers
from server.release import BASELINE, FILES, MINORS, Release
from stream import durable
from stream.archive import Archive
from stream.event import Event, Kind
from stream.ledger_entry import FateCount, TimeRange
from stream.line_columns import table_of
from stream.settings import StreamSettings
from tests.ledger_entries import entry

SETTINGS = BatchSettings(api="http://127.0.0.1:1", api_retries=0, factors=8, iterations=4, trees=5, minimum_segment=20)
ALL_BUT_CATALOG: tuple[StepName, ...] = ("sessions", "history", "evaluate", "train", "publish")
"""The API is not there in most of these tests."""
Results = dict[str, Any]
"""By step: its result, each of a type of its own."""


def night(var: Path, **changed: Any) -> NightSteps:
    settings = msgspec.structs.replace(SETTINGS, **changed)
    return NightSteps(StreamSettings(var=var, generation="2026"), QualitySettings(), settings)


def run(steps: NightSteps, *names: StepName) -> Results:
    return {name: STEPS[name](steps) for name in names or ALL_BUT_CATALOG}


def archive_events(
    archive: Archive, topic: str, events: list[Event], day: str = "2030-01-01", kafka_ms: int | None = None
) -> None:
    """One batch of events of one day in the archive, with Kafka's times as they say, or all at one."""
    kinds: dict[Kind, list[Event]] = {}
    for event in events:
        kinds.setdefault(event.kind, []).append(event)
    counts = [FateCount("accepted", kind, day, None, len(own)) for kind, own in kinds.items()]
    times = [event.time if kafka_ms is None else kafka_ms for event in events]
    batch = entry(0, len(events) - 1, topic=topic, counts=counts, kafka_time=TimeRange(min(times), max(times)))
    files = [archive.write_events(batch, kind, day, table_of(kind, own)) for kind, own in kinds.items()]
    archive.commit(batch.with_files(files))


def digests(folder: Path) -> dict[str, str]:
    """By file of a release: its SHA-256."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (*FILES, BASELINE, MINORS)}


def write_manifest(var: Path, name: str, read_ms: int) -> str:
    """A release of which there is only the manifest; its night had read the stream up to `read_ms`."""
    durable.write_json(var / "releases" / name / "manifest.json", {"id": name, "stream_time": read_ms})
    return name


def answer_of(release: Release, user: int) -> tuple[list[str], str]:
    """The movies that a user would be answered, and where they come from."""
    body, source = Answers(release).find(user)
    return body.decode().split(","), SOURCES[source]
