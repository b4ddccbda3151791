"""Newcomers visit the service from the moment when they join, the others from its opening on."""

import numpy as np
import pytest

from loadtest.settings import WorldSettings
from loadtest.simulation.visits import Audience, Visits
from loadtest.simulation.world import World
from stream.settings import StreamSettings
from stream.zone import DAY_MS, HOUR_MS, zone_named

ZONE = zone_named(StreamSettings().timezone)
OPENS = ZONE.bounds("2026-01-27")[0]
DAYS = 6
SETTINGS = WorldSettings(users=400, movies=60, newcomers=0.5, joining_days=4)


def visits(settings: WorldSettings, step_ms: int) -> Visits:
    """All visits of the first days, played in steps."""
    audience = Audience(World(settings), ZONE, 1, OPENS)
    steps = [audience.visits(since, step_ms) for since in range(OPENS, OPENS + DAYS * DAY_MS, step_ms)]
    return Visits(np.concatenate([step.users for step in steps]), np.concatenate([step.times for step in steps]))


@pytest.mark.parametrize("step_ms", [HOUR_MS, HOUR_MS // 4])
def test_newcomers_visit_when_they_join_and_never_before(step_ms: int) -> None:
    joining_day = World(SETTINGS).activity.joining_day
    newcomers = np.flatnonzero(joining_day >= 0)
    all_visits = visits(SETTINGS, step_ms)
    assert (np.diff(all_visits.times) >= 0).all()
    first = np.full(SETTINGS.users, np.iinfo(np.int64).max)
    np.minimum.at(first, all_visits.users, all_visits.times)
    joins = OPENS + (joining_day * DAY_MS).astype(np.int64)
    assert np.array_equal(first[newcomers], joins[newcomers])
    at_joining = (all_visits.times == joins[all_visits.users]) & (joining_day[all_visits.users] >= 0)
    assert at_joining.sum() == len(newcomers)


def test_users_visit_as_often_whenever_they_joined() -> None:
    settings = WorldSettings(users=3_000, movies=60, newcomers=0.5, joining_days=4)
    days_there = DAYS - np.maximum(World(settings).activity.joining_day, 0)
    counts = np.bincount(visits(settings, HOUR_MS).users, minlength=settings.users)
    is_new = days_there < DAYS
    assert counts[~is_new].sum() / days_there[~is_new].sum() == pytest.approx(1, rel=0.06)
    assert (counts[is_new] - 1).sum() / days_there[is_new].sum() == pytest.approx(1, rel=0.06)


def test_newcomers_have_joined_long_ago_where_no_opening_is_given() -> None:
    users = Audience(World(SETTINGS), ZONE, 1).visits(OPENS + 20 * HOUR_MS, HOUR_MS).users
    assert (World(SETTINGS).activity.joining_day[users] >= 0).any()
