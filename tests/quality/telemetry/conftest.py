"""A store with the known day, and the reports of it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quality.telemetry.batch import TelemetryBatch
from quality.telemetry.ingest import Ingest
from quality.telemetry.report import Reports
from quality.telemetry.store import Store
from tests.quality.telemetry.known_day import EVENTS, FIRST, HOUR, SETTINGS, KnownDay, one_line


@pytest.fixture
def known(tmp_path: Path, batch_of: Callable[..., TelemetryBatch], publish: Callable[..., None]) -> Iterator[KnownDay]:
    publish(tmp_path / "releases", "first", FIRST + 2 * HOUR, ("a+2001",), {})
    store, stream = Store(tmp_path / "telemetry.db"), one_line(tmp_path)
    Ingest(store, stream, SETTINGS).take(batch_of(EVENTS))
    yield KnownDay(store, Reports(stream, SETTINGS))
    store.close()
