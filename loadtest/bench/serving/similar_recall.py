"""Recall of `/similar`: how many of the twenty nearest movies the index finds, held against looking at all of them."""

from pathlib import Path

import numpy as np

from loadtest.bench.serving import bench_releases
from server.answers import Answers
from server.release import Release

NEIGHBOURS = 20


def measure(folder: Path, movies: int, queries: int, seed: int) -> dict[str, float]:
    """Mean recall of so many queries each, on embeddings like those of factorisation and on ones without any order."""
    rng = np.random.default_rng(seed)
    kinds = {"clustered": bench_releases.clustered(rng, movies), "scattered": bench_releases.scattered(rng, movies)}
    figures = {}
    for name, items in kinds.items():
        bench_releases.write_small(folder / name, items)
        answers = Answers(Release.open(folder / name))
        chosen = rng.choice(movies, min(queries, movies), replace=False)
        figures[f"similar_recall_{name}"] = round(recall(answers, chosen), 4)
    return figures


def recall(answers: Answers, chosen: np.ndarray) -> float:
    """Mean recall over the movies chosen (item indices)."""
    movies = answers.release.movies
    exact = nearest(answers.release.items, chosen)
    shares = []
    for item, wanted in zip(chosen.tolist(), exact.tolist(), strict=True):
        found = answers.similar(movies[item], NEIGHBOURS) or []
        shares.append(len({movies[one] for one in wanted}.intersection(found)) / len(wanted))
    return float(np.mean(shares))


def nearest(items: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """The twenty nearest items to each one chosen, by the cosine and but for itself, in any order: int64 [n, 20]."""
    units = items / np.maximum(np.linalg.norm(items, axis=1, keepdims=True), 1e-12)
    alike = units[chosen] @ units.T
    alike[np.arange(len(chosen)), chosen] = -np.inf
    count = min(NEIGHBOURS, len(items) - 1)
    return np.argpartition(-alike, count - 1, axis=1)[:, :count]
