"""The probe of the movie API: once it answers again, a release that was made without it gets one more night."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import orjson
import pytest

from batch.nights import api_probe, outcomes, schedule
from batch.nights.api_probe import ApiProbe
from batch.releases import publish
from batch.settings import BatchSettings
from loadtest.demo.processes import free_port
from quality.catalog import Catalog, Status
from stream import durable
from stream.archive import Archive
from stream.settings import StreamSettings
from tests.batch.conftest import Reply, ScriptedApi
from tests.ledger_entries import entry_at
from tests.polling import until

Scripted = Callable[[Callable[[str, int], Reply]], AbstractContextManager[ScriptedApi]]
NOW = 1_894_046_400_000
MOVIE = "aliens+1986"
KNOWN = orjson.dumps({"id": MOVIE, "runtime": 137})
ANSWERS: dict[str, tuple[int, bytes, bool]] = {
    "a record": (200, KNOWN, True),
    "no such movie": (404, b'{"message":"movie not found"}', True),
    "an error": (500, b"oops", False),
    "a page": (200, b"<html>", False),
    "another movie": (200, b'{"id":"amlie+2001"}', False),
}


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_probe, "PAUSE_S", 0.0)


def make_current(var: Path, name: str, proven_movies: int, api_answered: bool = False) -> None:
    manifest = {"id": name, "stream_time": NOW, "proven_movies": proven_movies, "api_answered": api_answered}
    durable.write_json(var / "releases" / name / "manifest.json", manifest)
    durable.write_bytes(var / "releases" / name / "movies.txt", f"{MOVIE}\nzodiac+2007\n".encode())
    publish.make_current(var, name, NOW)


def probe_of(var: Path, root: str) -> ApiProbe:
    return ApiProbe(StreamSettings(var=var), BatchSettings(api=root, api_timeout_s=600))


@pytest.mark.parametrize("name", ANSWERS)
def test_an_api_answers_if_it_knows_the_movie_or_denies_it(tmp_path: Path, name: str, scripted: Scripted) -> None:
    status, body, is_answer = ANSWERS[name]
    make_current(tmp_path, "a", 3)
    with scripted(lambda path, before: (status, body, {})) as api:
        probe = probe_of(tmp_path, api.root)
        if is_answer:
            until(probe.is_night_due)
        else:
            until(lambda: probe.is_night_due() or len(api.asked) >= 4)
        assert set(api.asked) == {f"/movie/{MOVIE}"}
        assert (len(api.asked) == 1) is is_answer


def test_a_release_gets_one_more_night_and_so_does_the_next_one_made_without_the_api(
    tmp_path: Path, scripted: Scripted
) -> None:
    with scripted(lambda path, before: (200, KNOWN, {})) as api:
        probe = probe_of(tmp_path, api.root)
        assert not probe.is_night_due()  # no release
        for name in ("a", "b"):
            make_current(tmp_path, name, 3)
            until(probe.is_night_due)
            asked = len(api.asked)
            assert not any(probe.is_night_due() for _ in range(9))
            assert len(api.asked) == asked
        make_current(tmp_path, "c", 0)
        assert not any(probe.is_night_due() for _ in range(9))
        make_current(tmp_path, "d", 3, api_answered=True)  # the records of three were bad
        assert not any(probe.is_night_due() for _ in range(9))
        assert len(api.asked) == asked


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ({MOVIE: "known"}, "zodiac+2007"),
        ({MOVIE: "unknown"}, "zodiac+2007"),
        ({MOVIE: "bad"}, "zodiac+2007"),
        ({MOVIE: "known", "zodiac+2007": "bad"}, "zodiac+2007"),
        ({MOVIE: "known", "zodiac+2007": "known"}, MOVIE),
        ({"alien+1979": "known"}, MOVIE),
    ],
)
def test_a_movie_that_the_api_has_not_answered_on_is_asked_for(
    tmp_path: Path, scripted: Scripted, statuses: dict[str, Status], expected: str
) -> None:
    make_current(tmp_path, "a", 3)
    Catalog(tmp_path).keep("movie", [(name, status, None, "") for name, status in statuses.items()])
    with scripted(lambda path, before: (404, b'{"message":"movie not found"}', {})) as api:
        until(probe_of(tmp_path, api.root).is_night_due)
        assert api.asked == [f"/movie/{expected}"]


def test_a_damaged_catalogue_asks_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_current(tmp_path, "a", 3)
    durable.write_bytes(Catalog(tmp_path).path, b"not SQLite " * 999)
    assert not probe_of(tmp_path, "http://127.0.0.1:1").is_night_due()
    assert "catalog.sqlite" in caplog.text


def test_a_damaged_release_asks_nobody(tmp_path: Path) -> None:
    make_current(tmp_path, "a", 3)
    (tmp_path / "releases" / "a" / "movies.txt").write_bytes(b"\xff\n")
    make_current(tmp_path, "b", 3)
    (tmp_path / "releases" / "b" / "manifest.json").write_bytes(b"[]")
    for name in ("a", "b"):
        publish.make_current(tmp_path, name, NOW)
        probe = probe_of(tmp_path, "http://127.0.0.1:1")
        assert not probe.is_night_due()
        assert probe._thread is None


def test_the_schedule_runs_a_night_as_soon_as_the_api_answers(
    tmp_path: Path, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "POLL_S", 0.01)
    make_current(tmp_path, "a", 3)
    Archive(tmp_path).commit(entry_at(NOW, lines=1, first=0))
    is_up, calls, stop = threading.Event(), tmp_path / "calls", threading.Event()
    with scripted(lambda path, before: (200, KNOWN, {}) if is_up.is_set() else (500, b"", {})) as api:
        settings = BatchSettings(api=api.root, night_at="03:00")
        arguments = (StreamSettings(var=tmp_path), settings, stop, ["sh", "-c", f"echo night >> {calls}; exit 3"])
        thread = threading.Thread(target=schedule.run, args=arguments)
        thread.start()
        try:
            until(lambda: len(api.asked) >= 3)
            assert not calls.exists()
            is_up.set()
            until(calls.exists)
            asked = len(api.asked)
            until(lambda: outcomes.read_outcomes(tmp_path))
        finally:
            stop.set()
            thread.join(600)
        assert (calls.read_text(), len(api.asked)) == ("night\n", asked)


def test_an_api_that_is_down_is_asked_again_and_again(tmp_path: Path) -> None:
    make_current(tmp_path, "a", 3)
    probe, threads = probe_of(tmp_path, f"http://127.0.0.1:{free_port()}"), set[threading.Thread | None]()

    def is_over() -> bool:
        threads.add(probe._thread)
        return probe.is_night_due() or len(threads) == 5

    until(is_over)
    assert not probe._answered.is_set()
