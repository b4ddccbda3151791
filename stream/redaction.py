"""Keeps passwords and keys out of what is logged, published or served: masked in URLs, and `Secret` elsewhere."""

import re
from typing import Any

import msgspec

MASK = "***"
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^/?#\s]*@)?(?P<rest>[^?#\s]*)(?P<query>[?#]\S*)?")


class Secret:
    """A password: `***` where it is printed, and refused by writers of JSON. Empty: there is none."""

    # no dataclass: msgspec and orjson write the fields of those
    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    def reveal(self) -> str:
        """The password itself, for the client that logs in with it."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __str__(self) -> str:
        return MASK if self else ""

    def __repr__(self) -> str:
        return repr(str(self))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)


def redact(value: Any) -> Any:
    """A JSON value of any shape, with user, password, query and fragment of every URL in it masked."""
    if isinstance(value, str):
        return _URL.sub(_masked, value)
    if isinstance(value, dict):
        return {key: redact(item) for key, item in value.items()}
    return [redact(item) for item in value] if isinstance(value, list | tuple) else value


def public_settings(settings: msgspec.Struct) -> dict[str, object]:
    """A room's settings, by key, safe to show in manifests, logs and answers."""
    public: dict[str, object] = redact(msgspec.to_builtins(settings, enc_hook=str))
    return public


def _masked(url: re.Match[str]) -> str:
    user = f"{MASK}@" if url["user"] else ""
    query = f"{url['query'][0]}{MASK}" if url["query"] else ""
    return f"{url['scheme']}{user}{url['rest']}{query}"
