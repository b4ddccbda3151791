"""Skips a chunked body at the front of a buffer (RFC 9112, 7.1); no route reads one.

Sizes must be hexadecimal digits and nothing else: a parser that is more lenient than the proxy in front of it would end
the body elsewhere. Chunk extensions and trailer fields are legal; they are checked, limited and ignored.
"""

import re

from sanic.exceptions import BadRequest, PayloadTooLarge

from server.http_head import TCHARS

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(?:[\t ]*;[\t\x20-\x7e\x80-\xff]*)?")
_FIELD = re.compile(rf"{TCHARS}:[\t\x20-\x7e\x80-\xff]*".encode())
_SIZE_DIGITS = 16
_CRLF = b"\r\n"


class ChunkedBody:
    """The state of one body that is being received."""

    def __init__(self, max_data: int, max_extra: int) -> None:
        """`max_data`: bytes of all chunks together; `max_extra`: bytes of extensions and trailer fields together."""
        self._data_left, self._extra_left = max_data, max_extra
        self._chunk_left = 0
        """Bytes still to come of the current chunk, including the CRLF after its data."""
        self._in_trailer = False

    def take(self, buffer: bytearray) -> bool:
        """Remove the bytes of the body from the buffer; True once all of the body was removed.

        Raises `BadRequest` if the body is malformed, `PayloadTooLarge` if it exceeds a limit.
        """
        while True:
            if self._chunk_left and not self._take_data(buffer):
                return False
            line = self._next_line(buffer)
            if line is None:
                return False
            if not self._in_trailer:
                self._begin_chunk(line)
            elif not line:
                return True
            elif not _FIELD.fullmatch(line):
                raise BadRequest("chunked body: a trailer field is malformed")

    def _take_data(self, buffer: bytearray) -> bool:
        """Remove the data of the current chunk; True once it is complete, with the CRLF after it."""
        count = min(len(buffer), self._chunk_left - len(_CRLF))
        del buffer[:count]
        self._chunk_left -= count
        if self._chunk_left > len(_CRLF):
            return False
        if not _CRLF.startswith(end := bytes(buffer[: len(_CRLF)])):
            raise BadRequest("chunked body: the data of a chunk do not end where its size says")
        if end != _CRLF:
            return False
        del buffer[: len(_CRLF)]
        self._chunk_left = 0
        return True

    def _next_line(self, buffer: bytearray) -> bytes | None:
        """The next line without its CRLF; None if it has not arrived completely."""
        end = buffer.find(b"\n")
        length = len(buffer) if end < 0 else end - 1
        if end >= 0 and not buffer.startswith(_CRLF, max(length, 0)):
            raise BadRequest("chunked body: a line does not end with CRLF")
        free = 0 if self._in_trailer else _SIZE_DIGITS
        if length - free > self._extra_left:
            raise PayloadTooLarge("chunked body: its extensions and trailer fields exceed the size limit")
        if end < 0:
            return None
        line = bytes(buffer[:length])
        del buffer[: end + 1]
        self._extra_left -= max(length - free, 0)
        return line

    def _begin_chunk(self, line: bytes) -> None:
        matched = _SIZE.fullmatch(line)
        if matched is None:
            raise BadRequest("chunked body: the size of a chunk is malformed")
        size = int(matched[1], 16)
        if size > self._data_left:
            raise PayloadTooLarge("body: it exceeds the size limit")
        self._data_left -= size
        self._chunk_left = size + len(_CRLF) if size else 0
        self._in_trailer = not size
