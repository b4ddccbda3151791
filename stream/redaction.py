"""Removes passwords and keys from URLs before settings are logged, published or served."""

import re
from typing import Any

import msgspec

MASK = "***"
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^/?#\s]*@)?(?P<rest>[^?#\s]*)(?P<query>[?#]\S*)?")


def redact(value: Any) -> Any:
    """A JSON value of any shape, with user, password, query and fragment of every URL in it masked."""
    if isinstance(value, str):
        return _URL.sub(_masked, value)
    if isinstance(value, dict):
        return {key: redact(item) for key, item in value.items()}
    return [redact(item) for item in value] if isinstance(value, list | tuple) else value


def public_settings(settings: msgspec.Struct) -> dict[str, object]:
    """A room's settings, by key, safe to show in manifests, logs and answers."""
    public: dict[str, object] = redact(msgspec.to_builtins(settings))
    return public


def _masked(url: re.Match[str]) -> str:
    user = f"{MASK}@" if url["user"] else ""
    query = f"{url['query'][0]}{MASK}" if url["query"] else ""
    return f"{url['scheme']}{user}{url['rest']}{query}"
