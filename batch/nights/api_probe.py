"""Notices that the movie API answers again, so that a release made without it is replaced soon, not at the next night.

While the current release has movies that only the stream proves, since the API did not answer, the API is asked for one
of them once a minute, by a background thread: one without a record, or another one if all have records by now. Once it
knows or denies the movie, one more night is due. Should that end without another release, the next one is due at its
hour: whatever stopped it would stop the next try as well.
"""

import logging
import threading
import time
from pathlib import Path

import msgspec

from batch.collecting.api import ServiceApi
from batch.errors import CatalogError
from batch.releases import publish
from batch.settings import BatchSettings
from quality.catalog import Catalog, FoundRecord, Status
from quality.errors import RecordsError
from server.manifest import parse_manifest
from stream.settings import StreamSettings

log = logging.getLogger(__name__)

PAUSE_S = 60.0
"""Between two requests."""
_PREFERENCE: dict[Status | None, int] = {None: 0, "bad": 1, "known": 2, "unknown": 2}
"""By what the catalogue says of a movie: which is asked for rather, least first."""


class ApiProbe:
    """Asks for the current release of one `var` folder."""

    def __init__(self, streaming: StreamSettings, settings: BatchSettings) -> None:
        self._var, self._catalog = streaming.var, Catalog(streaming.var)
        asks_once = msgspec.structs.replace(settings, api_retries=0, api_connections=1)
        self._api = ServiceApi(asks_once, streaming.generation)
        self._release: Path | None = None
        """The release that was looked at last."""
        self._movie: str | None = None
        """The movie of it to ask for; None if the API has confirmed all of them, or has answered already."""
        self._answered = threading.Event()
        self._thread: threading.Thread | None = None
        self._asked_s = -PAUSE_S

    def is_night_due(self) -> bool:
        """Whether the API has answered: once for each release that was made without it. Never waits."""
        release = publish.current_release(self._var)
        if release != self._release:
            self._release, self._movie = release, _unconfirmed_movie(release, self._catalog)
        if self._movie is None or (self._thread is not None and self._thread.is_alive()):
            return False
        if self._answered.is_set():
            self._answered.clear()
            log.info("the movie API answers again, which it did not for %s: one more night", self._release)
            self._movie = None
            return True
        if time.monotonic() - self._asked_s >= PAUSE_S:
            self._asked_s = time.monotonic()
            # a daemon: an endless answer does not delay the end of the process
            self._thread = threading.Thread(target=self._ask, args=(self._movie,), daemon=True)
            self._thread.start()
        return False

    def _ask(self, movie: str) -> None:
        def note(records: list[FoundRecord]) -> None:
            if any(status != "bad" for _, status, _, _ in records):
                self._answered.set()

        try:
            self._api.fetch_records("movie", [movie], note)
        except CatalogError as error:
            log.debug("%s", error)  # the night has said so, and raised an alert


def _unconfirmed_movie(release: Path | None, catalog: Catalog) -> str | None:
    """A movie of a release that has some which no API has confirmed; else None, as for a damaged release.

    It is the first without an answer, else the first whose record was bad, which it may be for good, else the first.
    """
    try:
        if release is None:
            return None
        manifest = parse_manifest((release / "manifest.json").read_bytes())
        if not manifest.proven_movies or manifest.api_answered:
            return None
        movies, statuses = (release / "movies.txt").read_text("utf-8").split(), catalog.statuses("movie")
        return min(movies, key=lambda movie: _PREFERENCE[statuses.get(movie)], default=None)
    except (OSError, UnicodeDecodeError, msgspec.DecodeError):
        return None
    except RecordsError as error:
        log.error("%s; the movie API is not asked whether it answers again", error)
        return None
