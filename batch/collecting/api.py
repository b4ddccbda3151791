"""Client of the service's user and movie APIs: patient with faults, and every record is checked before it is kept.

Whatever the API says, of each id that was asked comes one verdict: `known` with the record as its schema wants it,
`unknown`, or `bad` with the reason; nothing it sends raises an error. Only an API that does not answer does.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import orjson
import urllib3

from batch.errors import CatalogError
from batch.settings import BatchSettings
from quality.catalog import Catalog, FoundRecord, Status, Subject
from quality.lines.schemas import MOVIE_RECORD, USER, Schema, checked
from stream.redaction import redact
from stream.settings import Generation

log = logging.getLogger(__name__)

_SCHEMA: dict[Subject, tuple[Schema, str]] = {"movie": (MOVIE_RECORD, "id"), "user": (USER, "user_id")}
_BULK: dict[Generation, int] = {"2022": 1, "2026": 200}
"""How many ids the API takes in one request."""
_GIVE_UP = 20
"""Answers that are none, one after the other, after which the API is taken to be out of order."""
_NO_ANSWER = ("HTTP ", "not JSON")
"""How the reasons begin that blame an answer as a whole, and no record."""
_CONTRADICTORY = object()
_URL_BYTES = 6_000
"""HTTP servers refuse request lines of more than 8 KB or so."""


class ServiceApi:
    """The user and movie API, over HTTP, with patience: failures and 429 are tried again, a Retry-After is obeyed."""

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
        self._pool = urllib3.PoolManager(maxsize=settings.api_connections, retries=retries, timeout=timeout)

    def ask_for_records(self, subject: Subject, ids: Sequence[str], tell: Callable[[list[FoundRecord]], None]) -> None:
        """Ask for records; `tell` gets them as they come. Raises `CatalogError` where the API does not answer."""
        chunks = _chunks(ids, self._bulk)
        if self._connections == 1:  # without threads, which the end of the process would wait for
            self._listen((self._chunk(subject, chunk) for chunk in chunks), tell)
            return
        with ThreadPoolExecutor(self._connections) as threads:
            try:
                self._listen(self._answers(threads, subject, chunks), tell)
            except CatalogError:
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    def _answers(self, threads: Executor, subject: Subject, chunks: list[list[str]]) -> Iterator[list[FoundRecord]]:
        """In their order. Only a few are asked for before those ahead of them are judged, however long that takes: an
        API that is out of order shall not be asked for everything, nor all answers be held in memory."""
        asked: deque[Future[list[FoundRecord]]] = deque()
        for chunk in chunks:
            asked.append(threads.submit(self._chunk, subject, chunk))
            if len(asked) > 2 * self._connections:
                yield asked.popleft().result()
        while asked:
            yield asked.popleft().result()

    def _listen(self, answers: Iterable[list[FoundRecord]], tell: Callable[[list[FoundRecord]], None]) -> None:
        failed = 0
        for answer in answers:
            tell(answer)
            failed = failed + 1 if all(reason.startswith(_NO_ANSWER) for _, _, _, reason in answer) else 0
            if failed == _GIVE_UP:
                raise CatalogError(f"catalogue: {self._shown}: {failed} answers one after the other were no records")

    def _chunk(self, subject: Subject, ids: Sequence[str]) -> list[FoundRecord]:
        url = f"{self._root}/{subject}/{','.join(ids)}"
        try:
            response = self._pool.request("GET", url)
        except urllib3.exceptions.HTTPError as error:
            reason = getattr(error, "reason", None) or error
            raise CatalogError(f"catalogue: no answer from {self._shown}: {reason}; is [batch] api right?") from error
        return _judged(subject, ids, response.status, response.data)


def _chunks(ids: Sequence[str], most: int) -> list[list[str]]:
    """The ids in as few requests as their number and the length of a URL allow."""
    chunks: list[list[str]] = []
    room = 0
    for name in ids:
        if not chunks or len(chunks[-1]) == most or len(name) >= room:
            chunks.append([])
            room = _URL_BYTES
        chunks[-1].append(name)
        room -= len(name) + 1
    return chunks


def _judged(subject: Subject, ids: Sequence[str], status: int, body: bytes) -> list[FoundRecord]:
    """What an answer of the API says of each of the ids that were asked."""
    if status not in (200, 404):
        return [(one, "bad", None, f"HTTP {status}") for one in ids]
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return [(one, "bad", None, f"not JSON: {error}") for one in ids]
    parts = answer if isinstance(answer, list) else [answer]
    _, key = _SCHEMA[subject]
    by_id: dict[str, Any] = {}
    for part in parts:
        if isinstance(part, dict) and key in part:
            name = str(part[key])
            by_id[name] = _CONTRADICTORY if by_id.get(name, part) != part else part
    # a message does not say of which id it speaks: its place does, where nothing was left out
    by_place = dict(zip(ids, parts, strict=True)) if len(parts) == len(ids) else {}
    return [_one(subject, one, by_id.get(one, by_place.get(one))) for one in ids]


def _one(subject: Subject, name: str, part: Any) -> FoundRecord:
    if part is None:
        return name, "bad", None, "not in the answer"
    if part is _CONTRADICTORY:
        return name, "bad", None, "two records that contradict each other"
    if isinstance(part, dict) and part.get("message") == f"{subject} not found":
        return name, "unknown", None, ""
    schema, key = _SCHEMA[subject]
    document, reason = checked(part, schema)
    if document is None:
        return name, "bad", None, reason
    if str(document[key]) != name:
        return name, "bad", None, f"the record of {document[key]}"
    return name, "known", document, ""


def _reasons(found: list[FoundRecord]) -> dict[str, list[str]]:
    """By reason: the ids of the bad ones."""
    reasons: dict[str, list[str]] = {}
    for name, status, _, reason in found:
        if status == "bad":
            reasons.setdefault(reason, []).append(name)
    return reasons


def refresh_catalog(
    catalog: Catalog,
    subject: Subject,
    ids: Sequence[str],
    api: ServiceApi,
    advance: Callable[[int], object] = lambda asked: None,
) -> Counter[Status]:
    """Ask the API for those of the ids that are not settled yet; returns what became of these.

    Raises `CatalogError` where the API does not answer; what it said before that is kept.
    """
    statuses = catalog.statuses(subject)
    missing = [name for name in ids if statuses.get(name, "bad") == "bad"]
    missing.sort(key=lambda name: name in statuses)  # what was bad before is asked last
    advance(len(ids) - len(missing))
    return ask_for_records(catalog, subject, missing, api, advance)


def ask_for_records(
    catalog: Catalog,
    subject: Subject,
    ids: Sequence[str],
    api: ServiceApi,
    advance: Callable[[int], object] = lambda asked: None,
) -> Counter[Status]:
    """Ask the API for the ids and keep what it says. Raises `CatalogError` as `refresh_catalog` does."""
    counts: Counter[Status] = Counter()

    def tell(found: list[FoundRecord]) -> None:
        catalog.keep(subject, found)
        counts.update(status for _, status, _, _ in found)
        for reason, names in _reasons(found).items():
            log.warning("%d %s records: %s (%s%s)", len(names), subject, reason, names[0], ", …" * (len(names) > 1))
        advance(len(found))

    api.ask_for_records(subject, ids, tell)
    return counts
