"""Histories of two planted tastes, models that know of them, and what an evaluation says of these."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import scipy.sparse as sp

from batch.evaluation.evaluate import evaluate
from batch.evaluation_file import Evaluation, ModelFigures, SliceFigures
from batch.history.interactions import Interactions, TrainingHistory
from batch.settings import BatchSettings
from stream.zone import HOUR_MS

USERS, MOVIES, HOURS = 200, 60, 240
SETTINGS = BatchSettings(test_hours=24)
END = HOURS * HOUR_MS
Starts = Sequence[tuple[int, int, int]]
"""User index, movie, hour."""


def history(starts: Starts, users: int = USERS, segments: np.ndarray | None = None) -> TrainingHistory:
    table = np.array(sorted((user, hour, movie) for user, movie, hour in starts), np.int64).reshape(-1, 3)
    return TrainingHistory(
        user=table[:, 0].astype(np.int32),
        movie=table[:, 2].astype(np.int32),
        start=table[:, 1] * HOUR_MS,
        minutes=np.full(len(table), 90, np.int32),
        share=np.ones(len(table), np.float32),
        rating=np.full(len(table), np.nan, np.float32),
        rated=np.zeros(len(table), np.int64),
        users=np.arange(1, users + 1, dtype=np.uint32),
        movies=[f"movie+{number:02}+2000" for number in range(MOVIES)],
        segments=np.zeros(users, np.uint8) if segments is None else segments,
    )


def planted(seed: int = 2, by_taste: bool = True) -> list[tuple[int, int, int]]:
    """Every user starts 20 different movies, of one half of the catalogue if by taste, at any hour."""
    rng, starts = np.random.default_rng(seed), []
    for user in range(USERS):
        movies = rng.permutation(30)[:20] + 30 * (user % 2) if by_taste else rng.permutation(MOVIES)[:20]
        starts += [(user, int(movie), int(rng.integers(HOURS))) for movie in movies]
    return starts


class Taste:
    """Likes the half of the catalogue that most of a user's movies are of, the popular ones first."""

    name = "taste"
    personal = True
    learned = b""

    def __init__(self, parameters: dict[str, float]) -> None:
        self.parameters = parameters
        self.calls: list[tuple[str, int, np.ndarray]] = []

    def fit(self, data: Interactions) -> None:
        self.calls.append(("fit", data.until, data.movies))
        self._popularity = data.popularity

    def tune(self, data: Interactions, relevant: sp.csr_matrix, users: np.ndarray) -> None:
        self.calls.append(("tune", data.until, users))
        assert relevant.shape == data.shape
        assert np.diff(relevant.indptr)[users].all()
        self.parameters = {"strength": 1e6}
        self.learned = b"of %d users\xff" % len(users)

    def score(self, data: Interactions, users: np.ndarray) -> np.ndarray:
        halves = np.stack([data.matrix[users][:, half].sum(axis=1).A1 for half in (slice(0, 30), slice(30, 60))], 1)
        liked = np.repeat(halves == halves.max(axis=1, keepdims=True), 30, axis=1)
        return np.asarray(self._popularity + self.parameters.get("strength", 0.0) * liked, np.float32)

    @property
    def item_embeddings(self) -> np.ndarray:
        raise AssertionError("evaluation needs no embeddings")


class Contrary(Taste):
    """Likes best what the fewest watch."""

    name = "contrary"

    def score(self, data: Interactions, users: np.ndarray) -> np.ndarray:
        return np.repeat(-self._popularity[None, :].astype(np.float32), len(users), axis=0)


KINDS: dict[str, type[Taste]] = {"taste": Taste, "contrary": Contrary}


def evaluated(starts: Starts, settings: BatchSettings = SETTINGS, segments: np.ndarray | None = None) -> Evaluation:
    return evaluate(history(starts, segments=segments), settings, lambda _: None)


def part_of(evaluation: Evaluation, name: Literal["choice", "test"]) -> SliceFigures:
    """A slice that was measured."""
    part = evaluation.slices.choice if name == "choice" else evaluation.slices.test
    assert part is not None
    return part


def figures_of(evaluation: Evaluation, name: Literal["choice", "test"], model: str) -> ModelFigures:
    return part_of(evaluation, name).models[model]


def number(value: float | None) -> float:
    """A figure that was measured."""
    assert value is not None
    return value
