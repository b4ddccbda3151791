"""What is looked for in all lists, against the same by loops; and one ranking is told from many, whatever was seen."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from batch.gate import list_checks

Service = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Lists [n, 4], seen bool [n, m], gone bool [m]."""


@st.composite
def services(draw: st.DrawFn, one_ranking: bool = False, least: int = 1) -> Service:
    """Random lists and histories; with `one_ranking`, whole lists cut from one ranking of all movies."""
    users, movies, seed = draw(st.integers(least, 8)), draw(st.integers(1, 9)), draw(st.integers(0, 2**32))
    rng = np.random.default_rng(seed)
    seen = rng.random((users, movies)) < draw(st.sampled_from([0, 0.2, 0.6, 1]))
    gone = rng.random(movies) < draw(st.sampled_from([0, 0.4]))
    lists = np.full((users, 4), -1, np.int32)
    order = rng.permutation(movies)
    for user in range(users):
        kept = [movie for movie in order if not seen[user, movie] and not gone[movie]]
        if not one_ranking:
            kept = rng.permutation(movies).tolist()[: rng.integers(0, 5)]
        lists[user, : len(kept[:4])] = kept[:4]
    return lists, seen, gone


def of_time(seen: np.ndarray) -> sp.csr_matrix:
    """A matrix whose columns are in no order within a row, as those of a history are."""
    found = sp.csr_matrix(seen.astype(np.float32))
    for begin, end in zip(found.indptr[:-1], found.indptr[1:], strict=True):
        found.indices[begin:end] = found.indices[begin:end][::-1].copy()
    return sp.csr_matrix((found.data, found.indices.copy(), found.indptr.copy()), found.shape)


@given(services(), st.sampled_from([1, 5, 20, 1 << 26]))
def test_what_was_seen_and_what_is_hidden_is_found(service: Service, cells: int) -> None:
    lists, seen, gone = service
    offers = [(user, movie) for user, row in enumerate(lists.tolist()) for movie in row if movie >= 0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(list_checks, "_CELLS", cells)
        stale, hidden = list_checks.repeated_offers(lists, of_time(seen), gone)
    assert (stale, hidden) == (sum(seen[one] for one in offers), sum(gone[movie] for _, movie in offers))


@given(services())
def test_lists_that_could_be_longer_are_found(service: Service) -> None:
    lists, seen, gone = service
    wrong = 0
    for user, row in enumerate(lists):
        could, has = min(4, int((~seen[user] & ~gone).sum())), int((row >= 0).sum())
        wrong += has != could and (has > 0 or bool(seen[user].any()))
    assert list_checks.count_short_lists(lists, of_time(seen), gone) == wrong


@given(services(one_ranking=True, least=2))
def test_whole_lists_of_one_ranking_are_full_fresh_and_not_personal(service: Service) -> None:
    lists, seen, gone = service
    assert list_checks.count_short_lists(lists, of_time(seen), gone) == 0
    assert list_checks.repeated_offers(lists, of_time(seen), gone) == (0, 0)
    assert list_checks.personal_share(lists, of_time(seen)) == 0


@given(services(least=2))
def test_pairs_with_rankings_of_their_own_are_counted(service: Service) -> None:
    lists, seen, _ = service
    told = []
    for one in range(0, len(lists) - 1, 2):
        mine, theirs = (set(row[row >= 0].tolist()) for row in lists[one : one + 2])
        known, known_there = (set(np.flatnonzero(row).tolist()) for row in seen[one : one + 2])
        told.append(bool(mine - theirs - known_there) and bool(theirs - mine - known))
    assert list_checks.personal_share(lists, of_time(seen)) == sum(told) / len(told)


@given(services(one_ranking=True), st.integers(0, 2**32), st.booleans())
def test_lists_that_are_not_of_a_ranking_are_found(service: Service, seed: int, same: bool) -> None:
    _, seen, gone = service
    rng, (users, movies) = np.random.default_rng(seed), seen.shape
    ranking = np.append(rng.permutation(np.flatnonzero(~gone)), 65_535).astype(np.uint16)
    of = ranking[:-1] if same else rng.permutation(ranking[:-1])
    lists = np.full((users, 4), -1, np.int32)
    wrong = 0
    for user in range(users):
        due, kept = ([movie for movie in order.tolist() if not seen[user, movie]][:4] for order in (ranking[:-1], of))
        lists[user, : len(kept)] = kept
        wrong += due != kept
    assert list_checks.unlike_ranking(lists, of_time(seen), ranking) == wrong
    assert not (same and wrong)
    assert movies >= len(of)


def test_lists_may_go_on_where_the_ranking_ends() -> None:
    seen = of_time(np.array([[1, 0, 0, 0], [0, 0, 0, 0]], bool))
    ranking = np.array([0, 2, 65_535], np.uint16)
    assert list_checks.unlike_ranking(np.array([[2, 3, 1], [0, 2, 1]]), seen, ranking) == 0
    assert list_checks.unlike_ranking(np.array([[3, 2, 1], [0, 1, 2]]), seen, ranking) == 2
    assert list_checks.unlike_ranking(np.array([[-1, -1, -1], [0, -1, -1]]), seen, ranking) == 2


@given(services(), st.integers(0, 2**32))
def test_popular_lists_of_segments_are_those_of_their_users(service: Service, seed: int) -> None:
    _, seen, gone = service
    rng = np.random.default_rng(seed)
    segments = rng.integers(0, 4, len(seen)).astype(np.uint8)
    popular = np.full((4, 25), 65_535, np.uint16)
    left, wrong = np.flatnonzero(~gone).tolist(), []
    for segment in range(4):
        counts = seen[segments == segment].sum(axis=0)
        best = sorted(left, key=lambda movie: -counts[movie])
        shown = rng.permutation(best).tolist() if rng.random() < 0.5 else best
        popular[segment, : len(best)] = shown
        if segment and [counts[movie] for movie in shown] != [counts[movie] for movie in best]:
            wrong.append(segment)
    assert list_checks.unlike_segments(of_time(seen), segments, popular, gone) == wrong


def test_of_a_popular_list_only_what_is_shown_is_judged() -> None:
    seen = of_time(np.tri(30, 30).astype(bool))  # the first movie is seen by all
    popular = np.tile(np.arange(30, dtype=np.uint16), (2, 1))
    popular[1, 20:] = popular[1, :19:-1]
    segments, gone = np.ones(30, np.uint8), np.zeros(30, bool)
    assert list_checks.unlike_segments(seen, segments, popular, gone) == []
    popular[1, [19, 20]] = popular[1, [20, 19]]
    assert list_checks.unlike_segments(seen, segments, popular, gone) == [1]
