"""Corrupt lines of movies that no other line has named: the API says which movie was meant, if it was only one."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from batch.collecting import unknown_ids
from batch.collecting.collector import Collector
from batch.settings import BatchSettings
from quality.catalog import Catalog
from quality.lines.context_checks import make_context
from quality.lines.quarantine import replay_quarantine
from quality.settings import QualitySettings
from stream.archive import Archive
from stream.kafka import FetchedRecords
from stream.ledger_entry import count_by_fate
from stream.settings import Generation
from tests.batch.collecting.new_ids import GENERATIONS, NOW, Reply, Scripted, streaming

LINE = "5,GET /rate/everycone+else+2009=4"
TRUE = "everyone+else+2009"
CORRUPT = "everycone+else+2009"


def service(*known: str, down: Callable[[str], bool] = lambda movie: False) -> Callable[[str, int], Reply]:
    """An API that knows these movies, and has no answer for those that are `down`."""

    def record(movie: str) -> dict[str, Any]:
        if down(movie):
            return {"oops": 1}
        return {"id": movie, "runtime": 90} if movie in known else {"message": "movie not found"}

    def reply(path: str, _: int) -> Reply:
        records = [record(movie) for movie in path.removeprefix("/movie/").split(",")]
        return 200, orjson.dumps(records if len(records) > 1 else records[0]), {}

    return reply


class Collected:
    """A collector below `var`, and what became of its lines."""

    def __init__(self, var: Path, root: str, generation: Generation = "2026") -> None:
        self.var = var
        self._streaming = streaming(var, generation)
        settings = BatchSettings(api=root, api_timeout_s=60.0)
        self._collector = Collector(self._streaming, QualitySettings(), settings)
        self._offset = 0

    def collect(self, *texts: str) -> dict[str, int]:
        """Collect lines of 09:40 as one batch; returns how many have which fate."""
        values = [f"2022-10-07T09:40,{text}".encode() for text in texts]
        offsets = np.arange(self._offset, self._offset + len(values))
        self._offset += len(values)

        async def batch() -> None:
            await self._collector.take([FetchedRecords(0, values, offsets, np.full(len(values), NOW))])
            await self._collector.flush()

        asyncio.run(batch())
        return fates(Archive(self.var), last=True)

    def replay(self) -> dict[str, int]:
        """Replay the quarantine; returns how many of all lines have which fate."""
        archive = Archive(self.var)
        context = make_context(self._streaming, QualitySettings(), Catalog(self.var).known(1_000))
        replay_quarantine(archive, context)
        return fates(archive)


def fates(archive: Archive, last: bool = False) -> dict[str, int]:
    entries = archive.entries()
    return {fate: lines for fate, lines in count_by_fate(entries[-1:] if last else entries).items() if lines}


def asked(server: Any) -> list[str]:
    """The movies that were asked for, sorted."""
    return sorted(movie for path in server.asked for movie in path.removeprefix("/movie/").split(","))


def one_deletion(movie: str) -> set[str]:
    """What a corrupt id may mean, if it has no character twice in a row."""
    shorter = {movie[:index] + movie[index + 1 :] for index in range(len(movie) - 5)}
    return {name for name in shorter if name.endswith("+2009")}


@pytest.fixture(autouse=True)
def waits(patient: None, catalog: Catalog) -> None:
    """Every test waits for the API, and begins with a catalogue that is not empty."""


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_only_movie_that_the_api_knows_is_meant(scripted: Scripted, tmp_path: Path, generation: Generation) -> None:
    with scripted(service(TRUE)) as server:
        collected = Collected(tmp_path, server.root, generation)
        assert collected.collect(LINE, "5,GET /rate/old+1999=3") == {"accepted": 1, "repaired": 1}
        assert asked(server) == sorted({CORRUPT} | one_deletion(CORRUPT))
        assert len(server.asked) == (2 if generation == "2026" else len(asked(server)))
        server.asked.clear()
        assert collected.collect(LINE) == {"repaired": 1}  # the answers were remembered, the denials too
        assert Collected(tmp_path, server.root, generation).replay() == {"accepted": 1, "repaired": 2}
        assert server.asked == []
    assert Catalog(tmp_path).known(1).runtimes == {"old+1999": 90, TRUE: 90}


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_line_that_may_mean_two_movies_stays_in_quarantine(
    scripted: Scripted, tmp_path: Path, generation: Generation
) -> None:
    with scripted(service(TRUE, "everycone+lse+2009")) as server:
        collected = Collected(tmp_path, server.root, generation)
        for _ in range(2):
            assert collected.collect(LINE) == {"quarantined": 1}
        assert len(asked(server)) == 1 + len(one_deletion(CORRUPT))
        assert collected.replay() == {"quarantined": 2}


def test_a_movie_of_the_catalogue_is_meant_without_asking(scripted: Scripted, tmp_path: Path) -> None:
    with scripted(service(TRUE)) as server:
        assert Collected(tmp_path, server.root).collect("5,GET /rate/oldd+1999=4") == {"repaired": 1}
        assert asked(server) == ["oldd+1999"]


@pytest.mark.parametrize("generation", GENERATIONS)
def test_movies_without_an_answer_make_no_other_the_only_one(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generation: Generation
) -> None:
    down = threading.Event()
    down.set()
    second = "everycone+lse+2009"
    api = service(TRUE, second, down=lambda movie: movie == second and down.is_set())
    with scripted(api) as server:
        collected = Collected(tmp_path, server.root, generation)
        assert collected.collect(LINE) == {"quarantined": 1}
        assert Catalog(tmp_path).records("movie").keys() == {"old+1999"}
        assert collected.replay() == {"quarantined": 1}
        down.clear()
        monkeypatch.setattr(unknown_ids, "_PAUSE_S", 0.0)
        assert collected.collect(LINE) == {"quarantined": 1}
        assert Catalog(tmp_path).statuses("movie")[second] == "known"
        assert collected.replay() == {"quarantined": 2}


def test_a_line_in_quarantine_is_repaired_by_a_replay_after_the_api_answered_too_late(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unknown_ids, "_PAUSE_S", 0.0)
    down = threading.Event()
    down.set()
    with scripted(service(TRUE, down=lambda movie: movie != CORRUPT and down.is_set())) as server:
        collected = Collected(tmp_path, server.root)
        assert collected.collect(LINE) == {"quarantined": 1}
        down.clear()
        assert collected.collect("7,GET /rate/everycone+else+2009=2") == {"repaired": 1}
        assert collected.replay() == {"repaired": 2}


def test_a_movie_that_is_meant_by_two_lines_is_not_stored_before_both_are_settled(
    scripted: Scripted, tmp_path: Path
) -> None:
    """`everyone+elsex+2009` may mean the true movie, too, or another one that the API has no answer for."""
    unanswered = "everyoe+elsex+2009"
    with scripted(service(TRUE, down=lambda movie: movie == unanswered)) as server:
        collected = Collected(tmp_path, server.root)
        assert collected.collect(LINE, "6,GET /rate/everyone+elsex+2009=2") == {"quarantined": 2}
    assert TRUE not in Catalog(tmp_path).statuses("movie")


FAULTY = {
    "a capital": "5,GET /rate/everyonEe+else+2009=4",
    "a blank": "5,GET /data/m/everyone+ else+2009/3.mpg",
    "in the kind": "5,GE T /rate/everyone+else+2009=4",
    "in the user": "5x,GET /rate/everyone+else+2009=4",
    "in the rating": "5,GET /rate/everyone+else+2009=4-",
}


@pytest.mark.parametrize("line", FAULTY.values(), ids=FAULTY.keys())
def test_lines_that_are_not_well_formed_are_repaired_as_well(scripted: Scripted, tmp_path: Path, line: str) -> None:
    with scripted(service(TRUE)) as server:
        collected = Collected(tmp_path, server.root)
        assert collected.collect(line) == {"repaired": 1}
        assert asked(server) == [TRUE]


BEYOND_REPAIR = {
    "another fault": "5,GET /rate/everyonEe+else+2009=44",
    "an unknown user": "5555,GET /rate/old+1999=4",
    "no id at all": "5,GET /rate/dDzOSiiOwM5QrpYhVwptM=4",
}


@pytest.mark.parametrize("line", BEYOND_REPAIR.values(), ids=BEYOND_REPAIR.keys())
def test_the_api_is_not_asked_about_movies_that_repair_no_line(scripted: Scripted, tmp_path: Path, line: str) -> None:
    with scripted(service(TRUE)) as server:
        assert Collected(tmp_path, server.root).collect(line) == {"quarantined": 1}
        assert [path for path in server.asked if path.startswith("/movie/")] == []


def test_a_batch_asks_a_limited_number_of_movies_and_all_or_none_of_a_line(scripted: Scripted, tmp_path: Path) -> None:
    lines = [f"5,GET /rate/new+movie+{first}{last}+2009=4" for first in "abcdefgh" for last in "vwxyz"]
    with scripted(service()) as server:
        collected = Collected(tmp_path, server.root)
        assert collected.collect(*lines) == {"quarantined": 40}
        denied, candidates = (set(path.removeprefix("/movie/").split(",")) for path in server.asked)
        assert len(denied) == 40
        assert 150 < len(candidates) <= 200
        whole = [one_deletion(movie) <= candidates for movie in denied]
        assert 5 < sum(whole) < 40
        server.asked.clear()
        assert collected.collect(*lines) == {"quarantined": 40}
        assert not candidates & set(asked(server))  # the second batch asks about others


@contextmanager
def hanging(scripted: Scripted) -> Iterator[Any]:
    """An API that does not answer before the test ends."""
    done = threading.Event()

    def reply(path: str, before: int) -> Reply:
        done.wait()
        return service(TRUE)(path, before)

    with scripted(reply) as server:
        try:
            yield server
        finally:
            done.set()


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_batch_does_not_wait_for_movies_that_the_api_hangs_on(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generation: Generation
) -> None:
    with hanging(scripted) as server:
        collected = Collected(tmp_path, server.root, generation)
        Catalog(tmp_path).keep("movie", [(CORRUPT, "unknown", None, "")])
        monkeypatch.setattr(unknown_ids, "_WAIT_S", 0.2)
        assert collected.collect(LINE) == {"quarantined": 1}
        assert asked(server)
