"""Simulated history in the archive, and a service that goes on from its end."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from loadtest.demo.processes import ROOT
from loadtest.settings import WorldSettings
from loadtest.simulation import backfill
from loadtest.simulation.visits import Audience
from loadtest.simulation.world import World
from stream.archive import Archive
from stream.zone import zone_named

DAYS = ("2026-02-10", "2026-02-11")
ZONE = zone_named("America/New_York")


@pytest.fixture
def played(tmp_path: Path) -> Audience:
    """The audience of two days that are archived below `tmp_path`."""
    audience = new_audience()
    backfill.write(Archive(tmp_path), audience, ZONE, DAYS[0], ZONE.bounds(DAYS[1])[1], lambda days: None)
    return audience


def new_audience() -> Audience:
    return Audience(World(WorldSettings(users=20, movies=30)), ZONE, 1)


def test_a_service_that_goes_on_knows_what_was_watched(played: Audience, tmp_path: Path) -> None:
    later = new_audience()
    backfill.replay_archive(Archive(tmp_path), later)
    users, movies = np.ix_(np.arange(20), np.arange(30))
    archived, before = (each.seen.contains(users, movies) for each in (later, played))
    assert archived.sum() > 20
    assert not (archived & ~before).any()
    # what was chosen shortly before the end has no minute in the archive yet
    assert (before & ~archived).sum() <= 20


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: os.truncate(path, 100)])
@pytest.mark.usefixtures("played")
def test_a_damaged_archive_is_one_clear_error(tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    (path,) = (tmp_path / "archive" / "watch" / f"day={DAYS[0]}").iterdir()
    damage(path)
    environ = {**os.environ, "MARQUEE_STREAM_VAR": str(tmp_path), "MARQUEE_LOADTEST_USERS": "20"}
    command = [sys.executable, "-m", "loadtest", "service"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: archive: cannot read {path}: ")
    assert done.stderr.count("\n") == 1
