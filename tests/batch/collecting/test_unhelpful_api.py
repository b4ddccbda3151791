"""An API that is slow, silent or wrong delays no lines and loses none."""

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

import msgspec
import numpy as np
import orjson
import pytest

from batch.collecting import unknown_ids
from batch.collecting.collector import Collector
from batch.collecting.unknown_ids import UnknownIdLookup
from batch.settings import BatchSettings
from quality.catalog import Catalog
from quality.settings import QualitySettings
from stream.archive import Archive
from stream.kafka import FetchedRecords
from stream.ledger_entry import count_by_fate
from stream.settings import Generation
from tests.batch.collecting.new_ids import (
    GENERATIONS,
    NOW,
    RECORDS,
    ROOT,
    Reply,
    Scripted,
    judged,
    lookup_of,
    service,
    streaming,
    watched,
)


@contextmanager
def closed() -> Iterator[str]:
    """A port on which nothing listens."""
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
    """A server that sends these pieces to each client and, with `drips`, the last one again and again, slowly."""
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
def test_an_api_without_answers_costs_little_time_and_the_lines_pass(
    api: Callable[[], AbstractContextManager[str]], catalog: Catalog, tmp_path: Path
) -> None:
    with api() as root:
        lookup, began = lookup_of(tmp_path, root, api_timeout_s=0.2), time.monotonic()
        some = watched("new+2022", "old+1999")
        known = lookup.known_for(some)
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
def test_an_api_with_bad_answers_is_not_retried_and_the_lines_pass(
    scripted: Scripted, catalog: Catalog, tmp_path: Path, reply: Reply, generation: Generation
) -> None:
    some, began = watched("new+2022", "other+2022", "old+1999"), time.monotonic()
    with scripted(lambda *_: reply) as server:
        lookup = lookup_of(tmp_path, server.root, generation)
        for _ in range(3):
            known = lookup.known_for(some)
        asked = len(server.asked)
    assert time.monotonic() - began < ENDLESS_S  # two of them ask to wait for longer
    assert asked <= 3
    assert judged(tmp_path, some, known).reasons == []
    assert "unknown" not in catalog.statuses("movie").values()


def test_a_slow_api_is_waited_for_up_to_the_limit(scripted: Scripted, catalog: Catalog, tmp_path: Path) -> None:
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
def test_an_api_that_did_not_answer_is_not_asked_for_a_while(catalog: Catalog, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        lookup = lookup_of(tmp_path, f"http://127.0.0.1:{server.getsockname()[1]}", api_timeout_s=0.3)
        lookup.known_for(watched("new+2022"))
        for number in range(20):
            lookup.known_for(watched(f"new+{number}+2022", user=5_000 + number))
        server.setblocking(False)
        server.accept()[0].close()
        with pytest.raises(BlockingIOError):  # there was no second connection
            server.accept()


@pytest.mark.usefixtures("patient")
def test_a_recovered_api_is_asked_again_after_the_pause(
    scripted: Scripted, catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    down = threading.Event()
    down.set()
    with scripted(lambda path, before: (500, b"", {}) if down.is_set() else service(path, before)) as server:
        lookup = lookup_of(tmp_path, server.root)
        assert "new+2022" not in lookup.known_for(watched("new+2022")).runtimes
        down.clear()
        assert "new+2022" not in lookup.known_for(watched("new+2022")).runtimes
        monkeypatch.setattr(unknown_ids, "_PAUSE_S", 0.0)
        assert lookup.known_for(watched("new+2022")).runtimes["new+2022"] == 100
        assert server.asked == ["/movie/new+2022"] * 2


@pytest.mark.usefixtures("patient")
def test_an_answer_about_another_movie_does_not_count_for_the_one_asked(
    scripted: Scripted, catalog: Catalog, tmp_path: Path
) -> None:
    with scripted(lambda *_: (200, orjson.dumps(RECORDS["movie"]["other+2022"]), {})) as server:
        known = lookup_of(tmp_path, server.root).known_for(watched("new+2022"))
    assert known.runtimes == {"old+1999": 90}
    assert catalog.statuses("movie")["new+2022"] == "bad"


async def collected(collector: Collector, values: list[bytes]) -> None:
    await collector.take([FetchedRecords(0, values, np.arange(len(values)), np.full(len(values), NOW))])
    await collector.flush()


def test_the_collector_archives_lines_however_its_api_behaves(catalog: Catalog, tmp_path: Path) -> None:
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


def test_the_process_ends_while_its_api_answers_byte_by_byte(catalog: Catalog, tmp_path: Path) -> None:
    with talking(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n", b"[", drips=True) as root:
        subprocess.run([sys.executable, "-c", PROGRAM, tmp_path, root], check=True, cwd=ROOT, timeout=ENDLESS_S)


@pytest.mark.usefixtures("patient")
def test_the_collector_does_not_use_the_retries_of_the_night(
    scripted: Scripted, catalog: Catalog, tmp_path: Path
) -> None:
    with scripted(lambda *_: (503, b"", {})) as server:
        settings = msgspec.structs.replace(BatchSettings(api=server.root), api_retries=8)
        UnknownIdLookup(streaming(tmp_path), settings).known_for(watched("new+2022"))
        assert server.asked == ["/movie/new+2022"]
