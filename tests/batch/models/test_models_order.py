"""Order is used where it predicts something, and costs nothing where it does not; and how parameters are chosen."""

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.history.interactions import Interactions
from batch.models import EASE, Blend, Model, Order, candidates, make
from batch.models.decay import DAYS, ITEMS, decayed_histories
from batch.models.model import sample_users
from batch.models.pair_sums import regress_on_few, sums_by_order
from batch.models.top_lists import top_lists
from batch.models.tuning import simplest_trial
from batch.settings import BatchSettings
from quality.metrics import ranking
from stream.zone import DAY_MS

pytestmark = pytest.mark.blas

SETTINGS = BatchSettings(factors=16, iterations=6, ease_penalty=20, order_penalty=20)
USERS, MOVIES, LENGTH = 300, 120, 30


def interactions(sequences: np.ndarray, movies: int = MOVIES) -> Interactions:
    """Users (rows) who watched these movies in this order, a day apart."""
    users, length = sequences.shape
    return Interactions(
        np.arange(users + 1, dtype=np.int64) * length,
        sequences.ravel().astype(np.int32),
        np.tile(np.arange(length, dtype=np.int64) * DAY_MS, users),
        np.ones(sequences.size, np.float32),
        np.bincount(sequences.ravel(), minlength=movies).astype(np.float64),
        np.zeros(users, np.uint8),
        length * DAY_MS,
    )


def chain(seed: int) -> np.ndarray:
    """A movie's successor is one of the next three in a circle; nothing is seen twice: int [USERS, LENGTH]."""
    rng = np.random.default_rng(seed)
    steps = rng.integers(1, 4, (USERS, LENGTH))
    circle = rng.permutation(MOVIES)
    return circle[(rng.integers(0, MOVIES, (USERS, 1)) + np.cumsum(steps, axis=1)) % MOVIES]


def unordered(seed: int) -> np.ndarray:
    """Six tastes of twenty movies; every user has two of them, and watches most of both in no order."""
    rng = np.random.default_rng(seed)
    first, apart = rng.integers(0, 6, (USERS, 1)), rng.integers(1, 6, (USERS, 1))
    own = np.concatenate([first * 20 + np.arange(20), (first + apart) % 6 * 20 + np.arange(20)], axis=1)
    return rng.permuted(own, axis=1)[:, :LENGTH]


def taste_and_chain(seed: int) -> np.ndarray:
    """Half of the time what comes after the last one in a circle, else something of the user's one taste of twenty."""
    rng = np.random.default_rng(seed)
    circle = rng.permutation(MOVIES)
    after = np.zeros(MOVIES, np.int64)
    after[circle] = np.roll(circle, -1)
    sequences = np.zeros((USERS, LENGTH), np.int64)
    for row in sequences:
        taste, fresh = rng.integers(0, 6) * 20 + rng.permutation(20), np.ones(MOVIES, bool)
        for place in range(LENGTH):
            near = after[row[place - 1]]
            own = taste[fresh[taste]]
            goes_on = fresh[near] and (not len(own) or (place > 0 and rng.random() < 0.5))
            row[place] = near if goes_on else rng.choice(own if len(own) else np.flatnonzero(fresh))
            fresh[row[place]] = False
    return sequences


def split(sequences: np.ndarray, last: int = 3) -> tuple[Interactions, sp.csr_matrix]:
    """What was before the last few of each user, and these."""
    rows = np.repeat(np.arange(len(sequences)), last)
    relevant = sp.csr_matrix((np.ones(len(rows), bool), (rows, sequences[:, -last:].ravel())), (USERS, MOVIES))
    return interactions(sequences[:, :-last]), relevant


def quality(model: Model, data: Interactions, relevant: sp.csr_matrix) -> float:
    lists = top_lists(model, data, np.arange(USERS))
    return float(ranking.rank_metrics(lists, relevant.indptr.astype(np.int64), relevant.indices).ndcg.mean())


def plain(data: Interactions) -> EASE:
    model = EASE(SETTINGS, {})
    model.fit(data)
    return model


def tuned(name: str, sequences: np.ndarray, some: BatchSettings = SETTINGS) -> tuple[Model, float, float]:
    """A model, chosen on a slice before the last and fitted anew, its NDCG@20 on the last, and that of plain EASE."""
    model = make(name, some, {})
    data, relevant = split(sequences[:, :-3])
    model.fit(data)
    model.tune(data, relevant, np.arange(USERS))
    data, relevant = split(sequences)
    model.fit(data)
    return model, quality(model, data, relevant), quality(plain(data), data, relevant)


@pytest.mark.parametrize(("name", "gain"), [("ease", 1.2), ("order", 1.7), ("blend", 1.7)])
def test_a_planted_order_is_found(name: str, gain: float) -> None:
    model, ndcg, plain_ndcg = tuned(name, chain(1))
    assert ndcg > gain * plain_ndcg
    assert any(value for key, value in model.parameters.items() if key.endswith("items"))


@pytest.mark.parametrize("name", ["ease", "blend"])
def test_nothing_is_lost_where_there_is_no_order(name: str) -> None:
    _, ndcg, plain_ndcg = tuned(name, unordered(1))
    assert ndcg >= plain_ndcg - 0.005


def test_ease_keeps_its_plain_form_where_there_is_no_order() -> None:
    parameters = tuned("ease", unordered(2))[0].parameters
    assert (parameters["items"], parameters["floor"], parameters["days"]) == (0, 0, 0)


def test_a_lasting_taste_is_kept_beside_what_was_watched_last() -> None:
    model, ndcg, _ = tuned("ease", taste_and_chain(1))
    assert model.parameters["items"]
    assert model.parameters["floor"]
    data, relevant = split(taste_and_chain(1))
    for items, days in itertools.product((0.0, *ITEMS), (0.0, *DAYS)):
        forgetful = EASE(SETTINGS, {**model.parameters, "items": items, "days": days, "floor": 0.0})
        forgetful.fit(data)
        assert ndcg > 1.05 * quality(forgetful, data, relevant)


def test_an_order_is_found_outside_the_dense_part_as_well() -> None:
    some = BatchSettings(factors=16, iterations=6, ease_penalty=20, order_penalty=20, dense_movies=60)
    _, ndcg, plain_ndcg = tuned("order", chain(1), some)
    assert ndcg > 1.2 * plain_ndcg


# --- against their definitions


def dense_history(data: Interactions) -> np.ndarray:
    return decayed_histories(data, np.arange(data.shape[0]), {}).toarray()


def test_ease_is_the_closed_form_of_its_definition() -> None:
    data = split(unordered(3))[0]
    gram = dense_history(data).T.astype(np.float64) @ dense_history(data)
    inverse = np.linalg.inv(gram + SETTINGS.ease_penalty * np.eye(MOVIES))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    scores = plain(data).score(data, np.arange(USERS))
    assert scores == pytest.approx(dense_history(data) @ weights, abs=1e-4)


def test_the_order_model_is_the_ridge_regression_of_its_definition() -> None:
    sequences = chain(4)[:, :12]
    data, fade = interactions(sequences), np.exp(-0.1)
    past, future = [], []
    for sequence in sequences:
        for at in range(len(sequence) - 1):
            before, after = np.zeros(MOVIES), np.zeros(MOVIES)
            before[sequence[: at + 1]] = fade ** np.arange(at, -1, -1)
            after[sequence[at + 1 :]] = fade ** np.arange(len(sequence) - at - 1)
            past.append(before)
            future.append(after)
    source, target = np.array(past), np.array(future)
    weights = np.linalg.solve(source.T @ source + SETTINGS.order_penalty * np.eye(MOVIES), source.T @ target)
    model = Order(SETTINGS, {})
    model.fit(data)
    assert model.score(data, np.arange(USERS)) == pytest.approx(dense_history(data) @ weights, abs=1e-4)


def test_a_movie_outside_the_dense_part_is_regressed_on_it() -> None:
    """With no more dense movies than it is regressed on, that is plain ridge regression."""
    some = BatchSettings(ease_penalty=20, dense_movies=30)
    data = split(unordered(3))[0]
    model = EASE(some, {})
    model.fit(data)
    watched = dense_history(data).astype(np.float64)
    dense = np.sort(np.argsort(-data.popularity, kind="stable")[:30])
    others = np.setdiff1d(np.arange(MOVIES), dense)
    gram = watched[:, dense].T @ watched[:, dense] + 20 * np.eye(30)
    expected = watched[:, dense] @ np.linalg.solve(gram, watched[:, dense].T @ watched[:, others])
    known = watched[:, dense].any(axis=1)
    assert model.score(data, np.arange(USERS))[known][:, others] == pytest.approx(expected[known], abs=1e-4)


def test_als_folds_a_user_in_by_the_least_squares_of_its_definition() -> None:
    """Confidence 1 + 4 × weight, times what is left by decay; 1 for a movie that was never watched."""
    data = split(chain(2))[0]
    data.weights[:] = np.linspace(0.1, 1, len(data.weights))
    model = make("als", SETTINGS, {"items": 5.0, "days": 20.0, "confidence": 4.0, "regularization": 3.0})
    model.fit(data)
    items = model.item_embeddings.astype(np.float64)
    for user, scores in enumerate(model.score(data, np.arange(3))):
        watched = slice(data.indptr[user], data.indptr[user + 1])
        back = np.arange(LENGTH - 4, -1, -1)
        confidence, expected = np.ones(MOVIES), np.zeros(MOVIES)
        confidence[data.movies[watched]] = (1 + 4 * data.weights[watched]) * np.exp(-back / 5) * 0.5 ** (back / 20)
        expected[data.movies[watched]] = 1
        system = (items * confidence[:, None]).T @ items + 3 * np.eye(items.shape[1])
        embedding = np.linalg.solve(system, items.T @ (confidence * expected))
        assert scores == pytest.approx(items @ embedding, abs=2e-3)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 9999), st.integers(1, 12), st.sampled_from([5.0, 10.0]))
def test_the_sums_over_pairs_are_those_over_places_in_histories_of_any_length(
    seed: int, size: int, reach: float
) -> None:
    """Whichever movies are dense, and exact where all sources are regressed on."""
    rng, movies, fade = np.random.default_rng(seed), 12, np.exp(-1 / reach)
    sequences = [rng.permutation(movies)[: rng.integers(movies + 1)] for _ in range(20)]
    past, future = np.zeros((2, 20, movies, movies))
    for user, sequence in enumerate(sequences):
        for at in range(len(sequence) - 1):
            past[user, at, sequence[: at + 1]] = fade ** np.arange(at, -1, -1)
            future[user, at, sequence[at + 1 :]] = fade ** np.arange(len(sequence) - at - 1)
    past, future = past.reshape(-1, movies), future.reshape(-1, movies)
    lengths = [len(sequence) for sequence in sequences]
    sample = Interactions(
        np.cumsum([0, *lengths]), np.concatenate(sequences).astype(np.int32), np.arange(sum(lengths)),
        np.ones(sum(lengths), np.float32), np.ones(movies), np.zeros(20, np.uint8), 10**6,
    )  # fmt: skip
    dense = np.sort(rng.permutation(movies)[:size])
    others = np.setdiff1d(np.arange(movies), dense)
    gram, near, far = sums_by_order(sample, dense, others, reach)
    assert gram == pytest.approx(past[:, dense].T @ past[:, dense], abs=1e-4)
    assert near == pytest.approx(past[:, dense].T @ future[:, dense], abs=1e-4)
    assert far.toarray() == pytest.approx(past[:, dense].T @ future[:, others], abs=1e-4)
    gram[np.diag_indices_from(gram)] += 3
    assert regress_on_few(gram, far).toarray() == pytest.approx(np.linalg.solve(gram, far.toarray()), abs=1e-4)


def test_a_movie_is_regressed_on_the_sources_that_go_best_with_it() -> None:
    rng = np.random.default_rng(5)
    watched = (rng.random((300, 80)) < 0.1).astype(np.float32)
    gram = watched.T @ watched + 5 * np.eye(80, dtype=np.float32)
    targets = rng.random((80, 20)) * (rng.random((80, 20)) < np.linspace(0.02, 0.98, 20))
    regressed = regress_on_few(gram, sp.csc_matrix(targets.astype(np.float32))).toarray()
    for target, weights in zip(targets.T, regressed.T, strict=True):
        kept, some = np.flatnonzero(weights), min(np.count_nonzero(target), 32)
        best = np.argsort(-target / np.sqrt(np.diag(gram)), kind="stable")[:some]
        assert set(best) <= set(kept)
        assert len(kept) == (32 if some else 0)
        assert weights[kept] == pytest.approx(np.linalg.solve(gram[np.ix_(kept, kept)], target[kept]), abs=1e-4)


def test_a_blend_is_the_weighted_sum_of_its_parts_each_by_its_spread() -> None:
    data, _ = split(chain(2))
    parameters = {"als": 0.2, "ease": 0.3, "order": 0.5, "als.items": 5.0, "ease.items": 10.0, "order.reach": 5.0}
    model = make("blend", SETTINGS, parameters)
    model.fit(data)
    expected = np.zeros((USERS, MOVIES))
    for name in ("als", "ease", "order"):
        own = {key.partition(".")[2]: value for key, value in parameters.items() if key.startswith(f"{name}.")}
        part = make(name, SETTINGS, own)
        part.fit(data)
        scores = part.score(data, np.arange(USERS)).astype(np.float64)
        some = np.linspace(0, USERS - 1, 200).astype(np.int64)
        expected += parameters[name] * scores / scores[some].std(axis=1).mean()
    assert model.score(data, np.arange(USERS)) == pytest.approx(expected, abs=1e-4)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.lists(st.integers(0, 9), unique=True, max_size=8), min_size=1, max_size=4),
    st.sampled_from([0.0, 1.0, 3.0]),
    st.sampled_from([0.0, 0.5, 2.0]),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from([0.0, 4.0]),
)
def test_a_history_decays_as_defined(
    watched: list[list[int]], items: float, days: float, floor: float, confidence: float
) -> None:
    lengths = [len(sequence) for sequence in watched]
    flat = np.array([movie for sequence in watched for movie in sequence], np.int32)
    weights = (1 + flat).astype(np.float32) / 10
    starts = np.arange(len(flat)) ** 2 * DAY_MS // 7
    indptr = np.cumsum([0, *lengths])
    data = Interactions(indptr, flat, starts, weights, np.ones(10), np.zeros(len(watched), np.uint8), 10**12)
    users = np.arange(len(watched))[::-1]
    expected = np.zeros((len(watched), 10))
    for row, user in enumerate(users.tolist()):
        for event in range(indptr[user], indptr[user + 1]):
            last = indptr[user + 1] - 1
            left = np.exp(-(last - event) / items) if items else 1.0
            left *= 0.5 ** ((starts[last] - starts[event]) / DAY_MS / days) if days else 1.0
            left = floor + (1 - floor) * left
            expected[row, flat[event]] = left * (1 + confidence * weights[event])
    histories = decayed_histories(data, users, {"items": items, "days": days, "floor": floor}, confidence)
    assert histories.dtype == np.float32
    assert histories.toarray() == pytest.approx(expected, abs=1e-3, rel=1e-5)


# --- choosing


def test_a_simpler_trial_is_kept_unless_another_is_better_by_more_than_an_error() -> None:
    rng = np.random.default_rng(1)
    base = rng.random(400)
    noise = rng.normal(0, 0.2, 400)
    noise -= noise.mean()
    assert simplest_trial([base, base + noise + 0.009]) == 0
    assert simplest_trial([base, base + noise + 0.011]) == 1
    assert simplest_trial([base, base + 0.001]) == 1, "the same difference for everyone is no noise"
    assert simplest_trial([base, base + noise + 0.02, base + noise * 2 + 0.021]) == 1
    assert simplest_trial([np.zeros(0), np.zeros(0)]) == 0


def test_parts_of_a_blend_that_compete_as_well_are_fitted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    solved: list[int] = []
    solve = EASE.solve

    def counted(self: EASE, sample: Interactions) -> tuple[np.ndarray, sp.csr_matrix]:
        solved.append(sample.shape[0])
        return solve(self, sample)

    monkeypatch.setattr(EASE, "solve", counted)
    data, relevant = split(unordered(3))
    models = candidates(SETTINGS)
    for model in models:
        model.fit(data)
        model.tune(data, relevant, np.arange(USERS))
    once_each = "once for itself, for each of its variants, and without the users whose histories the reranker cuts"
    assert solved == [USERS] * 5, once_each
    other = split(unordered(4))[0]
    for model in models:
        model.fit(other)
    assert solved == [USERS] * 6
    assert isinstance(models[-2], Blend)


def test_a_sample_holds_whole_histories_of_users_with_two_events_or_more() -> None:
    flat = np.array([4, 1, 2, 3, 0, 1, 2], np.int32)
    data = Interactions(
        np.array([0, 1, 3, 3, 5, 7]),
        flat,
        np.arange(7),
        np.linspace(0.1, 0.7, 7, dtype=np.float32),
        np.ones(5),
        np.arange(5).astype(np.uint8),
        7,
    )
    part = sample_users(data, 2, seed=1)
    users = {1: [1, 2], 3: [3, 0], 4: [1, 2]}
    assert part.shape == (2, 5)
    assert part.segments.tolist() in ([1, 3], [1, 4], [3, 4])
    for row, user in enumerate(part.segments.tolist()):
        at = slice(part.indptr[row], part.indptr[row + 1])
        assert part.movies[at].tolist() == users[user]
        assert part.weights[at].tolist() == data.weights[data.indptr[user] : data.indptr[user + 1]].tolist()
    assert sample_users(data, 3, seed=1) is data
