"""Plain requests: no header changes their meaning, and their end is unambiguous.

These are `GET` requests (for a refusal, also `HEAD`) in HTTP/1.1 with header lines of visible ASCII, one valid
`Host` among them, and none that announces a body, an expectation, an upgrade or the end of the connection. All others
are parsed by `http_head.py`; a plain request must be valid there too, with the same meaning.
"""

import re
from functools import lru_cache

from server.http_head import is_host

VERSION = b" HTTP/1.1\r\n"
_LINES = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e]*\r\n)*\r\n")
_HOSTS = re.compile(rb"^host:([^\r]*)\r", re.IGNORECASE | re.MULTILINE)
_SPECIAL_FIELD = re.compile(
    rb"^(?:content-length|transfer-encoding|expect|upgrade|connection(?!: ?keep-alive\r\n))",
    re.IGNORECASE | re.MULTILINE,
)
_FIRST = re.compile(rb"(?:GET|HEAD) [!-~]+ HTTP/1\.1\r\n")


@lru_cache(maxsize=256)  # a client sends the same lines with every request
def has_plain_headers(lines: bytes) -> bool:
    """Whether these are complete header lines, empty line included, with one valid `Host` and no others that matter."""
    if _LINES.fullmatch(lines) is None or _SPECIAL_FIELD.search(lines) is not None:
        return False
    hosts = _HOSTS.findall(lines)
    return len(hosts) == 1 and is_host(hosts[0].decode().strip("\t "))


def is_plain(data: bytes) -> bool:
    """Whether this is exactly one complete plain request."""
    first = _FIRST.match(data)
    return first is not None and has_plain_headers(data[first.end() :])
