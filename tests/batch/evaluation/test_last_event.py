"""Leave-one-out: the last event of each user tests, the one before chooses, and one at least stays known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.errors import NotEnoughData
from batch.evaluation.splits import Slice, by_last_event
from batch.history.interactions import TrainingHistory

MOVIES = 9
Pair = tuple[int, int]


def history(watched: list[list[int]]) -> TrainingHistory:
    """Users who start these movies, one an hour."""
    user = np.repeat(np.arange(len(watched)), [len(movies) for movies in watched])
    rows = len(user)
    return TrainingHistory(
        user=user.astype(np.int32),
        movie=np.array([movie for movies in watched for movie in movies], np.int32),
        start=np.concatenate([np.arange(len(movies)) * 3_600_000 for movies in watched]),
        minutes=np.full(rows, 90, np.int32),
        share=np.ones(rows, np.float32),
        rating=np.full(rows, np.nan, np.float32),
        rated=np.zeros(rows, np.int64),
        users=np.arange(1, len(watched) + 1, dtype=np.uint32),
        movies=[f"movie+{number}+2000" for number in range(MOVIES)],
        segments=np.zeros(len(watched), np.uint8),
    )


def pairs(part: Slice) -> tuple[set[Pair], set[Pair]]:
    """What is known, and what is relevant, as user and movie."""
    known, relevant = (
        set(zip(*(axis.tolist() for axis in matrix.nonzero()), strict=True))
        for matrix in (part.known.matrix, part.relevant)
    )
    return known, relevant


def expected(watched: list[list[int]], held_out: int) -> tuple[set[Pair], set[Pair]]:
    """The same where the `held_out`-th event from the end is held out, and those after it are not there."""
    known, relevant = set(), set()
    for user, movies in enumerate(watched):
        for _ in range(held_out):
            movies, last = (movies[:-1], movies[-1:]) if len(movies) > 1 else (movies, [])
        known |= {(user, movie) for movie in movies}
        relevant |= {(user, movie) for movie in last if movie not in movies}
    return known, relevant


@given(st.lists(st.lists(st.integers(0, MOVIES - 1), max_size=6), min_size=1, max_size=8).filter(any))
def test_the_last_events_are_held_out_one_by_one(watched: list[list[int]]) -> None:
    splits = by_last_event(history(watched))
    for make, held_out in ((splits.test, 1), (splits.choice, 2)):
        known, relevant = expected(watched, held_out)
        if relevant:
            assert pairs(make()) == (known, relevant)
        else:
            with pytest.raises(NotEnoughData):
                make()


def test_every_start_counts_alike_for_the_popular_list() -> None:
    watched = [np.random.default_rng(user).permutation(MOVIES).tolist() for user in range(20)]
    splits = by_last_event(history(watched))
    for part, kept in ((splits.test(), MOVIES - 1), (splits.choice(), MOVIES - 2)):
        starts = [movie for movies in watched for movie in movies[:kept]]
        assert part.known.popularity.tolist() == np.bincount(starts, minlength=MOVIES).tolist()
        assert {int(held) for held in np.diff(part.relevant.indptr)} == {1}
