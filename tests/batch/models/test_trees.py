"""Trees as arrays give what LightGBM gives, and are the same whatever the number of rows at once."""

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.models.trees import LEAVES, Node, Tree, from_lightgbm, predict


@pytest.mark.parametrize("leaves", [2, 3, LEAVES])
def test_they_give_what_lightgbm_gives(leaves: int) -> None:
    rng = np.random.default_rng(leaves)
    rows = rng.normal(size=(2_000, 5)).astype(np.float32)
    rows[:, 3] = np.round(rows[:, 3], 1)  # thresholds lie between values that are far apart, and others near ones
    target = (rows[:, 0] + rows[:, 1] * rows[:, 2] + rows[:, 3] > 1).astype(np.float64)
    parameters = {"objective": "binary", "num_leaves": leaves, "verbose": -1, "num_threads": 1, "use_missing": False}
    booster = lightgbm.train(parameters, lightgbm.Dataset(rows, target), 30)
    trees = from_lightgbm(booster.dump_model())
    assert max(len(tree.leaves) for tree in trees) == leaves
    assert predict(trees, rows.T) == pytest.approx(booster.predict(rows, raw_score=True), abs=1e-5)


def test_a_row_on_a_threshold_goes_left() -> None:
    tree = Tree([Node(1, 0.5, 0, 1)], [10.0, 20.0])
    below, above = np.nextafter(np.float32(0.5), np.array([0, 1], np.float32))
    rows = np.array([[9, 9, 9], [below, 0.5, above]], np.float32)
    assert predict([tree], rows).tolist() == [10, 10, 20]


def test_no_trees_and_trees_without_a_node_are_constants() -> None:
    rows = np.zeros((1, 3), np.float32)
    assert predict([], rows).tolist() == [0, 0, 0]
    assert predict([Tree([], [2.5])], rows).tolist() == [2.5] * 3


def plain_value(tree: Tree, row: list[float]) -> float:
    """The first leaf that no node removes which sends the row to the right."""
    left = set(range(len(tree.leaves)))
    for node in tree.nodes:
        if row[node.feature] > node.threshold:
            left -= set(range(node.first, node.end))
    return tree.leaves[min(left)]


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """A random tree of up to eight leaves over three features."""
    count = draw(st.integers(1, LEAVES))
    nodes: list[Node] = []

    def split(first: int, end: int) -> None:
        if end - first > 1:
            middle = draw(st.integers(first + 1, end - 1))
            nodes.append(Node(draw(st.integers(0, 2)), float(draw(st.integers(-2, 2))), first, middle))
            split(first, middle)
            split(middle, end)

    split(0, count)
    return Tree(nodes, [float(draw(st.integers(-9, 9))) for _ in range(count)])


@given(st.lists(trees(), max_size=3), st.lists(st.lists(st.integers(-3, 3), min_size=3, max_size=3), min_size=1))
@settings(max_examples=60, deadline=None)
def test_they_give_what_a_walk_gives(forest: list[Tree], rows: list[list[float]]) -> None:
    expected = [sum(plain_value(tree, row) for tree in forest) for row in rows]
    assert predict(forest, np.array(rows, np.float32).T).tolist() == expected
