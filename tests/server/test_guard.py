"""Limits: nobody can hurt the others by sending slowly, reading slowly, sending too much or coming too often."""

import resource
import select
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.polling import DEADLINE_S, until
from tests.server.sample_releases import names
from tests.server.worker_processes import Ended, HttpAnswer, Wire, WorkerProcess, answers_in, serving, undated

PLAIN = b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n\r\n"
OTHER = b"GET /recommend/5?n=20 HTTP/1.1\r\nhost: a\r\n\r\n"
LIST = names(7, 0, 29)
CHUNKED = b"transfer-encoding: chunked"


def refused(worker: WorkerProcess, limit: str) -> int:
    for family in text_string_to_metric_families(worker.metrics()):
        for sample in family.samples:
            if sample.name == "marquee_refused_total" and sample.labels["limit"] == limit:
                return int(sample.value)
    raise AssertionError(limit)


def readable(wire: Wire, seconds: float) -> bool:
    """Whether something comes, or the end, within some time; also a way to let time pass."""
    return bool(select.select([wire.sock], [], [], seconds)[0])


def is_open(wire: Wire) -> bool:
    try:
        return wire.get("/recommend/5").body == LIST
    except (Ended, OSError):
        return False


# Connections


def connected(stack: ExitStack, worker: WorkerProcess, count: int) -> list[Wire]:
    """Connections that have each been answered, the one that was so longest ago first."""
    wires = [stack.enter_context(worker.wire()) for _ in range(count)]
    assert all(is_open(wire) for wire in wires)
    return wires


@pytest.mark.parametrize("lane", ["true", "false"])
def test_one_connection_too_many_ends_the_one_that_was_idle_longest(var: Path, lane: str) -> None:
    with serving(var, max_connections=10, lane=lane) as worker, ExitStack() as stack:
        wires = connected(stack, worker, 10)
        assert is_open(wires[0])
        wires[1].send(PLAIN * 2)
        wires[2].send(OTHER)
        assert [wires[number].answer().body for number in (1, 1, 2)] == [LIST] * 3
        new = stack.enter_context(worker.wire())  # number 3 is idle longest now
        assert is_open(new)
        assert wires[3].to_the_end() == b""
        assert all(is_open(wire) for wire in [new, *wires[:3], *wires[4:]])
        assert is_open(stack.enter_context(worker.wire()))
        assert sum(is_open(wire) for wire in [new, *wires]) == 9


def test_connections_that_never_asked_make_room_as_well(var: Path) -> None:
    with serving(var, max_connections=5) as worker, ExitStack() as stack:
        silent = [stack.enter_context(worker.wire()) for _ in range(5)]
        for _ in range(20):
            with worker.wire() as wire:
                assert is_open(wire)
        assert silent[0].to_the_end() == b""


HALVES = [
    (b"GET /recommend/5 HT", b"TP/1.1\r\nhost: a\r\n\r\n", 200),
    (b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab", b"cd", 200),
    (b"POST /recommend/5 HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab", b"cd", 405),
    (b"POST /recommend/5 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"\r\n", 405),
]
"""What is sent first, what is sent later, and the status, which comes when all is there."""


@pytest.mark.parametrize(
    ("half", "rest", "status"),
    HALVES,
    ids=["head", "body", "refused body", "end of refused body"],
)
def test_connections_that_are_in_use_are_never_ended_for_a_new_one(
    var: Path, half: bytes, rest: bytes, status: int
) -> None:
    with serving(var, max_connections=6) as worker, ExitStack() as stack:
        wires = connected(stack, worker, 6)
        for wire in wires:
            wire.send(PLAIN + half)  # in one piece: who has the answer to the first knows that the half was read
            assert wire.answer().body == LIST
        for _ in range(3):
            with worker.wire() as new:
                answer = new.answer()
                assert (answer.status, answer.closes, answer.body) == (503, True, "too many connections")
                assert int(answer.headers["retry-after"]) >= 1
                assert new.to_the_end() == b""
        for wire in wires:
            wire.send(rest)
            assert wire.answer().status == status
            assert is_open(wire)
        assert is_open(stack.enter_context(worker.wire()))
        assert refused(worker, "connections") == 3


def test_room_is_made_only_where_there_is_something_idle(var: Path) -> None:
    with serving(var, max_connections=4) as worker, ExitStack() as stack:
        wires = connected(stack, worker, 4)
        for wire in wires[:3]:
            wire.send(PLAIN + b"GET /rec")
            assert wire.answer().body == LIST
        new = stack.enter_context(worker.wire())
        assert is_open(new)
        assert wires[3].to_the_end() == b""
        for wire in wires[:3]:
            wire.send(b"ommend/5 HTTP/1.1\r\nhost: a\r\n\r\n")
            assert wire.answer().body == LIST


@contextmanager
def many_files(count: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count:
        pytest.skip(f"this machine lets a process open {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_two_thousand_idle_connections_stop_nobody(var: Path) -> None:
    with many_files(4096), serving(var) as worker, ExitStack() as stack:
        silent = [stack.enter_context(worker.wire()) for _ in range(1000)]
        asked = connected(stack, worker, 1000)
        with worker.wire() as wire:
            for _ in range(100):
                assert wire.get("/recommend/5").body == LIST
                assert wire.get("/recommend/5?n=20").body == LIST
        assert all(is_open(wire) for wire in [*silent, *asked])


# Slow senders


def drip(wires: list[Wire]) -> None:
    """Send byte by byte on all connections until the worker says something on each, or ends it."""
    deadline = time.monotonic() + DEADLINE_S / 2
    while wires:
        assert time.monotonic() < deadline, f"{len(wires)} go on and on"
        for wire in wires:
            with suppress(ConnectionError):
                wire.send(b"x")
        wires = [wire for wire in wires if not readable(wire, 0.01)]


BEGINNINGS = [
    b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n",
    b"GET /recommend/",
    b"\r\n",
    PLAIN[:-2],
    PLAIN + PLAIN[:-2],
    b"x",
]


def test_a_request_that_drips_in_is_given_up_though_bytes_keep_coming(var: Path) -> None:
    with serving(var, request_s=0.5) as worker, ExitStack() as stack:
        wires = connected(stack, worker, len(BEGINNINGS))
        for wire, beginning in zip(wires, BEGINNINGS, strict=True):
            wire.send(beginning)
            for _ in range(beginning.count(b"\r\n\r\n")):
                assert wire.answer().body == LIST
        drip(wires[:-1])  # the last sends nothing more
        for wire in wires:
            answer = wire.answer()
            assert (answer.status, answer.closes) == (408, True)
            assert len(answer.body.splitlines()) == 1
        # of the one that sends nothing more, Sanic may know as well
        assert refused(worker, "slow_request") in (len(wires) - 1, len(wires))


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_a_body_that_drips_in_is_given_up_though_bytes_keep_coming(var: Path, method: bytes) -> None:
    with serving(var, request_s=0.5) as worker, ExitStack() as stack:
        wires = connected(stack, worker, 3)
        for wire, coding in zip(wires, (b"content-length: 60000", b"content-length: 9", CHUNKED), strict=True):
            wire.send(method + b" /recommend/5 HTTP/1.1\r\nhost: a\r\n" + coding + b"\r\n\r\n")
            wire.send(b"xxxx" if coding != CHUNKED else b"ea60\r\n")
        drip([wires[0], wires[2]])
        for wire in wires:  # number 1 sends nothing more
            assert wire.answer().status == 408
            assert wire.to_the_end() == b""


def test_a_client_that_never_rests_is_not_taken_for_a_slow_one(var: Path) -> None:
    """Its requests are each sent at once, but there is always the beginning of one more."""
    request_s, deadline = 1, time.monotonic() + DEADLINE_S
    with serving(var, request_s=request_s) as worker:
        while (waited := kept_on(worker, request_s + 2.5)) is not None:  # the guard looks once a second
            assert waited > request_s, "it was never slow, and was taken for it"
            assert time.monotonic() < deadline, "this machine lets no client be quick"


def kept_on(worker: WorkerProcess, seconds: float) -> float | None:
    """Ask on and on, always with the beginning of one more; None, or where one is refused the longest wait of any."""
    longest, now = 0.0, time.monotonic()
    until = now + seconds
    with worker.wire() as wire:
        wire.send(PLAIN[:9])
        while True:
            last = now > until
            wire.send(PLAIN[9:] if last else PLAIN[9:] + PLAIN[:9])
            body, began, now = wire.answer().body, now, time.monotonic()
            longest = max(longest, now - began)
            if body != LIST:
                return longest
            if last:
                return None


def test_a_connection_without_a_request_is_ended_and_one_in_use_is_not(var: Path) -> None:
    """Not even one whose client once did not read for a moment. On a busy machine that may be longer than is allowed:
    then once more, with longer limits."""
    assert any(one_in_use_stays(var, idle_s) for idle_s in (4, 40))


def one_in_use_stays(var: Path, idle_s: int) -> bool:
    """Whether a connection in use outlives one without a request, which is ended, and its client is not cut off."""
    with serving(var, idle_s=idle_s, write_s=1.5 * idle_s) as worker, worker.wire() as idle:
        with worker.wire(receive_buffer=4096) as used:
            assert is_open(idle)
            long_idle = time.monotonic() + 1.9 * idle_s
            used.send(request := b"GET /recommend/1 HTTP/1.1\r\nhost: a\r\n\r\n")
            answer, got = used.sock.recv(4096), bytearray()
            used.send(request * 12_000)  # the answers are more than Linux holds
            with worker.wire() as other:
                for _ in range(20):  # meanwhile they are all written
                    assert is_open(other)
            while len(got) < 12_000 * len(answer) and (data := received(used)):
                got += data
            stays = len(got) == 12_000 * len(answer)
            assert not stays or undated(bytes(got)) == undated(answer) * 12_000
            while stays and time.monotonic() < long_idle:
                stays = is_open(used)
                readable(used, 0.05)
        assert idle.to_the_end() == b""
        return stays and refused(worker, "slow_reader") == 0


def received(wire: Wire) -> bytes:
    """What has come; nothing where the connection was ended."""
    try:
        return wire.sock.recv(1 << 20)
    except ConnectionError:
        return b""


# Slow readers


def resident(worker: WorkerProcess) -> int:
    pages = int(Path(f"/proc/{worker.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.parametrize("path", ["/recommend/1", "/recommend/1?n=20"], ids=["lane", "sanic"])
def test_a_client_that_asks_on_and_on_and_never_reads_is_cut_off(var: Path, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n".encode()
    with serving(var, write_s=0.5) as worker, worker.wire(receive_buffer=4096) as greedy, worker.wire() as wire:
        assert is_open(wire)
        before, most, sent = resident(worker), 0, 0
        greedy.sock.setblocking(False)
        batch, deadline = request * 2000, time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            try:
                sent += greedy.sock.send(batch)
            except BlockingIOError:
                select.select([], [greedy.sock], [], 0.02)
            except ConnectionError:
                break
            most = max(most, resident(worker))
            assert wire.get("/recommend/5").body == LIST
        else:
            raise AssertionError("it was never cut off")
        assert sent > 1000 * len(request)
        assert most < before + 8_000_000
        until(lambda: refused(worker, "slow_reader") == 1)
        assert is_open(wire)


def test_a_client_that_reads_late_gets_all_in_order(var: Path) -> None:
    users = [1, 5, 9, 11] * 2500
    data = "".join(
        f"GET /recommend/{user}{'?n=20' if place % 7 == 0 else ''} HTTP/1.1\r\nhost: a\r\n\r\n"
        for place, user in enumerate(users)
    ).encode()
    lists = {1: names(*range(20)), 5: LIST, 9: names(25, 24, 23, 22), 11: names(*range(20))}
    with serving(var) as worker, worker.wire() as wire:
        wire.sock.setblocking(False)
        got = b""
        while data:
            try:
                data = data[wire.sock.send(data) :]
            except BlockingIOError:
                select.select([wire.sock], [wire.sock], [])
                if not select.select([], [wire.sock], [], 0)[1]:
                    got += wire.read()
        wire.sock.settimeout(DEADLINE_S)
        while got.count(b"HTTP/1.1 200 OK") < len(users) or not got.endswith(lists[11].encode()):
            got += wire.read()
        assert [answer.body for answer in answers_in(got)] == [lists[user] for user in users]
        assert is_open(wire)


# Too much


@pytest.fixture(scope="module")
def tight(module_var: Path) -> Iterator[WorkerProcess]:
    """A worker that reads little."""
    with serving(module_var, max_header_bytes=2000, max_body_bytes=1000) as worker:
        yield worker


TOO_MUCH = {
    "path": b"GET /recommend/" + b"5" * 3000 + b" HTTP/1.1\r\nhost: a\r\n\r\n",
    "query": b"GET /recommend/5?n=" + b"5" * 3000 + b" HTTP/1.1\r\nhost: a\r\n\r\n",
    "header": b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 3000 + b"\r\n\r\n",
    "headers": b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 500 + b"\r\n",
    "a little": b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 1980 + b"\r\n\r\n",
    "no end": b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 30_000,
    "no line": b"y" * 30_000,
    "megabytes": b"GET /recommend/5 HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 1_000_000,
}


@pytest.mark.parametrize("data", TOO_MUCH.values(), ids=TOO_MUCH.keys())
@pytest.mark.parametrize("first", [b"", PLAIN], ids=["alone", "after another"])
def test_a_head_that_is_too_long_is_refused_and_the_connection_ended(
    tight: WorkerProcess, data: bytes, first: bytes
) -> None:
    with tight.wire() as wire:
        with suppress(ConnectionError):  # it need not read all of it
            wire.send(first + data)
        if first:
            assert wire.answer().body == LIST
        answer = wire.answer()
        assert answer.status in (413, 414, 431)
        assert answer.closes
        assert wire.to_the_end() == b""
    assert tight.get("/recommend/5").body == LIST


@pytest.mark.parametrize(
    "data",
    [
        b"content-length: 1001\r\n\r\n" + b"x" * 1001,
        b"transfer-encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001 + b"\r\n",
    ],
    ids=["length", "chunk"],
)
def test_a_body_that_is_too_long_ends_the_connection(tight: WorkerProcess, data: bytes) -> None:
    with tight.wire() as wire:
        wire.send(b"POST /recommend/5 HTTP/1.1\r\nhost: a\r\n" + data)
        answer = wire.answer()
        assert (answer.status, answer.closes) == (413, True)
        assert wire.to_the_end() == b""


@pytest.mark.parametrize("coding", [b"content-length: 30000000", CHUNKED + b"\r\nx: y"], ids=["length", "chunk"])
def test_a_client_that_goes_on_sending_reads_why_it_was_refused_and_is_not_reset(
    tight: WorkerProcess, coding: bytes
) -> None:
    with tight.wire() as wire:
        wire.send(b"POST /recommend/5 HTTP/1.1\r\nhost: a\r\n" + coding + b"\r\n\r\n")
        wire.send(b"1c9c380\r\n" if coding.startswith(CHUNKED) else b"")
        for _ in range(300):
            wire.send(b"x" * 100_000)
        assert wire.answer().status == 413
        assert wire.sock.recv(1) == b""  # no reset


def test_who_sends_on_and_on_after_a_refusal_is_cut_off(var: Path) -> None:
    with serving(var, request_s=0.5) as worker, worker.wire() as wire, worker.wire() as other:
        wire.send(b"POST /recommend/5 HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999\r\n\r\n")
        assert wire.answer().status == 413
        deadline = time.monotonic() + DEADLINE_S
        with suppress(ConnectionError):
            while time.monotonic() < deadline:
                wire.send(b"x" * 1000)
                assert is_open(other)
            raise AssertionError("it was never cut off")


def test_a_client_that_is_one_too_many_reads_so_though_it_was_sending(var: Path) -> None:
    with serving(var, max_connections=2) as worker, ExitStack() as stack:
        for wire in connected(stack, worker, 2):
            wire.send(PLAIN[:-2] + PLAIN[:9])
        until(lambda: is_one_too_many(worker))


def is_one_too_many(worker: WorkerProcess) -> bool:
    with worker.wire() as wire:
        wire.send(PLAIN * 1000)
        answer = wire.answer()
        assert answer.status == 200 or answer.body == "too many connections"
        assert answer.status == 200 or wire.sock.recv(1) == b""  # no reset
        return answer.status == 503


def test_a_body_that_is_as_long_as_may_be_does_no_harm(tight: WorkerProcess) -> None:
    with tight.wire() as wire:
        wire.send(b"POST /recommend/5 HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n" + b"x" * 1000)
        assert wire.answer().status == 405
        assert is_open(wire)


# Too often


def is_refused(answer: HttpAnswer) -> bool:
    """Whether an answer is a refusal; if not, it is the list, and nothing in between."""
    if answer.status == 200:
        assert answer.body == LIST
        return False
    assert (answer.status, answer.body) == (503, "overloaded")
    assert int(answer.headers["retry-after"]) >= 1
    return True


def asked_while_it_stood_still(worker: WorkerProcess, wires: list[Wire], data: bytes) -> None:
    """Let all that is sent be older than `shed_s` when the worker comes to look at it."""
    worker.process.send_signal(signal.SIGSTOP)
    try:
        for wire in wires:
            wire.send(data)
        readable(wires[0], 0.4)
    finally:
        worker.process.send_signal(signal.SIGCONT)


HEAD = b"HEAD /recommend/5 HTTP/1.1\r\nhost: a\r\n\r\n"
BODY = b"GET /recommend/5?n=20 HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n\r\n"
SLOW = b"GET /similar/movie+3+2000 HTTP/1.1\r\nhost: a\r\n\r\n"
CROWD, PATIENT = 400, 100
"""Clients, and how many of them may wait in any case."""


@pytest.mark.parametrize(
    ("data", "requests", "closes"),
    [(OTHER, 1, False), (HEAD, 1, False), (OTHER * 2, 2, False), (BODY, 1, True), (OTHER + BODY, 2, True)],
    ids=["plain", "head", "two", "body", "plain and body"],
)
def test_where_many_wait_too_long_some_are_refused_at_once(var: Path, data: bytes, requests: int, closes: bool) -> None:
    with serving(var, shed_s=0.01) as worker, ExitStack() as stack:
        wires = connected(stack, worker, CROWD)
        asked_while_it_stood_still(worker, wires, data)
        answers = [list(answers_until_closed(wire, requests, data == HEAD)) for wire in wires]
        refusals = [answer for told in answers for answer in told if answer.status == 503]
        assert 1 <= len(refusals) <= CROWD * requests - PATIENT
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refusals)
        assert {answer.status for told in answers for answer in told} == {200, 503}
        # where its end is beyond doubt the connection stays
        assert {told[-1].closes for told in answers if told[-1].status == 503} == {closes}
        assert refused(worker, "overload") == len(refusals)
        assert all(is_open(wire) for wire, told in zip(wires, answers, strict=True) if not told[-1].closes)


def answers_until_closed(wire: Wire, requests: int, no_body: bool = False) -> Iterator[HttpAnswer]:
    for _ in range(requests):
        yield (answer := wire.answer(no_body))
        if answer.closes:
            assert wire.to_the_end() == b""
            return


def test_requests_behind_others_of_their_connection_are_shed_as_well(var: Path) -> None:
    """Each is as old as the piece it came in, so no more are answered late than if each had a connection."""
    depth = 20
    with serving(var, shed_s=0.01) as worker, ExitStack() as stack:
        wires = connected(stack, worker, 100)
        asked_while_it_stood_still(worker, wires, OTHER * depth)
        refusals = [is_refused(wire.answer()) for wire in wires for _ in range(depth)]
        # until they are late some are answered
        assert depth * 100 / 2 <= sum(refusals) <= depth * 100 - PATIENT
        assert refused(worker, "overload") == sum(refusals)
        assert all(is_open(wire) for wire in wires)


def test_probes_behind_other_requests_are_never_shed(var: Path) -> None:
    probe = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"
    with serving(var, shed_s=0.01) as worker, ExitStack() as stack:
        wires = connected(stack, worker, CROWD)
        asked_while_it_stood_still(worker, wires, OTHER + probe + OTHER)
        for wire in wires:
            first, probed, last = (wire.answer() for _ in range(3))
            assert (probed.status, probed.body) == (200, "alive")
            assert {first.status, last.status} <= {200, 503}
        assert refused(worker, "overload") > 0


def test_a_body_full_of_empty_lines_is_not_counted_as_requests_that_wait(var: Path) -> None:
    head = b"POST /recommend/5 HTTP/1.1\r\nhost: a\r\ncontent-length: 60000\r\n\r\n"
    with serving(var, shed_s=0.01) as worker, ExitStack() as stack:
        half, *wires = connected(stack, worker, 20)
        half.send(head + b"\r\n\r\n" * 10_000)
        assert is_open(wires[0])
        half.send(b"\r\n\r\n" * 4_990)
        for wire in wires:  # no more than may wait in any case; the last of them wait for long
            wire.send(SLOW * 5)
        assert {wire.answer().status for wire in wires for _ in range(5)} == {200}


def test_the_lane_and_probes_refuse_nobody_and_a_few_may_wait(var: Path) -> None:
    with serving(var, shed_s=0.01) as worker, ExitStack() as stack:
        wires = connected(stack, worker, CROWD)
        for data, asking in (
            (PLAIN, wires),
            (b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n", wires),
            (OTHER, wires[:PATIENT]),
        ):
            asked_while_it_stood_still(worker, asking, data)
            assert {wire.answer().status for wire in asking} == {200}


def test_new_clients_are_let_in_while_others_keep_it_busy(var: Path) -> None:
    with serving(var) as worker, ExitStack() as stack:
        busy = connected(stack, worker, 50)
        for wire in busy:
            wire.send(OTHER * 400)
        for _ in range(50):
            assert is_open(stack.enter_context(worker.wire()))
        # those who were first are not done: each of theirs waits for the turn of all others
        assert readable(busy[-1], DEADLINE_S)
        assert all(wire.answer().body == LIST for wire in busy for _ in range(400))


def test_who_sends_many_requests_at_once_lets_others_have_their_turn(var: Path) -> None:
    with serving(var) as worker, ExitStack() as stack:
        flood, other = connected(stack, worker, 2)
        flood.send(PLAIN * 2_000)
        other.send(PLAIN)
        assert other.answer().body == LIST
        assert all(flood.answer().body == LIST for _ in range(2_000))
        assert is_open(flood)


@pytest.mark.parametrize("pause_s", [0, 0.001])
def test_many_requests_in_pieces_over_a_new_connection_are_answered_in_order(var: Path, pause_s: float) -> None:
    users = [(1, names(*range(20))), (5, LIST), (9, names(25, 24, 23, 22))]
    asked = [users[number % 3] for number in range(700)]
    data = b"".join(b"GET /recommend/%d HTTP/1.1\r\nhost: a\r\n\r\n" % user for user, _ in asked)
    with serving(var) as worker:
        for size in (3_000, 9_000, 11_111):
            with worker.wire() as wire:
                for at in range(0, len(data), size):
                    wire.send(data[at : at + size])
                    readable(wire, pause_s)
                assert [wire.answer().body for _ in asked] == [body for _, body in asked]


@pytest.mark.parametrize("rest", [OTHER, b"GET /recommend/abc HTTP/1.1\r\nhost: a\r\n\r\n", b"GET /recommend/5 HT"])
def test_what_comes_behind_many_plain_requests_is_answered_in_order(var: Path, rest: bytes) -> None:
    with serving(var) as worker, worker.wire() as wire:
        for count in (63, 64, 65, 128, 500):
            wire.send(PLAIN * count + rest)
            if not rest.endswith(b"\r\n\r\n"):
                wire.send(b"TP/1.1\r\nhost: a\r\n\r\n")
            answers = [wire.answer() for _ in range(count + 1)]
            assert {answer.status for answer in answers[:-1]} == {200}
            assert answers[-1].status == (400 if b"abc" in rest else 200)


def test_nothing_is_refused_while_there_is_time(var: Path) -> None:
    with serving(var) as worker, ExitStack() as stack:
        for wire in connected(stack, worker, 20):
            wire.send(PLAIN * 20 + OTHER * 5)
            assert {wire.answer().status for _ in range(25)} == {200}
        assert refused(worker, "overload") == 0
