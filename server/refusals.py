"""Prepared responses for refusals: refusing under overload must cost next to nothing."""

from functools import lru_cache

from server.http_date import http_date


def overloaded(request: bytes, keep_alive: bool) -> bytes:
    """A 503 for a late request; `request` is its beginning, since an answer to HEAD has no body."""
    answer = _unavailable("overloaded", "keep-alive" if keep_alive else "close", http_date())
    return answer.removesuffix(b"overloaded") if request.startswith(b"HEAD ") else answer


def too_many_connections() -> bytes:
    """A 503 for a connection beyond the limit."""
    return _unavailable("too many connections", "close", http_date())


@lru_cache(maxsize=4)
def _unavailable(message: str, connection: str, date: str) -> bytes:
    return (
        f"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ndate: {date}\r\n"
        f"content-length: {len(message)}\r\nconnection: {connection}\r\n"
        f"content-type: text/plain; charset=utf-8\r\n\r\n{message}"
    ).encode()
