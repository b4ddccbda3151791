"""Nights on a stream that lies about time, or stands still: the release is personal, and measured on the last day."""

import shutil
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from batch import models
from batch.evaluation_file import SliceFigures, read_evaluation
from loadtest.settings import WorldSettings
from loadtest.simulation import backfill
from loadtest.simulation.visits import Audience
from loadtest.simulation.world import World
from quality.catalog import Catalog
from server.release import Release
from stream.archive import Archive
from stream.event import Event
from stream.ledger_entry import FateCount
from stream.zone import DAY_MS, HOUR_MS, zone_named
from tests.batch.nights.small_nights import archive_events, digests, night, run

pytestmark = pytest.mark.filterwarnings("ignore:OpenBLAS is configured:RuntimeWarning")

SERVICE = WorldSettings(users=600, movies=80, generation="2026")
CLOCK = zone_named("America/New_York")
END = CLOCK.bounds("2030-01-06")[1]
"""Where the six days end."""
Usual = tuple[SliceFigures, dict[str, str]]


@pytest.fixture(scope="module")
def after_five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with six days of a service in which personal models win, after the night of the fifth day; not to be
    written to."""
    var, world = tmp_path_factory.mktemp("five") / "var", World(SERVICE)
    backfill.write(Archive(var), Audience(world, CLOCK, 3), CLOCK, "2030-01-01", END, lambda days: None)
    Catalog(var).keep("movie", [(name, "known", {"id": name}, "") for name in world.catalogue.ids])
    *_, last = Archive(var).entries()
    path = Archive(var).ledger / f"{last.name}.json"
    path.rename(var / "sixth")
    run(night(var))
    (var / "sixth").rename(path)
    return var


def copied(after_five: Path, folder: Path) -> Path:
    return Path(shutil.copytree(after_five, folder / "var", symlinks=True))


@pytest.fixture
def var(after_five: Path, tmp_path: Path) -> Path:
    """A copy of that folder."""
    return copied(after_five, tmp_path)


def ahead(var: Path, topic: str, ahead_ms: int, kafka_ahead_ms: int) -> None:
    """One record whose time, and Kafka's, are so far ahead."""
    movie, at = Release.open(var / "releases" / "current").movies[0], END + ahead_ms
    event = Event("watch", at, 100_018, movie, minute=0)
    archive_events(Archive(var), topic, [event], CLOCK.day(at), END - 1 + kafka_ahead_ms)


def a_tenth(var: Path) -> None:
    """Of the last day, only a tenth of the users has written lines."""
    archive = Archive(var)
    *_, last = archive.entries()
    (archive.ledger / f"{last.name}.json").unlink()
    files, counts = [], []
    for kind in ("watch", "rate"):
        [file] = [file for file in last.files if file.room == kind]
        table = archive.read(file)
        table = table.filter(pa.array(table["user"].to_numpy() % 10 == 0))
        files.append(archive.write_events(last, kind, file.day, table))
        counts.append(FateCount("accepted", kind, file.day, None, table.num_rows))
    lines = sum(count.lines for count in counts)
    archive.commit(msgspec.structs.replace(last, files=files, counts=counts, lines=lines))


def stood_still(var: Path) -> None:
    """No line for the whole last day, then those of a few users within an hour."""
    *_, last = Archive(var).entries()
    (var / "archive" / "ledger" / f"{last.name}.json").unlink()
    movies = Release.open(var / "releases" / "current").movies
    at = END + HOUR_MS
    events = [Event("watch", at + 1000 * user, user, movies[user], minute=0) for user in range(1, 20)]
    archive_events(Archive(var), "live", events, "2030-01-07")


def published(var: Path) -> SliceFigures:
    """The test slice of the night's release, which is current and personal."""
    result = run(night(var))["publish"]
    assert result.current
    assert result.gate["measured_on_enough"] == "passed"
    evaluation = read_evaluation(var / "releases" / result.release)
    assert models.is_personal(evaluation.chosen)
    assert evaluation.slices.test is not None
    return evaluation.slices.test


@pytest.fixture(scope="module")
def usual(after_five: Path, tmp_path_factory: pytest.TempPathFactory) -> Usual:
    """What the night of the sixth day is measured on, and the digests of its release."""
    var = copied(after_five, tmp_path_factory.mktemp("usual"))
    return published(var), digests(var / "releases" / "current")


@pytest.mark.blas
def test_records_dated_ahead_of_kafkas_time_change_no_byte_of_a_release(var: Path, usual: Usual) -> None:
    for ahead_ms in (60_000, HOUR_MS - 1, 5_000 * 60_000):
        ahead(var, f"{ahead_ms}", ahead_ms, 0)
    assert published(var) == usual[0]
    assert digests(var / "releases" / "current") == usual[1]


def test_with_a_record_ahead_by_both_clocks_the_last_day_is_held_out(var: Path, usual: Usual) -> None:
    ahead(var, "live", 3 * DAY_MS + HOUR_MS // 2, 3 * DAY_MS + HOUR_MS // 2)
    test = published(var)
    assert test.from_ms == pytest.approx(usual[0].from_ms, abs=4 * HOUR_MS)
    assert test.models["popular"].users == pytest.approx(usual[0].models["popular"].users, rel=0.2)


def test_a_last_day_with_a_tenth_of_the_lines_is_held_out_with_the_day_before(var: Path) -> None:
    a_tenth(var)
    test = published(var)
    assert test.from_ms < END - 36 * HOUR_MS
    assert test.models["popular"].users > 100


def test_after_a_day_without_lines_the_day_before_is_held_out(var: Path) -> None:
    stood_still(var)
    test = published(var)
    assert test.until_ms > END
    assert test.from_ms < END - 40 * HOUR_MS
    assert test.models["popular"].users > 100
