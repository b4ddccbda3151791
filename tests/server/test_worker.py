"""The life of a worker: on SIGTERM it ends, whatever its clients do, and answers what it has accepted."""

import os
import random
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from loadtest.demo.processes import accepts, free_port
from tests.polling import DEADLINE_S, until
from tests.server.sample_releases import names
from tests.server.worker_processes import HOST, ROOT, Ended, Wire, WorkerProcess, serving, started

PLAIN = b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n\r\n"
OTHER = b"GET /recommend/5?n=20 HTTP/1.1\r\nhost: a\r\n\r\n"
LIST = names(7, 0, 29)


def drains(worker: WorkerProcess) -> None:
    """Tell the worker to end and wait until it accepts no more clients."""
    worker.terminate()
    worker.until_status(lambda status: status.state == "draining")


# How it begins


def test_a_port_that_is_taken_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        command = [sys.executable, "-m", "server", "--port", str(taken.getsockname()[1])]
        environ = {**os.environ, "MARQUEE_STREAM_VAR": str(tmp_path)}
        done = subprocess.run(
            command, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.splitlines()[-1].startswith(b"error: server: cannot listen on")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("handed", ["nothing", "a socket that does not listen"])
def test_where_no_listening_socket_is_handed_over_it_listens_on_its_port(var: Path, handed: str) -> None:
    port = free_port()
    one, two = socket.socketpair()
    with one, two:
        process = subprocess.Popen(
            [sys.executable, "-m", "server", "--port", str(port)],
            cwd=ROOT,
            env={**os.environ, "MARQUEE_STREAM_VAR": str(var)},
            stdin=subprocess.DEVNULL if handed == "nothing" else one.fileno(),
            stderr=subprocess.DEVNULL,
        )
        try:
            until(lambda: accepts(HOST, port))
            with Wire(port) as wire:
                assert wire.get("/recommend/5").body == LIST
            process.terminate()
            assert process.wait(DEADLINE_S) == 0
        finally:
            process.kill()
            process.wait()


def test_a_first_release_that_is_broken_does_not_keep_a_worker_from_starting(var: Path) -> None:
    (var / "releases" / "one" / "lists.npy").write_bytes(b"half")
    with serving(var) as worker:
        assert worker.get("/healthz").status == 200
        assert "lists.npy" in str(worker.status().refused)


# How it ends


def test_a_worker_that_is_told_to_end_in_its_first_second_ends(var: Path) -> None:
    """That includes the start of Python: a signal before the worker exists kills the process."""
    moments = [random.uniform(0, 1) for _ in range(6)]
    for moment in moments:
        with socket.create_server((HOST, 0)) as listener:
            worker = started(listener, var, var.parent / f"{moment}.log")
        try:
            with pytest.raises(subprocess.TimeoutExpired):
                worker.process.wait(moment)
            worker.terminate()
            code = worker.ends()
            assert code == 0 or (code == -signal.SIGTERM and "serves" not in worker.text()), moment
            assert "Traceback" not in worker.text()
        finally:
            worker.kill()


ENDED = """
import os, signal, sys
import server.release_watcher, server.worker_metrics, server.worker
from server.__main__ import commands
place, name = {
    "look": (server.release_watcher.ReleaseWatcher, "check"),
    "start": (server.worker.Worker, "_start"),
    "metrics": (server.worker.WorkerMetrics, "__init__"),
}[sys.argv[1]]
real = getattr(place, name)
def told(*args, **kwargs):
    os.kill(os.getpid(), getattr(signal, sys.argv[2]))
    return real(*args, **kwargs)
setattr(place, name, told)
commands.main([], standalone_mode=False)
"""


@pytest.mark.parametrize(
    ("place", "number"), [("look", "SIGTERM"), ("look", "SIGINT"), ("start", "SIGTERM"), ("metrics", "SIGTERM")]
)
def test_a_worker_that_is_told_to_end_while_it_starts_ends_well(var: Path, place: str, number: str) -> None:
    with socket.create_server((HOST, 0)) as listener:
        command, environ = [sys.executable, "-c", ENDED, place, number], {**os.environ, "MARQUEE_STREAM_VAR": str(var)}
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdin=listener.fileno(), stderr=subprocess.PIPE)
        try:
            log_text = process.communicate(timeout=DEADLINE_S)[1]
        finally:
            process.kill()
    assert (process.returncode, log_text) == (0, b"")


BUSY = """
import threading, time
from server.threads import end_process
end_process()
print("goes on without threads", flush=True)
threading.Thread(target=time.sleep, args=(600,)).start()
end_process()
"""


def test_a_process_whose_threads_are_at_work_ends_all_the_same() -> None:
    done = subprocess.run([sys.executable, "-c", BUSY], cwd=ROOT, capture_output=True, timeout=DEADLINE_S, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"goes on without threads\n", b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_without_connections_ends_at_once(var: Path, number: signal.Signals) -> None:
    with serving(var, drain_s=600) as worker:
        assert worker.get("/healthz").status == 200
        worker.process.send_signal(number)
        assert worker.ends() == 0


def test_a_worker_that_is_told_twice_ends_as_well(var: Path) -> None:
    with serving(var, drain_s=600) as worker, worker.wire() as wire:
        assert wire.get("/healthz").status == 200
        drains(worker)
        worker.terminate()
        assert wire.get("/recommend/5").body == LIST
        assert worker.ends() == 0


@pytest.mark.parametrize("lane", ["true", "false"])
def test_a_request_during_draining_is_answered_and_is_the_last(var: Path, lane: str) -> None:
    requests = [PLAIN, OTHER, b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"]
    with serving(var, drain_s=600, lane=lane) as worker, ExitStack() as stack:
        wires = [stack.enter_context(worker.wire()) for _ in requests]
        for wire, request in zip(wires, requests, strict=True):
            for _ in range(3):  # so that these headers are known
                wire.send(request)
                assert not wire.answer().closes
        drains(worker)
        for wire, request in zip(wires, requests, strict=True):
            assert worker.process.poll() is None
            wire.send(request)
            answer = wire.answer()
            assert (answer.status, answer.closes) == (200, True)
            assert wire.to_the_end() == b""
        assert worker.ends() == 0


def test_a_request_that_was_half_there_is_answered_while_it_drains(var: Path) -> None:
    halves = [(PLAIN[:9], PLAIN[9:]), (PLAIN[:-2], PLAIN[-2:]), (OTHER[:-1], OTHER[-1:])]
    with serving(var, drain_s=600) as worker, ExitStack() as stack:
        wires = [stack.enter_context(worker.wire()) for _ in halves]
        for wire, (half, _) in zip(wires, halves, strict=True):
            wire.send(PLAIN + half)
            assert wire.answer().body == LIST
        drains(worker)
        for wire, (_, rest) in zip(wires, halves, strict=True):
            assert worker.process.poll() is None
            wire.send(rest)
            answer = wire.answer()
            assert (answer.body, answer.closes) == (LIST, True)
        assert worker.ends() == 0


def test_idle_connections_are_ended_last_and_it_does_not_wait_for_them_all_the_time(var: Path) -> None:
    """With more time if a busy machine delays the client for longer than half of it."""
    with suppress(Ended, ConnectionError):
        drained_with_idle_connections(var, 6)
        return
    drained_with_idle_connections(var, 60)


def drained_with_idle_connections(var: Path, drain_s: int) -> None:
    """Raises `Ended` if the client, which has sent half a request, is cut off before it sends the rest."""
    with serving(var, drain_s=drain_s) as worker, ExitStack() as stack:
        idle, silent, half = (stack.enter_context(worker.wire()) for _ in range(3))
        assert idle.get("/recommend/5").status == 200
        half.send(PLAIN + PLAIN[:9])
        assert half.answer().body == LIST
        drains(worker)
        assert idle.to_the_end() == b""
        assert silent.to_the_end() == b""
        half.send(PLAIN[9:])  # it was not idle, and is waited for
        answer = half.answer()
        assert (answer.body, answer.closes) == (LIST, True)
        assert worker.ends() == 0


STUCK = [
    b"",
    b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n",
    b"POST /healthz HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nabc",
    b"GET /healthz HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nabc",
    b"GET /healthz HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
]


@pytest.mark.parametrize("lane", ["true", "false"])
def test_clients_that_send_half_a_request_do_not_keep_it(var: Path, lane: str) -> None:
    with serving(var, drain_s=0.3, request_s=600, lane=lane) as worker, ExitStack() as stack:
        for data in STUCK:
            wire = stack.enter_context(worker.wire())
            wire.send(PLAIN + data)
            assert wire.answer().body == LIST
        worker.terminate()
        assert worker.ends() == 0


@pytest.mark.parametrize("request_", [PLAIN, OTHER], ids=["lane", "sanic"])
def test_a_client_that_never_reads_does_not_keep_it(var: Path, request_: bytes) -> None:
    with serving(var, drain_s=0.3, write_s=600) as worker, worker.wire(receive_buffer=4096) as wire:
        wire.sock.setblocking(False)
        batch = request_ * 1000
        try:
            while True:
                wire.sock.send(batch)
        except BlockingIOError:
            pass
        assert worker.get("/healthz").status == 200
        worker.terminate()
        assert worker.ends() == 0


def test_a_worker_that_ends_answers_all_accepted_requests(var: Path) -> None:
    """Clients send fifty requests at a time, again and again. Each answer is complete and the same; if some are
    missing, the last one said `connection: close`."""
    for delay in (0, 20, 60):
        with serving(var, drain_s=600) as worker, ExitStack() as stack:
            wires = [stack.enter_context(worker.wire()) for _ in range(6)]
            assert {wire.get("/healthz").status for wire in wires} == {200}
            rounds = 0
            while True:
                for wire in wires:
                    wire.send(PLAIN * 30 + OTHER * 5 + PLAIN * 15)
                if rounds == delay:
                    worker.terminate()
                counts = [_answered(wire, 50) for wire in wires]
                rounds += 1
                if rounds > delay and any(count is None for count in counts):
                    break
                assert rounds < 100_000
            # nobody was cut off: who was answered in full may ask once more
            for wire, count in zip(wires, counts, strict=True):
                if count is not None:
                    wire.send(PLAIN)
                    answer = wire.answer()
                    assert (answer.body, answer.closes) == (LIST, True)
            assert worker.ends() == 0


def _answered(wire: Wire, count: int) -> int | None:
    """Read answers; None if the connection ended early, as the last answer announced."""
    for number in range(count):
        answer = wire.answer()
        assert (answer.status, answer.body) == (200, LIST)
        if answer.closes:
            assert wire.to_the_end() == b""
            return None
        assert number < count
    return count
