"""The benchmark `ranking`: the sets are what they are said to be, the two textbook models are right by definition, and
what is printed follows from what was measured."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import scipy.sparse as sp
from click.testing import CliRunner

from batch.errors import MovieLensError
from batch.evaluation.splits import by_order
from batch.history.interactions import Interactions, TrainingHistory
from batch.history.segments import segments_of
from loadtest.bench import commands
from loadtest.bench.ranking import ranking_benchmark, ranking_plot, reference_models, sequences
from loadtest.bench.result import BenchmarkResult
from loadtest.errors import LoadtestError
from loadtest.simulation.population import make_population
from stream.zone import DAY_MS

pytestmark = [pytest.mark.blas, pytest.mark.filterwarnings("ignore:OpenBLAS is configured:RuntimeWarning")]

TINY = ranking_benchmark.RankingSize(world=(300, 80, 8), sequences=(250, 120, 30))


def known(watched: list[list[int]], movies: int) -> Interactions:
    """Users with some movies each, in this order; weights differ."""
    count = sum(map(len, watched))
    return Interactions(
        indptr=np.cumsum([0, *map(len, watched)]).astype(np.int64),
        movies=np.array([movie for row in watched for movie in row], np.int32),
        starts=np.arange(count, dtype=np.int64),
        weights=np.linspace(0.3, 1.4, count).astype(np.float32),
        popularity=np.bincount([movie for row in watched for movie in row], minlength=movies).astype(np.float64),
        segments=np.zeros(len(watched), np.uint8),
        until=count,
    )


def drawn(users: int, movies: int, seed: int) -> Interactions:
    rng = np.random.default_rng(seed)
    return known([rng.permutation(movies)[: rng.integers(0, movies - 2)].tolist() for _ in range(users)], movies)


# The textbook


def test_ease_is_the_ridge_regression_of_each_movie_from_the_others() -> None:
    data, penalty = drawn(30, 8, 1), 3.0
    watched = (data.matrix.toarray() > 0).astype(float)
    expected = np.zeros((30, 8))
    for movie in range(8):
        others = np.delete(watched, movie, axis=1)
        left = others.T @ others + penalty * np.eye(7)
        expected[:, movie] = others @ np.linalg.solve(left, others.T @ watched[:, movie])
    users = np.array([4, 0, 29])
    assert reference_models.ease(data, penalty)(users) == pytest.approx(expected[users])


def naive_lists(worth: np.ndarray, data: Interactions, users: np.ndarray) -> list[list[int]]:
    found = []
    for row, user in zip(worth, users.tolist(), strict=True):
        seen = set(data.movies[data.indptr[user] : data.indptr[user + 1]].tolist())
        left = [movie for movie in range(len(row)) if movie not in seen]
        left.sort(key=lambda movie: (-row[movie], -data.popularity[movie], movie))
        found.append((left + [-1] * 20)[:20])
    return found


@pytest.mark.parametrize("movies", [5, 40])
def test_lists_are_the_best_unseen_movies(movies: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_models, "_BLOCK", 7)
    data, users = drawn(30, movies, 2), np.arange(29, -1, -1)
    worth = np.random.default_rng(1).integers(0, 3, (30, movies)).astype(float)  # many are equal
    lists = reference_models.top_lists(lambda of: worth[of], data, users)
    assert lists.tolist() == naive_lists(worth[users], data, users)


def test_als_learns_from_the_weights_and_has_its_defaults() -> None:
    from implicit.cpu.als import AlternatingLeastSquares

    data, users = drawn(40, 12, 3), np.arange(40)
    scores = reference_models.als(data, 1)(users)
    model = AlternatingLeastSquares(random_state=1)
    model.fit(data.matrix, show_progress=False)
    assert scores == pytest.approx(model.user_factors @ model.item_factors.T, abs=1e-4)
    assert np.array_equal(reference_models.als(data, 1)(users), scores)


def test_the_penalty_is_chosen_before_the_test_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    history = sequences.sequences(*TINY.sequences, 1)
    splits = by_order(history)
    asked: list[tuple[int, float]] = []
    ease = reference_models.ease

    def noted(data: Interactions, penalty: float) -> reference_models.Scores:
        asked.append((len(data.movies), penalty))
        return ease(data, penalty)

    monkeypatch.setattr(reference_models, "ease", noted)
    part = splits.test()
    scores, penalty = ranking_benchmark.textbook_scores(splits, part, 1)
    before = len(splits.choice().known.movies)
    assert before < len(part.known.movies)
    assert asked == [*((before, one) for one in reference_models.PENALTIES), (len(part.known.movies), penalty)]
    assert set(scores) == {ranking_benchmark.EASE, ranking_benchmark.ALS}


# The sets


def is_a_history(history: TrainingHistory) -> None:
    order = np.lexsort((history.movie, history.start, history.user))
    assert np.array_equal(order, np.arange(len(order)))
    assert history.movies == sorted(history.movies)
    assert (np.diff(history.users.astype(np.int64)) > 0).all()
    assert history.user.min() >= 0
    assert history.user.max() < history.shape[0]
    assert history.movie.max() < history.shape[1]
    watched = history.minutes > 0
    assert ((history.share >= 0) & (history.share <= 1))[watched].all()
    rated = ~np.isnan(history.rating)
    assert (history.rated[rated] >= history.start[rated]).all()
    assert (history.rated[~rated] == 0).all()


def test_what_the_world_watched() -> None:
    history = sequences.world(300, 80, 8, 1)
    is_a_history(history)
    assert history.shape == (300, 80)
    assert len(history.user) == pytest.approx(2_400, rel=0.15)
    assert 7 * DAY_MS < history.until - history.start.min() <= 8 * DAY_MS
    assert 0.4 < np.mean(~np.isnan(history.rating)) < 0.7
    assert np.unique(history.rating[~np.isnan(history.rating)]) == pytest.approx(np.arange(1, 6) / 5)
    people = make_population(300, 1, "2022")
    told = [
        (row + 1, int(age), "F" if woman else "M")
        for row, (age, woman) in enumerate(zip(people.ages, people.women, strict=True))
    ]
    assert np.array_equal(history.segments, segments_of(history.users, told))


def follows(history: TrainingHistory) -> np.ndarray:
    """How often each movie comes next after each: int64 [m, m]."""
    same = history.user[1:] == history.user[:-1]
    pairs = history.movie[:-1][same], history.movie[1:][same]
    return np.asarray(sp.csr_matrix((np.ones(len(pairs[0]), np.int64), pairs), (history.shape[1],) * 2).toarray())


def test_sequences_have_order_and_the_shuffled_have_none() -> None:
    history = sequences.sequences(600, 200, 40, 1)
    is_a_history(history)
    pairs = history.user.astype(np.int64) * 200 + history.movie
    assert len(np.unique(pairs)) == len(pairs)
    assert np.median(np.bincount(history.user)) == pytest.approx(40, rel=0.15)
    other = sequences.shuffled(history, 1)
    is_a_history(other)
    assert np.array_equal(other.start, history.start)
    assert np.array_equal(np.sort(pairs), np.sort(other.user.astype(np.int64) * 200 + other.movie))
    # what often follows in one half of the users does so in the other half, where there is order
    agree = []
    for one in (history, other):
        halves = [follows(_sessions(one, np.isin(one.user, half))) for half in (np.arange(300), np.arange(300, 600))]
        expected = np.outer(halves[0].sum(axis=1), halves[0].sum(axis=0)) / halves[0].sum()
        often = (halves[0] >= 3) & (halves[0] > 4 * expected)
        agree.append(int(halves[1][often].sum()) / max(float(expected[often].sum()), 1))
    assert agree[0] > 4
    assert agree[1] < 0.6 * agree[0]


def _sessions(history: TrainingHistory, rows: np.ndarray) -> TrainingHistory:
    """Some of the sessions."""
    names = ("user", "movie", "start", "minutes", "share", "rating", "rated")
    columns: dict[str, Any] = {name: getattr(history, name)[rows] for name in names}
    return replace(history, **columns)


def test_equal_seeds_make_equal_sets() -> None:
    for make in (partial(sequences.world, 60, 30, 3), partial(sequences.sequences, 60, 60, 20)):
        one, two, three = make(1), make(1), make(2)
        assert np.array_equal(one.movie, two.movie)
        assert np.array_equal(one.start, two.start)
        assert not np.array_equal(one.movie[:50], three.movie[:50])


def ml_1m(folder: Path) -> Path:
    """A small archive in the format of MovieLens-1M."""
    rng = np.random.default_rng(1)
    folder.mkdir()
    seen = [rng.permutation(60)[: rng.integers(20, 50)] for _ in range(80)]
    lines = [
        f"{user + 1}::{movie + 1}::{rng.integers(1, 6)}::{978_300_000 + 1_000 * place + user}\n"
        for user, movies in enumerate(seen)
        for place, movie in enumerate(movies.tolist())
    ]
    people = [f"{user + 1}::{'FM'[user % 2]}::{(1, 18, 25)[user % 3]}::{user % 20}::12345\n" for user in range(80)]
    titles = [f"{movie + 1}::Movie {movie} (19{30 + movie})::Drama|War\n" for movie in range(60)]
    for name, of in (("ratings", lines), ("users", people), ("movies", titles)):
        (folder / f"{name}.dat").write_text("".join(of), "latin-1")
    return folder


def test_an_archive_of_movielens(tmp_path: Path) -> None:
    history = sequences.movielens(ml_1m(tmp_path / "ml-1m"), tmp_path / "var")
    is_a_history(history)
    assert history.shape == (80, 60)
    assert "movie+0+1930" in history.movies
    assert np.unique(history.rating) == pytest.approx(np.arange(1, 6) / 5)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MovieLensError):
        sequences.movielens(tmp_path / "empty", tmp_path / "other")


# The benchmark


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkResult:
    """A real run on two small sets."""
    folder = tmp_path_factory.mktemp("ranking")
    data = ml_1m(folder / "ml-1m")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking_benchmark, "_WORK", folder / "work")
        found = ranking_benchmark.run(TINY, 1, ("world", "movielens"), data)
    assert list((folder / "work").iterdir()) == []
    return found


def test_figures_follow_from_each_other(outcome: BenchmarkResult) -> None:
    figures = outcome.figures
    assert set(outcome.measured) == {
        name
        for name in ranking_benchmark.TARGETS
        if name.startswith(("world", "movielens")) and name != "movielens_1m_ease_ratio"
    }
    for name in ("world", "movielens"):
        of = figures[name]
        assert of["chosen"] in of["models"]
        assert next(iter(of["models"])) == "popular"
        assert list(of["models"])[-2:] == [ranking_benchmark.EASE, ranking_benchmark.ALS]
        for row in of["models"].values():
            assert set(row) == {"ndcg@20", "recall@20", "hr@20"}
            assert all(0 <= one["low"] <= one["mean"] <= one["high"] <= 1 for one in row.values())
        less = figures[f"{name}_chosen_less"]
        for metric in ("ndcg@20", "recall@20", "hr@20"):
            for rival, one in less.items():
                difference = of["models"][of["chosen"]][metric]["mean"] - of["models"][rival][metric]["mean"]
                assert one[metric]["mean"] == pytest.approx(difference, abs=1e-9)
            least = min(one[metric]["high"] for one in less.values())
            assert figures[f"{name}_{metric}_less_best_rival_high"] == least
        assert figures[f"{name}_above_popular"] is (figures[f"{name}_chosen_less_popular_low"] > 0)
    assert figures["world"]["users"] == 300


def test_the_object_and_the_picture_are_kept(
    outcome: BenchmarkResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    asked: list[Any] = []

    def run(*arguments: Any) -> BenchmarkResult:
        asked.append(arguments)
        return outcome

    monkeypatch.setattr(ranking_benchmark, "run", run)
    result = CliRunner().invoke(
        commands.bench, ["ranking", "--quick", "--data", str(tmp_path), "--keep", str(tmp_path / "kept")]
    )
    assert result.exit_code == 0, result.exception
    assert asked == [(ranking_benchmark.QUICK, 1, (), tmp_path)]
    found = orjson.loads(result.stdout.splitlines()[-1])
    assert found["bench"] == "ranking"
    assert orjson.loads((tmp_path / "kept" / "ranking.json").read_bytes()) == found
    ranking_plot.draw(found, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_bytes() == (tmp_path / "kept" / "ranking.svg").read_bytes()


def measured(ours: float, ease: float, name: str, sessions: int) -> dict[str, float]:
    rows = [{"ndcg@20": {"mean": mean}} for mean in (ours, ease)]
    return ranking_benchmark._of_this_set(name, sessions, rows[0], rows[1], {"mean": 0.1, "low": -0.2, "high": 0.3})


def test_what_is_claimed_of_one_set_only() -> None:
    assert measured(0.18, 0.1, "shuffled", 1_000_209) == {"shuffled_chosen_less_ease_high": 0.3}
    assert measured(0.18, 0.1, "sequences", 1_000_209) == {"sequences_ease_ratio": 1.8}
    assert measured(0.18, 0.1, "movielens", 100_000) == {"movielens_ease_ratio": 1.8}
    assert measured(0.16, 0.1, "movielens", 10_000_054) == {"movielens_ease_ratio": 1.6}
    both = measured(0.16, 0.1, "movielens", 1_000_209)
    assert both == {"movielens_ease_ratio": 1.6, "movielens_1m_ease_ratio": 1.6}
    assert not BenchmarkResult("ranking", both, ranking_benchmark.TARGETS).met


def test_too_many_movies_are_refused_before_anything_is_fit() -> None:
    many = sequences.sequences(30, 12_001, 20, 1)
    with pytest.raises(LoadtestError, match=r"12,001 movies.*12,000 movies at most"):
        ranking_benchmark.measure("movielens", many, 1)


def test_a_set_of_which_nothing_can_be_held_out_is_refused() -> None:
    history = sequences.sequences(30, 100, 20, 1)
    first = np.searchsorted(history.user, np.arange(30))
    few = _sessions(history, first)
    with pytest.raises(LoadtestError, match="sequences is too small"):
        ranking_benchmark.measure("sequences", few, 1)


@pytest.mark.parametrize(
    "arguments",
    [["--part", "movielens"], ["--part", "words"], ["--part", "world", "--keep", "x"], ["--data", "no-such"]],
)
def test_a_wrong_call_is_refused(arguments: list[str]) -> None:
    assert CliRunner().invoke(commands.bench, ["ranking", *arguments]).exit_code == 2
