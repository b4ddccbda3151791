"""What every model must hold, inherited by each: shapes, finite scores, determinism, folding in, an accuracy floor."""

import subprocess
import sys
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import scipy.sparse as sp

from batch.errors import BatchError
from batch.history.interactions import Interactions
from batch.models import MODELS, Model, candidates, make
from batch.models.top_lists import top_lists
from batch.settings import BatchSettings, ModelName

pytestmark = pytest.mark.blas

USERS, MOVIES, GROUP = 160, 60, 30
HOUR_MS = 3_600_000
SETTINGS = BatchSettings(factors=8, iterations=8, ease_penalty=20, order_penalty=20, minimum_segment=1)
HALF_DENSE = BatchSettings(factors=8, iterations=8, ease_penalty=20, order_penalty=20, dense_movies=44)


def interactions(
    sequences: list[list[int]], movies: int, segments: list[int] | None = None, weight: float = 1.0
) -> Interactions:
    """Users who watched these movies in this order, an hour apart."""
    lengths = [len(sequence) for sequence in sequences]
    flat = np.array([movie for sequence in sequences for movie in sequence], np.int32)
    ends = np.cumsum([0, *lengths])
    place = np.arange(len(flat)) - np.repeat(ends[:-1], lengths)
    return Interactions(
        ends.astype(np.int64),
        flat,
        place.astype(np.int64) * HOUR_MS,
        np.full(len(flat), weight, np.float32),
        np.bincount(flat, minlength=movies).astype(np.float64),
        np.array(segments or [0] * len(sequences), np.uint8),
        (max(lengths, default=0) + 1) * HOUR_MS,
    )


def planted(seed: int = 4) -> Interactions:
    """Even users watch 10 of the first 30 movies, odd users of the others, two of each hits; user 0 watched nothing.

    Segment 1 are the odd users, segment 2 the even ones, and user 0 has none.
    """
    rng = np.random.default_rng(seed)
    odds = np.where(np.arange(GROUP) < 2, 6.0, 1.0)
    watched: list[list[int]] = [[]]
    for user in range(1, USERS):
        chosen = rng.choice(GROUP, 10, replace=False, p=odds / odds.sum())
        watched.append((rng.permutation(chosen) + GROUP * (user % 2)).tolist())
    return interactions(watched, MOVIES, [0] + [2 - user % 2 for user in range(1, USERS)])


def own_share(model: Model, data: Interactions) -> float:
    """Share of the first ten of each user's list that is of the user's own taste."""
    users = np.arange(1, USERS)
    listed = top_lists(model, data, users)[:, :10]
    return float((listed // GROUP == users[:, None] % 2).mean())


def popular_order(data: Interactions) -> list[int]:
    return np.lexsort((np.arange(data.shape[1]), -data.popularity)).tolist()


class Contract:
    """The tests; a subclass says which model it is and how well it must do."""

    name: str
    floor: float
    settings = SETTINGS

    def fitted(self, data: Interactions) -> Model:
        model = make(self.name, self.settings, {})
        model.fit(data)
        return model

    def test_every_movie_is_scored_for_every_user_that_is_asked(self) -> None:
        model, data = self.fitted(planted()), planted()
        for users in ([5], [5, 0, 5, 159], []):
            scores = model.score(data, np.array(users, np.int64))
            assert scores.shape == (len(users), MOVIES)
            assert scores.dtype == np.float32
            assert np.isfinite(scores).all()

    def test_a_user_scores_alike_in_any_company(self) -> None:
        data = planted()
        model = self.fitted(data)
        together = model.score(data, np.arange(USERS))
        assert model.score(data, np.array([7, 3])) == pytest.approx(together[[7, 3]], abs=1e-5)

    def test_scores_may_be_written_to_and_leave_the_model_alone(self) -> None:
        data = planted()
        model = self.fitted(data)
        before = model.score(data, np.array([0, 1, 2]))
        model.score(data, np.array([0, 1, 2]))[:] = -np.inf
        assert np.array_equal(model.score(data, np.array([0, 1, 2])), before)

    def test_the_same_data_and_seed_make_the_same_scores(self) -> None:
        first, second = (self.fitted(planted()).score(planted(), np.arange(USERS)) for _ in range(2))
        assert np.array_equal(first, second)

    def test_what_is_tuned_makes_the_model_anew_and_leaves_the_data_alone(self) -> None:
        data, copy = planted(), planted()
        model = self.fitted(data)
        model.tune(data, held_out(data), np.arange(1, USERS))
        for field in ("indptr", "movies", "starts", "weights", "popularity", "segments"):
            assert np.array_equal(getattr(data, field), getattr(copy, field))
        again = make(self.name, self.settings, model.parameters)
        again.fit(data)
        assert again.parameters == model.parameters
        assert np.array_equal(again.score(data, np.arange(USERS)), model.score(data, np.arange(USERS)))

    def test_a_user_without_history_gets_the_popular_order(self) -> None:
        data = planted()
        scores = self.fitted(data).score(data, np.array([0]))[0]
        assert np.argsort(-scores, kind="stable").tolist() == popular_order(data)

    def test_a_new_user_scores_like_one_with_the_same_history(self) -> None:
        data = planted()
        model = self.fitted(data)
        sequence = data.movies[data.indptr[8] : data.indptr[9]].tolist()
        later = interactions([[3], sequence, []], MOVIES, [0, int(data.segments[8]), 0])
        scores = model.score(later, np.array([1, 2]))
        assert scores == pytest.approx(model.score(data, np.array([8, 0])), abs=1e-5)

    @pytest.mark.parametrize("shape", [(1, 1), (1, 3), (3, 1), (2, 2)])
    def test_the_smallest_data_can_be_fitted_and_tuned(self, shape: tuple[int, int]) -> None:
        data = interactions([list(range(shape[1]))] * shape[0], shape[1])
        model = self.fitted(data)
        model.tune(data, sp.csr_matrix(np.zeros(shape, bool)), np.arange(shape[0]))
        assert np.isfinite(model.score(data, np.arange(shape[0]))).all()
        assert model.item_embeddings.shape[0] == shape[1]

    def test_a_movie_that_nobody_watched_is_scored(self) -> None:
        data = interactions([[0, 1, 3], [1, 2], [3, 1]], 5)
        assert np.isfinite(self.fitted(data).score(data, np.arange(3))).all()

    def test_it_finds_a_planted_taste_as_well_as_it_must(self) -> None:
        data = planted()
        assert own_share(self.fitted(data), data) >= self.floor

    def test_fitting_again_forgets_what_was_learnt_before(self) -> None:
        model, other = self.fitted(planted()), planted(5)
        model.fit(other)
        assert np.array_equal(model.score(other, np.arange(USERS)), self.fitted(other).score(other, np.arange(USERS)))

    def test_movies_have_embeddings(self) -> None:
        embeddings = self.fitted(planted()).item_embeddings
        assert embeddings.shape[0] == MOVIES
        assert embeddings.dtype == np.float32
        assert np.isfinite(embeddings).all()


def held_out(data: Interactions) -> sp.csr_matrix:
    """For tuning: every user went on with a movie of the same taste that they had not seen."""
    rows, columns = [], []
    for user in range(1, data.shape[0]):
        seen = data.movies[data.indptr[user] : data.indptr[user + 1]]
        unseen = np.setdiff1d(np.arange(GROUP) + GROUP * (user % 2), seen)
        rows.append(user)
        columns.append(int(unseen[user % len(unseen)]))
    return sp.csr_matrix((np.ones(len(rows), bool), (rows, columns)), data.shape)


class TestPopular(Contract):
    """One order for everyone: it cannot tell the tastes apart."""

    name, floor = "popular", 0.3

    def test_it_cannot_tell_the_tastes_apart(self) -> None:
        data = planted()
        assert own_share(self.fitted(data), data) < 0.7

    def test_movies_alike_are_ordered_by_number(self) -> None:
        data = interactions([[0, 1, 2, 3]] * 2, 4)
        assert np.argsort(-self.fitted(data).score(data, np.array([1]))[0]).tolist() == [0, 1, 2, 3]


class TestSegment(Contract):
    """The planted segments are the tastes, so that even a little smoothing must tell them apart."""

    name, floor = "segment", 0.55

    def test_a_segment_without_starts_keeps_to_the_popular_list(self) -> None:
        data = planted()
        model = self.fitted(data)
        stranger = interactions([[1], [2]], MOVIES, [9, 0])
        for scores in model.score(stranger, np.arange(2)):
            assert np.argsort(-scores).tolist() == popular_order(data)

    def test_recent_starts_of_a_segment_weigh_more(self) -> None:
        data = interactions([[0, 1], [0, 1], [1, 0]], 3, [1, 1, 1])
        data.starts[:] = np.array([0, 90, 0, 90, 60, 90]) * 24 * HOUR_MS
        data.popularity[:] = 1
        later = Interactions(
            data.indptr, data.movies, data.starts, data.weights, data.popularity, data.segments, 91 * 24 * HOUR_MS
        )
        assert np.argsort(-self.fitted(later).score(later, np.array([0]))[0]).tolist() == [1, 0, 2]

    def test_tuning_smooths_less_where_segments_differ_and_more_where_they_do_not(self) -> None:
        data = planted()
        model = self.fitted(data)
        model.tune(data, held_out(data), np.arange(USERS))
        assert own_share(model, data) == 1
        mixed = planted()
        mixed.segments[:] = np.random.default_rng(1).integers(1, 3, USERS)
        model.fit(mixed)
        model.tune(mixed, held_out(mixed), np.arange(USERS))
        assert model.parameters == {"smoothing": 1e6}


class TestALS(Contract):
    """Tastes are found."""

    name, floor = "als", 0.97

    def test_another_seed_makes_another_model(self) -> None:
        data, scores = planted(), []
        for seed in (1, 2):
            model = make("als", BatchSettings(factors=8, iterations=2, seed=seed), {})
            model.fit(data)
            scores.append(model.score(data, np.arange(1, 5)))
        assert not np.array_equal(scores[0], scores[1])

    def test_there_are_never_more_factors_than_users_or_movies(self) -> None:
        model = make("als", BatchSettings(factors=64, iterations=2), {})
        model.fit(interactions([list(range(7))] * 5, 7))
        assert model.item_embeddings.shape == (7, 5)

    def test_a_loved_movie_weighs_more_than_one_given_up(self) -> None:
        data = planted()
        data.weights[data.movies < GROUP] = 0.05
        model = self.fitted(data)
        given_up, loved = (model.score(data, np.arange(2 - odd, USERS, 2)).max(axis=1).mean() for odd in (0, 1))
        assert given_up < loved


class TestEASE(Contract):
    """Tastes are found."""

    name, floor = "ease", 0.97


class TestOrder(Contract):
    """Tastes are found, though there is no order in them."""

    name, floor = "order", 0.97


class TestBlend(Contract):
    """As good as its parts."""

    name, floor = "blend", 0.97


class TestReranker(Contract):
    """As good as the blend, whose order it keeps while it has learned nothing."""

    name, floor = "reranker", 0.97


class TestEASEPartlyDense(TestEASE):
    """Some movies are outside the dense part."""

    settings, floor = HALF_DENSE, 0.9


class TestOrderPartlyDense(TestOrder):
    """Some movies are outside the dense part."""

    settings, floor = HALF_DENSE, 0.9


TOO_MUCH: list[tuple[str, dict[str, float], str]] = [
    ("ease", {"ease_penalty": 1e-4}, "ease_penalty"),
    ("ease", {"ease_penalty": 1e-4, "dense_movies": 20}, "ease_penalty"),
    ("blend", {"ease_penalty": 1e-4}, "ease_penalty"),
    ("als", {"regularization": 0}, "regularization"),
    ("als", {"regularization": 0, "confidence": 1e12}, "regularization"),
    ("als", {"regularization": 0.01, "confidence": 1e6}, "regularization"),
]


@pytest.mark.parametrize(("name", "changed", "said"), TOO_MUCH)
def test_what_cannot_be_solved_says_which_setting_makes_it_so(name: str, changed: dict[str, float], said: str) -> None:
    """Instead of a traceback, or of weights that are noise: every user watched the same."""
    data = interactions([list(range(50))] * 300, MOVIES)
    model = make(name, BatchSettings(**changed), {})  # type: ignore[arg-type]
    with pytest.raises(BatchError, match=rf"raise \[batch\] {said}"):  # noqa: PT012 - where it shows differs
        model.fit(data)
        model.score(data, np.arange(3))


@pytest.mark.parametrize("name", ["ease", "blend"])
def test_what_lapack_solves_to_noise_is_refused_as_well(name: str) -> None:
    """Two movies of the same 1,024 users, and a penalty of 2^-10: any arithmetic factorises that matrix, whose
    reciprocal condition is 2^-21. With a penalty of 2^-6 it is 2^-17, and the model is fitted."""
    data = interactions([[0, 1]] * 1024, 2)
    with pytest.raises(BatchError, match=r"raise \[batch\] ease_penalty"):
        make(name, BatchSettings(ease_penalty=2**-10), {}).fit(data)
    make(name, BatchSettings(ease_penalty=2**-6), {}).fit(data)


def test_all_models_compete_and_the_popular_list_comes_first() -> None:
    names = [model.name for model in candidates(SETTINGS)]
    assert names == [*MODELS]
    assert names[0] == "popular"


@pytest.mark.parametrize("pinned", MODELS)
def test_a_pinned_model_competes_with_the_popular_list_only(pinned: str) -> None:
    names = [model.name for model in candidates(BatchSettings(model=cast(ModelName, pinned)))]
    assert names == list(dict.fromkeys(["popular", pinned]))


FIT = """
import hashlib, sys
sys.path.insert(0, "tests/batch/models")
import numpy as np
from test_models import SETTINGS, USERS, held_out, planted
from batch.models import candidates
data, digest = planted(), hashlib.sha256()
for model in candidates(SETTINGS):
    model.fit(data)
    model.tune(data, held_out(data), np.arange(USERS))
    digest.update(model.score(data, np.arange(USERS)).tobytes() + model.item_embeddings.tobytes())
print(digest.hexdigest())
"""


def test_two_processes_make_the_same_models_and_none_warns_of_threads() -> None:
    """With as many threads: how BLAS cuts a sum into parts shows in its last bits."""
    root = Path(__file__).parents[3]
    environ = {"OPENBLAS_NUM_THREADS": "2"}
    command = [sys.executable, "-c", FIT]
    both = [subprocess.Popen(command, cwd=root, env=environ, stdout=-1, stderr=-1, text=True) for _ in range(2)]
    (first, errors), (second, _) = (process.communicate(timeout=600) for process in both)
    assert errors == ""
    assert first == second
    assert len(first.strip()) == 64
