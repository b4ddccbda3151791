"""The data sets of `ranking` are what they claim to be."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from batch.errors import MovieLensError
from batch.evaluation.figures import measure_lists
from batch.evaluation.splits import by_time
from batch.history.interactions import TrainingHistory
from batch.history.segments import segments_of
from batch.settings import BatchSettings
from loadtest.bench.benchmark import NO_INPUTS
from loadtest.bench.ranking import reference_models, sequences
from loadtest.bench.ranking.ranking_benchmark import RankingRun, RankingSize
from loadtest.settings import WorldSettings
from loadtest.simulation.population import make_population
from stream.zone import DAY_MS
from tests.loadtest.ranking_data import some_sessions, write_movielens

pytestmark = [pytest.mark.blas, pytest.mark.filterwarnings("ignore:OpenBLAS is configured:RuntimeWarning")]


def assert_valid_history(history: TrainingHistory) -> None:
    order = np.lexsort((history.movie, history.start, history.user))
    assert np.array_equal(order, np.arange(len(order)))
    assert history.movies == sorted(history.movies)
    assert (np.diff(history.users.astype(np.int64)) > 0).all()
    assert history.user.min() >= 0
    assert history.user.max() < history.shape[0]
    assert history.movie.max() < history.shape[1]
    watched = history.minutes > 0
    assert ((history.share >= 0) & (history.share <= 1))[watched].all()
    rated = ~np.isnan(history.rating)
    assert (history.rated[rated] >= history.start[rated]).all()
    assert (history.rated[~rated] == 0).all()


def test_history_of_the_world() -> None:
    history = sequences.world(WorldSettings(users=300, movies=80), 8)
    assert_valid_history(history)
    assert history.shape == (300, 80)
    assert len(history.user) == pytest.approx(2_400, rel=0.15)
    assert 7 * DAY_MS < history.until - history.start.min() <= 8 * DAY_MS
    assert 0.4 < np.mean(~np.isnan(history.rating)) < 0.7
    assert np.unique(history.rating[~np.isnan(history.rating)]) == pytest.approx(np.arange(1, 6) / 5)
    people = make_population(WorldSettings(users=300))
    records = [
        (row + 1, int(age), "F" if woman else "M")
        for row, (age, woman) in enumerate(zip(people.ages, people.women, strict=True))
    ]
    assert np.array_equal(history.segments, segments_of(history.users, records))


WORLDS = ("world", "charts", "thin")


@pytest.fixture(scope="module")
def worlds() -> dict[str, TrainingHistory]:
    size = RankingSize(world=(1_500, 200, 14), sequences=(1, 1, 1))
    run = RankingRun(Path("unused"), size, 1, NO_INPUTS)
    return {name: run.history(name) for name in WORLDS}


@pytest.mark.parametrize("name", WORLDS)
def test_newcomers_are_in_the_test_slice_of_every_world(name: str, worlds: dict[str, TrainingHistory]) -> None:
    history = worlds[name]
    assert_valid_history(history)
    test = by_time(history, BatchSettings()).test()
    lengths = test.lengths[np.concatenate([test.users, test.strangers])]
    assert min((lengths == events).sum() for events in range(4)) > 15


@pytest.mark.parametrize(("name", "least", "most"), [("world", 1.4, 3), ("charts", 0.8, 1.05), ("thin", 1.05, 3)])
def test_the_popular_list_is_hard_to_beat_in_charts_alone(
    name: str, least: float, most: float, worlds: dict[str, TrainingHistory]
) -> None:
    test = by_time(worlds[name], BatchSettings()).test()

    def ndcg(model: reference_models.Scores) -> float:
        lists = reference_models.top_lists(model, test.known, test.users)
        return float(measure_lists(test, test.users, lists).scores.ndcg.mean())

    popular = ndcg(lambda users: np.zeros((len(users), 200)))  # equal scores are ordered by popularity
    assert least < ndcg(reference_models.ease(test.known)(300.0)) / popular < most


def test_users_of_thin_come_seldom(worlds: dict[str, TrainingHistory]) -> None:
    lengths = {name: len(history.user) / len(history.users) for name, history in worlds.items()}
    assert lengths["charts"] == pytest.approx(lengths["world"], rel=0.05)
    assert 1.5 < lengths["thin"] < 3


def follows(history: TrainingHistory) -> np.ndarray:
    """How often each movie comes next after each: int64 [m, m]."""
    same = history.user[1:] == history.user[:-1]
    pairs = history.movie[:-1][same], history.movie[1:][same]
    return np.asarray(sp.csr_matrix((np.ones(len(pairs[0]), np.int64), pairs), (history.shape[1],) * 2).toarray())


def test_sequences_have_order_and_the_shuffled_have_none() -> None:
    history = sequences.sequences(600, 200, 40, 1)
    assert_valid_history(history)
    pairs = history.user.astype(np.int64) * 200 + history.movie
    assert len(np.unique(pairs)) == len(pairs)
    assert np.median(np.bincount(history.user)) == pytest.approx(40, rel=0.15)
    other = sequences.shuffled(history, 1)
    assert_valid_history(other)
    assert np.array_equal(other.start, history.start)
    assert np.array_equal(np.sort(pairs), np.sort(other.user.astype(np.int64) * 200 + other.movie))
    # with order, a movie that often follows another in one half of the users does so in the other half
    agree = []
    for either in (history, other):
        halves = [
            follows(some_sessions(either, np.isin(either.user, half))) for half in (np.arange(300), np.arange(300, 600))
        ]
        expected = np.outer(halves[0].sum(axis=1), halves[0].sum(axis=0)) / halves[0].sum()
        often = (halves[0] >= 3) & (halves[0] > 4 * expected)
        agree.append(int(halves[1][often].sum()) / max(float(expected[often].sum()), 1))
    assert agree[0] > 4
    assert agree[1] < 0.6 * agree[0]


def small_world(seed: int) -> TrainingHistory:
    return sequences.world(WorldSettings(users=60, movies=30, seed=seed), 3)


def test_equal_seeds_make_equal_sets() -> None:
    for make in (small_world, partial(sequences.sequences, 60, 60, 20)):
        first, same, other = make(1), make(1), make(2)
        assert np.array_equal(first.movie, same.movie)
        assert np.array_equal(first.start, same.start)
        assert not np.array_equal(first.movie[:50], other.movie[:50])


def test_an_archive_of_movielens(tmp_path: Path) -> None:
    history = sequences.movielens(write_movielens(tmp_path / "ml-1m"), tmp_path / "var")
    assert_valid_history(history)
    assert history.shape == (80, 60)
    assert "movie+0+1930" in history.movies
    assert np.unique(history.rating) == pytest.approx(np.arange(1, 6) / 5)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MovieLensError):
        sequences.movielens(tmp_path / "empty", tmp_path / "other")
