"""Decodes JSON into a type, so that damage of every kind is one error."""

from typing import TypeVar

import msgspec

Decoded = TypeVar("Decoded")


def decode_json(data: bytes | msgspec.Raw, kind: type[Decoded]) -> Decoded:
    """Decode JSON into a type. Raises `msgspec.DecodeError`.

    msgspec itself also raises `UnicodeDecodeError` for text that is not UTF-8, and `RecursionError` for deep nesting: a
    caller that catches only `DecodeError` would die of one flipped bit.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error
