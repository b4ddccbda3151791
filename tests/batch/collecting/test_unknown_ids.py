"""Unknown ids: what is new is asked of the API once, a no is kept as well, and no API holds up the lines."""

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import orjson
import pyarrow as pa
import pytest

from batch.collecting import unknown_ids
from batch.collecting.collector import Collector
from batch.collecting.unknown_ids import UnknownIdLookup
from batch.settings import BatchSettings
from loadtest.settings import WorldSettings
from loadtest.simulation.world import World
from quality.catalog import Catalog, KnownIds
from quality.lines.context_checks import make_context
from quality.lines.verdicts import ParsedLines, Verdicts, judge
from quality.settings import QualitySettings
from stream.archive import Archive, count_by_fate
from stream.kafka import FetchedRecords
from stream.settings import Generation, StreamSettings
from stream.zone import zone_named

ROOT = Path(__file__).parents[3]
CLOCK = zone_named("America/New_York")
NOW = 1_665_150_000_000  # 2022-10-07T09:40 in New York
Reply = tuple[int, bytes, dict[str, str]]
"""Status, body, headers of an answer."""
Scripted = Callable[[Callable[[str, int], Reply]], AbstractContextManager[Any]]
Simulated = Callable[[WorldSettings], AbstractContextManager[str]]
GENERATIONS: tuple[Generation, ...] = get_args(Generation)


def lines(*texts: str) -> ParsedLines:
    """Lines of 09:40: `<user>,<request>` each."""
    values = pa.array([f"2022-10-07T09:40,{text}".encode() for text in texts], pa.binary())
    return ParsedLines.read(values, np.full(len(texts), NOW), CLOCK)


def watched(*movies: str, user: int = 5) -> ParsedLines:
    return lines(*(f"{user},GET /data/m/{movie}/3.mpg" for movie in movies))


def by(*users: int) -> ParsedLines:
    return lines(*(f"{user},GET /create_account" for user in users))


def streaming(var: Path, generation: Generation = "2026") -> StreamSettings:
    return StreamSettings(var=var, generation=generation, max_user=1_000)


def lookup_of(var: Path, root: str, generation: Generation = "2026", **more: Any) -> UnknownIdLookup:
    return UnknownIdLookup(streaming(var, generation), BatchSettings(api=root, **{"api_timeout_s": 60.0, **more}))


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An API that answers is waited for, however slow the machine is."""
    monkeypatch.setattr(unknown_ids, "_PATIENCE_S", 60.0)


def judged(var: Path, some: ParsedLines, known: KnownIds) -> Verdicts:
    return judge(some, make_context(streaming(var), QualitySettings(), known))


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """A catalogue that is not empty."""
    found = Catalog(tmp_path)
    found.keep("movie", [("old+1999", "known", {"id": "old+1999", "runtime": 90}, "")])
    return found


RECORDS: dict[str, dict[str, dict[str, Any]]] = {
    "movie": {"new+2022": {"id": "new+2022", "runtime": 100}, "other+2022": {"id": "other+2022", "runtime": None}},
    "user": {"5000": {"user_id": 5000, "age": 28, "occupation": "farmer", "gender": "M"}},
}


def service(path: str, _: int) -> Reply:
    """The service of 2026, which knows two movies and one user that are new."""
    subject, ids = path.split("/")[1:]
    records = [RECORDS[subject].get(one, {"message": f"{subject} not found"}) for one in ids.split(",")]
    return 200, orjson.dumps(records if len(records) > 1 else records[0]), {}


@pytest.mark.usefixtures("patient")
def test_a_movie_that_is_new_is_asked_once_and_known_from_then_on(
    scripted: Scripted, catalog: Catalog, tmp_path: Path
) -> None:
    with scripted(service) as server:
        one = lookup_of(tmp_path, server.root)
        for _ in range(3):
            known = one.known_for(watched("new+2022", "old+1999", "new+2022"))
            assert known.runtimes == {"old+1999": 90, "new+2022": 100}
        assert lookup_of(tmp_path, server.root).known_for(watched("new+2022")).runtimes == known.runtimes
        assert server.asked == ["/movie/new+2022"]
    assert catalog.statuses("movie") == {"old+1999": "known", "new+2022": "known"}


@pytest.mark.usefixtures("patient")
def test_that_there_is_no_such_movie_is_kept_as_well(scripted: Scripted, catalog: Catalog, tmp_path: Path) -> None:
    with scripted(service) as server:
        one = lookup_of(tmp_path, server.root)
        for _ in range(3):
            assert one.known_for(watched("none+1901")).missing == {"none+1901"}
        assert lookup_of(tmp_path, server.root).known_for(watched("none+1901")).missing == {"none+1901"}
        assert server.asked == ["/movie/none+1901"]
    assert catalog.statuses("movie")["none+1901"] == "unknown"


@pytest.mark.usefixtures("patient")
def test_lines_of_a_movie_that_there_is_not_are_set_aside_or_restored(
    scripted: Scripted, catalog: Catalog, tmp_path: Path
) -> None:
    with scripted(service) as server:
        some = watched("old+1999", "new+2022", "none+1901", "oldd+1999", "nnew+2022")
        fates = judged(tmp_path, some, lookup_of(tmp_path, server.root).known_for(some))
        assert server.asked == ["/movie/new+2022,nnew+2022,none+1901,oldd+1999"]
    assert (fates.quarantined.tolist(), fates.reasons) == ([2], ["movie_unknown"])
    assert fates.good["watch"].rules == {2: "one_character", 3: "one_character"}
    movies = fates.good["watch"].table.column("movie").to_pylist()
    assert movies == ["old+1999", "new+2022", "old+1999", "new+2022"]


@pytest.mark.usefixtures("patient")
def test_movies_of_ratings_and_lists_are_asked_as_well(scripted: Scripted, catalog: Catalog, tmp_path: Path) -> None:
    listed = "5,recommendation request a:1, status 200, result: old+1999, other+2022, 5 ms"
    with scripted(service) as server:
        known = lookup_of(tmp_path, server.root).known_for(lines("5,GET /rate/new+2022=3", listed))
        assert server.asked == ["/movie/new+2022,other+2022"]
    assert known.runtimes == {"old+1999": 90, "new+2022": 100, "other+2022": None}


@pytest.mark.usefixtures("patient")
def test_what_only_lines_without_form_name_is_not_asked(scripted: Scripted, catalog: Catalog, tmp_path: Path) -> None:
    with scripted(service) as server:
        some = lines("5,GET /data/m/t1983/3.mpg", "x,GET /rate/new+2022=3", "5,GET /rate/other+2022=333")
        lookup_of(tmp_path, server.root).known_for(some)
        assert server.asked == []


@pytest.mark.usefixtures("patient")
def test_users_above_the_largest_are_asked_once_and_no_others(
    scripted: Scripted, catalog: Catalog, tmp_path: Path
) -> None:
    some = by(7, 1_000, 5_000, 6_789)
    with scripted(service) as server:
        one = lookup_of(tmp_path, server.root)
        for _ in range(3):
            known = one.known_for(some)
            assert known.users == {5_000}
            assert known.no_users == {6_789}
        again = lookup_of(tmp_path, server.root).known_for(some)
        assert (again.users, again.no_users) == (known.users, known.no_users)
        assert server.asked == ["/user/5000,6789"]
    fates = judged(tmp_path, some, known)
    assert fates.good["account"].table.column("user").to_pylist() == [7, 1_000, 5_000]
    assert fates.reasons == ["user_unknown"]


@pytest.mark.usefixtures("patient")
def test_an_empty_catalogue_asks_nothing_and_is_filled_by_others(scripted: Scripted, tmp_path: Path) -> None:
    with scripted(service) as server:
        one = lookup_of(tmp_path, server.root)
        assert one.known_for(watched("new+2022")) == KnownIds()
        assert server.asked == []
        Catalog(tmp_path).keep("movie", [("old+1999", "known", {"id": "old+1999", "runtime": 90}, "")])
        assert one.known_for(watched("old+1999")).runtimes == {"old+1999": 90}
        assert server.asked == []


@pytest.mark.usefixtures("patient")
def test_what_others_write_into_the_catalogue_is_known_at_once(
    scripted: Scripted, catalog: Catalog, tmp_path: Path
) -> None:
    with scripted(service) as server:
        one = lookup_of(tmp_path, server.root)
        for number in range(20):
            name = f"night+{number}+1999"
            catalog.keep("movie", [(name, "known", {"id": name, "runtime": number + 1}, "")])
            assert one.known_for(watched(name)).runtimes[name] == number + 1
        assert server.asked == []


@pytest.mark.usefixtures("patient")
def test_no_more_than_some_are_asked_for_one_batch_and_the_rest_for_the_next(
    scripted: Scripted, catalog: Catalog, tmp_path: Path
) -> None:
    movies = [f"never+{number:03}+1999" for number in range(250)]
    with scripted(service) as server:
        one = lookup_of(tmp_path, server.root)
        first = one.known_for(watched(*movies))
        assert len(first.missing) == 200
        assert one.known_for(watched(*movies)).missing == set(movies)
        asked = [name for path in server.asked for name in path.removeprefix("/movie/").split(",")]
        assert sorted(asked) == movies
    assert judged(tmp_path, watched(*movies), first).reasons == ["movie_unknown"] * 200


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_simulated_service_is_asked_for_what_it_has(
    simulated: Simulated, catalog: Catalog, tmp_path: Path, generation: Generation
) -> None:
    settings = WorldSettings(users=1_200, movies=50, generation=generation, api_rate_limit_per_s=10_000)
    movies = World(settings).catalogue.ids[:10]
    with simulated(settings) as root:
        one = lookup_of(tmp_path, root, generation)
        known = one.known_for(watched(*movies, "never+1999"))
        assert set(known.runtimes) == {"old+1999", *movies}
        assert known.missing == {"never+1999"}
        known = one.known_for(by(1_100, 1_201, 3))
        assert known.users == {1_100}
        assert known.no_users == {1_201}
    runtimes = {name: record["runtime"] for name, record in catalog.records("movie").items()}
    assert known.runtimes == runtimes


# an API that is of no help -------------------------------------------------------------------------------------


@contextmanager
def closed() -> Iterator[str]:
    """Nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


@contextmanager
def silent() -> Iterator[str]:
    """Connections are taken, and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def talking(*says: bytes, drips: bool = False) -> Iterator[str]:
    """Whoever connects is told these pieces, one after the other, and the last one again and again, slowly."""
    stop = threading.Event()

    def talk(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            for piece in says:
                connection.sendall(piece)
            while drips and not stop.wait(0.05):
                connection.sendall(says[-1])

    def listen(server: socket.socket) -> None:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                threads.append(threading.Thread(target=talk, args=(server.accept()[0],)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        threads = [threading.Thread(target=listen, args=(server,))]
        threads[0].start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            stop.set()
            for thread in threads:
                thread.join()


@contextmanager
def talking_to(root: str) -> Iterator[str]:
    yield root


ENDLESS_S = 600.0
"""Less than these would take if they were waited for, and more than any machine needs to give them up."""
OF_NO_HELP: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "dead": closed,
    "hanging": silent,
    "no such host": lambda: talking_to("http://no-such-host.invalid"),
    "no HTTP": lambda: talking(b"\x00\xff" * 500),
    "hangs up": lambda: talking(b""),
    "hangs up in the middle": lambda: talking(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n["),
    "a header without an end": lambda: talking(b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 100_000),
    "drips a body": lambda: talking(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n", b"[", drips=True),
    "drips headers": lambda: talking(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n", drips=True),
}


@pytest.mark.parametrize("api", OF_NO_HELP.values(), ids=OF_NO_HELP.keys())
def test_an_api_of_no_help_takes_little_time_and_the_lines_pass(
    api: Callable[[], AbstractContextManager[str]], catalog: Catalog, tmp_path: Path
) -> None:
    with api() as root:
        one, began = lookup_of(tmp_path, root, api_timeout_s=0.2), time.monotonic()
        some = watched("new+2022", "old+1999")
        known = one.known_for(some)
        assert time.monotonic() - began < ENDLESS_S
    assert judged(tmp_path, some, known).reasons == []
    assert catalog.records("movie") == {"old+1999": {"id": "old+1999", "runtime": 90}}
    assert "unknown" not in catalog.statuses("movie").values()


REPLIES: dict[str, Reply] = {
    "429": (429, b'{"message": "too many requests"}', {"retry-after": "3000"}),
    "429 without a word": (429, b"", {}),
    "500": (500, b"oops", {}),
    "503": (503, b"", {"retry-after": "3000"}),
    "403": (403, b'{"message": "forbidden"}', {}),
    "HTML": (200, b"<html>", {}),
    "a number": (200, b"5", {}),
    "nothing": (200, b"", {}),
    "a list of nulls": (200, b"[null, null, null]", {}),
    "deeply nested": (200, b"[" * 5_000 + b"]" * 5_000, {}),
    "elsewhere": (302, b"", {"location": "http://127.0.0.1:1/"}),
    "round and round": (302, b"", {"location": "/movie/new+2022"}),
}


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES.keys())
@pytest.mark.parametrize("generation", GENERATIONS)
def test_an_api_that_says_nothing_good_is_not_waited_for_and_the_lines_pass(
    scripted: Scripted, catalog: Catalog, tmp_path: Path, reply: Reply, generation: Generation
) -> None:
    some, began = watched("new+2022", "other+2022", "old+1999"), time.monotonic()
    with scripted(lambda *_: reply) as server:
        one = lookup_of(tmp_path, server.root, generation)
        for _ in range(3):
            known = one.known_for(some)
        asked = len(server.asked)
    assert time.monotonic() - began < ENDLESS_S  # two of them ask to wait for longer
    assert asked <= 3
    assert judged(tmp_path, some, known).reasons == []
    assert "unknown" not in catalog.statuses("movie").values()


def test_an_api_that_is_slow_is_waited_for_only_so_long(scripted: Scripted, catalog: Catalog, tmp_path: Path) -> None:
    slow = threading.Event()

    def reply(path: str, before: int) -> Reply:
        slow.wait(0.5)
        return service(path, before)

    movies = [f"never+{number}+1999" for number in range(80)]
    with scripted(reply) as server:
        lookup_of(tmp_path, server.root, "2022").known_for(watched(*movies))
        asked = len(server.asked)
        slow.set()
    assert asked < len(movies) / 2  # to answer all takes 40 s


@pytest.mark.usefixtures("patient")
def test_an_api_that_did_not_answer_is_left_alone_for_a_while(catalog: Catalog, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        one = lookup_of(tmp_path, f"http://127.0.0.1:{server.getsockname()[1]}", api_timeout_s=0.3)
        one.known_for(watched("new+2022"))
        for number in range(20):
            one.known_for(watched(f"new+{number}+2022", user=5_000 + number))
        server.setblocking(False)
        server.accept()[0].close()
        with pytest.raises(BlockingIOError):  # nobody came a second time
            server.accept()


@pytest.mark.usefixtures("patient")
def test_an_api_that_answers_again_is_asked_after_its_rest(
    scripted: Scripted, catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    down = threading.Event()
    down.set()
    with scripted(lambda path, before: (500, b"", {}) if down.is_set() else service(path, before)) as server:
        one = lookup_of(tmp_path, server.root)
        assert "new+2022" not in one.known_for(watched("new+2022")).runtimes
        down.clear()
        assert "new+2022" not in one.known_for(watched("new+2022")).runtimes
        monkeypatch.setattr(unknown_ids, "_PAUSE_S", 0.0)
        assert one.known_for(watched("new+2022")).runtimes["new+2022"] == 100
        assert server.asked == ["/movie/new+2022"] * 2


@pytest.mark.usefixtures("patient")
def test_a_redelivered_answer_of_another_movie_does_not_stand_for_the_one_asked(
    scripted: Scripted, catalog: Catalog, tmp_path: Path
) -> None:
    with scripted(lambda *_: (200, orjson.dumps(RECORDS["movie"]["other+2022"]), {})) as server:
        known = lookup_of(tmp_path, server.root).known_for(watched("new+2022"))
    assert known.runtimes == {"old+1999": 90}
    assert catalog.statuses("movie")["new+2022"] == "bad"


async def collected(collector: Collector, values: list[bytes]) -> None:
    await collector.take([FetchedRecords(0, values, np.arange(len(values)), np.full(len(values), NOW))])
    await collector.flush()


def test_a_collector_archives_whatever_its_api_does(catalog: Catalog, tmp_path: Path) -> None:
    values = [value.as_py() for value in watched("new+2022", "old+1999").values]
    with silent() as root:
        settings = BatchSettings(api=root, api_timeout_s=0.2)
        collector = Collector(streaming(tmp_path), QualitySettings(), settings)
        asyncio.run(collected(collector, values))
    assert count_by_fate(Archive(tmp_path).entries())["accepted"] == 2


PROGRAM = """
import sys
from pathlib import Path
import numpy as np
import pyarrow as pa
from batch.collecting.unknown_ids import UnknownIdLookup
from batch.settings import BatchSettings
from quality.lines.verdicts import ParsedLines
from stream.settings import StreamSettings
from stream.zone import zone_named
values = pa.array([b"2022-10-07T09:40,5,GET /data/m/new+2022/3.mpg"], pa.binary())
lines = ParsedLines.read(values, np.array([1_665_150_000_000]), zone_named("America/New_York"))
one = UnknownIdLookup(StreamSettings(var=Path(sys.argv[1])), BatchSettings(api=sys.argv[2], api_timeout_s=0.3))
assert set(one.known_for(lines).runtimes) == {"old+1999"}
"""


def test_a_process_ends_though_its_api_drips(catalog: Catalog, tmp_path: Path) -> None:
    with talking(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n", b"[", drips=True) as root:
        subprocess.run([sys.executable, "-c", PROGRAM, tmp_path, root], check=True, cwd=ROOT, timeout=ENDLESS_S)


@pytest.mark.usefixtures("patient")
def test_the_retries_of_the_night_are_not_those_of_the_stream(
    scripted: Scripted, catalog: Catalog, tmp_path: Path
) -> None:
    with scripted(lambda *_: (503, b"", {})) as server:
        settings = msgspec.structs.replace(BatchSettings(api=server.root), api_retries=8)
        UnknownIdLookup(streaming(tmp_path), settings).known_for(watched("new+2022"))
        assert server.asked == ["/movie/new+2022"]
