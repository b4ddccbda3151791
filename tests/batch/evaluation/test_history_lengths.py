"""How long a history must be for a list of its own: groups that are served worse get the popular list."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.evaluation.history_lengths import figures_by_length, popular_below
from batch.evaluation_file import HISTORY_LENGTHS, LEAST_USERS

NOISE = 0.05


def gains(by_length: dict[int, tuple[int, float]], seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lengths, scores of a model and of the popular list; `by_length` is the number of users and the mean gain."""
    rng = np.random.default_rng(seed)
    lengths = np.repeat(np.array([*by_length], np.int64), [users for users, _ in by_length.values()])
    gain = np.concatenate([mean + NOISE * rng.standard_normal(users) for users, mean in by_length.values()])
    return lengths, np.clip(0.5 + gain, 0, 1), np.full(len(lengths), 0.5)


def test_the_groups_hold_every_length_once() -> None:
    ends = [*HISTORY_LENGTHS.values()]
    assert ends[0][0] == 0
    assert [least for least, _ in ends[1:]] == [most + 1 for _, most in ends[:-1]]
    assert ends[-1][1] == np.inf


@pytest.mark.parametrize(
    ("by_length", "below"),
    [
        ({1: (100, 0.05), 20: (100, 0.05)}, 0),
        ({1: (100, -0.05), 20: (100, 0.05)}, 2),
        ({1: (100, 0.0), 4: (100, -0.05), 20: (100, 0.05)}, 6),
        ({1: (LEAST_USERS - 1, -0.2), 20: (100, 0.05)}, 0),  # too few to tell
        ({1: (20, -0.2), 2: (20, -0.2), 20: (100, 0.05)}, 3),  # two groups together are enough
        ({1: (100, -0.2), 4: (100, 0.05), 20: (100, 0.1)}, 2),  # one that is served better is not swept along
        ({1: (100, 0.1), 60: (100, -0.05)}, np.inf),
        ({0: (100, -0.2), 20: (100, 0.05)}, 0),  # users without a history get no list of a model
    ],
)
def test_what_is_served_worse_beyond_noise_gets_the_popular_list(
    by_length: dict[int, tuple[int, float]], below: float
) -> None:
    assert popular_below(*gains(by_length)) == below


@given(st.lists(st.tuples(st.integers(0, 80), st.floats(0, 1), st.floats(0, 1)), max_size=200))
def test_no_group_that_keeps_the_models_lists_is_below_the_popular_list_beyond_noise(
    users: list[tuple[int, float, float]],
) -> None:
    lengths = np.array([length for length, *_ in users], np.int64)
    scores, popular = (np.array([user[column] for user in users], np.float64) for column in (1, 2))
    below = popular_below(lengths, scores, popular)
    figures = figures_by_length(lengths, {"popular": popular, "model": scores}, "popular")
    assert sum(group.users for group in figures.values()) == len(users)
    for name, group in figures.items():
        high = group.models["model"].against_popular.high
        assert high is not None
        is_worse = group.users >= LEAST_USERS and high < 0
        assert not is_worse or name == "0" or HISTORY_LENGTHS[name][0] < below
        assert group.models["popular"].against_popular.mean == 0
