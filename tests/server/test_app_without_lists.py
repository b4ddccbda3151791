"""What a worker answers without a list to give: no release, all movies hidden, a fault; and what it logs."""

import socket
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from server.probes import RETRY_AFTER_S
from stream import durable
from tests.polling import DEADLINE_S
from tests.server.sample_releases import names, write_release
from tests.server.worker_processes import HOST, ROOT, Wire, is_line, serving


@pytest.mark.parametrize("lane", [True, False])
def test_without_a_release_it_says_when_to_come_back_and_takes_the_first_one(tmp_path: Path, lane: bool) -> None:
    releases = tmp_path / "var" / "releases"
    with serving(tmp_path / "var", lane=str(lane).lower()) as worker:
        for path in ("/recommend/5", "/recommend/5?n=1", "/similar/movie+3+2000", "/readyz"):
            answer = worker.get(path)
            assert is_line(answer, 503), path
            assert answer.headers["retry-after"] == str(RETRY_AFTER_S)
        assert worker.get("/recommend/abc").status == 400
        assert worker.get("/recommend/5?n=0").status == 400
        assert worker.get("/healthz").status == 200
        (write_release(releases, "broken") / "users.npy").write_bytes(b"x")
        durable.point(releases / "current", "broken")
        worker.until_status(lambda status: "users.npy" in str(status.refused))
        assert worker.get("/readyz").body == "unready"
        assert worker.get("/recommend/5").status == 503
        write_release(releases, "first")
        durable.point(releases / "current", "first")
        assert worker.get_until("/readyz", lambda answer: answer.status == 200).body == "ready"
        assert worker.get("/recommend/5").body == names(7, 0, 29)


@pytest.mark.parametrize("lane", [True, False])
def test_with_every_movie_hidden_nothing_is_answered_and_it_is_not_ready(tmp_path: Path, lane: bool) -> None:
    var = tmp_path / "var"
    write_release(var / "releases", "one")
    durable.point(var / "releases" / "current", "one")
    with serving(var, lane=str(lane).lower()) as worker, worker.wire() as wire:
        assert wire.get("/recommend/5").status == 200
        (var / "hidden.txt").write_text("".join(f"movie+{number}+2000\n" for number in range(30)))
        worker.get_until("/recommend/5?n=20", lambda answer: answer.status == 503)
        for user in (1, 5, 9, 11, 12):
            answer = wire.get(f"/recommend/{user}")
            assert is_line(answer, 503)
            assert int(answer.headers["retry-after"]) >= 1
        assert worker.get("/readyz").status == 503
        assert worker.get("/healthz").status == 200


def test_requests_are_logged_each_as_a_line_of_json_where_that_is_asked_for(tmp_path: Path) -> None:
    var = tmp_path / "var"
    write_release(var / "releases", "one")
    durable.point(var / "releases" / "current", "one")
    with serving(var, access_log=1) as worker:
        for path in ("/recommend/5", "/recommend/abc", "/healthz", "/nothing", "/recommend/5?n=3"):
            worker.get(path)
    lines = [orjson.loads(line) for line in worker.text().splitlines()]  # every line is JSON
    assert all({"time", "level", "logger", "pid"} <= set(line) for line in lines)
    access_lines = [line for line in lines if line["logger"] == "server.access"]
    assert [(line["method"], line["path"], line["status"]) for line in access_lines] == [
        ("GET", "/recommend/5", 200), ("GET", "/recommend/abc", 400), ("GET", "/healthz", 200),
        ("GET", "/nothing", 404), ("GET", "/recommend/5", 200),
    ]  # fmt: skip
    assert all(line["us"] >= 0 for line in access_lines)


FAULTY = """
import socket, sys
from pathlib import Path
from server.answers import Answers
from server.settings import ServerSettings
from server.worker import Worker
def fault(*asked):
    raise LookupError("a fault of the program")
Answers._make_find = lambda self: fault
Answers.similar = fault
Answers.self_test = lambda self: None
Worker(Path(sys.argv[1]), ServerSettings(lane=False)).run(socket.socket(fileno=0))
"""


def test_a_fault_of_the_program_is_a_500_of_one_line_and_is_logged(tmp_path: Path) -> None:
    write_release(tmp_path / "releases", "one")
    durable.point(tmp_path / "releases" / "current", "one")
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        command = [sys.executable, "-c", FAULTY, str(tmp_path)]
        process = subprocess.Popen(command, cwd=ROOT, stdin=listener.fileno(), stderr=subprocess.PIPE)
    try:
        with Wire(port) as wire:
            for path in ("/recommend/5", "/similar/movie+3+2000"):
                answer = wire.get(path)
                assert (answer.status, answer.body) == (500, "internal error")
                assert "x-marquee-source" not in answer.headers
            assert wire.get("/healthz").status == 200
        process.terminate()
        log_text = process.communicate(timeout=DEADLINE_S)[1]
    finally:
        process.kill()
        process.wait()
    assert b"/recommend/5" in log_text
    assert b"LookupError" in log_text
