"""`releases/last-good.json`: the releases that `current` pointed at and that a worker took, the last one first.

A worker that starts while `current` is bad answers from the last good one; one whose release is damaged while it
answers, from the one before. What stands here is verified like any other release when it is opened. A move of `current`
back to an earlier release takes the later ones off the list, since somebody went back from them.
"""

import logging
from pathlib import Path

import msgspec

from server.regular_file import read_regular
from stream import durable

log = logging.getLogger(__name__)

LAST_GOOD = "last-good.json"
_KEPT = 2
_LONGEST = 1 << 16


class GoodReleases(msgspec.Struct, frozen=True):
    """`last-good.json`."""

    releases: list[str]
    """What `current` pointed at, newest first."""


def good_releases(releases: Path) -> list[str]:
    """What is noted below a folder of releases, the last good one first; empty where nothing can be read."""
    path = releases / LAST_GOOD
    try:
        return msgspec.json.decode(read_regular(path, _LONGEST), type=GoodReleases).releases[:_KEPT]
    except FileNotFoundError:
        return []
    except (OSError, msgspec.MsgspecError) as error:
        log.warning("%s cannot be read, no last good release is known: %s", path, error)
        return []


def note_good(releases: Path, target: str) -> None:
    """Note that a worker has taken what `current` points at. Raises `OSError`."""
    before = good_releases(releases)
    after = before[before.index(target) :] if target in before else [target, *before][:_KEPT]
    if after != before:
        durable.write_bytes(releases / LAST_GOOD, msgspec.json.encode(GoodReleases(after)) + b"\n")
