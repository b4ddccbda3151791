"""Data for the tests of `ranking`: an archive of MovieLens, and parts of a history."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from batch.history.interactions import TrainingHistory


def write_movielens(folder: Path) -> Path:
    """A small archive in the format of MovieLens-1M."""
    rng = np.random.default_rng(1)
    folder.mkdir()
    seen = [rng.permutation(60)[: rng.integers(20, 50)] for _ in range(80)]
    lines = [
        f"{user + 1}::{movie + 1}::{rng.integers(1, 6)}::{978_300_000 + 1_000 * rank + user}\n"
        for user, movies in enumerate(seen)
        for rank, movie in enumerate(movies.tolist())
    ]
    people = [f"{user + 1}::{'FM'[user % 2]}::{(1, 18, 25)[user % 3]}::{user % 20}::12345\n" for user in range(80)]
    titles = [f"{movie + 1}::Movie {movie} (19{30 + movie})::Drama|War\n" for movie in range(60)]
    for name, rows in (("ratings", lines), ("users", people), ("movies", titles)):
        (folder / f"{name}.dat").write_text("".join(rows), "latin-1")
    return folder


def some_sessions(history: TrainingHistory, rows: np.ndarray) -> TrainingHistory:
    """Some of the sessions."""
    return replace(
        history,
        user=history.user[rows],
        movie=history.movie[rows],
        start=history.start[rows],
        minutes=history.minutes[rows],
        share=history.share[rows],
        rating=history.rating[rows],
        rated=history.rated[rows],
    )
