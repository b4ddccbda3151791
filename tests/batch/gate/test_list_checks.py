"""Checks of all lists, against the same checks by loops; and one ranking is told from many, whatever was seen."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from batch.gate import list_checks
from batch.history.list_facts import ListFacts
from batch.models import own_rankings
from batch.models.list_caps import ListCaps
from stream.event import LIST_LENGTH

Service = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Lists [n, 4], seen bool [n, m], is_hidden bool [m]."""


@st.composite
def services(draw: st.DrawFn, one_ranking: bool = False, least: int = 1) -> Service:
    """Random lists and histories; with `one_ranking`, whole lists cut from one ranking of all movies."""
    users, movies, seed = draw(st.integers(least, 8)), draw(st.integers(1, 9)), draw(st.integers(0, 2**32))
    rng = np.random.default_rng(seed)
    seen = rng.random((users, movies)) < draw(st.sampled_from([0, 0.2, 0.6, 1]))
    is_hidden = rng.random(movies) < draw(st.sampled_from([0, 0.4]))
    lists = np.full((users, 4), -1, np.int32)
    order = rng.permutation(movies)
    for user in range(users):
        kept = [movie for movie in order if not seen[user, movie] and not is_hidden[movie]]
        if not one_ranking:
            kept = rng.permutation(movies).tolist()[: rng.integers(0, 5)]
        lists[user, : len(kept[:4])] = kept[:4]
    return lists, seen, is_hidden


def of_time(seen: np.ndarray) -> sp.csr_matrix:
    """A matrix whose columns are in no order within a row, as those of a history are."""
    matrix = sp.csr_matrix(seen.astype(np.float32))
    for begin, end in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        matrix.indices[begin:end] = matrix.indices[begin:end][::-1].copy()
    return sp.csr_matrix((matrix.data, matrix.indices.copy(), matrix.indptr.copy()), matrix.shape)


@given(services(), st.sampled_from([1, 5, 20, 1 << 26]))
def test_seen_and_hidden_movies_in_lists_are_counted(service: Service, cells: int) -> None:
    lists, seen, is_hidden = service
    entries = [(user, movie) for user, row in enumerate(lists.tolist()) for movie in row if movie >= 0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(list_checks, "_CELLS", cells)
        counts = list_checks.count_repeats(lists, of_time(seen), is_hidden)
    assert counts == (sum(seen[entry] for entry in entries), sum(is_hidden[movie] for _, movie in entries))


def caps_for(seen: np.ndarray, most_adult: int = LIST_LENGTH, seed: int = 0) -> ListCaps:
    """Caps on adult movies; some users are minors, some movies are adult."""
    rng, (users, movies) = np.random.default_rng(seed), seen.shape
    ages, adult = rng.choice([0, 17, 18], users).astype(np.uint8), rng.choice([-1, 0, 1], movies).astype(np.int8)
    return ListCaps(ListFacts(ages, adult, np.full(movies, np.nan)), most_adult, 18, 1.0)


@given(services(), st.sampled_from([0, 1, 2, LIST_LENGTH]), st.integers(0, 2**32))
def test_lists_that_could_be_longer_are_counted(service: Service, most_adult: int, seed: int) -> None:
    lists, seen, is_hidden = service
    caps, wrong = caps_for(seen, most_adult, seed), 0
    for user, row in enumerate(lists):
        unseen, adult = ~seen[user] & ~is_hidden, caps.facts.adult == 1
        capped = (
            min(most_adult, int((unseen & adult).sum())) if caps.facts.ages[user] < 18 else int((unseen & adult).sum())
        )
        possible, length = min(4, int((unseen & ~adult).sum()) + capped), int((row >= 0).sum())
        wrong += length < possible and (length > 0 or bool(seen[user].any()))
    assert list_checks.are_short(lists, of_time(seen), is_hidden, caps).sum() == wrong


@given(services(), st.sampled_from([0, 1, 2, LIST_LENGTH]), st.integers(0, 2**32))
def test_lists_off_a_ranking_that_is_capped_for_minors_are_counted(service: Service, most: int, seed: int) -> None:
    _, seen, _ = service
    caps, ranking = caps_for(seen, most, seed), np.random.default_rng(seed).permutation(seen.shape[1])
    lists = np.full((len(seen), 4), -1, np.int32)
    for user in range(len(seen)):
        unseen = [movie for movie in ranking if not seen[user, movie]]
        adult = [movie for movie in unseen if caps.facts.adult[movie] == 1]
        left_out = adult[most:] if caps.facts.ages[user] < 18 else []
        kept = [movie for movie in unseen if movie not in left_out][:4]
        lists[user, : len(kept)] = kept
    rows = np.arange(len(seen))
    assert list_checks.count_off_ranking(lists, of_time(seen), ranking, caps, rows) == 0
    if (held := np.flatnonzero((lists >= 0).sum(axis=1) > 1)).size:
        lists[held[0], :2] = lists[held[0], 1::-1]
        assert list_checks.count_off_ranking(lists, of_time(seen), ranking, caps, rows) == 1


@given(services(one_ranking=True, least=2))
def test_whole_lists_of_one_ranking_are_full_fresh_and_not_personal(service: Service) -> None:
    lists, seen, is_hidden = service
    assert not list_checks.are_short(lists, of_time(seen), is_hidden, caps_for(seen)).any()
    assert list_checks.count_repeats(lists, of_time(seen), is_hidden) == (0, 0)
    assert own_rankings.personal_share(lists, of_time(seen)) == 0


@given(services(least=2))
def test_pairs_with_rankings_of_their_own_are_counted(service: Service) -> None:
    lists, seen, _ = service
    differing = []
    for user in range(0, len(lists) - 1, 2):
        first, second = (set(row[row >= 0].tolist()) for row in lists[user : user + 2])
        seen_by_first, seen_by_second = (set(np.flatnonzero(row).tolist()) for row in seen[user : user + 2])
        differing.append(bool(first - second - seen_by_second) and bool(second - first - seen_by_first))
    assert own_rankings.personal_share(lists, of_time(seen)) == sum(differing) / len(differing)


@given(services(one_ranking=True), st.integers(0, 2**32), st.booleans())
def test_lists_that_are_not_cut_from_a_ranking_are_counted(service: Service, seed: int, same: bool) -> None:
    _, seen, is_hidden = service
    rng, (users, movies) = np.random.default_rng(seed), seen.shape
    ranking = np.append(rng.permutation(np.flatnonzero(~is_hidden)), 65_535).astype(np.uint16)
    lists_ranking = ranking[:-1] if same else rng.permutation(ranking[:-1])
    lists = np.full((users, 4), -1, np.int32)
    wrong = 0
    for user in range(users):
        expected, listed = (
            [movie for movie in order.tolist() if not seen[user, movie]][:4] for order in (ranking[:-1], lists_ranking)
        )
        lists[user, : len(listed)] = listed
        wrong += expected != listed
    assert list_checks.count_off_ranking(lists, of_time(seen), ranking) == wrong
    assert not (same and wrong)
    assert movies >= len(lists_ranking)


def test_lists_may_go_on_where_the_ranking_ends() -> None:
    seen = of_time(np.array([[1, 0, 0, 0], [0, 0, 0, 0]], bool))
    ranking = np.array([0, 2, 65_535], np.uint16)
    assert list_checks.count_off_ranking(np.array([[2, 3, 1], [0, 2, 1]]), seen, ranking) == 0
    assert list_checks.count_off_ranking(np.array([[3, 2, 1], [0, 1, 2]]), seen, ranking) == 2
    assert list_checks.count_off_ranking(np.array([[-1, -1, -1], [0, -1, -1]]), seen, ranking) == 2


@given(services(), st.integers(0, 2**32))
def test_popular_lists_of_segments_are_those_of_their_users(service: Service, seed: int) -> None:
    _, seen, is_hidden = service
    rng = np.random.default_rng(seed)
    segments = rng.integers(0, 4, len(seen)).astype(np.uint8)
    popular = np.full((4, 25), 65_535, np.uint16)
    left, wrong = np.flatnonzero(~is_hidden).tolist(), []
    popularity = np.asarray(rng.integers(0, 9, seen.shape[1]))
    for segment in range(4):
        counts = seen[segments == segment].sum(axis=0)
        keys = list(zip((-counts).tolist(), (-popularity).tolist(), strict=True))
        best = sorted(left, key=lambda movie: keys[movie])
        shown = rng.permutation(best).tolist() if rng.random() < 0.5 else best
        popular[segment, : len(best)] = shown
        if segment and [keys[movie] for movie in shown] != [keys[movie] for movie in best]:
            wrong.append(segment)
    assert list_checks.wrong_segments(of_time(seen), segments, popular, popularity, is_hidden) == wrong


def test_a_ranking_is_in_order_to_its_end_and_hidden_movies_do_not_count() -> None:
    keys, is_hidden = [np.array([9, 7, 7, 5, 1]), np.array([0, 1, 2, 0, 0])], np.zeros(5, bool)

    def is_wrong(*ranking: int) -> bool:
        return list_checks.is_out_of_order(np.array(ranking, np.uint16), keys, is_hidden)

    assert not is_wrong(0, 2, 1, 3, 4)
    assert not is_wrong(0, 2, 65_535)
    assert is_wrong(0, 1, 2, 3, 4)
    assert is_wrong(0, 2, 1, 4, 3)
    assert is_wrong(0, 2, 3)
    is_hidden[2] = True
    assert not is_wrong(0, 1, 3)
    assert not is_wrong(0, 2, 1, 3)


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        ([[0, 1, 2], [0, 2, 3]], False),
        ([[0, 1, 2], [2, 1, 3]], True),
        ([[0, 1, 2], [3, 4, 5]], False),
        ([[0, 1, -1], [1, 0, -1]], True),
        ([[5, 0, 1], [1, 5, 7]], True),
        ([[0, 1, 2]], False),
    ],
)
def test_lists_of_one_ranking_have_common_movies_in_one_order(lists: list[list[int]], expected: bool) -> None:
    assert list_checks.has_other_orders(np.array(lists)) is expected
