"""The benchmark of intervals: its worlds have the truth that they claim, and wrong intervals miss its targets."""

import numpy as np
import pytest

from loadtest.bench.intervals import intervals_benchmark
from loadtest.bench.intervals.intervals_benchmark import measure, rate_world, slope_world, summary, uplift_world
from loadtest.bench.intervals.simulated_users import SimulatedUsers, populations
from quality.metrics.intervals import Interval


@pytest.mark.parametrize("users", [each for each in populations() if each.users == 1000], ids=lambda each: each.name)
def test_a_population_has_its_rate_and_its_uplift(users: SimulatedUsers) -> None:
    rng = np.random.default_rng(3)
    days = [users.day(rng) for _ in range(20)]
    # by user, so that Pareto's busiest users do not decide
    hit_rate = np.mean([(day.hits / day.answers).mean() for day in days])
    uplift = np.mean([((day.hits - day.popular_hits) / day.answers).mean() for day in days])
    tolerance = 5 * 0.5 / (20 * users.users) ** 0.5
    assert hit_rate == pytest.approx(users.rate, abs=tolerance)
    assert uplift == pytest.approx(users.uplift, abs=tolerance)
    for day in days:
        gained = day.hits - day.popular_hits
        assert (abs(gained) <= day.differing).all()
        assert (day.differing <= day.hits + day.popular_hits).all()
        assert (day.answers >= 1).all()


def test_answers_to_one_user_are_correlated_as_claimed() -> None:
    users = SimulatedUsers(20_000, 0.3, "poisson", 0.2)
    day = users.day(np.random.default_rng(5))
    two = day.answers == 2
    # pairs with one hit of two: 2 p (1 - p) (1 - correlation)
    assert (day.hits[two] == 1).mean() == pytest.approx(2 * 0.3 * 0.7 * 0.8, abs=0.03)


def test_an_interval_that_is_too_narrow_is_found_out() -> None:
    users = SimulatedUsers(50, 0.2, "one", 0.0)
    rng = np.random.default_rng(1)
    rates = [float(users.day(rng).hits.mean()) for _ in range(400)]
    wrong = measure("wrong", 50, 0.2, [Interval(rate, rate - 0.05, rate + 0.05) for rate in rates])
    assert wrong.held < 0.8
    right = rate_world(users, 400, 1)
    assert right.held > 0.93 - 2.5 * 0.013
    both = summary([right, wrong])
    assert (both.worlds, both.least, both.least_in) == (2, wrong.held, "wrong")
    assert both.by_size["50"].least == wrong.held
    assert both.by_size["50"].width == pytest.approx((right.width + 0.1) / 2, abs=1e-4)


def test_worlds_are_the_same_each_time() -> None:
    users = SimulatedUsers(20, 0.5, "pareto", 0.2)
    assert uplift_world(users, 20, 4) == uplift_world(users, 20, 4)
    assert slope_world(7, 0.01, 1.0, 20, 4) == slope_world(7, 0.01, 1.0, 20, 4)
    assert uplift_world(users, 20, 4) != uplift_world(users, 20, 5)


def test_all_parts_are_measured() -> None:
    result = intervals_benchmark.INTERVALS.run(2, seed=1)
    assert {"rate_least", "uplift_least", "slope_least"} == set(result.targets)
    assert result.figures["rate_worlds"] == result.figures["uplift_worlds"] == 125
    assert set(result.figures["slope_by_size"]) == {"5", "7", "14", "30"}
