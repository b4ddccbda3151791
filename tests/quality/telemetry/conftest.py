"""A store with the known day, and the reports of it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quality.telemetry.batch import TelemetryBatch
from quality.telemetry.ingest import Ingest
from quality.telemetry.report import Reports
from quality.telemetry.store import Store
from stream.settings import StreamSettings
from stream.zone import zone_named
from tests.quality.telemetry.known_day import EVENTS, FIRST, HOUR, ONE_LINE, SETTINGS


@pytest.fixture
def reports(tmp_path: Path, batch_of: Callable[..., TelemetryBatch], publish: Callable[..., None]) -> Iterator[Reports]:
    publish(tmp_path / "releases", "first", FIRST + 2 * HOUR, ("a+2001",))
    store = Store(tmp_path / "telemetry.db")
    stream = StreamSettings(var=tmp_path)
    Ingest(store, stream.topic, zone_named(stream.timezone), SETTINGS, ONE_LINE).take(batch_of(EVENTS))
    yield Reports(store, stream, SETTINGS)
    store.close()
