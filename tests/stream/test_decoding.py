"""Damaged JSON of every kind is one error."""

import msgspec
import pytest

from stream.decoding import decode_json


class Note(msgspec.Struct):
    text: str
    number: int = 0


def test_json_of_the_type_is_decoded() -> None:
    assert decode_json(b'{"text": "\xc3\xa9", "new": []}', Note) == Note("é")


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"\xff", b'{"text": "\xff"}', b'{"text": 1}', b'{"new": ' + b"[" * 100_000 + b"}"],
)
def test_anything_else_is_a_decode_error(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_json(data, Note)
