"""Posts every alert of `var/alerts.jsonl` to the webhook, in order, at least once.

The body is the alert's line of the file (`quality.alerts.alert_file.Alert` as JSON); the header `idempotency-key` is
its id, by which the receiver recognises a repeated post. `var/alerts.posted` marks the last delivered alert, and moves
only after a 2xx answer.

| event | guarantee |
|---|---|
| the receiver is down, hangs, answers anything but 2xx | retried for ever, with pauses that grow to minutes |
| it asks for a pause (`retry-after`) | not retried before, but after an hour at most |
| killed between answer and mark | posted once more at the next start |
| several processes have posters | one posts at a time, under `alerts.posting.lock` |
| the process ends | one last attempt, after any that is under way; each may take a time-out |

A poster runs in a separate thread, so its failures never affect the process's work. It logs the beginning and the end
of a failure. The log never shows the URL, since many hold a password.
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

from quality.alerts.alert_file import Alert, AlertFile, AlertLine, decode_alert
from quality.settings import QualitySettings
from stream import durable
from stream.decoding import decode_json

log = logging.getLogger(__name__)

IDLE_S = 5.0
"""How often a poster reads the file without a wake-up: another process may have raised an alert and ended."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 300.0
LONGEST_RETRY_AFTER_S = 3600.0
BUSY = (408, 429)
"""4xx answers that do not reject the alert itself."""


class DeliveryMark(msgspec.Struct, frozen=True):
    """The last delivered alert, as `var/alerts.posted` holds it."""

    end: int = 0
    """The offset after its line, in bytes; 0: nothing was delivered."""
    id: str = ""
    """Its id, which shows that the mark belongs to this file."""


class DeliveryFailed(Exception):
    """The receiver did not accept an alert; the text says why, in a few words."""

    def __init__(self, text: str, pause_s: float = 0.0) -> None:
        super().__init__(text)
        self.pause_s = pause_s
        """The shortest pause before the next attempt."""


class Outbox:
    """The alerts of one `var` folder that have not been delivered."""

    def __init__(self, var: Path) -> None:
        self._file = AlertFile(var)
        self._mark = var / "alerts.posted"

    def pending(self) -> list[AlertLine]:
        """The alerts after the mark, in order."""
        mark = self._read_mark()
        if mark.end == 0:
            return self._file.read()
        if self._belongs(mark):
            return self._file.read(mark.end)
        # the file was replaced: continue after the marked alert if it is there, else start with the first
        lines = self._file.read()
        marked = [index for index, line in enumerate(lines) if line.alert.id == mark.id]
        return lines[marked[-1] + 1 :] if marked else lines

    def delivered(self, line: AlertLine) -> None:
        """Move the mark after an alert, durably."""
        durable.write_bytes(self._mark, msgspec.json.encode(DeliveryMark(line.end, line.alert.id)))

    def _read_mark(self) -> DeliveryMark:
        try:
            return decode_json(self._mark.read_bytes(), DeliveryMark)
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
    """The receiver's URL and a client for it."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url, self._timeout_s = url, timeout_s
        self._http = urllib3.PoolManager()

    def post(self, line: bytes, alert: Alert) -> None:
        """Post an alert. Raises `DeliveryFailed` for any answer but 2xx.

        Does without urllib3's retries, which log the URL and sleep on while the process ends, and without its
        redirects, which turn a POST into a GET that any page answers with 200.
        """
        # an id may contain characters that a header may not
        headers = {"content-type": "application/json", "idempotency-key": quote(alert.id, safe=":/+,=@ ")}
        timeout = urllib3.Timeout(total=self._timeout_s)
        try:
            response = self._http.request(
                "POST", self._url, body=line, headers=headers, timeout=timeout,
                retries=False, redirect=False, preload_content=False,
            )  # fmt: skip
        except urllib3.exceptions.HTTPError as error:
            raise DeliveryFailed(type(error).__name__) from error
        response.close()  # the status is enough; the body may be endless
        if not 200 <= response.status < 300:
            raise DeliveryFailed(f"answers {response.status}", _pause_s(response))


def _pause_s(response: urllib3.BaseHTTPResponse) -> float:
    """The pause that an answer asks for; the longest for one that rejects the alert, since a retry would not help."""
    if retry_after := response.headers.get("retry-after"):
        try:
            return min(LONGEST_RETRY_AFTER_S, urllib3.Retry().parse_retry_after(retry_after))
        except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
            pass
    return LONGEST_PAUSE_S if 400 <= response.status < 500 and response.status not in BUSY else 0.0


class Poster:
    """Posts pending alerts in a separate thread, from `start` to `stop`; does nothing without a webhook."""

    def __init__(self, var: Path, settings: QualitySettings, first_pause_s: float = FIRST_PAUSE_S) -> None:
        self._outbox = Outbox(var)
        self._webhook = Webhook(settings.webhook, settings.webhook_timeout_s)
        self._timeout_s = settings.webhook_timeout_s
        self._lock = var / "alerts.posting.lock"
        self._first_pause_s, self._pause_s = first_pause_s, 0.0
        self._trouble = ""
        """The current failure as it was logged; empty: none."""
        self._wake, self._stop, self._stopped_at = threading.Event(), threading.Event(), 0.0
        # a daemon thread: a receiver that answers byte by byte for ever cannot keep the process alive
        self._thread = threading.Thread(target=self._run, name="alerts", daemon=True) if settings.webhook else None

    def start(self) -> None:
        if self._thread:
            self._thread.start()

    def wake(self) -> None:
        """Tell the poster that an alert was raised; never blocks."""
        self._wake.set()

    def stop(self) -> None:
        """Stop after one last attempt. Waits for it, and for one under way, at most a time-out each."""
        self._stopped_at = time.monotonic()
        self._stop.set()
        self._wake.set()
        if self._thread:
            self._thread.join(2 * self._timeout_s)

    def _run(self) -> None:
        while True:
            is_last = self._stop.is_set()
            succeeded = self._tried()
            if is_last:
                return
            if succeeded:
                self._wake.wait(IDLE_S)
                self._wake.clear()
            else:
                self._stop.wait(self._pause_s)

    def _tried(self) -> bool:
        """Attempt delivery; True if all alerts were delivered, or another process is delivering them."""
        try:
            self._deliver()
        except filelock.Timeout:
            return True
        except DeliveryFailed as trouble:
            self._failed(str(trouble), trouble.pause_s)
            return False
        except Exception as error:  # noqa: BLE001 -- the edge of the thread: alerts wait in their file
            self._failed(repr(error), 0.0)
            return False
        if self._trouble:
            log.info("webhook: alerts are accepted again")
        self._trouble, self._pause_s = "", 0.0
        return True

    def _failed(self, trouble: str, pause_s: float) -> None:
        self._pause_s = max(pause_s, min(LONGEST_PAUSE_S, self._pause_s * 2 or self._first_pause_s))
        if trouble != self._trouble:
            log.error("webhook: alerts are not accepted: %s; they wait in alerts.jsonl and are retried", trouble)
        self._trouble = trouble

    def _deliver(self) -> None:
        """Post pending alerts in order. Raises `DeliveryFailed` at the first that fails, `Timeout` where another
        process is posting."""
        if not self._outbox.pending():
            return
        with filelock.FileLock(self._lock, blocking=False):
            for pending in self._outbox.pending():
                self._webhook.post(pending.line, pending.alert)
                self._outbox.delivered(pending)
                self._pause_s = 0.0
                if self._stop.is_set() and time.monotonic() - self._stopped_at > self._timeout_s:
                    return


@contextmanager
def posting(var: Path, settings: QualitySettings) -> Iterator[Poster]:
    """A running poster; call its `wake` after raising an alert."""
    poster = Poster(var, settings)
    poster.start()
    try:
        yield poster
    finally:
        poster.stop()
