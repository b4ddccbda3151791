"""`releases/last-good.json`: the last releases that a worker took from `current`, newest first.

A worker that starts while `current` is bad answers from the first of them; a worker whose release in use is damaged,
from the next. They are verified like any other release when they are opened. If `current` moves back to an
earlier release, the later ones are removed from the list: they were rolled back.
"""

import logging
from pathlib import Path

import msgspec

from server.regular_file import read_regular
from stream import durable
from stream.decoding import decode_json

log = logging.getLogger(__name__)

LAST_GOOD = "last-good.json"
_KEPT = 2
_LONGEST = 1 << 16


class GoodReleases(msgspec.Struct, frozen=True):
    """`last-good.json`."""

    releases: list[str]
    """What `current` pointed at, newest first."""


def good_releases(releases: Path) -> list[str]:
    """The targets of the last good releases in a folder of releases, newest first; empty if unreadable."""
    path = releases / LAST_GOOD
    try:
        return decode_json(read_regular(path, _LONGEST), GoodReleases).releases[:_KEPT]
    except FileNotFoundError:
        return []
    except (OSError, msgspec.MsgspecError) as error:
        log.warning("%s cannot be read, so no last good release is known: %s", path, error)
        return []


def note_good(releases: Path, target: str) -> None:
    """Note that a worker has taken `target`, to which `current` points. Raises `OSError`."""
    before = good_releases(releases)
    after = before[before.index(target) :] if target in before else [target, *before][:_KEPT]
    if after != before:
        durable.write_bytes(releases / LAST_GOOD, msgspec.json.encode(GoodReleases(after)) + b"\n")
