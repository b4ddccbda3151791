"""Nights on the past of a small service, in this process."""

from pathlib import Path
from typing import Any

import msgspec

from batch.nights.runner import STEPS
from batch.nights.step_results import StepName
from batch.nights.steps import NightSteps
from batch.settings import BatchSettings
from quality.settings import QualitySettings
from server.answers import SOURCES, Answers
from server.release import Release
from stream.archive import Archive, FateCount, LedgerEntry, TimeRange
from stream.event import Event, Kind
from stream.line_columns import table_of
from stream.settings import StreamSettings

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


def archive_events(archive: Archive, topic: str, events: list[Event]) -> None:
    """One batch of events of one day (in UTC it is not looked at) in the archive."""
    kinds: dict[Kind, list[Event]] = {}
    for event in events:
        kinds.setdefault(event.kind, []).append(event)
    counts = [FateCount("accepted", kind, "2030-01-01", None, len(own)) for kind, own in kinds.items()]
    times = [event.time for event in events]
    entry = LedgerEntry(
        topic=topic, partition=0, first=0, last=len(events) - 1, lines=len(events), counts=counts,
        kafka_time=TimeRange(min(times), max(times)),
    )  # fmt: skip
    files = [archive.write_events(entry, kind, "2030-01-01", table_of(kind, own)) for kind, own in kinds.items()]
    archive.commit(entry.with_files(files))


def answer_of(release: Release, user: int) -> tuple[list[str], str]:
    """The movies that a user would be answered, and where they come from."""
    body, source = Answers(release).find(user)
    return body.decode().split(","), SOURCES[source]
