"""Posts every alert of `var/alerts.jsonl` to the webhook, in order, at least once.

The file is the outbox; `var/alerts.posted` marks how far it has been delivered, and moves only behind an answer of 2xx.
The body is the alert's line, the header `idempotency-key` its id, by which a receiver knows one that comes again.

| what happens | what holds |
|---|---|
| the receiver is down, hangs, answers anything but 2xx | tried again, after pauses that grow up to minutes, for ever |
| it says when to come again (`retry-after`) | not before that, an hour at most |
| killed between answer and mark | posted once more at the next start |
| several processes have posters | one posts at a time, under `alerts.posting.lock` |
| the process ends | one last attempt, behind the one that may be under way; a time-out is waited for each |

A poster is a thread beside the process's work: nothing that it meets reaches that, and it logs a trouble once, when it
begins, and once when it is over. The log never shows the URL: many carry their password in it.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import filelock
import msgspec
import urllib3

from quality.alerts.alert_file import Alert, AlertFile, decode_alert
from quality.settings import QualitySettings
from stream import durable

log = logging.getLogger(__name__)

IDLE_S = 5.0
"""How often a poster looks by itself: another process may have raised an alert and ended."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 300.0
LONGEST_RETRY_AFTER_S = 3600.0
BUSY = (408, 429)
"""Of the answers 4xx, those that do not blame what was posted."""


class DeliveryMark(msgspec.Struct, frozen=True):
    """How far the alerts have been delivered."""

    end: int = 0
    """The byte of the file behind the last one."""
    id: str = ""
    """Its id, by which the mark is known to belong to this file."""


class DeliveryFailed(Exception):
    """An alert was not taken; the text says why, in a few words."""

    def __init__(self, text: str, pause_s: float = 0.0) -> None:
        super().__init__(text)
        self.pause_s = pause_s
        """The shortest pause before the next attempt."""


class Outbox:
    """What of one `var` folder's alerts has not been delivered."""

    def __init__(self, var: Path) -> None:
        self._file = AlertFile(var)
        self._mark = var / "alerts.posted"

    def pending(self) -> list[tuple[int, bytes, Alert]]:
        """The alerts behind the mark, each with its line and where that ends."""
        mark = self._read_mark()
        if mark.end == 0:
            return self._file.read()
        if self._belongs(mark):
            return self._file.read(mark.end)
        # another file than the one that was posted: behind the same alert, if it is there, else from its beginning
        found = self._file.read()
        places = [place for place, (_, _, alert) in enumerate(found) if alert.id == mark.id]
        return found[places[-1] + 1 :] if places else found

    def delivered(self, end: int, alert: Alert) -> None:
        """Move the mark behind an alert, durably."""
        durable.write_bytes(self._mark, msgspec.json.encode(DeliveryMark(end, alert.id)))

    def _read_mark(self) -> DeliveryMark:
        try:
            return msgspec.json.decode(self._mark.read_bytes(), type=DeliveryMark)
        except (FileNotFoundError, msgspec.DecodeError):
            return DeliveryMark()

    def _belongs(self, mark: DeliveryMark) -> bool:
        """Whether the marked alert's line ends where the mark says."""
        try:
            with self._file.path.open("rb") as file:
                file.seek(max(0, mark.end - 65_536))
                before = file.read(min(65_536, mark.end))
        except FileNotFoundError:
            return False
        if not before.endswith(b"\n"):
            return False
        alert = decode_alert(before[:-1].rpartition(b"\n")[2])
        return alert is not None and alert.id == mark.id


class Webhook:
    """The receiver."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url, self._timeout_s = url, timeout_s
        self._http = urllib3.PoolManager()

    def post(self, line: bytes, alert: Alert) -> None:
        """Post an alert. Raises `DeliveryFailed` for whatever is no 2xx.

        Neither urllib3's own retries, which sleep on when the process shall end and log the URL, nor its redirects,
        which turn a POST into a GET that anybody answers with 200.
        """
        # an id may hold what a header may not
        headers = {"content-type": "application/json", "idempotency-key": quote(alert.id, safe=":/+,=@ ")}
        timeout = urllib3.Timeout(total=self._timeout_s)
        try:
            response = self._http.request(
                "POST", self._url, body=line, headers=headers, timeout=timeout,
                retries=False, redirect=False, preload_content=False,
            )  # fmt: skip
        except urllib3.exceptions.HTTPError as error:
            raise DeliveryFailed(type(error).__name__) from error
        response.close()  # the status says it all; what follows may be endless
        if not 200 <= response.status < 300:
            raise DeliveryFailed(f"answers {response.status}", _pause_s(response))


def _pause_s(response: urllib3.BaseHTTPResponse) -> float:
    """The pause that an answer asks for, or that it gives reason for: a fault of ours is not mended in a second."""
    if told := response.headers.get("retry-after"):
        try:
            return min(LONGEST_RETRY_AFTER_S, urllib3.Retry().parse_retry_after(told))
        except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
            pass
    return LONGEST_PAUSE_S if 400 <= response.status < 500 and response.status not in BUSY else 0.0


class Poster:
    """Posts what is pending, in a thread of its own between `start` and `stop`; without a webhook, nothing."""

    def __init__(self, var: Path, settings: QualitySettings, first_pause_s: float = FIRST_PAUSE_S) -> None:
        self._outbox = Outbox(var)
        self._webhook = Webhook(settings.webhook, settings.webhook_timeout_s)
        self._timeout_s = settings.webhook_timeout_s
        self._lock = var / "alerts.posting.lock"
        self._first_pause_s, self._pause_s = first_pause_s, 0.0
        self._trouble = ""
        """What is wrong at present, as it was logged; empty: nothing."""
        self._wake, self._stop, self._stopped_at = threading.Event(), threading.Event(), 0.0
        # a daemon: a receiver that drips its answer for ever does not keep the process
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True) if settings.webhook else None

    def start(self) -> None:
        if self._thread:
            self._thread.start()

    def wake(self) -> None:
        """Say that something was raised; it is posted soon. Never waits."""
        self._wake.set()

    def stop(self) -> None:
        """End after one last attempt; it and the one that is under way are waited for, a time-out each."""
        self._stopped_at = time.monotonic()
        self._stop.set()
        self._wake.set()
        if self._thread:
            self._thread.join(2 * self._timeout_s)

    def _run(self) -> None:
        while True:
            last = self._stop.is_set()
            fine = self._tried()
            if last:
                return
            if fine:
                self._wake.wait(IDLE_S)
                self._wake.clear()
            else:
                self._stop.wait(self._pause_s)

    def _tried(self) -> bool:
        """Whether all could be delivered, or another process is at it."""
        try:
            self._deliver()
        except filelock.Timeout:
            return True
        except DeliveryFailed as trouble:
            self._failed(str(trouble), trouble.pause_s)
            return False
        except Exception as error:  # noqa: BLE001 -- the edge of the thread: whatever it is, alerts wait in their file
            self._failed(repr(error), 0.0)
            return False
        if self._trouble:
            log.info("webhook: alerts are taken again")
        self._trouble, self._pause_s = "", 0.0
        return True

    def _failed(self, trouble: str, pause_s: float) -> None:
        self._pause_s = max(pause_s, min(LONGEST_PAUSE_S, self._pause_s * 2 or self._first_pause_s))
        if trouble != self._trouble:
            log.error("webhook: alerts are not taken: %s; they wait in alerts.jsonl and are tried again", trouble)
        self._trouble = trouble

    def _deliver(self) -> None:
        """Post what is pending. Raises `DeliveryFailed` at the first that is not taken, `Timeout` where another
        posts."""
        if not self._outbox.pending():
            return
        with filelock.FileLock(self._lock, blocking=False):
            for end, line, alert in self._outbox.pending():
                self._webhook.post(line, alert)
                self._outbox.delivered(end, alert)
                self._pause_s = 0.0
                if self._stop.is_set() and time.monotonic() - self._stopped_at > self._timeout_s:
                    return


@contextmanager
def posting(var: Path, settings: QualitySettings) -> Iterator[Poster]:
    """A poster at work; wake it where something is raised."""
    poster = Poster(var, settings)
    poster.start()
    try:
        yield poster
    finally:
        poster.stop()
