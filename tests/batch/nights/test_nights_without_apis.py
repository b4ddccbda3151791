"""A first night whose APIs do not answer makes a release of what the stream proves; the next one replaces it."""

import shutil
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest

from batch.errors import GateRefusal
from batch.nights import night_inputs
from batch.nights.runner import STEPS
from loadtest.settings import WorldSettings
from quality.alerts.alert_file import AlertFile
from quality.catalog import Catalog
from server.release import Release
from stream.archive import Archive
from tests.batch.conftest import Reply, ScriptedApi
from tests.batch.nights.small_nights import Results, answer_of, night, run

pytestmark = pytest.mark.filterwarnings("ignore:OpenBLAS is configured:RuntimeWarning")
Simulated = Callable[[WorldSettings], AbstractContextManager[str]]

Scripted = Callable[[Callable[[str, int], Reply]], AbstractContextManager[ScriptedApi]]


def whole_night(var: Path, **changed: Any) -> Results:
    return run(night(var, **changed), *STEPS)


@pytest.fixture(scope="module")
def without_apis(past: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Results]:
    """A folder after a first night with an empty catalogue and an API port that nobody listens on; not to be written
    to. Also the night's results."""
    var = tmp_path_factory.mktemp("without") / "var"
    shutil.copytree(past / "archive", var / "archive")
    return var, whole_night(var)


@pytest.fixture
def after(without_apis: tuple[Path, Results], tmp_path: Path) -> Path:
    """A copy of the folder, to be written to."""
    return Path(shutil.copytree(without_apis[0], tmp_path / "var", symlinks=True))


def users_of_movies(var: Path) -> dict[str, set[int]]:
    users = defaultdict(set)
    for paths in Archive(var).files("watch").values():
        for path in paths:
            table = pq.read_table(path, columns=["user", "movie"])
            for user, movie in zip(table["user"].to_pylist(), table["movie"].to_pylist(), strict=True):
                users[movie].add(user)
    return users


def alerts(var: Path) -> list[tuple[str, str]]:
    return [(alert.id, alert.text) for _, _, alert in AlertFile(var).read()]


def test_the_release_has_the_movies_that_ten_users_watched(without_apis: tuple[Path, Results]) -> None:
    var, results = without_apis
    release = Release.open(var / "releases" / "current")
    proven = sorted(movie for movie, users in users_of_movies(var).items() if len(users) >= 10)
    assert list(release.movies) == proven
    assert len(proven) > 50
    assert results["catalog"].proven_movies == release.manifest.proven_movies == len(proven)
    assert "no answer" in results["catalog"].failed
    assert release.manifest.api_answered is False
    assert not release.segments.any()
    movies, source = answer_of(release, 999_999)
    assert (len(movies), source) == (20, "popular")
    assert {len(answer_of(release, user)[0]) for user in release.users.tolist()} == {20}


def test_an_api_that_answers_with_errors_only_counts_as_none(
    past: Path, without_apis: tuple[Path, Results], tmp_path: Path, scripted: Scripted
) -> None:
    shutil.copytree(past / "archive", tmp_path / "archive")
    with scripted(lambda path, before: (500, b"oops", {})) as api:
        results = run(night(tmp_path, api=api.root), "sessions", "catalog", "history")
    assert set(results["catalog"].movies) == {"bad"}
    assert results["catalog"].proven_movies == results["history"].movies == without_apis[1]["history"].movies


@pytest.mark.parametrize("is_most", [False, True])
def test_movies_with_bad_records_count_as_unanswered(
    past: Path, without_apis: tuple[Path, Results], tmp_path: Path, scripted: Scripted, is_most: bool
) -> None:
    shutil.copytree(past / "archive", tmp_path / "archive")
    named = sorted(users_of_movies(tmp_path))
    known = {name for number, name in enumerate(named) if (number % 3 > 0) is is_most}

    def reply(path: str, before: int) -> Reply:
        subject, ids = path.removeprefix("/").split("/")
        if subject == "user":
            return 200, orjson.dumps([{"user_id": int(user)} for user in ids.split(",")]), {}
        return 200, orjson.dumps([{"id": name} if name in known else {} for name in ids.split(",")]), {}

    with scripted(reply) as api:
        results = run(night(tmp_path, api=api.root), "sessions", "catalog", "history")
    popular = set(Release.open(without_apis[0] / "releases" / "current").movies)
    answers = night_inputs.parse_movie_answers((tmp_path / "night" / "proven.json").read_bytes())
    assert set(answers.proven) == popular - known
    assert results["catalog"].proven_movies == len(answers.proven) > 0
    assert results["history"].movies == len(popular | known)
    assert answers.api_answered is is_most


def test_verdict_and_alert_say_that_no_api_has_confirmed_the_movies(without_apis: tuple[Path, Results]) -> None:
    var, results = without_apis
    movies, release = results["history"].movies, results["publish"].release
    assert results["publish"].gate["movies_are_known"] == (
        f"passed: the API has not answered on {movies} movies, which many users watched"
    )
    assert alerts(var) == [
        (
            "movies_unconfirmed:2030-01-06",
            f"the movie API did not answer in the night of 2030-01-06: {release} has {movies} movies that only the"
            " stream proves, without runtimes; once the API answers, the schedule runs another night",
        )
    ]


def test_with_the_apis_the_next_night_makes_a_release_of_all_movies(after: Path, simulated: Simulated) -> None:
    with simulated(WorldSettings(users=300, movies=200, generation="2026", api_rate_limit_per_s=10_000)) as root:
        results = whole_night(after, api=root)
    assert results["publish"].current
    release = Release.open(after / "releases" / "current")
    assert set(release.movies) >= users_of_movies(after).keys()  # and those that were only rated
    assert (results["catalog"].proven_movies, release.manifest.proven_movies) == (None, 0)
    assert release.segments.any()
    assert len(alerts(after)) == 1
    manifest = orjson.loads((after / "releases" / "current" / "manifest.json").read_bytes())
    assert "proven_movies" not in manifest
    assert manifest["api_answered"] is True


def test_an_api_that_confirms_few_of_the_movies_makes_the_next_release(after: Path) -> None:
    before, users_of = Release.open(after / "releases" / "current"), users_of_movies(after)
    movies, most_watched = set(users_of), sorted(before.movies, key=lambda movie: -len(users_of[movie]))
    confirmed = set(most_watched[: len(most_watched) // 3])  # so that there are enough users to measure on
    Catalog(after).keep("movie", [(name, "known", {"id": name}, "") for name in confirmed])
    Catalog(after).keep("movie", [(name, "unknown", None, "") for name in movies - confirmed])
    answers = night_inputs.MovieAnswers(api_answered=True)  # as the step `catalog` leaves it if the API answers
    night_inputs.write_movie_answers(after / "night", answers)
    results = run(night(after))
    assert results["publish"].current
    assert len(before.movies) > 2 * results["history"].movies
    assert results["publish"].gate["counts_hold"] == (
        "passed: the API has answered on movies of the current release that none had confirmed"
    )


def test_a_release_of_all_movies_stays_if_the_catalogue_is_lost_and_the_api_down(after: Path, past: Path) -> None:
    shutil.copytree(past / "catalog", after / "catalog", dirs_exist_ok=True)
    (after / "night" / "proven.json").unlink()
    full = run(night(after))["publish"]
    assert full.current
    shutil.rmtree(after / "catalog")
    with pytest.raises(GateRefusal, match="counts_hold"):
        whole_night(after)
    assert (after / "releases" / "current").resolve().name == full.release


def test_no_setting_makes_a_movie_of_what_an_api_denies(after: Path) -> None:
    denied = Release.open(after / "releases" / "current").movies[0]
    Catalog(after).keep("movie", [(denied, "unknown", None, "")])
    whole_night(after, proven_users=1)
    release = Release.open(after / "releases" / "current")
    assert denied not in release.movies
    assert len(release.movies) == len(users_of_movies(after)) - 1
