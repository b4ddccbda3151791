"""Removes passwords and keys from URLs before settings are shown."""

import re
from typing import Any

import msgspec

MASK = "***"
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^/?#\s]*@)?(?P<rest>[^?#\s]*)(?P<query>[?#]\S*)?")


def redact(value: Any) -> Any:
    """A value of JSON in which every URL has lost its user, password, query and fragment."""
    if isinstance(value, str):
        return _URL.sub(_masked, value)
    if isinstance(value, dict):
        return {key: redact(item) for key, item in value.items()}
    return [redact(item) for item in value] if isinstance(value, list | tuple) else value


def public_settings(settings: msgspec.Struct) -> dict[str, Any]:
    """The settings of a room for a manifest, a log or an answer."""
    shown: dict[str, Any] = redact(msgspec.to_builtins(settings))
    return shown


def _masked(url: re.Match[str]) -> str:
    user = f"{MASK}@" if url["user"] else ""
    query = f"{url['query'][0]}{MASK}" if url["query"] else ""
    return f"{url['scheme']}{user}{url['rest']}{query}"
