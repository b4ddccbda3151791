"""The textbook models of `ranking` are right by definition, and know no more than the night's own models."""

from collections.abc import Callable

import numpy as np
import pytest

from batch.evaluation.splits import by_order
from batch.history.interactions import Interactions
from loadtest.bench.ranking import ranking_benchmark, reference_models, sequences

pytestmark = [pytest.mark.blas, pytest.mark.filterwarnings("ignore:OpenBLAS is configured:RuntimeWarning")]


def known(watched: list[list[int]], movies: int) -> Interactions:
    """Users with some movies each, in this order; weights differ."""
    count = sum(map(len, watched))
    return Interactions(
        indptr=np.cumsum([0, *map(len, watched)]).astype(np.int64),
        movies=np.array([movie for row in watched for movie in row], np.int32),
        starts=np.arange(count, dtype=np.int64),
        weights=np.linspace(0.3, 1.4, count).astype(np.float32),
        popularity=np.bincount([movie for row in watched for movie in row], minlength=movies).astype(np.float64),
        segments=np.zeros(len(watched), np.uint8),
        until=count,
    )


def drawn(users: int, movies: int, seed: int) -> Interactions:
    rng = np.random.default_rng(seed)
    return known([rng.permutation(movies)[: rng.integers(0, movies - 2)].tolist() for _ in range(users)], movies)


def test_ease_is_the_ridge_regression_of_each_movie_from_the_others() -> None:
    data, penalty = drawn(30, 8, 1), 3.0
    watched = (data.matrix.toarray() > 0).astype(float)
    expected = np.zeros((30, 8))
    for movie in range(8):
        others = np.delete(watched, movie, axis=1)
        left = others.T @ others + penalty * np.eye(7)
        expected[:, movie] = others @ np.linalg.solve(left, others.T @ watched[:, movie])
    users = np.array([4, 0, 29])
    fit = reference_models.ease(data)
    fit(100.0)  # what penalties share must not remember one
    scores = fit(penalty)
    fit(30.0)
    assert scores(users) == pytest.approx(expected[users])


def naive_lists(scores: np.ndarray, data: Interactions, users: np.ndarray) -> list[list[int]]:
    lists = []
    for row, user in zip(scores, users.tolist(), strict=True):
        seen = set(data.movies[data.indptr[user] : data.indptr[user + 1]].tolist())
        left = [movie for movie in range(len(row)) if movie not in seen]
        left.sort(key=lambda movie: (-row[movie], -data.popularity[movie], movie))
        lists.append((left + [-1] * 20)[:20])
    return lists


@pytest.mark.parametrize("movies", [5, 40])
def test_lists_are_the_best_unseen_movies(movies: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_models, "_BLOCK", 7)
    data, users = drawn(30, movies, 2), np.arange(29, -1, -1)
    scores = np.random.default_rng(1).integers(0, 3, (30, movies)).astype(float)  # many are equal
    lists = reference_models.top_lists(lambda rows: scores[rows], data, users)
    assert lists.tolist() == naive_lists(scores[users], data, users)


def test_als_learns_from_the_weights_and_has_its_defaults() -> None:
    from implicit.cpu.als import AlternatingLeastSquares

    data, users = drawn(40, 12, 3), np.arange(40)
    scores = reference_models.als(data, 1)(users)
    model = AlternatingLeastSquares(random_state=1)
    model.fit(data.matrix, show_progress=False)
    assert scores == pytest.approx(model.user_factors @ model.item_factors.T, abs=1e-4)
    assert np.array_equal(reference_models.als(data, 1)(users), scores)


def test_the_penalty_is_chosen_before_the_test_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    history = sequences.sequences(250, 120, 30, 1)
    splits = by_order(history)
    fits: list[tuple[int, float]] = []
    ease = reference_models.ease

    def noting_ease(data: Interactions) -> Callable[[float], reference_models.Scores]:
        def fit(penalty: float) -> reference_models.Scores:
            fits.append((len(data.movies), penalty))
            return ease(data)(penalty)

        return fit

    monkeypatch.setattr(reference_models, "ease", noting_ease)
    test = splits.test()
    lists, best = ranking_benchmark.textbook_lists(splits, test, 1)
    before = len(splits.choice().known.movies)
    assert before < len(test.known.movies)
    assert fits == [*((before, penalty) for penalty in reference_models.PENALTIES), (len(test.known.movies), best)]
    assert set(lists) == {reference_models.EASE, reference_models.ALS}
