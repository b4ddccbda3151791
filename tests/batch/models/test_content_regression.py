"""What content says of a movie: planted rules are found, and the penalty is the best with each movie left out."""

import msgspec
import numpy as np
import pytest

from batch.history.movie_content import MovieContent
from batch.models import content_regression
from batch.models.content_regression import ContentRegression, content_embeddings

pytestmark = pytest.mark.blas
GENRES = ("Action", "Comedy", "Drama", "Horror", "War")


def planted(movies: int, seed: int = 1) -> tuple[list[MovieContent], np.ndarray]:
    """Movies, and embeddings that are the sum of those of their genres and of the decade, with a little noise."""
    rng = np.random.default_rng(seed)
    of_genre, of_decade = rng.normal(size=(len(GENRES), 6)), rng.normal(size=(10, 6))
    contents, items = [], []
    for number in range(movies):
        own = rng.choice(len(GENRES), rng.integers(1, 3), replace=False)
        year = int(rng.integers(1950, 2000))
        contents.append(MovieContent(id=f"m{number}+", genres=sorted(GENRES[each] for each in own), year=year))
        items.append(of_genre[own].mean(axis=0) + of_decade[year // 10 - 195] + rng.normal(scale=0.1, size=6))
    return contents, np.array(items, np.float32)


def cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.asarray((first * second).sum(axis=1) / lengths)


def test_unwatched_movies_lie_where_their_content_says() -> None:
    contents, items = planted(400)
    users = np.full(300, 50)
    predicted = content_embeddings(ContentRegression(contents, users), items[:300])
    assert np.array_equal(predicted[:300], items[:300])
    assert predicted.dtype == np.float32
    assert np.median(cosine(predicted[300:], items[300:])) > 0.8
    assert np.median(cosine(predicted[300:], np.roll(items[300:], 1, axis=0))) < 0.3


def test_a_sequel_lies_nearer_to_its_collection_than_its_genres_say() -> None:
    contents, items = planted(300)
    for number in (3, 8, 299):
        contents[number] = msgspec.structs.replace(contents[number], collection="9")
    apart = np.array([5, -5, 5, -5, 5, -5], np.float32)
    items[[3, 8]] += apart
    users = np.full(299, 50)
    sequel, alone = (
        ContentRegression([*contents[:299], last], users).predict(items[:299])[299]
        for last in (contents[299], msgspec.structs.replace(contents[299], collection=None))
    )
    assert (sequel - alone) @ apart > 0.3 * apart @ apart


def test_a_movie_of_which_nothing_is_known_lies_in_the_middle() -> None:
    contents, items = planted(200)
    contents.append(MovieContent(id="x+"))
    users = np.full(200, 50)
    assert ContentRegression(contents, users).predict(items)[200] == pytest.approx(items.mean(axis=0), abs=1e-5)


def test_the_penalty_is_the_best_when_each_movie_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    features, weight = rng.normal(size=(40, 12)), rng.uniform(0.1, 1, 40)
    values = features[:, :2] @ rng.normal(size=(2, 3)) + rng.normal(scale=2, size=(40, 3))

    def fitted(rows: np.ndarray, penalty: float) -> np.ndarray:
        own = features[rows] * weight[rows, None]
        return np.asarray(np.linalg.solve(own.T @ features[rows] + penalty * np.eye(12), own.T @ values[rows]))

    def error(penalty: float) -> float:
        left = (np.arange(40) != row for row in range(40))
        rest = (values[row] - features[row] @ fitted(rows, penalty) for row, rows in enumerate(left))
        return float(sum(weight[row] * (each**2).sum() for row, each in enumerate(rest)))

    best = min(content_regression._PENALTIES, key=error)
    assert content_regression._ridge(features, weight, values) == pytest.approx(fitted(np.ones(40, bool), best))
    assert best not in (content_regression._PENALTIES[0], content_regression._PENALTIES[-1])


@pytest.mark.parametrize("known", [0, 1])
def test_movies_without_any_content_are_no_error(known: int) -> None:
    contents = [MovieContent(id=f"m{number}+") for number in range(30)]
    items = np.random.default_rng(1).normal(size=(30 - known, 4)).astype(np.float32)
    users = np.full(30 - known, 3)
    assert np.isfinite(content_embeddings(ContentRegression(contents, users), items)).all()
