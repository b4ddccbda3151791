"""A small synthetic crowd, and the beginning of its first day."""

from loadtest.bench.night.synthetic_crowd import Crowd
from loadtest.bench.night.synthetic_history import FIRST_DAY
from loadtest.settings import WorldSettings
from loadtest.simulation.catalogue import make_catalogue
from loadtest.simulation.population import make_population
from stream.settings import StreamSettings
from stream.zone import zone_named

CLOCK = zone_named(StreamSettings().timezone)
BEGINS = CLOCK.bounds(FIRST_DAY)[0]


def make_crowd(users: int = 2_000, movies: int = 400, seed: int = 1) -> Crowd:
    return Crowd(make_catalogue(movies, seed, "2022"), make_population(WorldSettings(users=users, seed=seed)), seed)
