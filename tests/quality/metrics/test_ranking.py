"""Ranking metrics against their definitions in plain Python, on random lists, and against values worked by hand."""

import math
import time
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quality.errors import MetricError
from quality.metrics.ranking import METRICS, RankingScores, coverage, gini, novelty, rank_metrics


def by_definition(shown: list[int], relevant: set[int]) -> tuple[float, float, float, float]:
    hits = [rank for rank, item in enumerate(shown, 1) if item in relevant]
    gain = sum(1 / math.log2(rank + 1) for rank in hits)
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(shown), len(relevant)) + 1))
    return float(bool(hits)), len(hits) / len(relevant), gain / ideal, 1 / hits[0] if hits else 0.0


def csr(relevant: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    indptr = np.cumsum([0, *map(len, relevant)]).astype(np.int64)
    return indptr, np.array([item for items in relevant for item in items], np.int32)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[np.ndarray, list[list[int]]]:
    users, k, items = draw(st.integers(0, 8)), draw(st.integers(1, 6)), draw(st.integers(6, 12))
    lists = np.full((users, k), -1, np.int32)
    for row in lists:
        shown = draw(st.lists(st.integers(0, items - 1), max_size=k, unique=True))
        row[: len(shown)] = shown
    relevant = [draw(st.lists(st.integers(0, items - 1), max_size=5)) for _ in range(users)]
    return lists, relevant


@settings(deadline=None, max_examples=200)
@given(worlds())
def test_equals_the_definitions(world: tuple[np.ndarray, list[list[int]]]) -> None:
    lists, relevant = world
    scores = rank_metrics(lists, *csr(relevant))
    assert scores.users.tolist() == [user for user, items in enumerate(relevant) if items]
    got = zip(scores.hit, scores.recall, scores.ndcg, scores.reciprocal_rank, strict=True)
    for user, figures in zip(scores.users.tolist(), got, strict=True):
        assert figures == pytest.approx(by_definition(lists[user].tolist(), set(relevant[user])))


def test_by_hand() -> None:
    scores = rank_metrics(np.array([[5, 3, 9, -1]]), *csr([[9, 3, 7]]))
    ideal = 1 + 1 / math.log2(3) + 1 / 2
    assert scores.hit.tolist() == [1.0]
    assert scores.recall.tolist() == [pytest.approx(2 / 3)]
    assert scores.ndcg.tolist() == [pytest.approx((1 / math.log2(3) + 1 / 2) / ideal)]
    assert scores.reciprocal_rank.tolist() == [0.5]


def test_the_table_names_every_score_once() -> None:
    scores = rank_metrics(np.array([[5, 3, 9, -1]]), *csr([[9, 3, 7]]))
    by_name = {metric.name: metric.scores(scores) for metric in METRICS}
    columns = {"ndcg@20": scores.ndcg, "recall@20": scores.recall, "hr@20": scores.hit, "mrr": scores.reciprocal_rank}
    assert all(by_name[name] is column for name, column in columns.items())
    assert len(by_name) == len(METRICS) == len(fields(RankingScores)) - 1  # all but `users`


@pytest.mark.parametrize("relevant", range(1, 26))
def test_perfect_lists_score_exactly_one_in_every_row(relevant: int) -> None:
    lists = np.tile(np.arange(20), (7, 1))
    assert rank_metrics(lists, *csr([[*range(relevant)]] * 7)).ndcg.tolist() == [1.0] * 7


def test_a_perfect_list_scores_one_even_if_more_is_relevant_than_fits() -> None:
    scores = rank_metrics(np.array([[0, 1]]), *csr([[3, 2, 1, 0]]))
    assert scores.ndcg.tolist() == [1.0]
    assert scores.recall.tolist() == [0.5]


@pytest.mark.parametrize(
    ("lists", "relevant"),
    [([[1, 1, -1]], [[1]]), ([[1, 2, 3]], [[1], [2]]), ([1, 2, 3], [[1]])],
)
def test_what_does_not_fit_is_an_error(lists: list[list[int]], relevant: list[list[int]]) -> None:
    with pytest.raises(MetricError):
        rank_metrics(np.array(lists), *csr(relevant))


def test_coverage_and_novelty() -> None:
    lists = np.array([[0, 1], [1, -1]])
    assert coverage(lists, 4) == 0.5
    # of 8 users 4 have item 0 (1 bit), 2 have item 1 (2 bits), nobody item 2 (counts as one: 3 bits)
    assert novelty(lists, np.array([4, 2, 0]), users=8) == pytest.approx((1 + 2 + 2) / 3)
    assert novelty(np.array([[2]]), np.array([4, 2, 0]), users=8) == pytest.approx(3)
    assert novelty(np.array([[-1]]), np.array([4]), users=8) is None
    with pytest.raises(MetricError):
        coverage(lists, 0)


def test_gini_of_known_counts() -> None:
    assert gini(np.array([3, 3, 3])) == gini(np.array([0, 7, 0])) == 0
    assert gini(np.array([1, 3])) == pytest.approx(1 / 4)
    assert gini(np.array([1] * 99 + [9_901])) == pytest.approx(0.9801)
    assert gini(np.zeros(3, np.int64)) is None


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=30), st.integers(1, 9))
def test_gini_lies_within_its_limits_and_ignores_order_and_scale(counts: list[int], times: int) -> None:
    value = gini(np.array(counts))
    assert value == gini(np.array(counts[::-1]))
    if value is not None:
        assert 0 <= value < 1
        assert gini(times * np.array(counts)) == pytest.approx(value)


def test_a_hundred_thousand_users_take_no_time() -> None:
    rng = np.random.default_rng(1)
    lists = rng.permuted(np.tile(np.arange(100, dtype=np.int32), (100_000, 1)), axis=1)[:, :20]
    indptr = np.arange(100_001, dtype=np.int64) * 10
    items = rng.integers(27_000, size=1_000_000, dtype=np.int32)
    began = time.process_time()
    rank_metrics(lists, indptr, items)
    assert time.process_time() - began < 10
