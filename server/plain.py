"""Plain requests: those without any header that changes their meaning, and whose end is beyond doubt.

Only `GET` (for a refusal, `HEAD` as well) in HTTP/1.1 with header lines of visible ASCII, one good `Host` among them,
of which none has a meaning for the request: a body, an expectation, an upgrade, the end of the connection. Whatever is
not plain is Sanic's to judge (`http_head.py`), so this may only be narrower than that, never different.
"""

import re
from functools import lru_cache

from server.http_head import is_host

VERSION = b" HTTP/1.1\r\n"
_LINES = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e]*\r\n)*\r\n")
_HOSTS = re.compile(rb"^host:([^\r]*)\r", re.IGNORECASE | re.MULTILINE)
_MEANT = re.compile(
    rb"^(?:content-length|transfer-encoding|expect|upgrade|connection(?!: ?keep-alive\r\n))",
    re.IGNORECASE | re.MULTILINE,
)
_FIRST = re.compile(rb"(?:GET|HEAD) [!-~]+ HTTP/1\.1\r\n")


@lru_cache(maxsize=256)  # a client sends the same ones over and over
def has_plain_headers(lines: bytes) -> bool:
    """Whether these are whole header lines with the empty one behind them, and name one host and mean nothing else."""
    if _LINES.fullmatch(lines) is None or _MEANT.search(lines) is not None:
        return False
    hosts = _HOSTS.findall(lines)
    return len(hosts) == 1 and is_host(hosts[0].decode().strip("\t "))


def is_plain(data: bytes) -> bool:
    """Whether this is one whole plain request, and nothing besides."""
    first = _FIRST.match(data)
    return first is not None and has_plain_headers(data[first.end() :])
