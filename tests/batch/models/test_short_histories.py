"""Users with a short history get the popular list, all others the model's own, to the last score."""

import numpy as np
import pytest

from batch.history.interactions import Interactions
from batch.models import Popular
from batch.models.short_histories import PopularForShort
from batch.models.top_lists import top_lists
from batch.settings import BatchSettings

USERS, MOVIES = 40, 60


class Reversed:
    """Likes the movies with the largest index."""

    name = "reversed"

    def score(self, data: Interactions, users: np.ndarray) -> np.ndarray:
        return np.tile(np.arange(MOVIES, dtype=np.float32), (len(users), 1))


def data() -> Interactions:
    """User u has u % 8 events; the first movies are popular."""
    counts = np.arange(USERS) % 8
    movies = np.concatenate([np.random.default_rng(user).permutation(MOVIES)[:n] for user, n in enumerate(counts)])
    total = int(counts.sum())
    return Interactions(
        indptr=np.concatenate([[0], np.cumsum(counts)]),
        movies=movies.astype(np.int32),
        starts=np.arange(total),
        weights=np.ones(total, np.float32),
        popularity=np.arange(MOVIES, 0, -1).astype(np.float64),
        segments=np.zeros(USERS, np.uint8),
        until=total,
    )


@pytest.mark.parametrize("below", [0, 1, 3, 100])
def test_lists_are_popular_below_and_the_models_own_from_there(below: int) -> None:
    known, everyone = data(), np.arange(USERS)
    popular = Popular(BatchSettings(), {})
    popular.fit(known)
    shown = top_lists(PopularForShort(Reversed(), below, known.popularity), known, everyone)
    is_short = np.diff(known.indptr) < below
    assert np.array_equal(shown[is_short], top_lists(popular, known, everyone[is_short]))
    assert np.array_equal(shown[~is_short], top_lists(Reversed(), known, everyone[~is_short]))
