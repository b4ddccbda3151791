"""Every room under a locale without UTF-8, in a folder whose name is not ASCII."""

import signal
from pathlib import Path

import orjson
import pytest
import urllib3

from loadtest.demo.processes import answers, free_port
from stream import durable
from tests.integration.marquee_processes import Start
from tests.integration.topics import Topic
from tests.polling import until
from tests.server.sample_releases import write_release

ASCII = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""Python alone would take UTF-8 instead of the ASCII of the locale C."""


@pytest.fixture
def var(tmp_path: Path) -> Path:
    return tmp_path / "vär-映画"


@pytest.fixture
def in_ascii(environ: dict[str, str], var: Path) -> dict[str, str]:
    return environ | {"MARQUEE_STREAM_VAR": str(var)} | ASCII


def test_collector_telemetry_and_night_write_into_the_folder(
    in_ascii: dict[str, str], var: Path, start: Start, tmp_path: Path
) -> None:
    topic = Topic(in_ascii)
    topic.make()
    topic.write(50)
    following = [start(in_ascii, "batch", "collect"), start(in_ascii, "quality", "telemetry")]
    until(lambda: len(topic.archived()) == 50 and list((var / "reports").glob("*.json")))
    for process in following:
        process.process.send_signal(signal.SIGTERM)
        assert process.ends() == 0, process.text()
    sessions = start(in_ascii, "batch", "sessions")
    assert sessions.ends() == 0, sessions.text()
    assert len(list((var / "sessions").glob("day=*/sessions.parquet"))) == 1
    lost = start(in_ascii, "batch", "history")  # no movie is known: an error that names the folder
    assert lost.ends() == 1
    assert "Traceback" not in lost.text()
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [var.name]


def test_a_worker_answers_from_the_folder(in_ascii: dict[str, str], var: Path, start: Start) -> None:
    write_release(var / "releases", "one")
    durable.point(var / "releases" / "current", "one")
    port = free_port()
    worker = start(in_ascii | {"MARQUEE_SERVER_PORT": str(port)}, "server")
    until(lambda: answers(f"http://127.0.0.1:{port}/readyz") or worker.process.poll() is not None)
    answer = urllib3.request("GET", f"http://127.0.0.1:{port}/recommend/1", retries=False)
    assert (answer.status, answer.headers["x-marquee-release"]) == (200, "one")


def test_what_is_printed_is_utf8(in_ascii: dict[str, str], var: Path, start: Start) -> None:
    releases = start(in_ascii, "batch", "releases")
    assert releases.ends() == 0
    assert str(var) in releases.text()
    archive = start(in_ascii, "stream", "archive")
    assert archive.ends() == 0
    assert orjson.loads(archive.text())["entries"] == 0
