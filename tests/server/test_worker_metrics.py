"""Metrics add up over all workers, and no count ever falls."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from server import shared_counts
from server.answers import SOURCES
from server.exposition import Exposition
from server.guard import Guard
from server.release_watcher import ReleaseWatcher
from server.settings import ServerSettings
from server.worker_metrics import RequestMeter, WorkerMetrics
from stream import durable
from tests.polling import DEADLINE_S, until
from tests.server.sample_releases import write_release
from tests.server.scraped_metrics import Samples, read_samples, scraped
from tests.server.worker_processes import HOST, Ended, serving, started

GONE = 4_194_305
"""An id that no process has: Linux uses ids up to 2^22."""


def file_of(who: int | str) -> str:
    """The name of the file of a worker on this host."""
    return f"server-{socket.gethostname()}-{who}.json"


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait longer for the lock: on a busy machine another process may hold it longer than a worker waits.

    It is set before a lock is made, since a timeout that is set on a lock applies to one thread only.
    """
    monkeypatch.setattr(shared_counts, "_PATIENCE_S", DEADLINE_S)


def metrics(folder: Path, meter: RequestMeter | None = None) -> WorkerMetrics:
    return WorkerMetrics(folder, meter or RequestMeter(), ReleaseWatcher(folder), Guard(ServerSettings()), set())


def exposed(counts: WorkerMetrics) -> Samples:
    """Write the counts of a worker, then read the metrics of all."""
    counts.write()
    exposition = Exposition(counts.folder)
    exposition._shared_counts._lock.timeout = DEADLINE_S
    return read_samples(exposition.text().decode())


def written(folder: Path, pid: int, answered: int, **changed: object) -> Path:
    """Write the file of another worker."""
    meter = RequestMeter()
    one = metrics(folder / f"other-{pid}", meter)
    meter.answered[0] = answered
    meter.statuses["404"] = answered
    one.write()
    path = folder / file_of(pid)
    held = orjson.loads((folder / f"other-{pid}" / file_of(os.getpid())).read_bytes())
    folder.mkdir(exist_ok=True)
    path.write_bytes(orjson.dumps({**held, **changed}))
    return path


@pytest.fixture
def other() -> Iterator[int]:
    """The id of a running process."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process.pid
    process.communicate(b"\n")


def test_a_worker_counts_by_source_status_and_time(tmp_path: Path) -> None:
    meter = RequestMeter()
    for source, seconds in ((0, 0.0), (0, 0.9e-6), (1, 3e-6), (2, 1.0), (3, 5000.0)):
        meter.took(source, seconds)
    for _ in range(2):
        meter.refused(404)
    samples = exposed(metrics(tmp_path, meter))
    assert [samples["marquee_answers_total", source] for source in SOURCES] == [2, 1, 1, 1]
    assert samples["marquee_requests_total", "404"] == 2
    assert samples["marquee_requests_total", "200"] == 5
    assert samples["marquee_handling_seconds_count", ""] == 5
    assert samples["marquee_handling_seconds_sum", ""] == pytest.approx(5001.0000039)
    assert samples["marquee_handling_seconds_bucket", "1e-06"] == 2
    assert samples["marquee_handling_seconds_bucket", "2e-06"] == 2
    assert samples["marquee_handling_seconds_bucket", "4e-06"] == 3
    assert samples["marquee_handling_seconds_bucket", "+Inf"] == 5
    assert samples["marquee_workers", ""] == 1


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1e6), max_size=40))
def test_buckets_hold_answers_within_their_bound(tmp_path_factory: pytest.TempPathFactory, times: list[float]) -> None:
    meter = RequestMeter()
    for seconds in times:
        meter.took(0, seconds)
    samples = exposed(metrics(tmp_path_factory.mktemp("metrics"), meter))
    buckets = {
        float(bound): count for (name, bound), count in samples.items() if name == "marquee_handling_seconds_bucket"
    }
    assert buckets[float("inf")] == len(times)
    bounds = sorted(buckets)
    assert [buckets[bound] for bound in bounds] == sorted(buckets.values())
    for bound in bounds:
        # a time is cut to whole microseconds before it is counted
        assert sum(int(1e6 * seconds) < 1e6 * bound for seconds in times) == buckets[bound]


def test_counts_of_a_version_that_knew_fewer_sources_are_added(tmp_path: Path) -> None:
    path = written(tmp_path, GONE, 7)
    path.write_bytes(orjson.dumps({**orjson.loads(path.read_bytes()), "answered": [7, 2, 1]}))
    samples = exposed(metrics(tmp_path))
    assert [samples["marquee_answers_total", source] for source in SOURCES] == [7, 2, 1, 0]


def test_counts_of_all_workers_are_added_up(tmp_path: Path, other: int) -> None:
    one = metrics(tmp_path, RequestMeter())
    written(tmp_path, other, 7, connections=3, release="one")
    samples = exposed(one)
    assert samples["marquee_answers_total", "personal"] == 7
    assert samples["marquee_requests_total", "404"] == 7
    assert samples["marquee_workers", ""] == 2
    assert samples["marquee_connections", ""] == 3
    assert (samples["marquee_release_workers", "one"], samples["marquee_release_workers", "none"]) == (1, 1)


def test_the_counts_of_ended_workers_are_kept_in_one_file(tmp_path: Path, other: int) -> None:
    for pid, answered in ((GONE, 3), (GONE + 1, 4), (other, 5)):
        written(tmp_path, pid, answered)
    for _ in range(3):
        samples = exposed(metrics(tmp_path))
        assert samples["marquee_answers_total", "personal"] == 12
        assert samples["marquee_workers", ""] == 2
    names = {path.name for path in tmp_path.glob("*.json")}
    assert names == {file_of("gone"), file_of(other), file_of(os.getpid())}


def test_a_worker_that_has_the_id_of_one_that_is_gone_begins_at_nothing_and_keeps_its_counts(tmp_path: Path) -> None:
    written(tmp_path, os.getpid(), 3)
    meter = RequestMeter()
    one = metrics(tmp_path, meter)
    assert exposed(one)["marquee_answers_total", "personal"] == 3
    meter.took(0, 0.1)
    assert exposed(one)["marquee_answers_total", "personal"] == 4


GARBAGE = [
    b"", b"{", b"\xff", b"[]", b"7", b'{"answered": "x"}', b'{"answered": [1, 2]}', b'{"buckets": [1]}',
    b'{"statuses": {"200": "many"}}', b'{"statuses": {"\xff": 1}}',
]  # fmt: skip


@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_malformed_file_is_ignored(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / file_of(GONE)).write_bytes(garbage)
    assert exposed(metrics(tmp_path))["marquee_answers_total", "personal"] == 0


def test_counts_of_another_host_count_and_are_left_to_it(tmp_path: Path) -> None:
    path = tmp_path / f"server-next-door-{GONE}.json"
    path.write_bytes(written(tmp_path / "made", GONE, 3).read_bytes())
    samples = exposed(metrics(tmp_path))
    assert (samples["marquee_answers_total", "personal"], samples["marquee_workers", ""]) == (3, 2)
    assert path.exists()


def test_a_peer_that_never_releases_the_lock_blocks_no_worker(tmp_path: Path) -> None:
    var = tmp_path / "var"
    write_release(var / "releases", "one")
    durable.point(var / "releases" / "current", "one")
    (var / "metrics").mkdir()
    with FileLock(var / "metrics" / "server.lock"):
        # a busy machine may have its loop stand still for so short a time by itself
        assert any(goes_on_without_metrics(var, stall_s) for stall_s in (3, 30))


def goes_on_without_metrics(var: Path, stall_s: int) -> bool:
    """Whether a worker that cannot write its metrics still answers after `stall_s`."""
    try:
        with serving(var, stall_s=stall_s) as worker, worker.wire() as wire:
            deadline = time.monotonic() + stall_s + 1
            until(lambda: wire.get("/recommend/1").status == 200 and time.monotonic() > deadline)
    except (Ended, ConnectionError):
        return False
    return True


@pytest.mark.parametrize("damage", ["a file", "an empty tally", "no tally"])
def test_a_worker_starts_and_answers_without_working_metrics(tmp_path: Path, damage: str) -> None:
    var = tmp_path / "var"
    write_release(var / "releases", "one")
    durable.point(var / "releases" / "current", "one")
    if damage == "a file":
        (var / "metrics").write_bytes(b"in the way")
    else:
        (var / "metrics").mkdir()
        (var / "metrics" / file_of("gone")).write_bytes(b"{}" if damage == "an empty tally" else b"[]")
    with serving(var) as worker:
        assert worker.get("/recommend/1").status == 200
        assert damage == "a file" or "marquee_workers" in worker.metrics()


def test_no_count_falls_while_counts_of_ended_workers_are_merged(tmp_path: Path) -> None:
    meter = RequestMeter()
    one = metrics(tmp_path, meter)
    seen, stop = [0.0], threading.Event()
    faults: list[BaseException] = []

    def scrape() -> None:
        try:
            while not stop.is_set():
                seen.append(exposed(one)["marquee_answers_total", "personal"])
        except BaseException as fault:  # noqa: BLE001 - told below
            faults.append(fault)

    scraper = threading.Thread(target=scrape)
    scraper.start()
    body = written(tmp_path / "made", GONE, 1).read_bytes()
    count = 0
    for round_ in range(2):
        for number in range(300):
            (tmp_path / "new").write_bytes(body)
            (tmp_path / "new").replace(tmp_path / file_of(GONE + 1000 * round_ + number))
            count += 1
        process = subprocess.run([sys.executable, "-c", GATHER, str(tmp_path)], check=False)
        assert process.returncode == 0
    stop.set()
    scraper.join()
    assert not faults
    assert seen == sorted(seen)
    assert exposed(one)["marquee_answers_total", "personal"] == count


GATHER = """
import sys
from pathlib import Path
from server.release_watcher import ReleaseWatcher
from server.guard import Guard
from server.worker_metrics import RequestMeter, WorkerMetrics
from server.settings import ServerSettings
folder = Path(sys.argv[1])
WorkerMetrics(folder, RequestMeter(), ReleaseWatcher(folder), Guard(ServerSettings()), set()).write()
"""


def test_several_workers_start_at_once_and_count_nothing_twice(tmp_path: Path) -> None:
    for number in range(50):
        written(tmp_path, GONE + number, 1)
    processes = [subprocess.Popen([sys.executable, "-c", GATHER, str(tmp_path)]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert exposed(metrics(tmp_path))["marquee_answers_total", "personal"] == 50


def counted(samples: Samples) -> dict[str, int]:
    sources = ("personal", "segment", "popular")
    return {source: int(samples["marquee_answers_total", source]) for source in sources}


def test_counts_are_right_with_two_workers_and_after_one_was_killed_and_started_again(tmp_path: Path) -> None:
    var = tmp_path / "var"
    write_release(var / "releases", "one")
    durable.point(var / "releases" / "current", "one")
    with socket.create_server((HOST, 0), backlog=4096) as listener:
        workers = [started(listener, var, tmp_path / f"{number}.log") for number in range(2)]
        try:
            for worker in workers:
                until(lambda worker=worker: "serves" in worker.text())  # type: ignore[misc]
            one = workers[0]
            for user, path in ((1, "/recommend/1"), (9, "/recommend/9"), (7, "/recommend/7?n=3"), (0, "/recommend/a")):
                for _ in range(10 + user):
                    one.get(path)
            one.get("/nothing")
            due = {"personal": 11, "segment": 19, "popular": 17}
            until(lambda: counted(scraped(one)) == due and scraped(one)["marquee_workers", ""] == 2)
            samples = scraped(one)
            assert samples["marquee_requests_total", "400"] == 10
            assert samples["marquee_requests_total", "404"] == 1
            assert samples["marquee_release_workers", "one"] == 2
            assert samples["marquee_swaps_total", "taken"] == 2
            assert samples["marquee_release_age_seconds", ""] >= 0
            workers[0].kill()
            workers.append(started(listener, var, tmp_path / "2.log"))
            until(lambda: "serves" in workers[2].text())
            last = samples
            for _ in range(5):
                now = scraped(workers[1])
                for name in last:
                    assert not name[0].endswith(("_total", "_count", "_sum", "_bucket")) or now[name] >= last[name], (
                        name
                    )
                last = now
            assert counted(last) == due
            until(lambda: scraped(workers[1])["marquee_workers", ""] == 2)
        finally:
            for worker in workers:
                worker.kill()


def test_requests_by_status_hold_all_requests(tmp_path: Path) -> None:
    var = tmp_path / "var"
    write_release(var / "releases", "one")
    durable.point(var / "releases" / "current", "one")
    with serving(var) as worker:
        for path in ("/recommend/1", "/recommend/1?n=2", "/healthz", "/readyz", "/similar/movie+3+2000"):
            assert worker.get(path).status == 200
        samples = scraped(worker)
        assert samples["marquee_requests_total", "200"] == 5
        assert sum(count for (name, _), count in samples.items() if name == "marquee_answers_total") == 2
        assert samples["marquee_handling_seconds_count", ""] in (1, 2)


def test_a_worker_whose_metrics_cannot_be_written_for_a_while_counts_on(tmp_path: Path) -> None:
    var = tmp_path / "var"
    write_release(var / "releases", "one")
    durable.point(var / "releases" / "current", "one")
    with serving(var) as worker:
        assert worker.get("/recommend/1").status == 200
        until(lambda: list((var / "metrics").glob("server-*[0-9].json")))
        (file,) = (var / "metrics").glob("server-*[0-9].json")
        (var / "metrics").rename(tmp_path / "moved")
        (var / "metrics").write_bytes(b"in the way")
        with worker.wire() as wire:
            # the worker has come by to write at least once when this many seconds of its clock have passed
            until(lambda: wire.get("/recommend/1").status == 200 and _older(tmp_path / "moved" / file.name, 2.5))
        (var / "metrics").unlink()
        (tmp_path / "moved").rename(var / "metrics")
        before = file.stat().st_mtime_ns
        until(lambda: file.stat().st_mtime_ns > before)


def _older(path: Path, seconds: float) -> bool:
    return time.time() - path.stat().st_mtime > seconds
