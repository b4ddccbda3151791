"""Recall of `/similar`: how many of the twenty nearest movies the index finds, compared with an exact search."""

from pathlib import Path

import numpy as np
from msgspec import Struct

from loadtest.bench.serving import bench_releases
from server.answers import Answers
from server.release import Release

NEIGHBOURS = 20


class RecallFigures(Struct, frozen=True, kw_only=True):
    """Mean recall over the queries."""

    clustered: float
    """On embeddings like those of a factorisation."""
    scattered: float
    """On embeddings without any order, the hardest ones."""


def measure(folder: Path, movies: int, queries: int, seed: int) -> RecallFigures:
    """Search the neighbours of so many movies in each of two indexes."""
    rng = np.random.default_rng(seed)
    clustered, scattered = bench_releases.clustered(rng, movies), bench_releases.scattered(rng, movies)
    recalls = []
    for name, items in (("clustered", clustered), ("scattered", scattered)):
        bench_releases.write_small(folder / name, items)
        answers = Answers(Release.open(folder / name))
        chosen = rng.choice(movies, min(queries, movies), replace=False)
        recalls.append(round(recall(answers, chosen), 4))
    return RecallFigures(clustered=recalls[0], scattered=recalls[1])


def recall(answers: Answers, chosen: np.ndarray) -> float:
    """Mean recall over the chosen movies (item indices)."""
    movies = answers.release.movies
    exact = nearest(answers.release.items, chosen)
    recalls = []
    for item, neighbours in zip(chosen.tolist(), exact.tolist(), strict=True):
        listed = answers.similar(movies[item], NEIGHBOURS) or []
        recalls.append(len({movies[neighbour] for neighbour in neighbours}.intersection(listed)) / len(neighbours))
    return float(np.mean(recalls))


def nearest(items: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The twenty nearest other items of each chosen item, by cosine, in any order: int64 [n, 20]."""
    units = items / np.maximum(np.linalg.norm(items, axis=1, keepdims=True), 1e-12)
    cosines = units[chosen] @ units.T
    cosines[np.arange(len(chosen)), chosen] = -np.inf
    count = min(NEIGHBOURS, len(items) - 1)
    return np.argpartition(-cosines, count - 1, axis=1)[:, :count]
