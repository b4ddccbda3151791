"""The benchmark `newmovies` in a small world: a new movie reaches those whom it suits, and did not before."""

from pathlib import Path

import pytest

from batch.settings import BatchSettings
from loadtest.bench.new_movies.new_movies_benchmark import NEW_MOVIES, NewMovieFigures, NewMoviesSize
from loadtest.bench.new_movies.release_days import ReleaseDays, ReleaseWorld
from loadtest.settings import WorldSettings

pytestmark = pytest.mark.filterwarnings("ignore:OpenBLAS is configured:RuntimeWarning")
WORLD = WorldSettings(users=600, movies=300, generation="2026", new_movies=1)


def played(folder: Path, share: float) -> ReleaseDays:
    settings = BatchSettings(model="ease", new_movie_share=share, trees=5, factors=8, iterations=4)
    return ReleaseWorld(WORLD, past_days=10).play(folder, 3, settings)


def test_a_new_movie_finds_users_and_costs_others_little(tmp_path: Path) -> None:
    now, before = played(tmp_path / "now", 0.05), played(tmp_path / "before", 0.0)
    assert (before.reached(3), before.found(3), int(before.lists.sum())) == (0, 0, 0)
    assert now.reached(1) < now.reached(3)
    assert now.reached(3) > 1.3 * (now.shown_on > 0).mean()
    assert now.reached(3) > 0.3
    assert abs(now.expected_without - now.expected) < 0.05 * now.expected_without
    assert before.expected == before.expected_without


def test_the_figures_are_those_of_the_targets(tmp_path: Path) -> None:
    result = NEW_MOVIES.run(NewMoviesSize(worlds=1, users=300, movies=200), 1, ["one"])
    assert result.read(NewMovieFigures, "one").suits > 0
    assert result.targets.keys() == {"one_reached_low", "one_loss_high"}
