"""The made users look like the service's, have tastes of their own and keep an evening's hours."""

import numpy as np
import pytest

from loadtest.settings import WorldSettings
from loadtest.simulation.population import HOUR_WEIGHTS, OCCUPATIONS, Population, make_population

USERS = 20_000


@pytest.fixture(scope="module")
def people() -> Population:
    return make_population(WorldSettings(users=USERS, generation="2026"))


def test_users_are_as_the_service_knows_them(people: Population) -> None:
    assert (int(people.ages.min()), int(people.ages.max())) == (8, 90)
    assert 27 <= np.median(people.ages) <= 31
    assert 0.12 < people.women.mean() < 0.22
    assert set(people.occupations.tolist()) == set(range(21))
    assert len({name for name, _ in OCCUPATIONS}) == 21


def test_children_go_to_school(people: Population) -> None:
    names = [name for name, _ in OCCUPATIONS]
    assert {names[occupation] for occupation in people.occupations[people.ages < 18]} == {"K-12 student"}


def test_records_are_shaped_as_the_service_shapes_them(people: Population) -> None:
    texts = {"self_description_likes", "self_description_dislikes"}
    records = [people.record(i) for i in range(1_000)]
    assert [record["user_id"] for record in records] == list(range(1, 1_001))
    for record in records:
        assert set(record) == {"user_id", "age", "occupation", "gender"} | texts
        assert isinstance(record["age"], int)
        assert record["gender"] in {"M", "F"}
    for name in texts:
        assert 0.2 < np.mean([record[name] is None for record in records]) < 0.8


def test_users_of_2022_do_not_describe_themselves() -> None:
    assert set(make_population(WorldSettings(users=2)).record(1)) == {"user_id", "age", "occupation", "gender"}


def test_a_population_is_made_from_its_seed_alone() -> None:
    first, same, other = (make_population(WorldSettings(users=500, seed=seed, generation="2026")) for seed in (3, 3, 4))
    assert [first.record(i) for i in range(500)] == [same.record(i) for i in range(500)]
    assert np.array_equal(first.genre_weights, same.genre_weights)
    assert not np.array_equal(first.genre_weights, other.genre_weights)


def test_every_user_has_genres_of_their_own(people: Population) -> None:
    assert np.allclose(people.genre_weights.sum(axis=1), 1.0, atol=1e-4)
    assert np.sort(people.genre_weights, axis=1)[:, -3:].sum(axis=1).mean() > 0.7
    assert people.genre_weights.mean(axis=0).max() < 0.4


def test_tastes_differ_between_age_bands_and_genders(people: Population) -> None:
    grown = (people.ages >= 25) & (people.ages < 35)
    by_gender = [people.genre_weights[grown & (people.women == woman)] for woman in (True, False)]
    halves = people.genre_weights[grown & ~people.women][0::2], people.genre_weights[grown & ~people.women][1::2]
    between, within = (np.abs(a.mean(axis=0) - b.mean(axis=0)).sum() for a, b in (by_gender, halves))
    assert between > 5 * within


def test_the_odds_of_the_paths_leave_room_for_each(people: Population) -> None:
    chart, circle = people.chart_odds, people.circle_odds
    assert 0.15 < chart.mean() < 0.3
    assert 0.2 < circle.mean() < 0.4
    assert ((chart + circle) > 1.0).mean() < 0.01
    assert people.loyalty.mean() == pytest.approx(0.4, abs=0.02)
    assert people.rating_odds.mean() == pytest.approx(0.55, abs=0.02)


def test_users_belong_to_one_or_two_circles(people: Population) -> None:
    assert set(people.circles.ravel().tolist()) == set(range(40))
    assert 0.4 < (people.circles[:, 0] == people.circles[:, 1]).mean() < 0.6


def test_visits_are_one_a_day_on_average_and_heavy_tailed(people: Population) -> None:
    visits = people.activity.visits_per_day
    assert visits.mean() == pytest.approx(1.0)
    assert 0.25 < np.sort(visits)[-USERS // 10 :].sum() / visits.sum() < 0.5
    assert np.median(visits) < 0.85


def test_hours_add_up_to_the_day_and_peak_in_the_evening(people: Population) -> None:
    assert HOUR_WEIGHTS.shape[1] == 24
    assert np.allclose(HOUR_WEIGHTS.sum(axis=1), 1.0)
    visits = np.array([people.activity.visits_in_hour(hour).sum() for hour in range(24)])
    assert visits.sum() == pytest.approx(USERS)
    assert 19 <= visits.argmax() <= 22
    assert visits.max() > 5 * visits.min() > 0
    night = HOUR_WEIGHTS[1]
    assert night[0] == pytest.approx(night[23])


def test_newcomers_are_people_like_the_others_and_join_at_a_constant_rate() -> None:
    usual = make_population(WorldSettings(users=USERS))
    people = make_population(WorldSettings(users=USERS, newcomers=0.3, joining_days=10))
    assert (usual.activity.joining_day == -1).all()
    for name in ("ages", "genre_weights", "chart_odds", "circle_odds", "loyalty", "mood"):
        assert np.array_equal(getattr(people, name), getattr(usual, name))
    assert np.array_equal(people.activity.visits_per_day, usual.activity.visits_per_day)
    joins = people.activity.joining_day[people.activity.joining_day >= 0]
    assert len(joins) / USERS == pytest.approx(0.3, abs=0.015)
    assert np.histogram(joins, 5, (0, 10))[0] / len(joins) == pytest.approx(np.full(5, 0.2), abs=0.02)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.9])
def test_the_more_users_follow_the_charts_the_less_their_tastes_count(share: float) -> None:
    usual = make_population(WorldSettings(users=USERS))
    people = make_population(WorldSettings(users=USERS, chart_share=share))
    assert people.chart_odds.mean() == pytest.approx(share, abs=0.005)
    taste = (1 - share) / 0.8
    assert people.circle_odds.mean() == pytest.approx(taste * usual.circle_odds.mean(), rel=0.02)
    assert people.loyalty.mean() == pytest.approx(taste * usual.loyalty.mean(), rel=0.03)
    assert people.loyalty.max() <= 1


def test_visits_per_day_are_as_many_as_the_settings_say() -> None:
    people = make_population(WorldSettings(users=USERS, visits_per_day=0.1))
    assert people.activity.visits_per_day.mean() == pytest.approx(0.1)
