"""Whichever model is shown, a night measures the same difference, and nights in a row do not swing between models."""

import numpy as np
import pytest

from batch import models
from batch.models import EASE, Model, Order, Popular
from batch.settings import BatchSettings
from loadtest.bench.exposure.exposure_benchmark import EXPOSURE, ExposureSize, nights_figures, two_sided
from loadtest.bench.exposure.shown_nights import nights
from loadtest.bench.exposure.shown_world import ShownWorld
from loadtest.settings import WorldSettings

pytestmark = pytest.mark.blas
USERS, MOVIES = 500, 200


@pytest.fixture
def simple_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let only models compete that are fitted and tuned in a second."""

    def candidates(settings: BatchSettings) -> list[Model]:
        return [Popular(settings, {}), EASE(settings, {}), Order(settings, {})]

    monkeypatch.setattr(models, "candidates", candidates)


def test_a_difference_is_the_same_whichever_of_two_models_is_shown() -> None:
    worlds = [WorldSettings(users=USERS, movies=MOVIES, seed=seed, ask_share=0.7) for seed in range(1, 5)]
    figures = two_sided(worlds, BatchSettings(test_hours=96))
    assert figures.gap_is_noise
    assert figures.gap_ratio < 0.5
    everything = figures.estimators["all"].gap
    assert everything.low is not None
    assert everything.low > 0.02  # the popular list is better off where it is shown


@pytest.mark.usefixtures("simple_models")
def test_nights_in_a_row_do_not_go_back_to_the_popular_list() -> None:
    world = WorldSettings(users=1_500, movies=300, ask_share=0.8)
    figures = nights_figures(nights(ShownWorld(world, 1), 12, BatchSettings()))
    assert figures.first_personal is not None
    assert figures.first_personal <= 4
    assert figures.lost == 0


@pytest.mark.usefixtures("simple_models")
def test_both_parts_are_measured() -> None:
    size = ExposureSize(seeds=2, users=200, movies=100, nights=1, night_users=200)
    result = EXPOSURE.run(size, seed=1)
    assert set(EXPOSURE.targets) == set(result.targets)
    assert len(result.figures["counting_all_chosen"]) == 1


def test_two_worlds_of_a_seed_have_the_same_visits_whatever_is_shown() -> None:
    settings = WorldSettings(users=100, movies=60, seed=3)
    one, other = (ShownWorld(settings, 3) for _ in range(2))
    for world, first in ((one, 0), (other, 30)):
        lists = [[*range(first, first + 20)] for _ in range(settings.users)]
        world.play(24)
        world.play(24, np.array(lists))
    assert one.requests().user.tolist() == other.requests().user.tolist()
    assert one.history().user.tolist() == other.history().user.tolist()
    assert (one.history().movie != other.history().movie).any()
    assert 0 < one.taken < one.asked
