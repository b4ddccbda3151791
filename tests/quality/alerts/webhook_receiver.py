"""A webhook's receiver for the tests: a real HTTP server on a free port that answers as it was told to."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from quality.alerts.alert_file import Alert, decode_alert

HANG, CUT, WAIT, REFUSE, ENDLESS = "hang", "cut", "wait", "refuse", "endless"
HANG_S = 1200.0
"""The longest that it hangs."""
Answer = int | str | tuple[int, dict[str, str]]
"""A status, with headers or without; `HANG`: none before the receiver ends; `CUT`: half a status line; `WAIT`: 204,
when `gate` is open; `REFUSE`: 500, when it is open; `ENDLESS`: 200, and a body that does not end."""


class Receiver:
    """Answers in order, and 204 when all are used up; what was posted is kept, an id and a body each."""

    def __init__(self, answers: list[Answer]) -> None:
        self.answers = answers
        self.posts: list[tuple[str, Alert]] = []
        """All attempts: the id in the header, and the alert in the body."""
        self.taken: list[str] = []
        """Ids of the alerts that were answered with 2xx."""
        self.headers: list[dict[str, str]] = []
        self.gate, self.ended = threading.Event(), threading.Event()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks/SECRET?token=SECRET"

    @contextmanager
    def up(self, port: int = 0) -> Iterator["Receiver"]:
        server = _Server(("127.0.0.1", port), _Handler)
        server.receiver, self.port = self, server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self.ended.set()
            server.shutdown()
            server.server_close()
            thread.join()


class _Server(ThreadingHTTPServer):
    receiver: Receiver
    daemon_threads = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A poster that has given up is no fault of the receiver."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        receiver = self.server.receiver
        alert = decode_alert(self.rfile.read(int(self.headers["content-length"])))
        assert alert is not None
        name = self.headers["idempotency-key"]
        receiver.headers.append({key.lower(): value for key, value in self.headers.items()})
        answer = receiver.answers.pop(0) if receiver.answers else 204
        receiver.posts.append((name, alert))
        if answer == HANG:
            receiver.ended.wait(HANG_S)
            self.close_connection = True
        elif answer in (WAIT, REFUSE):
            receiver.gate.wait(HANG_S)
            self._answer(204 if answer == WAIT else 500, {})
        elif answer == ENDLESS:
            self._answer(200, {"content-length": "1000"})
            receiver.ended.wait(HANG_S)
            self.close_connection = True
        elif answer == CUT:
            self.wfile.write(b"HTTP/1.")
            self.close_connection = True
        else:
            self._answer(*(answer if isinstance(answer, tuple) else (int(answer), {})))

    def do_GET(self) -> None:
        """Where a redirect leads to: a page that anybody gets."""
        self._answer(200, {})

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        if 200 <= status < 300 and self.command == "POST":
            self.server.receiver.taken.append(self.headers["idempotency-key"])
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "content-length" not in headers:
            self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Quiet."""
