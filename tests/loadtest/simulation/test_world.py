"""How the simulated users behave: like those of the real service by its figures, and better for good lists."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.settings import WorldSettings
from loadtest.simulation.world import REWATCHES, Seen, World, list_acceptance

USERS, MOVIES = 5_000, 2_000


@pytest.fixture(scope="module")
def world() -> World:
    return World(WorldSettings(users=USERS, movies=MOVIES, generation="2026"))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def after_visits(world: World, visits: int, rng: np.random.Generator) -> tuple[Seen, list[np.ndarray]]:
    """What is seen after so many visits of every user, and the choices of each visit."""
    seen, everyone = world.new_seen(), np.arange(len(world.people))
    chosen = []
    for _ in range(visits):
        chosen.append(world.choose(everyone, seen, rng))
        seen.add(everyone, chosen[-1])
    return seen, chosen


def test_equal_settings_make_equal_worlds(world: World) -> None:
    again, other = World(world.settings), World(WorldSettings(users=USERS, movies=MOVIES, generation="2026", seed=2))
    users = np.arange(USERS)
    first, second, third = (
        each.choose(users, each.new_seen(), np.random.default_rng(1)) for each in (world, again, other)
    )
    assert np.array_equal(first, second)
    assert not np.array_equal(first, third)
    assert first.dtype == np.int32


def test_interest_is_the_chance_to_choose(world: World, rng: np.random.Generator) -> None:
    draws, user = 200_000, 17
    movies = np.arange(MOVIES)
    interest = world.interest(np.full(MOVIES, user), movies)
    assert interest.sum() == pytest.approx(1.0, abs=0.02)
    counts = np.bincount(world.choose(np.full(draws, user), world.new_seen(), rng), minlength=MOVIES)
    likely = interest > 1e-3
    error = np.abs(counts[likely] / draws - interest[likely]) / np.sqrt(interest[likely] / draws)
    assert likely.sum() > 50
    assert error.mean() < 1.2
    assert error.max() < 5.5


def test_users_rarely_watch_a_movie_again(world: World, rng: np.random.Generator) -> None:
    seen, _ = after_visits(world, 12, rng)
    everyone = np.arange(USERS)
    again = seen.contains(everyone, world.choose(everyone, seen, rng))
    assert again.mean() == pytest.approx(REWATCHES, abs=0.012)


def test_a_user_who_saw_everything_still_chooses(rng: np.random.Generator) -> None:
    world, seen = World(WorldSettings(users=3, movies=4)), Seen(3, 4)
    seen.add(np.repeat(np.arange(3), 4), np.tile(np.arange(4), 3))
    assert set(world.choose(np.arange(3), seen, rng).tolist()) <= {0, 1, 2, 3}


@pytest.mark.parametrize(("users", "movies"), [(1, 1), (2, 3), (40, 30)])
def test_the_smallest_worlds_work(users: int, movies: int, rng: np.random.Generator) -> None:
    world = World(WorldSettings(users=users, movies=movies))
    everyone = np.arange(users)
    chosen = world.choose(everyone, world.new_seen(), rng)
    assert ((chosen >= 0) & (chosen < movies)).all()
    assert (world.watch_plan(everyone, chosen, rng).last_minute >= 0).all()


def test_series_are_watched_in_their_order(world: World, rng: np.random.Generator) -> None:
    everyone, seen = np.arange(USERS), world.new_seen()
    part_one = int(np.flatnonzero(world.catalogue.successor >= 0)[0])
    seen.add(everyone, np.full(USERS, part_one))
    went_on = world.choose(everyone, seen, rng) == world.catalogue.successor[part_one]
    assert went_on.mean() == pytest.approx(world.people.loyalty.mean(), abs=0.05)
    loyal = world.people.loyalty > 0.6
    assert went_on[loyal].mean() > went_on[~loyal].mean() + 0.2


def test_users_of_a_circle_watch_the_same_movies(world: World, rng: np.random.Generator) -> None:
    _, chosen = after_visits(world, 5, rng)
    movies = np.stack(chosen, axis=1)
    of_circle, others = (
        np.flatnonzero((world.people.circles == 7).all(axis=1) == inside)[:60] for inside in (True, False)
    )
    shares = [np.bincount(movies[group].ravel(), minlength=MOVIES) for group in (of_circle, others)]
    top = [np.sort(share)[-25:].sum() / share.sum() for share in shares]
    assert top[0] > 1.25 * top[1]


Pairs = list[tuple[int, int]]


@given(st.lists(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), max_size=8), max_size=6))
def test_seen_is_a_set_of_pairs_and_the_last_movies(batches: list[Pairs]) -> None:
    seen, pairs, watched = Seen(5, 7), set(), [[-1] * 4 for _ in range(5)]
    for batch in batches:
        seen.add(*np.array(batch, dtype=np.int64).reshape(-1, 2).T)
        pairs.update(batch)
        for user, movie in batch:
            watched[user].insert(0, movie)
    users, movies = np.divmod(np.arange(35), 7)
    assert seen.contains(users, movies).tolist() == [(u, m) in pairs for u, m in zip(users, movies, strict=True)]
    assert len(seen) == len(pairs)
    assert seen.recent.tolist() == [movies[:4] for movies in watched]


def test_seen_stays_right_when_it_merges_its_arrays(rng: np.random.Generator) -> None:
    seen, matrix = Seen(1_000, 500), np.zeros((1_000, 500), dtype=bool)
    for _ in range(6):
        users, movies = rng.integers(0, 1_000, 30_000), rng.integers(0, 500, 30_000)
        seen.add(users, movies)
        matrix[users, movies] = True
    assert len(seen) == matrix.sum()
    assert np.array_equal(seen.contains(np.arange(1_000)[:, None], np.arange(500)), matrix)


def lists_of(world: World, user: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Twenty movies by interest, by popularity and at random; with noise on the interest, as for a recommender."""
    movies = np.arange(MOVIES)
    interest = world.interest(np.full(MOVIES, user), movies) * rng.lognormal(0, 0.9, MOVIES)
    return {
        "good": np.argsort(-interest)[:20],
        "popular": np.argsort(-world.catalogue.popularity)[:20],
        "random": rng.choice(MOVIES, 20, replace=False),
    }


def acceptance(world: World, user: int, movies: np.ndarray, seen: Seen) -> float:
    """Chance that the user takes something from a list."""
    return float(list_acceptance(world.take_odds(user, movies, seen)))


def test_good_lists_are_taken_more_often_than_popular_ones_than_random_ones(
    world: World, rng: np.random.Generator
) -> None:
    seen, _ = after_visits(world, 15, rng)
    odds: dict[str, list[float]] = {"good": [], "popular": [], "random": []}
    for user in range(400):
        for kind, movies in lists_of(world, user, rng).items():
            odds[kind].append(acceptance(world, user, movies, seen))
    good, popular, random = (float(np.mean(odds[kind])) for kind in ("good", "popular", "random"))
    assert 0.33 < good < 0.47
    assert 0.15 < popular < 0.26
    assert 0.005 < random < 0.06


def test_a_reaction_is_as_likely_as_its_acceptance(world: World, rng: np.random.Generator) -> None:
    user, seen = 11, world.new_seen()
    movies = lists_of(world, user, rng)["good"]
    taken = [world.react(user, movies, seen, rng) for _ in range(4_000)]
    share = np.mean([movie is not None for movie in taken])
    assert share == pytest.approx(acceptance(world, user, movies, seen), abs=0.03)
    assert {movie for movie in taken if movie is not None} <= set(movies.tolist())


def test_many_users_react_as_each_of_them_does(world: World, rng: np.random.Generator) -> None:
    users, seen = np.array([11, 3, 11]), world.new_seen()
    lists = np.stack([lists_of(world, user, rng)["good"] for user in users.tolist()])
    lists[2, 2:] = -1
    seen.add(np.array([3, 3]), lists[1, :2])
    together = np.stack([world.react_all(users, lists, seen, rng) for _ in range(2_000)])
    for user, movies, taken in zip(users.tolist(), lists, together.T, strict=True):
        alone = [world.react(user, movies[movies >= 0], seen, rng) for _ in range(2_000)]
        for movie in movies[movies >= 0].tolist():
            assert np.mean(taken == movie) == pytest.approx(np.mean([each == movie for each in alone]), abs=0.06)
        assert set(taken.tolist()) <= {-1, *movies.tolist()}
    assert not np.isin(together[:, 1], lists[1, :2]).any()


def test_upper_ranks_are_looked_at_more_often(world: World, rng: np.random.Generator) -> None:
    user, seen = 11, world.new_seen()
    best = lists_of(world, user, rng)["good"][:1]
    dull = np.argsort(world.interest(np.full(MOVIES, user), np.arange(MOVIES)))[:19]
    first = acceptance(world, user, np.concatenate((best, dull)), seen)
    last = acceptance(world, user, np.concatenate((dull, best)), seen)
    assert last == pytest.approx(first * 4 / 23, rel=0.1)


def test_nothing_is_taken_from_a_seen_or_an_empty_list(world: World, rng: np.random.Generator) -> None:
    seen, movies = world.new_seen(), lists_of(world, 3, rng)["good"]
    seen.add(np.full(20, 3), movies)
    assert {world.react(3, movies, seen, rng) for _ in range(200)} == {None}
    assert world.react(3, movies[:0], seen, rng) is None
    assert acceptance(world, 3, movies[:0], seen) == 0.0


def test_the_next_part_of_a_series_is_welcome(world: World) -> None:
    seen, user = world.new_seen(), int(world.people.loyalty.argmax())
    part_one = int(np.flatnonzero(world.catalogue.successor >= 0)[0])
    part_two = world.catalogue.successor[[part_one]]
    before = acceptance(world, user, part_two, seen)
    seen.add(np.array([user]), np.array([part_one]))
    assert acceptance(world, user, part_two, seen) > max(2 * before, 0.3)


@pytest.mark.parametrize("generation", ["2022", "2026"])
def test_sessions_have_the_measured_figures(generation: str, rng: np.random.Generator) -> None:
    world = World(WorldSettings(users=USERS, movies=MOVIES, generation="2022" if generation == "2022" else "2026"))
    _, chosen = after_visits(world, 12, rng)
    users, movies = np.tile(np.arange(USERS), 12), np.concatenate(chosen)
    plan = world.watch_plan(users, movies, rng)
    scale = 1 if generation == "2022" else 2
    stars = -(-plan.ratings // scale)
    assert plan.ratings.max() == 5 * scale
    assert set(plan.ratings.tolist()) == set(range(5 * scale + 1))
    share = np.bincount(stars, minlength=6)[1:] / (stars > 0).sum()
    for measured, low, high in zip(share, (0.001, 0.02, 0.19, 0.38, 0.13), (0.04, 0.08, 0.34, 0.50, 0.30), strict=True):
        assert low <= measured <= high
    assert share.argmax() == 3
    assert plan.finished.mean() == pytest.approx(0.88, abs=0.02)
    fraction = plan.last_minute / world.catalogue.length_min[movies]
    assert np.median(fraction[plan.finished]) == pytest.approx(1.016, abs=0.005)
    watched = [np.minimum(fraction[stars == rating], 1.0).mean() for rating in range(1, 6)]
    assert watched == pytest.approx([0.62, 0.81, 0.96, 1.0, 1.0], abs=0.05)
    assert 0.5 < 98.4 * (stars > 0).sum() / (plan.last_minute + 1).sum() < 0.65


def mean_rating(world: World, users: np.ndarray, movies: np.ndarray, rng: np.random.Generator) -> float:
    ratings = world.watch_plan(users, movies, rng).ratings
    return float(ratings[ratings > 0].mean())


def test_ratings_follow_taste(world: World, rng: np.random.Generator) -> None:
    movies = np.arange(MOVIES)
    interest = world.interest(np.arange(1_000)[:, None], movies)
    fans = mean_rating(world, interest.argmax(axis=0), movies, rng)
    strangers = mean_rating(world, interest.argmin(axis=0), movies, rng)
    assert fans > strangers + 1.0


def test_ratings_follow_quality(world: World, rng: np.random.Generator) -> None:
    users, order = rng.integers(0, USERS, 500), np.argsort(world.catalogue.quality)
    assert mean_rating(world, users, order[-500:], rng) > mean_rating(world, users, order[:500], rng) + 1.0


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32))
def test_any_seed_makes_a_world(seed: int) -> None:
    world = World(WorldSettings(users=50, movies=60, seed=seed))
    assert len(set(world.catalogue.ids)) == 60
    assert world.activity.visits_per_day.shape == (50,)
