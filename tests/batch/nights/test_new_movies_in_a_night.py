"""New movies from their announcement to the release of a night, and out of its lists again."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from batch.errors import NightFilesDamaged
from batch.models.list_caps import OF_AGE
from batch.nights import night_inputs
from batch.releases import publish
from loadtest.simulation.record_api import world_records
from loadtest.simulation.world import World
from quality.catalog import Catalog, Record
from quality.lines.schemas import MOVIE_RECORD, checked
from server.answers import Answers
from server.release import MINORS, Release
from stream.archive import Archive
from stream.event import Event
from stream.zone import DAY_MS
from tests.batch.conftest import SMALL, known
from tests.batch.nights.small_nights import archive_events, night, run

pytestmark = pytest.mark.filterwarnings("ignore:OpenBLAS is configured:RuntimeWarning")
MODEL, NEW = "als", [f"the+new+one+{number}+2021" for number in range(25)]


def current(var: Path) -> Release:
    folder = publish.current_release(var)
    assert folder is not None
    return Release.open(folder)


def listed(release: Release, movie: str) -> int:
    return int((release.lists == release.movies.index(movie)).sum())


@pytest.fixture(scope="module")
def announced(past: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder after a night with movies that nobody has watched, the last of them announced.

    They have the content of other movies of the world.
    """
    var = tmp_path_factory.mktemp("announced") / "var"
    shutil.copytree(past, var)
    world = World(SMALL)
    records = (world_records(world).movie(name) for name in world.catalogue.ids)
    contents = [checked(record, MOVIE_RECORD)[0] for record in records]
    new = [known(name, {**content, "id": name}) for name, content in zip(NEW, contents, strict=False) if content]
    Catalog(var).keep("movie", new)
    (var / "new_movies.txt").write_text(f"{NEW[-2]}\n{NEW[-1]}\n")
    run(night(var, model=MODEL))
    return var


def test_movies_that_nobody_has_watched_are_part_of_the_release(announced: Path) -> None:
    release = current(announced)
    unwatched, watched = release.manifest.unwatched_movies, release.manifest.require_input().counts.movies
    assert set(NEW) <= set(release.movies[-unwatched:])
    assert len(release.movies) == len(release.items) == watched + unwatched
    assert not np.isin(release.fallbacks, [release.movies.index(movie) for movie in NEW]).any()
    similar = Answers(release).similar(NEW[0], 10)
    assert similar is not None
    assert len(similar) == 10


def test_the_latest_announced_one_reaches_lists_within_the_budget(announced: Path) -> None:
    release = current(announced)
    users = int((release.lists[:, 0] != np.iinfo(release.lists.dtype).max).sum())
    assert 0 < listed(release, NEW[-1]) <= 0.3 * users
    first = release.manifest.require_input().counts.movies
    is_new = (release.lists >= first) & (release.lists < len(release.movies))
    assert is_new.sum(axis=1).max() == 1


def test_a_movie_that_was_shown_in_vain_leaves_the_lists(announced: Path, tmp_path: Path) -> None:
    var = tmp_path / "var"
    shutil.copytree(announced, var, symlinks=True)
    day_ms = max(entry.kafka_time.last for entry in Archive(var).entries() if entry.kafka_time) - DAY_MS // 4
    shown = [Event("recommend", day_ms + number, 1 + number % 100, host="a", status=200, movies=(NEW[-1],))
             for number in range(501)]  # fmt: skip
    archive_events(Archive(var), "later", shown, "2030-01-06")
    run(night(var, model=MODEL))
    contents = {content.id: content for content in night_inputs.read_contents(var / "night")}
    assert [contents[movie].shown for movie in NEW[-2:]] == [0, 501]
    assert [contents[movie].announced for movie in NEW[-2:]] == [1, 2]
    assert listed(current(var), NEW[-1]) == 0
    assert sum(listed(current(var), movie) for movie in NEW) > 0


def test_new_movies_keep_to_caps_and_are_not_drawn(announced: Path, tmp_path: Path) -> None:
    var = tmp_path / "var"
    shutil.copytree(announced, var, symlinks=True)
    records = Catalog(var).records("movie")
    flags: dict[str, Record] = {NEW[-1]: {"adult": True}, NEW[-2]: {"cost": 9.0}}
    Catalog(var).keep("movie", [known(name, {**records[name], **more}) for name, more in flags.items()])
    run(night(var, model=MODEL, max_cost=5.0, explore_share=0.2))
    release = current(var)
    assert {NEW[-1], NEW[-2]} <= set(release.manifest.restricted)
    assert listed(release, NEW[-2]) == 0
    rows = (release.lists == release.movies.index(NEW[-1])).any(axis=1)
    assert rows.any()
    assert (np.load(release.folder / MINORS)[rows] == OF_AGE).all()
    assert release.explored is not None
    drawn = release.lists[release.explored.rows]
    first = release.manifest.require_input().counts.movies
    assert not ((drawn >= first) & (drawn < len(release.movies))).any()


def test_without_a_share_lists_are_those_of_the_model(announced: Path, tmp_path: Path) -> None:
    var = tmp_path / "var"
    shutil.copytree(announced, var, symlinks=True)
    run(night(var, model=MODEL, new_movie_share=0.0), "train", "publish")
    without = np.load(var / "night" / "lists.npy")
    assert (without < current(announced).manifest.require_input().counts.movies).all()
    kept = np.load(announced / "night" / "lists.npy")
    assert np.array_equal(kept[:, :10], without[:, :10])


def test_contents_that_are_not_of_the_history_are_refused(announced: Path, tmp_path: Path) -> None:
    var = tmp_path / "var"
    shutil.copytree(announced, var, symlinks=True)
    contents = night_inputs.read_contents(var / "night")
    night_inputs.write_contents(var / "night", [msgspec.structs.replace(contents[0], id="x+"), *contents[1:]])
    with pytest.raises(NightFilesDamaged, match=r"content\.json"):
        run(night(var, model=MODEL), "train")
