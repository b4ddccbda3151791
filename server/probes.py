"""Answers `/healthz` and `/readyz` for load balancers, one word each, even if the worker is too busy for Sanic.

A refused probe makes a busy worker look dead, and so does one that waits behind other requests. So the acceptor of a
busy worker answers probes on new connections itself, at the cost of a refusal.
"""

from server.http_date import http_date
from server.plain import is_plain
from server.release_watcher import ReleaseWatcher
from server.worker_metrics import RequestMeter

ALIVE, READY, UNREADY = "alive", "ready", "unready"
RETRY_AFTER_S = 5


class Probes:
    """Answers probes for a worker, and counts them."""

    def __init__(self, current: ReleaseWatcher, meter: RequestMeter) -> None:
        self._current, self._meter = current, meter

    def answer(self, request: bytes) -> bytes | None:
        """The response to a connection that sent a single plain probe, after which it is closed; None for others."""
        if request.startswith(b"GET /healthz HTTP/1.1\r\n") and is_plain(request):
            self._meter.refused(200)
            return _response("200 OK", ALIVE)
        if request.startswith(b"GET /readyz HTTP/1.1\r\n") and is_plain(request):
            is_ready = self._current.ready is not None
            self._meter.refused(200 if is_ready else 503)
            if is_ready:
                return _response("200 OK", READY)
            return _response("503 Service Unavailable", UNREADY, f"retry-after: {RETRY_AFTER_S}\r\n")
        return None


def _response(status: str, word: str, more: str = "") -> bytes:
    return (
        f"HTTP/1.1 {status}\r\n{more}date: {http_date()}\r\ncontent-length: {len(word)}\r\nconnection: close\r\n"
        f"content-type: text/plain; charset=utf-8\r\n\r\n{word}"
    ).encode()
