"""What every model must hold, inherited by each: shapes, finite scores, determinism, and a floor of accuracy."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from batch.interactions import Interactions
from batch.lists import top_lists
from batch.models import ALS, Model, Popular
from batch.settings import BatchSettings

# implicit looks at BLAS when a model is made, before its threads are limited; a test below is about that
pytestmark = pytest.mark.filterwarnings("ignore:OpenBLAS is configured:RuntimeWarning")

USERS, MOVIES, GROUP = 240, 60, 30
SETTINGS = BatchSettings(factors=8, iterations=8)


def interactions(seen: np.ndarray) -> Interactions:
    starts = seen.sum(axis=0)
    return Interactions(sp.csr_matrix(seen, dtype=np.float32), starts.astype(np.float64), starts)


def planted(seed: int = 4) -> Interactions:
    """Even users watch 10 of the first 30 movies, odd users of the others, two of each hits; user 0 watched nothing."""
    rng, seen = np.random.default_rng(seed), np.zeros((USERS, MOVIES))
    odds = np.where(np.arange(GROUP) < 2, 6.0, 1.0)
    for user in range(1, USERS):
        chosen = rng.choice(GROUP, 10, replace=False, p=odds / odds.sum())
        seen[user, chosen + GROUP * (user % 2)] = 1
    return interactions(seen)


def own_share(model: Model, data: Interactions) -> float:
    """Share of the first ten of each user's list that is of the user's own taste."""
    users = np.arange(1, USERS)
    listed = top_lists(model, data.weights, users)[:, :10]
    return float((listed // GROUP == users[:, None] % 2).mean())


class Contract:
    """The tests; a subclass makes the model and says how well it must do."""

    floor: float

    def make(self, seed: int = 1) -> Model:
        raise NotImplementedError

    def fitted(self, data: Interactions, seed: int = 1) -> Model:
        model = self.make(seed)
        model.fit(data)
        return model

    def test_every_movie_is_scored_for_every_user_that_is_asked(self) -> None:
        model = self.fitted(planted())
        for users in ([5], [5, 0, 5, 239], []):
            scores = model.score(np.array(users, np.int64))
            assert scores.shape == (len(users), MOVIES)
            assert scores.dtype == np.float32
            assert np.isfinite(scores).all()

    def test_a_user_scores_alike_in_any_company(self) -> None:
        model = self.fitted(planted())
        together = model.score(np.arange(USERS))
        assert model.score(np.array([7])) == pytest.approx(together[[7]], abs=1e-5)

    def test_scores_may_be_written_to_and_leave_the_model_alone(self) -> None:
        model = self.fitted(planted())
        before = model.score(np.array([1, 2]))
        model.score(np.array([1, 2]))[:] = -np.inf
        assert np.array_equal(model.score(np.array([1, 2])), before)

    def test_the_same_data_and_seed_make_the_same_scores(self) -> None:
        one, two = (self.fitted(planted()).score(np.arange(USERS)) for _ in range(2))
        assert np.array_equal(one, two)

    def test_the_data_are_left_as_they_were(self) -> None:
        data, copy = planted(), planted()
        self.fitted(data)
        assert np.array_equal(data.weights.toarray(), copy.weights.toarray())
        assert np.array_equal(data.popularity, copy.popularity)

    def test_a_user_without_history_gets_the_popular_order(self) -> None:
        data = planted()
        scores = self.fitted(data).score(np.array([0]))[0]
        order = np.lexsort((np.arange(MOVIES), -data.popularity))
        assert np.argsort(-scores, kind="stable").tolist() == order.tolist()

    @pytest.mark.parametrize("shape", [(1, 1), (1, 3), (3, 1), (2, 2)])
    def test_the_smallest_data_can_be_fitted(self, shape: tuple[int, int]) -> None:
        model = self.fitted(interactions(np.ones(shape)))
        assert np.isfinite(model.score(np.arange(shape[0]))).all()

    def test_a_movie_that_nobody_watched_is_scored(self) -> None:
        seen = planted().weights.toarray()
        seen[:, 5] = 0
        assert np.isfinite(self.fitted(interactions(seen)).score(np.arange(USERS))).all()

    def test_it_finds_a_planted_taste_as_well_as_it_must(self) -> None:
        data = planted()
        assert own_share(self.fitted(data), data) >= self.floor

    def test_fitting_again_forgets_what_was_learnt_before(self) -> None:
        model, other = self.fitted(planted()), planted(5)
        model.fit(other)
        assert np.array_equal(model.score(np.arange(USERS)), self.fitted(other).score(np.arange(USERS)))


class TestPopular(Contract):
    """One order for everyone: it cannot tell the tastes apart."""

    floor = 0.3

    def make(self, seed: int = 1) -> Model:
        return Popular()

    def test_it_cannot_tell_the_tastes_apart(self) -> None:
        data = planted()
        assert own_share(self.fitted(data), data) < 0.7

    def test_movies_alike_are_ordered_by_number(self) -> None:
        model = Popular()
        model.fit(interactions(np.ones((2, 4))))
        assert np.argsort(-model.score(np.array([1]))[0]).tolist() == [0, 1, 2, 3]


class TestALS(Contract):
    """Tastes are found."""

    floor = 0.97

    def make(self, seed: int = 1) -> Model:
        return ALS(BatchSettings(factors=8, iterations=8, seed=seed))

    def test_another_seed_makes_another_model(self) -> None:
        one, two = (self.fitted(planted(), seed).score(np.arange(1, 5)) for seed in (1, 2))
        assert not np.array_equal(one, two)

    def test_there_are_never_more_factors_than_users_or_movies(self) -> None:
        model = ALS(BatchSettings(factors=64, iterations=2))
        model.fit(interactions(np.ones((5, 7))))
        assert model.item_embeddings.shape == (7, 5)
        assert model.user_embeddings.shape == (5, 5)

    def test_a_loved_movie_weighs_more_than_one_given_up(self) -> None:
        data = planted()
        weak = data.weights.copy()
        weak.data *= np.where(weak.indices < GROUP, 0.05, 1).astype(np.float32)
        model = self.fitted(Interactions(weak, data.popularity, data.starts))
        given_up, loved = (model.score(np.arange(2 - odd, USERS, 2)).max(axis=1).mean() for odd in (0, 1))
        assert given_up < loved


FIT = """
import numpy as np, scipy.sparse as sp
from batch.interactions import Interactions
from batch.models import ALS
from batch.settings import BatchSettings
ALS(BatchSettings(factors=2)).fit(Interactions(sp.csr_matrix(np.ones((3, 3), np.float32)), np.ones(3), np.ones(3)))
"""


def test_a_night_is_not_warned_of_threads_that_are_limited_anyway() -> None:
    root = Path(__file__).parents[2]
    environ = {"OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", FIT], cwd=root, env=environ, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
