"""The webhook against a real receiver: in order, at least once, through failures and kills."""

import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from loadtest.demo.processes import free_port
from quality.alerts import webhook
from quality.alerts.alert_file import Alert, AlertFile, raise_alert
from quality.alerts.webhook import Outbox, Poster, posting
from quality.settings import QualitySettings
from tests.polling import until
from tests.quality.alerts.webhook_receiver import CUT, ENDLESS, HANG, HANG_S, REFUSE, WAIT, Answer, Receiver

ROOT = Path(__file__).parents[3]
NAMES = ["a", "b", "c"]


def alert(name: str) -> Alert:
    return Alert(id=name, alert="test", text=f"{name} happened")


LONG_S = 600.0
"""A time-out that is never met where there is an answer."""


def left(var: Path) -> list[str]:
    """Ids of what was not delivered."""
    return [alert.id for _, _, alert in Outbox(var).pending()]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    until(lambda: "alerts" not in [thread.name for thread in threading.enumerate()])


@contextmanager
def poster(var: Path, url: str, timeout_s: float = LONG_S, first_pause_s: float = 0.01) -> Iterator[Poster]:
    """A poster with short pauses."""
    running = Poster(var, QualitySettings(webhook=url, webhook_timeout_s=timeout_s), first_pause_s)
    running.start()
    try:
        yield running
    finally:
        running.stop()


def test_alerts_are_posted_in_order_as_they_stand_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "IDLE_S", 3600)  # only `wake` makes it post
    with (
        Receiver([]).up() as receiver,
        posting(tmp_path, QualitySettings(webhook=receiver.url, webhook_timeout_s=LONG_S)) as own_poster,
    ):
        AlertFile(tmp_path).append(map(alert, NAMES))
        own_poster.wake()
        until(lambda: len(receiver.taken) == 3)
        raise_alert(tmp_path, alert("d"))
        own_poster.wake()
        until(lambda: left(tmp_path) == [])
    assert receiver.taken == ["a", "b", "c", "d"]
    assert [posted.text for _, posted in receiver.posts] == [f"{name} happened" for name in "abcd"]
    assert {headers["content-type"] for headers in receiver.headers} == {"application/json"}
    assert receiver.posts[0][1].id == "a"


TROUBLES: list[list[Answer]] = [
    [500],
    [500, 502, 503],
    [429, (429, {"retry-after": "0"}), (503, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})],
    [(429, {"retry-after": "soon"}), 408],
    [CUT],
    [CUT, 500, CUT, 204],
    [HANG],
    [200, 500, 201, 500, 204],
    [(302, {"location": "/"}), (307, {"location": "/"}), 304],
    [100],
]


@pytest.mark.parametrize("answers", TROUBLES, ids=str)
def test_what_is_not_taken_comes_again_until_it_is(
    tmp_path: Path, answers: list[Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    post = webhook.Webhook.post

    def hasty_once(self: webhook.Webhook, line: bytes, alert: Alert) -> None:
        try:
            post(self, line, alert)
        finally:
            self._timeout_s = LONG_S

    monkeypatch.setattr(webhook.Webhook, "post", hasty_once)
    tries = len(answers)
    fine = sum(isinstance(answer, int) and 200 <= answer < 300 for answer in answers)
    with Receiver(list(answers)).up() as receiver:
        AlertFile(tmp_path).append(map(alert, NAMES))
        with poster(tmp_path, receiver.url, 0.3 if answers == [HANG] else LONG_S):
            until(lambda: left(tmp_path) == [])
        assert receiver.taken == NAMES
        assert len(receiver.posts) == 3 + tries - fine
        assert list(dict(receiver.posts)) == NAMES  # by their first attempts


def test_a_receiver_that_is_down_gets_all_when_it_is_up_and_the_log_says_it_twice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    port, attempts = free_port(), []
    deliver = Poster._deliver

    def counted(self: Poster) -> None:
        attempts.append(1)
        deliver(self)

    with pytest.MonkeyPatch.context() as patch, poster(tmp_path, f"http://127.0.0.1:{port}/SECRET") as own_poster:
        patch.setattr(Poster, "_deliver", counted)
        AlertFile(tmp_path).append(map(alert, NAMES))
        own_poster.wake()
        until(lambda: len(attempts) > 4)
        assert left(tmp_path) == NAMES
        with Receiver([]).up(port) as receiver:
            until(lambda: left(tmp_path) == [])
    assert receiver.taken == NAMES
    messages = [record.getMessage() for record in caplog.records if record.name == "quality.alerts.webhook"]
    assert messages == [
        "webhook: alerts are not accepted: NewConnectionError; they wait in alerts.jsonl and are retried",
        "webhook: alerts are accepted again",
    ]
    assert "SECRET" not in "".join(record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG)


def test_pauses_grow_and_an_answer_can_ask_for_longer_ones(tmp_path: Path) -> None:
    own_poster = Poster(tmp_path, QualitySettings())
    pauses = []
    for asked in (0, 0, 0, 0, 100, 0, 0, 0, 3600, 0):
        own_poster._failed("x", asked)
        pauses.append(own_poster._pause_s)
    assert pauses == [1, 2, 4, 8, 100, 200, 300, 300, 3600, 300]


@pytest.mark.parametrize(
    ("answer", "pause_s"),
    [
        (400, 300),
        (404, 300),
        (500, 0),
        (429, 0),
        ((429, {"retry-after": "7"}), 7),
        ((404, {"retry-after": "7"}), 7),
        ((503, {"retry-after": "86400000"}), 3600),
    ],
)
def test_what_blames_the_alert_is_tried_slowly(tmp_path: Path, answer: Answer, pause_s: float) -> None:
    with Receiver([answer]).up() as receiver, pytest.raises(webhook.DeliveryFailed, match="answers") as failure:
        webhook.Webhook(receiver.url, 5).post(msgspec.json.encode(alert("a")), alert("a"))
    assert failure.value.pause_s == pause_s


def test_an_alert_that_was_blamed_is_not_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "LONGEST_PAUSE_S", 0.02)
    with Receiver([400, 404, 400]).up() as receiver:
        AlertFile(tmp_path).append(map(alert, NAMES))
        with poster(tmp_path, receiver.url):
            until(lambda: left(tmp_path) == [])
    assert (len(receiver.posts), receiver.taken) == (6, NAMES)


@pytest.mark.parametrize("name", ["ä→", "two\r\nlines", "clock:a b", "\x00"])
def test_an_id_may_hold_anything(tmp_path: Path, name: str) -> None:
    with Receiver([]).up() as receiver, poster(tmp_path, receiver.url) as own_poster:
        raise_alert(tmp_path, alert(name))
        own_poster.wake()
        until(lambda: left(tmp_path) == [])
    assert receiver.posts[0][1].id == name


def test_without_a_webhook_there_is_no_thread_and_nothing_is_written(tmp_path: Path) -> None:
    with posting(tmp_path / "var", QualitySettings()) as own_poster:
        own_poster.wake()
        assert [thread for thread in threading.enumerate() if thread.name == "alerts"] == []
    assert not (tmp_path / "var").exists()


def test_stop_is_prompt_and_attempts_once_more(tmp_path: Path) -> None:
    with Receiver([(503, {"retry-after": "3000"})]).up() as receiver:
        raise_alert(tmp_path, alert("a"))
        with poster(tmp_path, receiver.url) as own_poster:
            until(lambda: own_poster._trouble)  # it would pause for nearly an hour
            began = time.monotonic()
        assert time.monotonic() - began < LONG_S
        assert receiver.taken == ["a"]
        with posting(tmp_path, QualitySettings(webhook=receiver.url, webhook_timeout_s=LONG_S)) as other:
            until(lambda: not other._wake.is_set())
            raise_alert(tmp_path, alert("b"))  # nobody wakes it
        assert receiver.taken == ["a", "b"]


def test_stop_does_not_wait_for_a_receiver_that_hangs_or_is_slow(tmp_path: Path) -> None:
    with Receiver([HANG] * 100).up() as receiver:
        AlertFile(tmp_path).append(map(alert, NAMES))
        with poster(tmp_path, receiver.url, timeout_s=0.5, first_pause_s=3600):
            until(lambda: receiver.posts)
            began = time.monotonic()
        assert time.monotonic() - began < HANG_S / 2
        receiver.ended.set()
    assert len(receiver.posts) <= 2  # the attempt that was under way, and the last
    assert left(tmp_path) == NAMES


def test_an_attempt_that_fails_while_the_process_ends_is_not_the_last(tmp_path: Path) -> None:
    with Receiver([REFUSE]).up() as receiver:
        raise_alert(tmp_path, alert("a"))
        own_poster = Poster(tmp_path, QualitySettings(webhook=receiver.url, webhook_timeout_s=LONG_S))
        own_poster.start()
        until(lambda: receiver.posts)
        ending = threading.Thread(target=own_poster.stop)
        ending.start()
        until(own_poster._stop.is_set)
        receiver.gate.set()
        ending.join()
        assert receiver.taken == ["a"]


def test_what_is_raised_amid_the_last_posts_is_posted_as_well(tmp_path: Path) -> None:
    with Receiver([WAIT]).up() as receiver:
        raise_alert(tmp_path, alert("a"))
        own_poster = Poster(tmp_path, QualitySettings(webhook=receiver.url, webhook_timeout_s=LONG_S))
        own_poster.start()
        until(lambda: receiver.posts)
        raise_alert(tmp_path, alert("b"))
        ending = threading.Thread(target=own_poster.stop)
        ending.start()
        until(own_poster._wake.is_set)
        receiver.gate.set()
        ending.join()
        assert receiver.taken == ["a", "b"]


def test_the_status_is_the_answer_whatever_follows(tmp_path: Path) -> None:
    with Receiver([ENDLESS, ENDLESS]).up() as receiver:
        AlertFile(tmp_path).append(map(alert, NAMES))
        with poster(tmp_path, receiver.url):
            until(lambda: left(tmp_path) == [])
        assert [name for name, _ in receiver.posts] == NAMES


def test_a_backlog_does_not_hold_up_the_end(tmp_path: Path) -> None:
    AlertFile(tmp_path).append(alert(str(number)) for number in range(2000))
    with Receiver([]).up() as receiver:
        with poster(tmp_path, receiver.url, timeout_s=0.1) as own_poster:
            own_poster._webhook._timeout_s = LONG_S  # the time is for the end, and not for a post
            until(lambda: len(receiver.taken) > 3)
        until(lambda: not (own_poster._thread and own_poster._thread.is_alive()))
        before = len(receiver.taken)
        assert 0 < before < 2000
        assert left(tmp_path) == [str(number) for number in range(before, 2000)]


def test_what_another_process_raised_is_found_without_a_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "IDLE_S", 0.02)
    with Receiver([]).up() as receiver, poster(tmp_path, receiver.url):
        raise_alert(tmp_path, alert("a"))
        until(lambda: receiver.taken == ["a"])


def test_several_posters_post_each_alert_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "IDLE_S", 0.005)
    names = [str(number) for number in range(60)]
    with (
        Receiver([]).up() as receiver,
        poster(tmp_path, receiver.url) as own_poster,
        poster(tmp_path, receiver.url) as other_poster,
        poster(tmp_path, receiver.url),
    ):
        for name in names:
            raise_alert(tmp_path, alert(name))
            own_poster.wake()
            other_poster.wake()
        until(lambda: left(tmp_path) == [])
    assert receiver.taken == names


def test_a_mark_is_of_the_file_that_it_was_made_for(tmp_path: Path) -> None:
    outbox, path = Outbox(tmp_path), tmp_path / "alerts.jsonl"
    AlertFile(tmp_path).append(map(alert, NAMES))
    outbox.delivered(outbox.pending()[1])
    assert left(tmp_path) == ["c"]
    data = path.read_bytes()
    path.write_bytes(data.partition(b"\n")[2])  # a person has removed the first line
    assert left(tmp_path) == ["c"]
    path.rename(tmp_path / "alerts.old")
    assert left(tmp_path) == []
    AlertFile(tmp_path).append(map(alert, ["d", "e", "f", "g"]))  # a new file, longer than the mark
    assert left(tmp_path) == ["d", "e", "f", "g"]
    for garbage in (b"{", b'{"end": 1, "id": "\xff"}'):
        (tmp_path / "alerts.posted").write_bytes(garbage)
        assert left(tmp_path) == ["d", "e", "f", "g"]


def test_lines_that_are_no_alerts_do_not_stop_the_others(tmp_path: Path) -> None:
    raise_alert(tmp_path, alert("a"))
    with (tmp_path / "alerts.jsonl").open("ab") as file:
        file.write(b'nonsense\n{"alert":"quarantined","batch":"log-0-1-2","text":"old"}\n{"id":"torn')
    with Receiver([]).up() as receiver, poster(tmp_path, receiver.url):
        until(lambda: left(tmp_path) == [])
        assert receiver.taken == ["a", "quarantined:log-0-1-2"]


def test_a_fault_of_ours_does_not_end_the_thread(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "alerts.posted").mkdir()
    with Receiver([]).up() as receiver, poster(tmp_path, receiver.url):
        raise_alert(tmp_path, alert("a"))
        until(lambda: "IsADirectoryError" in caplog.text)
        (tmp_path / "alerts.posted").rmdir()
        until(lambda: receiver.taken == ["a"])
    assert caplog.text.count("not accepted") == 1


PROGRAM = """
import sys, threading
from pathlib import Path
from quality.alerts.webhook import Poster
from quality.alerts.alert_file import Alert, raise_alert
from quality.settings import QualitySettings
var, url, name = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
poster = Poster(var, QualitySettings(webhook=url, webhook_timeout_s=60))
poster.start()
raise_alert(var, Alert(id=name, alert="test", text="x"))
poster.wake()
print("raised", flush=True)
threading.Event().wait()
"""


@contextmanager
def raising(var: Path, url: str, name: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that raises an alert, posts it, and is then killed (-9)."""
    command = [sys.executable, "-c", PROGRAM, str(var), url, name]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"raised\n"
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


def test_kill_9_between_raise_and_post_and_amid_the_post_loses_nothing(tmp_path: Path) -> None:
    with raising(tmp_path, f"http://127.0.0.1:{free_port()}", "a"):
        pass  # nobody listens
    with Receiver([HANG]).up() as receiver:
        with raising(tmp_path, receiver.url, "b"):
            until(lambda: receiver.posts)  # it has sent the first, and waits for the answer
        assert left(tmp_path) == ["a", "b"]
        with poster(tmp_path, receiver.url):
            until(lambda: left(tmp_path) == [])
        assert receiver.taken == ["a", "b"]
        assert [name for name, _ in receiver.posts] == ["a", "a", "b"]
    with Receiver([]).up() as receiver:
        with raising(tmp_path, receiver.url, "c"):
            until(lambda: receiver.taken == ["c"])
        with poster(tmp_path, receiver.url):
            until(lambda: left(tmp_path) == [])
        assert set(receiver.taken) == {"c"}  # once more at most, if the mark was not yet on disk
