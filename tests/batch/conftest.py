"""What the tests of the batch room share: day files of the archive, whole candidates, and a small service's past."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import annoy
import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from loadtest.demo.processes import answers, free_port
from loadtest.settings import WorldSettings
from loadtest.simulation import backfill
from loadtest.simulation.record_api import world_records
from loadtest.simulation.visits import Audience
from loadtest.simulation.world import World
from quality.catalog import Catalog, FoundRecord
from quality.lines.schemas import MOVIE_RECORD, USER, checked
from stream.archive import Archive
from stream.event import Event
from stream.line_columns import table_of
from stream.zone import zone_named
from tests.polling import until

WriteDays = Callable[[Path, Mapping[str, Iterable[list[Event]]]], dict[str, list[Path]]]
WriteCandidate = Callable[..., Path]
Simulated = Callable[[WorldSettings], AbstractContextManager[str]]


@pytest.fixture(scope="session")
def write_days() -> WriteDays:
    """`write_days(folder, {day: [events of a file, …]})`: files of one kind by day, as the archive lists them."""

    def make(folder: Path, days: Mapping[str, Iterable[list[Event]]]) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for day, files in days.items():
            for number, events in enumerate(files):
                path = folder / f"{day}-{number}.parquet"
                pq.write_table(table_of(events[0].kind, events), path)
                found.setdefault(day, []).append(path)
        return found

    return make


@pytest.fixture(scope="session")
def write_candidate() -> WriteCandidate:
    """`write_candidate(folder, users, movies, seed=1)`: the files of a release, each user with a list of their own."""

    def make(folder: Path, users: int = 150, movies: int = 60, seed: int = 1) -> Path:
        rng = np.random.default_rng(seed)
        folder.mkdir(parents=True)
        lists = rng.permuted(np.tile(np.arange(movies), (users, 1)), axis=1)[:, :20]
        items = rng.normal(size=(movies, 6)).astype(np.float32)
        index = annoy.AnnoyIndex(6, "angular")
        index.set_seed(1)
        for number, vector in enumerate(items):
            index.add_item(number, vector)
        index.build(2, n_jobs=1)
        index.save(str(folder / "items.ann"))
        (folder / "movies.txt").write_text("".join(f"movie+{number}+2000\n" for number in range(movies)))
        np.save(folder / "users.npy", np.arange(1, users + 1, dtype=np.uint32))
        np.save(folder / "lists.npy", lists.astype(np.uint16))
        np.save(folder / "baseline.npy", np.tile(np.arange(20, dtype=np.uint16), (users, 1)))
        np.save(folder / "fallbacks.npy", np.tile(np.arange(20, dtype=np.uint16), (13, 1)))
        np.save(folder / "segments.npy", np.zeros(users, np.uint8))
        np.save(folder / "items.npy", items)
        (folder / "evaluation.json").write_bytes(b"{}")
        return folder

    return make


SMALL = WorldSettings(users=300, movies=200, generation="2026")


@pytest.fixture(scope="session")
def past(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `var` folder with six days of a small service's archive and a full catalogue; not to be written to."""
    var, world, clock = tmp_path_factory.mktemp("past"), World(SMALL), zone_named("America/New_York")
    audience = Audience(world, clock, 3)
    backfill.write(Archive(var), audience, clock, "2030-01-01", clock.bounds("2030-01-07")[0], lambda days: None)
    records = world_records(world)
    movies = [known(name, checked(records.movie(name), MOVIE_RECORD)[0]) for name in world.catalogue.ids]
    users = [known(str(user), checked(records.user(str(user)), USER)[0]) for user in range(1, SMALL.users + 1)]
    Catalog(var).keep("movie", movies)
    Catalog(var).keep("user", users)
    return var


def known(name: str, record: dict[str, object] | None) -> FoundRecord:
    assert record is not None
    return name, "known", record, ""


PROGRAM = (
    "import sys, msgspec; from loadtest.settings import WorldSettings;"
    "from loadtest.simulation.record_api import serve;"
    "serve(msgspec.json.decode(sys.argv[1], type=WorldSettings))"
)


@pytest.fixture(scope="session")
def simulated() -> Simulated:
    """`with simulated(settings) as root`: the simulated service's API in a process of its own."""

    @contextmanager
    def serving(settings: WorldSettings) -> Iterator[str]:
        settings = msgspec.structs.replace(settings, api_port=free_port())
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, msgspec.json.encode(settings).decode()])
        root = f"http://127.0.0.1:{settings.api_port}"
        try:
            until(lambda: answers(f"{root}/healthz") or process.poll() is not None)
            assert process.poll() is None
            yield root
        finally:
            process.terminate()
            process.wait(600)

    return serving


Reply = tuple[int, bytes, dict[str, str]]
"""Status, body, headers of an answer."""


class ScriptedApi:
    """A server on a port of its own that answers as a test says."""

    def __init__(self, reply: Callable[[str, int], Reply]) -> None:
        self.asked: list[str] = []
        """The paths that were asked for, in their order."""
        lock, asked = threading.Lock(), self.asked

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else an answer in two packets takes 40 ms

            def do_GET(self) -> None:
                with lock:
                    before = asked.count(self.path)
                    asked.append(self.path)
                status, body, headers = reply(self.path, before)
                self.send_response(status)
                for name, value in {"content-length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
                self.close_connection = headers.get("connection") == "close"

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture(scope="session")
def scripted() -> Callable[[Callable[[str, int], Reply]], AbstractContextManager[ScriptedApi]]:
    """`with scripted(reply) as server`: answers are `reply(path, how often it was asked before)`."""

    @contextmanager
    def serving(reply: Callable[[str, int], Reply]) -> Iterator[ScriptedApi]:
        api = ScriptedApi(reply)
        thread = threading.Thread(target=api.server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield api
        finally:
            api.server.shutdown()
            thread.join()
            api.server.server_close()

    return serving
