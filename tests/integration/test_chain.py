"""The whole chain in a small world, all history through Kafka: service, broker, archive, release, answers."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import orjson
import pytest
import urllib3

from loadtest.demo.processes import ROOT, answers, free_port
from loadtest.settings import WorldSettings
from loadtest.simulation.recommender_client import RecommenderClient
from loadtest.simulation.service import Service
from loadtest.simulation.visits import Audience
from loadtest.simulation.world import World
from server.release import Release, list_source
from stream import kafka
from stream.archive import Archive
from stream.ledger_entry import count_by_fate
from stream.settings import StreamSettings, load
from stream.zone import HOUR_MS, zone_named
from tests.doc_tables import is_documented
from tests.integration.marquee_processes import Start
from tests.polling import DEADLINE_S, until

REAL = Path(__file__).parents[3] / "shared" / "real"
SMALL = {"MARQUEE_LOADTEST_USERS": "300", "MARQUEE_LOADTEST_MOVIES": "200"}


def python(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    env = {**os.environ, **environ}
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False, timeout=DEADLINE_S)


async def play(environ: dict[str, str], hours: int) -> Service:
    """Let the simulated service run without a recommender."""
    streaming, settings = load("stream", StreamSettings, environ), load("loadtest", WorldSettings, environ)
    clock = zone_named(streaming.timezone)
    begins = clock.bounds("2026-02-10")[0]
    audience = Audience(World(settings), clock, settings.seed)
    caller = RecommenderClient(settings.server, settings.deadline_ms, audience.world.catalogue.index)
    async with kafka.writing(streaming) as writer:
        service = Service(audience, clock, caller, writer, settings, begins)
        service.pace = 1e9
        await service.run(lambda: service.now_ms >= begins + hours * HOUR_MS)
    caller.close()
    return service


@pytest.fixture
def chain(environ: dict[str, str]) -> dict[str, str]:
    """Settings of the whole chain, with ports of its own."""
    api, port = free_port(), free_port()
    environ |= {
        "MARQUEE_STREAM_GENERATION": "2026",
        "MARQUEE_LOADTEST_API_PORT": str(api),
        "MARQUEE_BATCH_API": f"http://127.0.0.1:{api}",
        "MARQUEE_BATCH_TEST_HOURS": "6",
        "MARQUEE_SERVER_PORT": str(port),
        "MARQUEE_LOADTEST_SERVER": f"http://127.0.0.1:{port}",
    }
    return environ


def test_history_through_kafka_becomes_answers(chain: dict[str, str], start: Start) -> None:
    chain |= SMALL
    start(chain, "loadtest", "api")
    until(lambda: answers(f"{chain['MARQUEE_BATCH_API']}/healthz"))
    played = asyncio.run(play(chain, hours=30))
    assert set(played.counts.statuses) == {0}  # without an answer the service logs status 0
    assert python(chain, "batch", "collect", "--until-idle", "1.5").returncode == 0
    archive = Archive(Path(chain["MARQUEE_STREAM_VAR"]))
    fates = count_by_fate(archive.entries())
    assert sum(fates.values()) == played.counts.lines
    assert fates["duplicate"] == played.counts.repeated
    assert archive.files("account", archive.entries())  # new users create accounts
    assert fates["repaired"] + fates["quarantined"] <= played.counts.corrupted

    night = python(chain, "batch", "nightly")
    assert night.returncode == 0, night.stderr
    assert orjson.loads(night.stdout)["steps"]["catalog"]["movies"]["known"] > 100
    again = ("sessions", "catalog", "history", "evaluate", "train", "publish")
    assert [python(chain, "batch", step).returncode for step in again] == [0] * 6  # each step alone, again
    releases = Path(chain["MARQUEE_STREAM_VAR"]) / "releases"
    one, two = (orjson.loads(path.read_bytes())["files"] for path in releases.glob("2*/manifest.json"))
    assert {name for name in one if one[name] != two[name]} == {"evaluation.json"}  # it is compared with the first

    start(chain, "server")
    address = chain["MARQUEE_LOADTEST_SERVER"]
    until(lambda: answers(f"{address}/readyz"))
    users = np.load(releases / "current" / "users.npy")
    answer = urllib3.request("GET", f"{address}/recommend/{users[0]}", retries=False)
    assert answer.headers["x-marquee-release"] == (releases / "current").readlink().name
    release = Release.open(releases / "current")
    assert answer.headers["x-marquee-source"] == list_source(release, int(release.segments[0]))
    assert len(set(answer.data.decode().split(","))) == 20
    assert undocumented(Path(chain["MARQUEE_STREAM_VAR"])) == []


def undocumented(var: Path) -> list[str]:
    """Files below `var` that docs/operations.md does not list."""
    paths = [str(path.relative_to(var)) for path in var.rglob("*") if path.is_symlink() or path.is_file()]
    assert len(paths) > 30
    # SQLite's own files beside a database, and temporary names
    finished = [path for path in paths if not path.endswith(("-wal", "-shm", ".tmp"))]
    return [path for path in finished if not is_documented(path)]


@pytest.mark.skipif(not REAL.exists(), reason=f"LOUD: the real samples are not at {REAL}; real lines are not tested")
def test_real_lines_become_answers(chain: dict[str, str], start: Start) -> None:
    chain |= {
        "MARQUEE_LOADTEST_CATALOG_CSV": str(REAL / "movies.csv"),
        "MARQUEE_LOADTEST_USERS_CSV": str(REAL / "users-sample.csv"),
        "MARQUEE_LOADTEST_API_RATE_LIMIT_PER_S": "1e6",
    }
    start(chain, "loadtest", "api")
    until(lambda: answers(f"{chain['MARQUEE_BATCH_API']}/healthz"))
    replayed = python(chain, "loadtest", "replay", str(REAL / "lines-2022-10.txt"))
    assert "37342 lines written" in replayed.stdout
    assert python(chain, "batch", "collect", "--until-idle", "1.5").returncode == 0
    entries = Archive(Path(chain["MARQUEE_STREAM_VAR"])).entries()
    by_kind: Counter[str | None] = Counter()
    for entry in entries:
        by_kind.update({count.kind: count.lines for count in entry.counts})
    assert by_kind == {"watch": 36_730, "rate": 242, "recommend": 370}
    night = python(chain, "batch", "nightly")
    assert night.returncode == 0, night.stderr
    start(chain, "server")
    address = chain["MARQUEE_LOADTEST_SERVER"]
    until(lambda: answers(f"{address}/readyz"))
    answer = urllib3.request("GET", f"{address}/recommend/83916", retries=False)
    assert answer.status == 200
    records = set((REAL / "movies.csv").read_text("utf-8").splitlines()[1:])
    ids = {line.split(",")[0] for line in records}
    assert set(answer.data.decode().split(",")) <= ids
