"""Known movies and users: the catalogue, and an API lookup for ids that the catalogue does not have.

A movie or user id that is new in a batch is asked of the API once, and the answer is kept, a no as well. The stream
hardly waits for the API: it is asked in a thread beside, for few ids at a time, none is tried twice, and an API that
does not answer is left alone for a while. A movie that is not known in time gets the benefit of the doubt; a user out
of range does not, and can be taken from the quarantine later. An empty catalogue is the night's to fill.
"""

import logging
import threading
import time
from collections.abc import Sequence

import msgspec

from batch.collecting.api import ServiceApi, ask_for_records
from batch.errors import CatalogError
from batch.settings import BatchSettings
from quality.catalog import Catalog, KnownIds, Subject
from quality.errors import RecordsError
from quality.lines.verdicts import ParsedLines
from stream.settings import StreamSettings

log = logging.getLogger(__name__)

_MOST = 200
"""Ids asked of the API for one batch."""
_PATIENCE_S = 1.0
"""How long a batch waits for what it asks."""
_PAUSE_S = 60.0
"""How long an API that did not answer is left alone, and an id that it answered badly."""


class UnknownIdLookup:
    """Knows what `JudgingContext.known` must hold for a batch of lines."""

    def __init__(self, streaming: StreamSettings, settings: BatchSettings) -> None:
        self._catalog = Catalog(streaming.var)
        self._max_user = streaming.max_user
        self._api = ServiceApi(
            msgspec.structs.replace(settings, api_retries=0, api_connections=1), streaming.generation
        )
        self._known, self._state = KnownIds(), self._catalog.state()
        self._tried: dict[tuple[Subject, str], float] = {}
        """When an id was asked, by the monotonic clock."""
        self._rest_until = 0.0
        self._asking: threading.Thread | None = None
        self._known = self._catalog.known(self._max_user)

    def known_for(self, lines: ParsedLines) -> KnownIds:
        """What is known now, after asking for what is new in these lines."""
        self._reload()
        known = self._known
        if known.runtimes:
            self._ask("movie", sorted(lines.movies() - known.runtimes.keys() - known.missing))
        above = lines.users_above(self._max_user)
        self._ask("user", [str(user) for user in sorted(above - known.users - known.no_users)])
        self._reload()
        return self._known

    def _reload(self) -> None:
        state = self._catalog.state()
        if state != self._state:
            self._known, self._state = self._catalog.known(self._max_user), state

    def _ask(self, subject: Subject, ids: Sequence[str]) -> None:
        now = time.monotonic()
        new = [one for one in ids if now - self._tried.get((subject, one), -_PAUSE_S) >= _PAUSE_S][:_MOST]
        if not new or now < self._rest_until or (self._asking is not None and self._asking.is_alive()):
            return
        self._tried = {one: at for one, at in self._tried.items() if now - at < _PAUSE_S}
        self._tried.update(((subject, one), now) for one in new)
        # a daemon: an answer that drips for ever keeps neither the stream nor the end of the process waiting
        self._asking = threading.Thread(target=self._asked, args=(subject, new), daemon=True)
        self._asking.start()
        self._asking.join(_PATIENCE_S)

    def _asked(self, subject: Subject, new: Sequence[str]) -> None:
        try:
            by_status = ask_for_records(self._catalog, subject, new, self._api)
            log.info("asked for %d new %s ids: %s", len(new), subject, dict(by_status))
        except (CatalogError, RecordsError) as error:
            self._rest_until = time.monotonic() + _PAUSE_S
            log.warning("%s; not asked again for %.0f s, its lines pass", error, _PAUSE_S)
