"""Overload: requests that have waited too long are refused at once, and no client keeps the others waiting."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.polling import DEADLINE_S
from tests.server.sample_releases import names
from tests.server.worker_connections import LIST, OTHER, PLAIN, connected, is_open, readable, refused
from tests.server.worker_processes import HttpAnswer, Wire, WorkerProcess, serving


def is_refused(answer: HttpAnswer) -> bool:
    """Whether an answer is a refusal; any other answer must be the list."""
    if answer.status == 200:
        assert answer.body == LIST
        return False
    assert (answer.status, answer.body) == (503, "overloaded")
    assert int(answer.headers["retry-after"]) >= 1
    return True


def asked_while_it_stood_still(worker: WorkerProcess, wires: list[Wire], data: bytes) -> None:
    """Send data to a stopped worker, so that it is older than `shed_s` when the worker reads it."""
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
"""Clients, and how many requests may wait without being shed."""


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
        refusals = [answer for replies in answers for answer in replies if answer.status == 503]
        assert 1 <= len(refusals) <= CROWD * requests - PATIENT
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refusals)
        assert {answer.status for replies in answers for answer in replies} == {200, 503}
        # the connection stays open if the end of the request is beyond doubt
        assert {replies[-1].closes for replies in answers if replies[-1].status == 503} == {closes}
        assert refused(worker, "overload") == len(refusals)
        assert all(is_open(wire) for wire, replies in zip(wires, answers, strict=True) if not replies[-1].closes)


def answers_until_closed(wire: Wire, requests: int, no_body: bool = False) -> Iterator[HttpAnswer]:
    for _ in range(requests):
        yield (answer := wire.answer(no_body))
        if answer.closes:
            assert wire.to_the_end() == b""
            return


def test_requests_behind_others_of_their_connection_are_shed_as_well(var: Path) -> None:
    """Each is as old as the piece it arrived in, so no more are answered late than on connections of their own."""
    depth = 20
    with serving(var, shed_s=0.01) as worker, ExitStack() as stack:
        wires = connected(stack, worker, 100)
        asked_while_it_stood_still(worker, wires, OTHER * depth)
        refusals = [is_refused(wire.answer()) for wire in wires for _ in range(depth)]
        # some are answered before the others become late
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
        for wire in wires:  # as many as are never shed; the last of them wait for long
            wire.send(SLOW * 5)
        assert {wire.answer().status for wire in wires for _ in range(5)} == {200}


def test_the_lane_and_probes_never_refuse_and_a_few_requests_may_wait(var: Path) -> None:
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
        # the first clients are not done: each of their requests waits for the turns of all others
        assert readable(busy[-1], DEADLINE_S)
        assert all(wire.answer().body == LIST for wire in busy for _ in range(400))


def test_pipelined_requests_leave_other_clients_their_turn(var: Path) -> None:
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
                for start in range(0, len(data), size):
                    wire.send(data[start : start + size])
                    readable(wire, pause_s)
                assert [wire.answer().body for _ in asked] == [body for _, body in asked]


@pytest.mark.parametrize("rest", [OTHER, b"GET /recommend/abc HTTP/1.1\r\nhost: a\r\n\r\n", b"GET /recommend/5 HT"])
def test_requests_behind_many_plain_ones_are_answered_in_order(var: Path, rest: bytes) -> None:
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
