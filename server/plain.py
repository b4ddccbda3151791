"""Which requests are sound, and which are plain.

*Sound* is a head that everybody reads alike (RFC 9112). Sanic would guess at others, and where two servers guess
differently, a request can be smuggled past the first.

*Plain* is a request that means nothing but "give me this", whose extent is beyond doubt: only `GET` in HTTP/1.1 with
header lines of visible ASCII, of which none has a meaning for the request: a body, an expectation, an upgrade, the end
of the connection. Whatever is not plain is Sanic's to judge, so this may only be narrower than Sanic, never different.
"""

import re

VERSION = b" HTTP/1.1\r\n"
_LINES = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e]*\r\n)*\r\n")
_MEANT = re.compile(
    rb"^(?:content-length|transfer-encoding|expect|upgrade|connection(?!: ?keep-alive\r\n))",
    re.IGNORECASE | re.MULTILINE,
)
_HEAD = re.compile(
    rb"[^\x00\r\n]+"
    rb"(?:\r\n(?:content-length:[ \t]*[0-9]+[ \t]*|(?!content-length:)[!#$%&'*+.^_`|~0-9A-Z-]+:[^\x00\r\n]*))*",
    re.IGNORECASE,
)
_FIRST = re.compile(rb"GET [!-~]+ HTTP/1\.1\r\n")


def has_plain_headers(lines: bytes) -> bool:
    """Whether these are whole header lines with the empty one behind them, and mean nothing."""
    return _LINES.fullmatch(lines) is not None and _MEANT.search(lines) is None


def is_plain(data: bytes) -> bool:
    """Whether this is one whole plain request, and nothing besides."""
    first = _FIRST.match(data)
    return first is not None and has_plain_headers(data[first.end() :])


def is_sound(head: bytes) -> bool:
    """Whether a head, without the empty line behind it, can be read in one way only."""
    return _HEAD.fullmatch(head) is not None
