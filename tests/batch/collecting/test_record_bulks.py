"""Records that arrive one by one are stored many at once; a crash, a failure or a hung request loses few of them."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from batch.collecting import api as api_module
from batch.collecting.api import ServiceApi, fetch_into_catalog, refresh_catalog
from batch.errors import CatalogError
from batch.settings import BatchSettings
from quality.catalog import Catalog, FoundRecord, Record, Subject
from tests.batch.collecting.new_ids import ROOT, Reply, Scripted
from tests.polling import until


def record(number: str) -> Record:
    return {"user_id": int(number), "age": 28, "occupation": "farmer", "gender": "M"}


def reply(path: str, _: int) -> Reply:
    return 200, orjson.dumps(record(path.rpartition("/")[2])), {}


def numbered(count: int) -> list[str]:
    return [str(number) for number in range(1, count + 1)]


def api(root: str, connections: int = 4) -> ServiceApi:
    settings = BatchSettings(api=root, api_timeout_s=60.0, api_retries=0, api_connections=connections)
    return ServiceApi(settings, "2022")


@contextmanager
def counted(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The number of records of each commit."""
    keep, sizes = catalog.keep, list[int]()

    def keep_and_count(subject: Subject, records: list[FoundRecord]) -> None:
        keep(subject, records)
        sizes.append(len(records))

    monkeypatch.setattr(catalog, "keep", keep_and_count)
    yield sizes


@pytest.mark.parametrize("connections", [1, 4])
def test_single_answers_are_committed_many_at_once(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, connections: int
) -> None:
    monkeypatch.setattr(api_module, "_KEEP_RECORDS", 50)
    monkeypatch.setattr(api_module, "_KEEP_S", 600.0)
    catalog, progress = Catalog(tmp_path), list[int]()
    with scripted(reply) as server, counted(catalog, monkeypatch) as sizes:
        asked = api(server.root, connections)
        assert refresh_catalog(catalog, "user", numbered(330), asked, progress.append) == {"known": 330}
        assert sorted(server.asked) == sorted(f"/user/{number}" for number in numbered(330))
    assert min(sizes[:-1]) >= 50
    assert progress == [0, *sizes]
    assert catalog.records("user") == {number: record(number) for number in numbered(330)}


@pytest.mark.parametrize("connections", [1, 4])
def test_answers_are_committed_soon_while_another_does_not_come(
    scripted: Scripted, tmp_path: Path, connections: int
) -> None:
    catalog, done = Catalog(tmp_path), threading.Event()

    def hang_at_3(path: str, before: int) -> Reply:
        if path == "/user/3":
            done.wait()
        return reply(path, before)

    with scripted(hang_at_3) as server:
        asked = api(server.root, connections)
        thread = threading.Thread(target=fetch_into_catalog, args=(catalog, "user", numbered(4), asked))
        thread.start()
        try:
            until(lambda: {"1", "2"} <= catalog.statuses("user").keys())
            assert "3" not in catalog.statuses("user")
        finally:
            done.set()
            thread.join()
    assert catalog.records("user").keys() == {"1", "2", "3", "4"}


def test_what_arrived_before_the_api_failed_is_kept(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, "_KEEP_S", 600.0)
    catalog = Catalog(tmp_path)
    broken = 200, b"{", {"content-length": "100", "connection": "close"}
    with scripted(lambda path, before: broken if path == "/user/30" else reply(path, before)) as server:
        with pytest.raises(CatalogError, match="no answer from"):
            fetch_into_catalog(catalog, "user", numbered(60), api(server.root, 1))
        assert catalog.records("user") == {number: record(number) for number in numbered(29)}
        assert len(server.asked) == 30  # nothing is asked of a broken API


def test_a_commit_that_fails_stops_the_requests(scripted: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_module, "_KEEP_RECORDS", 10)

    def fail(_: list[FoundRecord]) -> None:
        raise OSError("disk full")

    with scripted(reply) as server:
        with pytest.raises(OSError, match="disk full"):
            api(server.root).fetch_records("user", numbered(1_000), fail)
        assert len(server.asked) < 100


PROGRAM = """
import sys
from pathlib import Path
from batch.collecting import api
from batch.settings import BatchSettings
from quality.catalog import Catalog
from tests.killed_when import kill_when

catalog = Catalog(Path(sys.argv[1]))
api._KEEP_RECORDS = 20
kill_when(lambda: len(catalog.statuses("user")) >= 100)
client = api.ServiceApi(BatchSettings(api=sys.argv[2], api_connections=4), "2022")
api.fetch_into_catalog(catalog, "user", [str(number) for number in range(1, 100_001)], client)
"""


def test_a_kill_loses_at_most_a_bulk_and_no_record_is_half_known(scripted: Scripted, tmp_path: Path) -> None:
    catalog = Catalog(tmp_path)
    with scripted(reply) as server:
        killed = subprocess.run([sys.executable, "-c", PROGRAM, tmp_path, server.root], cwd=ROOT, timeout=600)
        assert killed.returncode == -9
        kept = catalog.records("user")
        assert len(kept) >= 100
        assert kept == {number: record(number) for number in kept}
        lost = len(server.asked) - len(kept)
        assert lost <= 20 + 20 + 2 * 4  # a bulk on its way to the disk, one that fills meanwhile, and the open requests
        server.asked.clear()
        more = numbered(len(kept) + lost + 10)
        assert refresh_catalog(catalog, "user", more, api(server.root)) == {"known": len(more) - len(kept)}
        assert not {path.rpartition("/")[2] for path in server.asked} & kept.keys()


def test_half_an_emoji_in_one_text_costs_no_record_of_its_answer(scripted: Scripted, tmp_path: Path) -> None:
    texts = (rb"cut \ud83d", rb"whole \ud83c\udfac", rb"a backslash \\ud83d")
    people = (
        b'{"user_id": %d, "age": 28, "gender": "M", "self_description_likes": "%b"}' % (number, text)
        for number, text in enumerate(texts, 1)
    )
    body = b"[" + b", ".join(people) + b"]"
    with scripted(lambda *_: (200, body, {})) as server:
        settings = BatchSettings(api=server.root, api_retries=0)
        fetch_into_catalog(Catalog(tmp_path), "user", numbered(3), ServiceApi(settings, "2026"))
    kept = [likes for _, likes, _ in sorted(Catalog(tmp_path).self_descriptions())]
    assert kept == ["cut \ufffd", "whole \U0001f3ac", "a backslash \\ud83d"]
