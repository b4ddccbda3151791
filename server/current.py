"""Which release answers: follows `releases/current`, opens what it points at beside the old one, and replaces one
reference.

A release that cannot be opened is refused, with the reason kept for readiness and the log; the old one goes on
answering.
"""

import asyncio
import logging
from pathlib import Path

from server.errors import BadRelease
from server.release import Release

log = logging.getLogger("server")


class Current:
    """The release in use."""

    def __init__(self, releases: Path) -> None:
        self._link = releases / "current"
        self._seen: str | None = None
        self.release: Release | None = None
        self.refused: str | None = None
        """Why what `current` points at is not in use; None where it is."""

    def look(self) -> None:
        """Take over the release that `current` points at, if it is another than before and whole."""
        try:
            target = str(self._link.readlink())
        except OSError:
            target = None
        if target == self._seen:
            return
        self._seen = target
        if target is None:
            self.refused = f"{self._link} is gone"
            log.error("release refused: %s", self.refused)
            return
        try:
            release = Release.open(self._link.parent / target)
        except BadRelease as error:
            self.refused = str(error)
            log.error("release refused: %s", error)
        else:
            self.release, self.refused = release, None
            log.info("release %s answers: %d users, %d movies", release.id, len(release.users), len(release.movies))

    async def follow(self, poll_s: float) -> None:
        """Look again and again. Opening takes as long as reading the files does, so it is done beside the loop."""
        while True:
            await asyncio.sleep(poll_s)
            await asyncio.to_thread(self.look)
