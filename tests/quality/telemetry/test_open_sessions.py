"""The sessions that are held between two reports are those of the store, whatever came in between."""

import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from quality.metrics.watch_sessions import split_key
from quality.telemetry.batch import batch_of
from quality.telemetry.ingest import Ingest
from quality.telemetry.open_sessions import EarliestMinute, OpenSessions
from quality.telemetry.store import Store
from stream.event import Event
from stream.grammar import render
from stream.kafka import FetchedRecords
from stream.zone import zone_named
from tests.quality.telemetry.known_day import FIRST, SETTINGS, one_line

ZONE = zone_named("America/New_York")
MINUTE = 60_000
GAP = 30
minutes = st.tuples(st.integers(0, 300), st.integers(1, 2), st.sampled_from(["a+2001", "b+2002"]))
"""Minute of the day, user and movie: dense enough that sessions are extended, joined and begin earlier."""


def take(ingest: Ingest, offset: int, watched: list[tuple[int, int, str]]) -> int:
    events = [Event("watch", FIRST + minute * MINUTE, user, movie, minute=0) for minute, user, movie in watched]
    lines, end = [render(event, ZONE) for event in events], offset + len(events)
    times = np.full(len(events), FIRST + 300 * MINUTE)
    ingest.take(batch_of([FetchedRecords(0, lines, np.arange(offset, end), times)], {0: end}, ZONE))
    return end


@settings(max_examples=60)
@given(st.lists(st.tuples(st.lists(minutes, min_size=1, max_size=6), st.booleans(), st.integers(0, 200)), max_size=12))
def test_held_sessions_are_those_of_the_store(steps: list[tuple[list[tuple[int, int, str]], bool, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder, closing(Store(Path(folder) / "telemetry.db")) as store:
        ingest = Ingest(store, one_line(Path(folder)), replace(SETTINGS, session_gap_hours=GAP / 60))
        opened, offset = OpenSessions(ingest.changes), 0
        for watched, is_read, first in steps:
            offset = take(ingest, offset, watched)
            if is_read:
                after = FIRST + first * MINUTE
                with opened.reading(store, after) as (_, held):
                    expected = store.sessions(after, np.iinfo(np.int64).max)
                    rows = list(zip(held.start.tolist(), *(each.tolist() for each in split_key(held.key)), strict=True))
                    assert rows == sorted(rows)
                    for name in ("key", "start", "last"):
                        assert getattr(held, name).tolist() == getattr(expected, name).tolist()


def test_what_is_stored_while_a_snapshot_begins_is_read_again() -> None:
    changes = EarliestMinute()
    changes.note(7)
    changes.note(5)
    assert (changes.peek(), changes.take()) == (5, 5)
    changes.note(9)
    assert changes.peek() == 9
