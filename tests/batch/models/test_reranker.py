"""The second stage: what it learns, what it may know of a user, and that its order is kept over the night."""

import hashlib
import os
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.errors import NightFilesDamaged
from batch.history.interactions import Interactions
from batch.models import Blend, Reranker, make
from batch.models.correction import BLEND, LEVELS, POPULAR
from batch.models.growing import grow, ndcg
from batch.models.pair_table import PairTable, Relation
from batch.models.rerank_candidates import CANDIDATES, FirstStage
from batch.models.rerank_examples import (
    Examples,
    _before_label,
    _event_users,
    _labels,
    cut_examples,
    cut_histories,
    examples_of,
)
from batch.models.rerank_features import FEATURES, LATEST, Latest, sum_over_latest
from batch.models.top_lists import top_lists
from batch.settings import BatchSettings
from tests.batch.models.test_models import interactions

pytestmark = pytest.mark.blas

SETTINGS = BatchSettings(factors=4, iterations=2, ease_penalty=20, order_penalty=20, minimum_segment=1)
UNTUNED = {"order.reach": 5.0, "order.items": 5.0}
USERS, MOVIES = 600, 150


def followed(seed: int) -> tuple[Interactions, sp.csr_matrix]:
    """Histories of 2 to 20 movies, and the next three: mostly one of two that follow the last, else from the charts.

    After an even number of movies, users follow; after an odd one they turn to the charts. No sum of scores knows that.
    """
    rng = np.random.default_rng(seed)
    after = rng.integers(0, MOVIES, (MOVIES, 2))
    chart = (np.arange(MOVIES) + 3.0) ** -1.0
    chart /= chart.sum()
    watched, nexts = [], []
    for _ in range(USERS):
        sequence = rng.choice(MOVIES, 1, p=chart).tolist()
        length = int(rng.integers(2, 21))
        while len(sequence) < length + 3:
            follows = rng.random() < 0.8
            movie = int(after[sequence[-1], rng.integers(2)] if follows else rng.choice(MOVIES, p=chart))
            if movie not in sequence or rng.random() < 0.2:
                sequence = [*(other for other in sequence if other != movie), movie]
        watched.append(sequence[:-3])
        nexts.append(sequence[-3:])
    pairs = np.repeat(np.arange(USERS), 3), np.array(nexts).ravel()
    return interactions(watched, MOVIES), sp.csr_matrix((np.ones(3 * USERS, bool), pairs), (USERS, MOVIES))


class UntunedBlend(Blend):
    """Saves the time of tuning."""

    def tune(self, data: Interactions, relevant: sp.csr_matrix, users: np.ndarray) -> None:
        """Keep the parameters."""


def tuned(seed: int = 1) -> Reranker:
    data, relevant = followed(seed)
    model = Reranker(SETTINGS, {}, UntunedBlend(SETTINGS, UNTUNED))
    model.fit(data)
    model.tune(data, relevant, np.arange(USERS))
    return model


@pytest.fixture(scope="module")
def model() -> Reranker:
    return tuned()


def fitted_blend(data: Interactions) -> Blend:
    blend = Blend(SETTINGS, UNTUNED)
    blend.fit(data)
    return blend


def test_it_ranks_better_than_the_blend_for_users_it_has_not_learned_from(model: Reranker) -> None:
    assert model.learned
    data, relevant = followed(1)
    learned = make("reranker", SETTINGS, model.parameters, model.learned)
    later = interactions(
        [data.movies[data.indptr[user] : data.indptr[user + 1]].tolist() for user in range(USERS)], MOVIES
    )
    learned.fit(later)
    users = np.arange(USERS)
    hits = []
    for ranker in (learned, fitted_blend(data)):
        lists = top_lists(ranker, later, users)[:, :5]
        hits.append(np.take_along_axis(relevant.toarray(), lists.astype(np.int64), axis=1).sum())
    assert hits[0] > hits[1]


def test_what_it_has_learned_gives_the_same_lists_whatever_the_threads(
    model: Reranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, _ = followed(2)
    scores = []
    for cores in ({0}, {0, 1}):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid, cores=cores: cores)
        monkeypatch.setattr("batch.models.top_lists._BLOCK_CELLS", 40 * MOVIES)
        again = make("reranker", SETTINGS, model.parameters, model.learned)
        assert again.learned == model.learned
        again.fit(data)
        scores.append(
            (again.score(data, np.arange(USERS)).tobytes(), top_lists(again, data, np.arange(USERS)).tobytes())
        )
    model.fit(data)
    assert scores[0] == scores[1]
    assert scores[0][0] == model.score(data, np.arange(USERS)).tobytes()


def test_it_learns_the_same_again(model: Reranker) -> None:
    assert tuned().learned == model.learned


def test_with_few_users_it_learns_nothing_and_is_the_blend() -> None:
    data, relevant = followed(1)
    model = Reranker(SETTINGS, {}, UntunedBlend(SETTINGS, UNTUNED))
    model.fit(data)
    model.tune(data, relevant, np.arange(150))
    assert model.learned == b""
    blend = fitted_blend(data)
    assert np.array_equal(model.score(data, np.arange(USERS)), blend.score(data, np.arange(USERS)))


@pytest.mark.parametrize("place", [1, 70, -2])
def test_damage_is_one_clear_error(model: Reranker, place: int) -> None:
    damaged = bytearray(model.learned)
    damaged[place] ^= 1
    for learned in (bytes(damaged), model.learned[:place], b"x"):
        with pytest.raises(NightFilesDamaged, match="reranker: what it has learned is damaged"):
            make("reranker", SETTINGS, {}, learned)


@pytest.mark.parametrize(
    "text", [b"{}", b"[", b'{"features": ["another"], "levels": [[1, 0, 0]], "trees": []}', b"\xff"]
)
def test_what_another_version_has_learned_is_refused(text: bytes) -> None:
    learned = hashlib.sha256(text).hexdigest().encode() + text
    with pytest.raises(NightFilesDamaged, match="of another version"):
        make("reranker", SETTINGS, {}, learned)


def test_trees_of_other_features_are_refused() -> None:
    text = msgspec.json.encode(replace_first_name())
    with pytest.raises(NightFilesDamaged, match="other features"):
        make("reranker", SETTINGS, {}, hashlib.sha256(text).hexdigest().encode() + text)


def replace_first_name() -> object:
    return msgspec.structs.replace(BLEND, features=["another", *BLEND.features[1:]])


def test_candidates_come_first_and_the_others_keep_the_order_of_the_blend(model: Reranker) -> None:
    data, _ = followed(3)
    model.fit(data)
    blend = fitted_blend(data)
    users = np.arange(0, USERS, 7)
    named = FirstStage(blend, data, SETTINGS).name(data, users)
    popular = np.argsort(-data.popularity, kind="stable")
    for user, scores, own, movies in zip(
        users, model.score(data, users), blend.score(data, users), named.movies, strict=True
    ):
        seen = data.movies[data.indptr[user] : data.indptr[user + 1]]
        unseen = popular[~np.isin(popular, seen)]
        listed = movies[movies >= 0]
        assert len(set(listed.tolist())) == CANDIDATES
        assert not np.isin(listed, seen).any()
        assert np.isin(unseen[:20], listed).all()
        by_blend = np.setdiff1d(unseen, unseen[:20])
        by_blend = by_blend[np.argsort(-own[by_blend], kind="stable")]
        assert np.isin(by_blend[: CANDIDATES - 20], listed).all()
        others = np.setdiff1d(np.arange(MOVIES), listed)
        assert scores[listed].min() > scores[others].max()
        assert len(np.unique(scores[listed])) == CANDIDATES
        assert np.array_equal(scores[others], own[others])


def test_the_future_of_a_user_is_in_no_feature() -> None:
    """What users did after the cut is changed, and with it all counts that could tell of it."""
    data, _ = followed(4)
    first = cut_examples(UNTUNED, data, SETTINGS)
    cut = np.unique(np.concatenate([examples.users for examples in first]))
    rng = np.random.default_rng(1)
    sequences = [data.movies[data.indptr[user] : data.indptr[user + 1]].tolist() for user in range(USERS)]
    for user in cut:  # the first event stays, and is all that a history of one event has
        rest = np.setdiff1d(np.arange(MOVIES), sequences[user][:1])
        sequences[user][1:] = rng.choice(rest, len(sequences[user]) - 1, replace=False).tolist()
    second = cut_examples(UNTUNED, interactions(sequences, MOVIES), SETTINGS)
    compared = 0
    for before, after in zip(first, second, strict=True):
        alone = [dict(zip(of.users.tolist(), range(len(of)), strict=True)) for of in (before, after)]
        for user in alone[0].keys() & alone[1].keys():
            row, other = alone[0][user], alone[1][user]
            if before.lengths[row] == 1:
                compared += 1
                assert np.array_equal(before.movies[row], after.movies[other])
                assert np.allclose(before.features[:, row], after.features[:, other], atol=1e-5)
    assert compared > 5


def test_a_cut_leaves_the_first_events_and_finds_the_next_five() -> None:
    data = interactions([[4, 2, 0, 5, 1, 3, 6], [1, 2], [3]], 7)
    known, relevant = cut_histories(data, np.array([0, 1]), np.array([1, 1]))
    assert known.movies.tolist() == [4, 1]
    assert known.indptr.tolist() == [0, 1, 2, 2]
    assert [row.indices.tolist() for row in relevant] == [[0, 1, 2, 3, 5], [2], []]
    assert known.popularity.tolist() == [0, 1, 0, 0, 1, 0, 0]


def test_a_cut_finds_only_what_comes_before_the_next_exposed_event() -> None:
    data = interactions([[4, 2, 0, 5, 1, 3, 6], [1, 2, 0]], 7)
    exposed = np.array([1, 1, 0, 0, 1, 0, 0, 0, 0, 0], bool)
    known, relevant = cut_histories(replace(data, exposed=exposed), np.array([0, 1]), np.array([2, 1]))
    assert known.movies.tolist() == [4, 2, 1]
    assert known.exposed is not None
    assert known.exposed.tolist() == [True, True, False]
    assert [row.indices.tolist() for row in relevant] == [[0, 5], [0, 2]]


@given(st.lists(st.lists(st.booleans(), max_size=7), min_size=1, max_size=6), st.data())
def test_a_cut_is_moved_to_an_event_that_no_list_suggested(exposed: list[list[bool]], chance: st.DataObject) -> None:
    data = replace(
        interactions([[*range(len(own))] for own in exposed], 7),
        exposed=np.array([each for own in exposed for each in own], bool),
    )
    able = [user for user, own in enumerate(exposed) if not all(own[1:])]
    assert np.unique(_event_users(data)[_labels(data)]).tolist() == able
    kept = [chance.draw(st.integers(1, len(exposed[user]) - 1)) for user in able]
    moved = _before_label(data, np.array(able, np.int64), np.array(kept, np.int64))
    for user, place, to in zip(able, kept, moved.tolist(), strict=True):
        free = [at for at, is_exposed in enumerate(exposed[user]) if at and not is_exposed]
        assert to == next((at for at in free if at >= place), free[-1])


def test_where_every_event_is_exposed_no_history_is_cut() -> None:
    data, _ = followed(4)
    assert cut_examples(UNTUNED, replace(data, exposed=np.ones(len(data.movies), bool)), SETTINGS) == []


@st.composite
def histories(draw: st.DrawFn) -> list[list[int]]:
    """A few users who watched some of seven movies."""
    user = st.lists(st.integers(0, 6), max_size=6, unique=True)
    return draw(st.lists(user, min_size=1, max_size=5))


def plain_relation(sequences: list[list[int]], one: int, other: int) -> dict[Relation, float]:
    """What `PairTable` counts, by its definition."""
    watched = [sum(movie in sequence for sequence in sequences) for movie in (one, other)]
    apart = [
        sequence.index(other) - sequence.index(one) for sequence in sequences if one in sequence and other in sequence
    ]
    share = 1 / (watched[0] + 10)
    chance = watched[0] * watched[1] / len(sequences)
    return {
        Relation.EASE: one + other / 10,
        Relation.ORDER: -one,
        Relation.NEXT: apart.count(1) * share,
        Relation.NEXT_BEFORE: apart.count(-1) * share,
        Relation.SOON: sum(1 <= lag <= 5 for lag in apart) * share,
        Relation.SOON_BEFORE: sum(-5 <= lag <= -1 for lag in apart) * share,
        Relation.TOGETHER: len(apart) * share,
        Relation.LIFT: float(np.log((len(apart) + 1) / (chance + 1))),
    }


@given(histories())
@settings(max_examples=40, deadline=None)
def test_pairs_are_counted_as_they_are_defined(sequences: list[list[int]]) -> None:
    dense = np.array([0, 2, 3, 5, 6])
    ease, order = dense[:, None] + dense / 10, -np.repeat(dense[:, None], 5, axis=1)
    data = interactions(sequences, 7)
    table = PairTable(data, dense, ease.astype(np.float32), order.astype(np.float32))
    found = table.look_up(np.arange(5)[None, :], np.arange(5)[None, :])[0]
    for row, one in enumerate(dense.tolist()):
        for column, other in enumerate(dense.tolist()):
            for relation, expected in plain_relation(sequences, one, other).items():
                assert found[row, column, relation] == pytest.approx(expected, rel=0.004, abs=1e-6), relation


@given(st.integers(0, 2**32 - 1), st.integers(0, LATEST))
@settings(max_examples=30, deadline=None)
def test_statistics_are_summed_over_the_latest_movies_that_are_known(seed: int, missing: int) -> None:
    rng = np.random.default_rng(seed)
    statistics = rng.normal(size=(2, LATEST, 3, len(Relation))).astype(np.float32)
    is_known = rng.permuted(np.arange(LATEST) >= missing)[None, :].repeat(2, axis=0)
    weights = {Latest.LAST: [1.0], Latest.THREE: [1.0] * 3, Latest.TEN: [1.0] * 10}
    weights[Latest.FADING] = [float(np.exp(-age / 3)) for age in range(LATEST)]
    sums = sum_over_latest(statistics.copy(), is_known)
    for latest, ages in weights.items():
        own = [(age, weight) for age, weight in enumerate(ages) if is_known[0, age]]
        total = sum(weight for _, weight in own)
        expected = sum((weight / total * statistics[:, age] for age, weight in own), np.zeros((2, 3, len(Relation))))
        assert sums[:, latest] == pytest.approx(expected, abs=1e-5)
    kept = np.where(is_known[0][:, None, None], statistics, 0)
    assert sums[:, Latest.MOST] == pytest.approx(kept.max(axis=1))


def test_every_feature_is_of_the_candidate_and_the_history() -> None:
    data, relevant = followed(5)
    data.popularity[:] *= 0.9 ** np.argsort(
        np.random.default_rng(1).random(MOVIES)
    )  # some are watched less than before
    data.segments[:] = np.arange(USERS) % 3
    examples = examples_of(FirstStage(fitted_blend(data), data, SETTINGS), data, relevant, np.arange(USERS))
    assert examples.features.shape == (len(FEATURES), len(examples), CANDIDATES)
    assert np.isfinite(examples.features).all()
    by_name = dict(zip(FEATURES, examples.features, strict=True))
    assert min(values.std() for values in examples.features) > 0, "a feature that is the same for all"
    assert np.array_equal(by_name["length"][:, 0], np.diff(data.indptr)[examples.users])
    rank = np.argsort(np.argsort(-data.popularity, kind="stable"))
    assert (np.diff(by_name["popularity"][0][np.argsort(rank[examples.movies[0]])]) <= 0).all()
    assert (np.diff(by_name["blend z"], axis=1) <= 0).all(), "candidates are ordered by the blend"


def test_where_the_popular_list_is_better_a_level_gets_it() -> None:
    """Of histories of one event the next movie is the most popular, of long ones what the blend says."""
    rng = np.random.default_rng(3)
    features = rng.normal(size=(len(FEATURES), 800, 30)).astype(np.float32)
    lengths = np.where(np.arange(800) < 300, 1, 50)
    best = np.where(lengths[:, None] == 1, features[1], features[0] + features[5]).argmax(axis=1)
    was_next = np.zeros((800, 30), bool)
    was_next[np.arange(800), best] = True
    movies = np.tile(np.arange(30, dtype=np.int32), (800, 1))
    examples = Examples(features, movies, was_next, np.ones(800, np.int64), lengths, np.arange(800))
    correction = grow(examples, 1)
    assert correction is not None
    gain = ndcg(examples, correction) - ndcg(examples, POPULAR)
    assert gain[:300].mean() > -0.05
    assert gain[300:].mean() > 0.2
    assert len(correction.levels) == len(LEVELS)
    was_next[:300] = features[1, :300] == features[1, :300].max(axis=1, keepdims=True)
    was_next[300:] = features[0, 300:] == features[0, 300:].max(axis=1, keepdims=True)
    correction = grow(examples, 1)
    assert correction is not None
    gain = ndcg(examples, correction) - ndcg(examples, POPULAR)
    assert abs(gain[:300]).max() == 0, "nothing is better than the popular list"
    was_next[:] = features[0] == features[0].max(axis=1, keepdims=True)
    assert grow(examples, 1) is None, "nothing is better than the blend"
