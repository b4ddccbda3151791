"""Client of the service's user and movie APIs: retries failures, and checks every record before it is stored.

Whatever the API sends, each requested id gets one status: `known` with the normalized record, `unknown`, or `bad` with
the reason. A known record lacks the fields that were wrong, and then has a reason too. Only an API that does not
answer, or answers without records many times in a row, raises an error.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from threading import Condition, Thread
from urllib.parse import urlsplit

import numpy as np
import orjson
import urllib3

from batch.errors import CatalogError
from batch.settings import BatchSettings
from quality.catalog import Catalog, FoundRecord, Status, Subject
from quality.lines.schemas import MOVIE_RECORD, USER, Schema, usable
from stream.redaction import redact
from stream.settings import Generation

log = logging.getLogger(__name__)

_SCHEMA: dict[Subject, tuple[Schema, str]] = {"movie": (MOVIE_RECORD, "id"), "user": (USER, "user_id")}
_BULK: dict[Generation, int] = {"2022": 1, "2026": 200}
"""How many ids the API takes in one request."""
_GIVE_UP = 20
"""After this many consecutive answers without any record, the API counts as broken."""
_NO_RECORDS = ("HTTP ", "not JSON")
"""Prefix of reasons that concern a whole answer rather than one record."""
_CONTRADICTORY = object()
"""Instead of a record: the answer has two different records of one id."""
_KEEP_RECORDS, _KEEP_S = 1_000, 0.25
"""Records are kept once they are so many, or the first of them has waited so long; a crash loses no more than these."""
_MOST_PARTLY_KNOWN = 1_000
"""Records that lack wrong fields and are requested again in a night: five bulk requests."""
_URL_BYTES = 6_000
"""The longest list of ids in a URL: HTTP servers refuse request lines of more than about 8 KB."""

_ESCAPE = re.compile(rb"\\\\|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(\\u[dD][89a-fA-F]..)", re.DOTALL)
"""A backslash, a pair of UTF-16 surrogates, or (group 1) one of them alone."""


class _Requests:
    """Threads that request chunks of ids; the records wait here until they are taken, many at once.

    A commit for each record would take longer than its request.
    """

    def __init__(
        self, api: str, request: Callable[[list[str]], list[FoundRecord]], chunks: list[list[str]], connections: int
    ) -> None:
        """`api` is its name in errors."""
        self._api, self._request = api, request
        self._changed = Condition()
        """Guards all that follows."""
        self._chunks = iter(chunks)
        self._records: list[FoundRecord] = []
        self._failed = 0
        """Answers without any record since the last one with records."""
        self._stopped = False
        self._error: Exception | None = None
        self._running = min(connections, len(chunks))
        for _ in range(self._running):  # daemons: an endless answer does not delay the end of the process
            Thread(target=self._run, daemon=True).start()

    def records(self) -> Iterator[list[FoundRecord]]:
        """The records in bulks, each soon after its first record arrived.

        Raises the first error of a request, after all records that arrived before it.
        """
        ended = False
        while not ended:
            with self._changed:
                self._changed.wait_for(lambda: self._has_ended() or self._is_full(), _KEEP_S)
                records, self._records = self._records, []
                ended = self._has_ended()
                self._changed.notify_all()
            if records:
                yield records
        if self._error is not None:
            raise self._error

    def stop(self, error: Exception | None = None) -> None:
        """Send no more requests; those that are running end by themselves."""
        with self._changed:
            self._stopped, self._error = True, self._error or error
            self._changed.notify_all()

    def _has_ended(self) -> bool:
        return self._stopped or not self._running

    def _is_full(self) -> bool:
        return len(self._records) >= _KEEP_RECORDS

    def _run(self) -> None:
        try:
            while chunk := self._next_chunk():
                self._add(self._request(chunk))
        except Exception as error:  # noqa: BLE001 – raised by the thread that takes the records
            self.stop(error)
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def _next_chunk(self) -> list[str]:
        """The next ids; none at the end. Waits while many records have not been taken."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_ended() or not self._is_full())
            return [] if self._stopped else next(self._chunks, [])

    def _add(self, answer: list[FoundRecord]) -> None:
        with self._changed:
            self._records += answer
            no_records = all(reason.startswith(_NO_RECORDS) for _, _, _, reason in answer)
            self._failed = self._failed + 1 if no_records else 0
            if self._failed == _GIVE_UP:
                raise CatalogError(
                    f"catalogue: {_GIVE_UP} answers of {self._api} in a row held no records; is [batch] api right?"
                )
            if self._is_full():
                self._changed.notify_all()


class ServiceApi:
    """The user and movie API over HTTP. Failures and 429 are retried with growing pauses; Retry-After is obeyed."""

    def __init__(self, settings: BatchSettings, generation: Generation) -> None:
        self._root = settings.api.rstrip("/")
        self._shown = redact(self._root)
        self._bulk = _BULK[generation]
        self._connections = settings.api_connections
        retries = urllib3.Retry(
            total=settings.api_retries,
            backoff_factor=0.1,
            backoff_max=5,
            status_forcelist=(429, 500, 502, 503, 504),
            respect_retry_after_header=True,
            raise_on_status=False,
        )
        timeout = urllib3.Timeout(settings.api_timeout_s)
        # not PoolManager, which takes a fifth more CPU: all requests go to one host
        self._pool = urllib3.connection_from_url(
            self._root, maxsize=settings.api_connections, retries=retries, timeout=timeout
        )
        self._path = urlsplit(self._root).path

    def fetch_records(self, subject: Subject, ids: Sequence[str], keep: Callable[[list[FoundRecord]], None]) -> None:
        """Request records; `keep` gets them in bulks, while more arrive.

        Raises `CatalogError` if the API does not answer; `keep` has then got all records that arrived before.
        """
        chunks = _chunks(ids, self._bulk)
        requests = _Requests(self._shown, partial(self._request, subject), chunks, self._connections)
        try:
            for records in requests.records():
                keep(records)
        finally:
            requests.stop()

    def _request(self, subject: Subject, ids: list[str]) -> list[FoundRecord]:
        try:
            response = self._pool.request("GET", f"{self._path}/{subject}/{','.join(ids)}")
        except urllib3.exceptions.HTTPError as error:
            reason = getattr(error, "reason", None) or error
            raise CatalogError(f"catalogue: no answer from {self._shown}: {reason}; is [batch] api right?") from error
        return _read_answer(subject, ids, response.status, response.data)


def _chunks(ids: Sequence[str], most: int) -> list[list[str]]:
    """Split ids into as few requests as `most` ids and the length limit of a URL allow."""
    chunks: list[list[str]] = []
    bytes_left = 0
    for name in ids:
        if not chunks or len(chunks[-1]) == most or len(name) >= bytes_left:
            chunks.append([])
            bytes_left = _URL_BYTES
        chunks[-1].append(name)
        bytes_left -= len(name) + 1
    return chunks


def _read_answer(subject: Subject, ids: Sequence[str], status: int, body: bytes) -> list[FoundRecord]:
    """The API's verdict on each requested id, from one answer."""
    if status not in (200, 404):
        return [(name, "bad", None, f"HTTP {status}") for name in ids]
    try:
        answer = _decode(body)
    except orjson.JSONDecodeError as error:
        return [(name, "bad", None, f"not JSON: {error}") for name in ids]
    items = answer if isinstance(answer, list) else [answer]
    _, key = _SCHEMA[subject]
    by_id: dict[str, object] = {}
    for item in items:
        if isinstance(item, dict) and key in item:
            name = _id_text(item[key])
            by_id[name] = _CONTRADICTORY if by_id.get(name, item) != item else item
    # a "not found" message has no id: its position identifies it, if the answer has an item for each id
    by_position: dict[str, object] = dict(zip(ids, items, strict=True)) if len(items) == len(ids) else {}
    return [_read_item(subject, name, by_id.get(name, by_position.get(name))) for name in ids]


def _decode(body: bytes) -> object:
    """The JSON of an answer. Raises `orjson.JSONDecodeError`.

    A text that was cut within an emoji ends with half of a UTF-16 pair, which some services escape as it is. It becomes
    U+FFFD: one user's text must not cost the records of all others in the answer.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return orjson.loads(_ESCAPE.sub(lambda escape: rb"\ufffd" if escape[1] else escape[0], body))


def _id_text(value: object) -> str:
    """An id of a record as it is requested: 7, 7.0 and "7" are the same user."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _read_item(subject: Subject, name: str, item: object) -> FoundRecord:
    if item is None:
        return name, "bad", None, "not in the answer"
    if item is _CONTRADICTORY:
        return name, "bad", None, "two records that contradict each other"
    if isinstance(item, dict) and item.get("message") == f"{subject} not found":
        return name, "unknown", None, ""
    schema, key = _SCHEMA[subject]
    record, reason = usable(item, schema)
    if record is None:
        return name, "bad", None, reason
    if str(record[key]) != name:
        return name, "bad", None, f"the record of {record[key]}"
    return name, "known", record, reason


def _faulty_ids(records: list[FoundRecord], status: Status) -> dict[str, list[str]]:
    """The ids of the records with that status and a reason, by reason."""
    reasons: dict[str, list[str]] = {}
    for name, own_status, _, reason in records:
        if own_status == status and reason:
            reasons.setdefault(reason, []).append(name)
    return reasons


def refresh_catalog(
    catalog: Catalog,
    subject: Subject,
    ids: Sequence[str],
    api: ServiceApi,
    advance: Callable[[int], object] = lambda asked: None,
    seed: int = 0,
) -> Counter[Status]:
    """Request the ids whose status is neither known nor unknown, and some whose record lacks wrong fields: the service
    may have corrected them. Returns how many got which status.

    `advance` gets the number of finished ids; with another `seed` (0 or more), others of the incomplete records are
    requested. Raises `CatalogError` if the API does not answer; earlier records are kept.
    """
    statuses = catalog.statuses(subject)
    missing = [name for name in ids if statuses.get(name, "bad") == "bad"]
    missing.sort(key=lambda name: name in statuses)  # previously bad ids come last
    missing += _sample_partly_known(catalog, subject, ids, seed)
    advance(len(ids) - len(missing))
    return fetch_into_catalog(catalog, subject, missing, api, advance)


def _sample_partly_known(catalog: Catalog, subject: Subject, ids: Sequence[str], seed: int) -> list[str]:
    """Some of the ids whose records lack wrong fields, in the order of `ids`.

    They are drawn: the first ones would be requested again every night if the service does not correct them, and the
    others never.
    """
    partly_known = catalog.partly_known(subject)
    names = [name for name in ids if name in partly_known]
    drawn = np.random.default_rng(seed).permutation(len(names))[:_MOST_PARTLY_KNOWN]
    return [names[at] for at in sorted(drawn.tolist())]


def fetch_into_catalog(
    catalog: Catalog,
    subject: Subject,
    ids: Sequence[str],
    api: ServiceApi,
    advance: Callable[[int], object] = lambda asked: None,
) -> Counter[Status]:
    """Request all of the ids and store the answers. Returns and raises as `refresh_catalog` does."""
    counts: Counter[Status] = Counter()

    kinds: tuple[tuple[Status, str], ...] = (("bad", "bad"), ("known", "partly unknown"))

    def keep(records: list[FoundRecord]) -> None:
        catalog.keep(subject, records)
        counts.update(status for _, status, _, _ in records)
        for status, what in kinds:
            for reason, names in _faulty_ids(records, status).items():
                more = ", …" * (len(names) > 1)
                log.warning("%d %s %s records: %s (%s%s)", len(names), what, subject, reason, names[0], more)
        advance(len(records))

    api.fetch_records(subject, ids, keep)
    return counts
