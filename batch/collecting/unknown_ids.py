"""Known movies and users: the catalogue, and an API lookup for ids that the catalogue does not have.

A new id in a batch is requested from the API once, and the answer is stored, even a negative one. The stream hardly
waits for the API: a background thread requests a few ids at a time, no id is requested again within a minute, and an
API that does not answer gets no requests for a minute. A movie without an answer in time counts as existing; a user out
of range does not, and a replay can later take its lines from the quarantine. The night fills an empty catalogue.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from batch.collecting.api import ServiceApi, fetch_into_catalog
from batch.errors import CatalogError
from batch.settings import BatchSettings
from quality.catalog import Catalog, FoundRecord, KnownIds, Status, Subject
from quality.errors import RecordsError
from quality.lines.verdicts import ParsedLines
from stream.settings import StreamSettings

log = logging.getLogger(__name__)

_MOST_IDS = 200
"""Ids requested for one batch."""
_WAIT_S = 1.0
"""How long a batch waits for its requests."""
_PAUSE_S = 60.0
"""Pause before an API that did not answer, or an id whose record was bad, is requested again."""


class UnknownIdLookup:
    """Provides `JudgingContext.known` for a batch of lines."""

    def __init__(self, streaming: StreamSettings, settings: BatchSettings) -> None:
        self._catalog = Catalog(streaming.var)
        self._max_user = streaming.max_user
        self._api = ServiceApi(msgspec.structs.replace(settings, api_retries=0), streaming.generation)
        self._known, self._state = KnownIds(), self._catalog.state()
        self._requested: dict[tuple[Subject, str], float] = {}
        """When each id was last requested, by the monotonic clock."""
        self._pause_until = 0.0
        self._request: threading.Thread | None = None
        self._known = self._catalog.known(self._max_user)

    def known_for(self, lines: ParsedLines) -> KnownIds:
        """The known ids after looking up those that are new in these lines."""
        self._reload()
        known = self._known
        if known.runtimes:
            self._look_up("movie", sorted(lines.movies() - known.runtimes.keys() - known.missing))
        users = lines.users_above(self._max_user)
        self._look_up("user", [str(user) for user in sorted(users - known.users - known.no_users)])
        self._reload()
        return self._known

    def _reload(self) -> None:
        state = self._catalog.state()
        if state != self._state:
            self._known, self._state = self._catalog.known(self._max_user), state

    def confirm(self, groups: Sequence[frozenset[str]]) -> KnownIds:
        """The known ids after asking which of the movies exist, as many whole groups as a batch may ask about.

        A group has the movies that one line may mean; none becomes known unless all its groups were answered in full.
        """
        asked: set[str] = set()
        for group in groups:
            if len(asked | group) <= _MOST_IDS:
                asked |= group
        self._request_new("movie", sorted(asked), partial(self._fetch_groups, groups))
        self._reload()
        return self._known

    def _look_up(self, subject: Subject, ids: Sequence[str]) -> None:
        self._request_new(subject, ids, partial(fetch_into_catalog, self._catalog, subject, api=self._api))

    def _request_new(self, subject: Subject, ids: Sequence[str], fetch: Callable[[list[str]], Counter[Status]]) -> None:
        """Fetch the ids that were not requested within the last minute, in a thread, and wait for it a little."""
        now = time.monotonic()
        new = [name for name in ids if now - self._requested.get((subject, name), -_PAUSE_S) >= _PAUSE_S][:_MOST_IDS]
        if not new or now < self._pause_until or (self._request is not None and self._request.is_alive()):
            return
        self._requested = {key: time_s for key, time_s in self._requested.items() if now - time_s < _PAUSE_S}
        self._requested.update(((subject, name), now) for name in new)
        # a daemon: an endless answer delays neither the stream nor the end of the process
        self._request = threading.Thread(target=self._fetch, args=(subject, new, fetch), daemon=True)
        self._request.start()
        self._request.join(_WAIT_S)

    def _fetch(self, subject: Subject, ids: list[str], fetch: Callable[[list[str]], Counter[Status]]) -> None:
        try:
            by_status = fetch(ids)
            log.info("looked up %d new %s ids: %s", len(ids), subject, dict(by_status))
        except (CatalogError, RecordsError) as error:
            self._pause_until = time.monotonic() + _PAUSE_S
            log.warning("%s; no look-ups for %.0f s, lines of new movies pass", error, _PAUSE_S)

    def _fetch_groups(self, groups: Sequence[frozenset[str]], ids: list[str]) -> Counter[Status]:
        """Request movies and store the answers, except records of movies whose groups were not answered in full."""
        answers: list[FoundRecord] = []
        try:
            self._api.fetch_records("movie", ids, answers.extend)
        finally:
            settled = {name for name, status, _, _ in answers if status != "bad"}
            open_groups = {name for group in groups if not group <= settled for name in group}
            kept = [answer for answer in answers if answer[1] == "unknown" or answer[0] in settled - open_groups]
            self._catalog.keep("movie", kept)
        return Counter(status for _, status, _, _ in answers)
