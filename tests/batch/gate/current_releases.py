"""Current releases of other facts than the one that the night before made."""

from dataclasses import replace
from typing import Any

import msgspec

from server.manifest import InputFacts
from server.release import Release


def made_without_api(current: Release, movies: int = 1, api_answered: bool = False) -> Release:
    """A current release with so many movies that no API had confirmed."""
    manifest = msgspec.structs.replace(current.manifest, proven_movies=movies, api_answered=api_answered)
    return replace(current, manifest=manifest)


def lost(current: Release, **changed: Any) -> Release:
    """A current release with other facts."""
    facts = {**msgspec.to_builtins(current.manifest.require_input()), **changed}
    manifest = msgspec.structs.replace(current.manifest, input=msgspec.convert(facts, InputFacts))
    return replace(current, manifest=manifest)


def sessions(current: Release, count: int) -> Release:
    return lost(current, counts={"sessions": count})
