"""How well lists match histories, against the same by loops, and the limits from which on they match."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from batch.gate import list_relevance
from tests.batch.gate.candidates import build_parts

pytestmark = pytest.mark.blas


@st.composite
def worlds(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Histories bool [k, m], lists int [k, 3], and how movies go together [m, m]."""
    rows, movies = draw(st.integers(0, 9)), draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    seen = rng.random((rows, movies)) < 0.3
    lists = rng.integers(-1, movies, (rows, 3))
    return seen, lists, np.round(rng.random((movies, movies)) * (rng.random((movies, movies)) < 0.5), 3)


@given(worlds(), st.sampled_from([2, 4, 200]))
def test_the_preference_compares_own_lists_with_swapped_ones(
    world: tuple[np.ndarray, np.ndarray, np.ndarray], block: int
) -> None:
    seen, lists, cosines = world

    def relevance(user: int, shown: int, without: np.ndarray) -> float:
        movies = [movie for movie in lists[shown].tolist() if movie >= 0 and not without[movie]]
        history = np.flatnonzero(seen[user])
        return float(np.mean([cosines[history, movie].sum() / max(len(history), 1) for movie in movies] or [0]))

    expected = []
    for first in range(0, len(lists) - 1, 2):
        second, without = first + 1, seen[first] | seen[first + 1]
        own = relevance(first, first, without) + relevance(second, second, without)
        expected.append(own - relevance(first, second, without) - relevance(second, first, without))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(list_relevance, "_BLOCK", block)
        preference = list_relevance._preference(sp.csr_matrix(seen.astype(np.float32)), lists, sp.csr_matrix(cosines))
    assert preference == pytest.approx(expected)


@given(worlds(), st.sampled_from([1, 3, 200]))
def test_naive_lists_hold_the_movies_that_go_best_with_a_history(
    world: tuple[np.ndarray, np.ndarray, np.ndarray], block: int
) -> None:
    seen, _, cosines = world
    scores = np.where(seen, 0, seen.astype(float) @ cosines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(list_relevance, "_BLOCK", block)
        lists = list_relevance._naive_lists(sp.csr_matrix(seen.astype(np.float32)), sp.csr_matrix(cosines), 3)
    for row, own in zip(lists.tolist(), scores, strict=True):
        listed = [movie for movie in row if movie >= 0]
        assert len(set(listed)) == len(listed) == min(3, int((own > 0).sum()))
        assert sorted(own[listed]) == pytest.approx(sorted(own)[len(own) - len(listed) :])


@given(worlds())
def test_movies_go_together_by_cosine(world: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    seen = world[0].astype(float)
    lengths = np.maximum(np.linalg.norm(seen, axis=0), 1)
    expected = (seen / lengths).T @ (seen / lengths)
    np.fill_diagonal(expected, 0)
    weights = sp.csr_matrix(3 * seen.astype(np.float32))  # by what was seen, not by how much of it
    assert list_relevance._cosine(weights).toarray() == pytest.approx(expected, abs=1e-6)


def test_the_number_of_counted_pairs_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[sp.csr_matrix] = []
    monkeypatch.setattr(list_relevance, "_PAIRS", 80)
    monkeypatch.setattr(list_relevance, "_cosine", counted.append)
    seen = np.zeros((60, 9), bool)
    seen[:50, :4], seen[50:, 0] = True, True  # a history of one movie has no pairs
    list_relevance.count_co_occurrence(sp.csr_matrix(seen), np.random.default_rng(1))
    assert [half.shape[0] for half in counted] == [5, 5]
    assert [half.nnz for half in counted] == [20, 20]


def test_standard_errors_are_those_of_the_mean_of_nonzero_values() -> None:
    values = np.array([0, 3.0, 1.0, 0, 2.0, 4.0])
    assert list_relevance._errors_above_zero(values) == pytest.approx(2.5 / (np.std([3, 1, 2, 4], ddof=1) / 2))
    assert list_relevance._errors_above_zero(-values) == -list_relevance._errors_above_zero(values)
    assert [list_relevance._errors_above_zero(np.array(few)) for few in ([], [0.0], [5.0], [5.0, 5.0])] == [0, 0, 0, 0]
    assert list_relevance._errors_above_zero(np.array([1.0, 2.0])) == pytest.approx(3)


BORDERS = [(11.9, 50, None), (12, 5, False), (12, 5.1, True), (60, 10, False), (60, 10.1, True)]


@pytest.mark.parametrize(("naive", "own", "expected"), BORDERS)
def test_lists_match_from_so_many_standard_errors_on(
    monkeypatch: pytest.MonkeyPatch, naive: float, own: float, expected: bool | None
) -> None:
    monkeypatch.setattr(list_relevance, "_errors_above_zero", lambda values: float(values[0]))
    assert list_relevance._stands_out(np.array([naive]), np.array([own])) is expected


@pytest.mark.parametrize(
    ("naive", "own", "expected"), [(11.9, 9, None), (12, 2.5, False), (12, 2.6, True), (24, 4, False)]
)
def test_one_of_four_parts_needs_half_the_standard_errors(
    monkeypatch: pytest.MonkeyPatch, naive: float, own: float, expected: bool | None
) -> None:
    monkeypatch.setattr(list_relevance, "_errors_above_zero", lambda values: float(values[0]))
    assert list_relevance._stands_out(np.array([naive]), np.array([own]), 4) is expected


PARTS: list[tuple[list[bool | None], bool | None]] = [
    ([True, True, True], True),
    ([True, None, True], True),
    ([True, True, False], False),
    ([True, False, None], False),
    ([False, True, True], False),
    ([None, True, False], None),
]


@pytest.mark.parametrize(("whole_and_parts", "expected"), PARTS)
def test_every_part_of_the_lists_must_match(
    monkeypatch: pytest.MonkeyPatch, whole_and_parts: list[bool | None], expected: bool | None
) -> None:
    asked: list[int] = []

    def next_result(naive: np.ndarray, own: np.ndarray, parts: int = 1) -> bool | None:
        assert (len(naive), parts) == (len(own), 2 if asked else 1)
        asked.append(len(naive))
        return whole_and_parts[len(asked) - 1]

    monkeypatch.setattr(list_relevance, "_stands_out", next_result)
    seen = sp.csr_matrix(np.eye(8, dtype=np.float32))
    assert (
        list_relevance.lists_match(seen, np.zeros((8, 2), int), list_relevance.CoOccurrence(seen, seen), 2) is expected
    )
    assert asked == [4, 2, 2][: len(asked)]


@pytest.mark.parametrize("count", [1, 2, 9, 60])
def test_neighbours_are_the_nearest_by_angle(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_relevance, "_BLOCK", 7)
    items = np.random.default_rng(count).normal(size=(count, 5)).astype(np.float32)
    items[0] = 0  # a movie without a direction
    rows = np.random.default_rng(1).permutation(count)[:20]
    unit = items / np.maximum(np.linalg.norm(items, axis=1, keepdims=True), 1e-9)
    for row, nearest in zip(rows.tolist(), list_relevance.neighbours(items, rows).tolist(), strict=True):
        others = [movie for movie in range(count) if movie != row]
        near = sorted((float(unit[row] @ unit[movie]) for movie in others), reverse=True)[:10]
        listed = [movie for movie in nearest if movie >= 0]
        assert nearest == [*listed, *[-1] * (10 - len(near))]
        assert row not in listed
        assert sorted((float(unit[row] @ unit[movie]) for movie in listed), reverse=True) == pytest.approx(
            near, abs=1e-5
        )


@pytest.mark.parametrize("seed", range(5))
def test_lists_match_their_own_users_and_no_others(seed: int) -> None:
    rng, built = np.random.default_rng(seed), build_parts(seed=seed)
    seen, lists = sp.csr_matrix(built.seen.astype(np.float32)), built.made_lists()
    counted = list_relevance.count_co_occurrence(seen, rng)
    assert list_relevance.lists_match(seen, lists, counted) is True
    assert list_relevance.lists_match(seen, rng.permutation(lists), counted) is False
    some = seen[:60]
    assert list_relevance.lists_match(some, lists[:60], list_relevance.count_co_occurrence(some, rng)) is None
