"""Movies that are released while the simulated service runs: users come to them from lists only."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.settings import WorldSettings
from loadtest.simulation.visits import Audience
from loadtest.simulation.world import World
from stream.zone import DAY_MS, zone_named

SETTINGS = WorldSettings(users=1_000, movies=500, generation="2026", new_movies=6, releasing_days=3)


@pytest.fixture(scope="module")
def world() -> World:
    return World(SETTINGS)


def test_nobody_chooses_a_new_movie_but_some_would_take_it(world: World) -> None:
    seen, rng, users = world.new_seen(), np.random.default_rng(1), np.arange(1_000)
    assert len(set(world.new_movies.tolist())) == 6
    for _ in range(20):
        chosen = world.choose(users, seen, rng)
        assert not np.isin(chosen, world.new_movies).any()
        seen.add(users, chosen)
    suits = world.suits(users)[:, world.new_movies]
    assert (suits.sum(axis=0) > 10).all()
    odds = world.take_odds(users[:, None], np.tile(world.new_movies, (1_000, 1)), seen)
    assert odds[suits].mean() > 2 * odds[~suits].mean()


def test_a_world_without_new_movies_is_as_it_was(world: World) -> None:
    usual = World(WorldSettings(users=1_000, movies=500, generation="2026"))
    assert usual.catalogue.ids == world.catalogue.ids
    everyone, movies = np.arange(50)[:, None], np.arange(500)[None, :]
    assert np.array_equal(usual.interest(everyone, movies), world.interest(everyone, movies))
    assert not len(usual.new_movies)


@given(cuts=st.lists(st.integers(0, 5 * DAY_MS), max_size=5))
def test_each_movie_is_released_once_in_its_order(world: World, cuts: list[int]) -> None:
    audience = Audience(world, zone_named("America/New_York"), 1, opens_ms=0)
    edges = [0, *sorted(cuts), 5 * DAY_MS]
    released = [movie for span in itertools.pairwise(edges) for movie in audience.releases(*span)]
    assert released == [world.catalogue.ids[row] for row in world.new_movies.tolist()]
    assert len(audience.releases(0, DAY_MS + 1)) == 2
