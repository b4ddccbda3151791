"""Parses the head of an HTTP/1 request as RFC 9112 and RFC 9110 define it.

If two servers read a head differently, a request can be smuggled past a proxy. So anything ambiguous is refused, never
guessed: two lengths, a length beside a transfer coding, a blank before a colon, no `Host` or two.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from sanic.exceptions import BadRequest, ExpectationFailed, SanicException

TCHARS = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_HEAD = re.compile(rf"({TCHARS}) ([!-~]+) HTTP/1\.([01])((?:\r\n{TCHARS}:[\t\x20-\x7e\x80-\xff]*)*)".encode())
"""Request line and header lines, without the empty line that ends them."""
_HOST = re.compile(
    r"(?:\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]|(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+)(?::[0-9]{0,5})?"
)
"""Host and port of RFC 3986, but without the comma in names: two `Host` lines joined by a proxy contain one."""
_CODINGS = re.compile(rf"{TCHARS}(?:[\t ]*,[\t ]*{TCHARS})*")
_FRAMING_FIELDS = frozenset({"host", "connection", "content-length", "transfer-encoding", "expect"})
"""Header fields that change how a request is read."""
_LONGEST_NUMBER = 18
"""Digits of a length; one with more digits exceeds any limit and is not computed."""


class Head(NamedTuple):
    """The head of a request."""

    method: str
    target: bytes
    version: str
    """`1.0` or `1.1`."""
    fields: list[tuple[str, str]]
    """Header fields in order: name in lower case, value without surrounding blanks."""
    keep_alive: bool
    """Whether the connection may stay open after the answer."""
    length: int
    """Bytes of the body; 0 if it is chunked."""
    is_chunked: bool
    expects_continue: bool


def parse(data: bytes) -> Head:
    """Parse a head without the empty line that ends it.

    Raises `BadRequest` (400) if it is malformed or ambiguous, `ExpectationFailed` (417) for an expectation other than
    `100-continue`, and `SanicException` with status 501 for a transfer coding other than chunked.
    """
    matched = _HEAD.fullmatch(data)
    if matched is None:
        raise BadRequest("request: its line or a header line is malformed")
    method, target, minor, lines = matched.groups()
    version = "1.1" if minor == b"1" else "1.0"
    fields: list[tuple[str, str]] = []
    meant: dict[str, list[str]] = {}
    for line in lines.decode(errors="surrogateescape").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        name, value = field = name.lower(), value.strip(" \t")
        fields.append(field)
        if name in _FRAMING_FIELDS:
            meant.setdefault(name, []).append(value)
    _require_host(meant.get("host", ()), version)
    length, is_chunked = _framing(meant.get("transfer-encoding", ()), meant.get("content-length", ()), version)
    return Head(
        method.decode(),
        target,
        version,
        fields,
        keep_alive=_keep_alive(meant.get("connection", ()), version),
        length=length,
        is_chunked=is_chunked,
        expects_continue=_expects_continue(meant.get("expect", ()), version),
    )


def is_host(value: str) -> bool:
    """Whether a value is a host, with or without a port; not an empty one (RFC 9110, 4.2.1)."""
    return _HOST.fullmatch(value) is not None


def _require_host(hosts: Sequence[str], version: str) -> None:
    """Raises `BadRequest` unless there is exactly one valid `Host` (RFC 9112, 3.2), in HTTP/1.0 at most one."""
    if len(hosts) > 1 or not all(map(is_host, hosts)) or (not hosts and version == "1.1"):
        raise BadRequest("host: one header line with a valid host is expected")


def _framing(codings: Sequence[str], lengths: Sequence[str], version: str) -> tuple[int, bool]:
    """The length of the body in bytes, and whether it is chunked (RFC 9112, 6)."""
    if not codings:
        return _length(lengths) if lengths else 0, False
    if lengths:
        raise BadRequest("content-length and transfer-encoding: one of the two is expected")
    if version == "1.0":
        raise BadRequest("transfer-encoding: HTTP/1.1 is expected")
    if len(codings) > 1 or not _CODINGS.fullmatch(codings[0]):
        raise BadRequest("transfer-encoding: one header line with names of codings is expected")
    if codings[0].lower() != "chunked":
        raise SanicException("transfer-encoding: chunked alone is understood", status_code=501)
    return 0, True


def _length(lengths: Sequence[str]) -> int:
    if len(lengths) > 1 or not (lengths[0].isascii() and lengths[0].isdigit()):
        raise BadRequest("content-length: one header line with a number is expected")
    digits = lengths[0].lstrip("0")
    return int(digits or "0") if len(digits) <= _LONGEST_NUMBER else 10**_LONGEST_NUMBER


def _keep_alive(values: Sequence[str], version: str) -> bool:
    if not values:
        return version == "1.1"
    options = {option.strip(" \t").lower() for value in values for option in value.split(",")}
    return "close" not in options and (version == "1.1" or "keep-alive" in options)


def _expects_continue(values: Sequence[str], version: str) -> bool:
    if not values or version == "1.0":  # HTTP/1.0 has no expectations: ignored (RFC 9110, 10.1.1)
        return False
    if [value.lower() for value in values] != ["100-continue"]:
        raise ExpectationFailed("expect: 100-continue alone is understood")
    return True
