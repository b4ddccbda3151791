"""The releases that `serving` answers from: workers accept them, both answer the same; and recall of their index."""

from pathlib import Path

import numpy as np
import pytest

from loadtest.bench.serving import bench_releases, similar_recall
from loadtest.bench.serving.bench_releases import ReleaseStage
from server.answers import Answers
from server.release import Release
from tests.loadtest.serving_size import MOVIES, USERS


@pytest.mark.parametrize("name", ["compact", "rendered"])
def test_a_worker_accepts_the_releases(stage: ReleaseStage, name: str) -> None:
    folder = (getattr(stage, name) / "releases" / "current").resolve()
    release = Release.open(folder)
    answers = Answers(release)
    answers.self_test()
    assert (len(release.users), len(release.movies)) == (USERS, MOVIES)
    assert release.items.shape == (MOVIES, bench_releases.DIMENSIONS)
    assert (release.rendered is not None) is (name == "rendered")
    assert len(set(map(tuple, release.lists.tolist()))) > USERS * 0.8


def test_both_releases_answer_the_same(stage: ReleaseStage) -> None:
    compact, rendered = (Answers(Release.open(folder)) for folder in stage.releases)
    users = range(1, USERS + 1)
    assert [compact.find(user) for user in users] == [rendered.find(user) for user in users]


def test_lists_of_a_small_catalogue_hold_no_movie_twice() -> None:
    lists = bench_releases._arrays(np.random.default_rng(1), 2_000, 20)["lists"]
    assert {len(set(row)) for row in lists.tolist()} == {20}


def test_recall_is_of_the_nearest_movies(tmp_path: Path) -> None:
    items = np.random.default_rng(1).normal(size=(60, 8)).astype(np.float32)
    bench_releases.write_small(tmp_path / "release", items)
    answers = Answers(Release.open(tmp_path / "release"))
    chosen = np.arange(0, 60, 7)
    assert similar_recall.recall(answers, chosen) == 1.0
    cosines = (items @ items[7]) / np.linalg.norm(items, axis=1)
    assert set(similar_recall.nearest(items, np.array([7]))[0].tolist()) == set(np.argsort(-cosines)[1:21].tolist())

    class HalfOfTheAnswers(Answers):
        def similar(self, movie: str, count: int) -> list[str] | None:
            return (super().similar(movie, count) or [])[: count // 2]

    assert similar_recall.recall(HalfOfTheAnswers(answers.release), chosen) == pytest.approx(0.5)
