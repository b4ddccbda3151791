"""Nights on little data, or with an API that is down: a release where there can be one, else one clear error."""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec
import numpy as np
import pytest

from batch.errors import NotEnoughData
from batch.gate import list_relevance
from batch.nights.runner import run_night
from batch.settings import BatchSettings
from loadtest.settings import WorldSettings
from quality.catalog import Catalog, Subject
from quality.settings import QualitySettings
from server.release import Release
from stream.archive import Archive
from stream.event import Event
from stream.settings import StreamSettings
from tests.batch.nights.small_nights import answer_of, archive_events, night, run

pytestmark = pytest.mark.filterwarnings("ignore:OpenBLAS is configured:RuntimeWarning")
Simulated = Callable[[WorldSettings], AbstractContextManager[str]]
SUBJECTS: tuple[Subject, ...] = ("movie", "user")


def test_the_night_asks_the_api_for_unknown_ids(simulated: Simulated, past: Path, tmp_path: Path) -> None:
    shutil.copytree(past / "archive", tmp_path / "archive")
    run(night(tmp_path), "sessions")
    with simulated(WorldSettings(users=300, movies=200, generation="2026", api_rate_limit_per_s=10_000)) as root:
        first, again = night(tmp_path, api=root).catalog(), night(tmp_path, api=root).catalog()
    assert first.failed is None
    assert set(first.movies or ()) == set(first.users or ()) == {"known"}
    assert msgspec.to_builtins(again) == {"movies": {}, "users": {}}
    for subject in SUBJECTS:
        all_of_them, asked = Catalog(past).records(subject), Catalog(tmp_path).records(subject)
        assert asked
        assert asked == {name: all_of_them[name] for name in asked}


def test_an_api_that_is_down_does_not_stop_the_night(var: Path) -> None:
    stranger = Event("watch", 1_893_500_000_000, 7, "never+heard+of+1999", minute=3)
    archive_events(Archive(var), "live", [stranger])
    run(night(var), "sessions")
    assert "no answer" in str(night(var).catalog().failed)
    assert run(night(var))["history"].unknown_movie == 1


def test_a_user_who_only_opened_an_account_is_answered_from_a_popular_list(var: Path) -> None:
    archive_events(Archive(var), "live", [Event("account", 1_893_500_000_000, 999)])
    run(night(var))
    release = Release.open(var / "releases" / "current")
    assert 999 in release.users
    assert answer_of(release, 999)[1] == "popular"


def test_the_error_of_an_empty_archive_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(NotEnoughData, match="collect"):
        run(night(tmp_path), "sessions", "history")


def test_the_error_of_an_empty_catalogue_says_what_to_run(var: Path) -> None:
    shutil.rmtree(var / "catalog")
    with pytest.raises(NotEnoughData, match="catalog"):
        run(night(var), "sessions", "history")


def test_an_archive_without_a_known_movie_says_so(tmp_path: Path) -> None:
    archive_events(Archive(tmp_path), "live", [Event("watch", 1_893_500_000_000, 7, "never+heard+of+1999", minute=3)])
    Catalog(tmp_path).keep("movie", [("aliens+1986", "known", {"id": "aliens+1986"}, "")])
    with pytest.raises(NotEnoughData):
        run(night(tmp_path))


def test_the_first_minutes_of_a_service_make_a_release(tmp_path: Path) -> None:
    names = [f"movie+{number}+1999" for number in range(25)]
    Catalog(tmp_path).keep("movie", [(name, "known", {"id": name}, "") for name in names])
    events = [Event("watch", 1_893_500_000_000, user, names[user % 25], minute=0) for user in range(1, 30)]
    archive_events(Archive(tmp_path), "live", events)
    assert run(night(tmp_path))["evaluate"].chosen == "popular"
    release = Release.open(tmp_path / "releases" / "current")
    movies, source = answer_of(release, 7)
    assert (len(movies), source) == (20, "popular")


def test_more_movies_than_16_bits_number_make_a_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_relevance, "ROWS", 100)  # of so many movies the gate compares each with all others
    count = 65_536
    names = [f"movie+{number}+1999" for number in range(count)]
    Catalog(tmp_path).keep("movie", [(name, "known", {"id": name}, "") for name in names])
    users = 1 + np.random.default_rng(1).integers(0, 20, count)
    starts = 1_893_500_000_000 + 1000 * np.random.default_rng(2).permutation(count)
    rows = zip(starts.tolist(), users.tolist(), names, strict=True)
    archive_events(Archive(tmp_path), "live", [Event("watch", at, user, name, minute=0) for at, user, name in rows])
    run(night(tmp_path, factors=2, iterations=1, trees=1, model="als"))
    release = Release.open(tmp_path / "releases" / "current")
    assert (len(release.movies), release.lists.dtype) == (count, np.dtype(np.uint32))
    assert len(answer_of(release, 1)[0]) == 20


def test_a_night_that_failed_for_want_of_data_reads_what_has_come_since(tmp_path: Path) -> None:
    """In the first minutes of a service no try may be bound to the first lines."""
    names = [f"movie+{number}+1999" for number in range(25)]
    Catalog(tmp_path).keep("movie", [(name, "known", {"id": name}, "") for name in names])
    Catalog(tmp_path).keep("user", [(f"{user}", "unknown", None, "") for user in (*range(1, 80), 999)])
    arguments = StreamSettings(var=tmp_path), QualitySettings(), BatchSettings(api="http://127.0.0.1:1")
    archive_events(Archive(tmp_path), "live", [Event("account", 1_893_500_000_000, 999)])
    with pytest.raises(NotEnoughData, match="none of these was watched"):
        run_night(*arguments, despite_alerts=False)
    watched = {(user, names[user * step % 25]) for user in range(1, 80) for step in (1, 2, 3)}
    events = [Event("watch", 1_893_500_060_000, user, movie, minute=0) for user, movie in sorted(watched)]
    archive_events(Archive(tmp_path), "more", events)
    summary = run_night(*arguments, despite_alerts=False)
    assert all(result.by is None for result in summary.steps.values())
