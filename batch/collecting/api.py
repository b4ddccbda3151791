"""Client of the service's user and movie APIs: retries failures, and checks every record before it is stored.

Whatever the API sends, each requested id gets one status: `known` with the normalized record, `unknown`, or `bad` with
the reason. A known record lacks the fields that were wrong, and then has a reason too. Only an API that does not
answer, or answers without records many times in a row, raises an error.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor

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
_URL_BYTES = 6_000
"""The longest list of ids in a URL: HTTP servers refuse request lines of more than about 8 KB."""


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
        self._pool = urllib3.PoolManager(maxsize=settings.api_connections, retries=retries, timeout=timeout)

    def fetch_records(self, subject: Subject, ids: Sequence[str], keep: Callable[[list[FoundRecord]], None]) -> None:
        """Request records; `keep` gets them as they arrive. Raises `CatalogError` if the API does not answer."""
        chunks = _chunks(ids, self._bulk)
        if self._connections == 1:  # without threads: the process would wait for them at exit
            self._keep_all((self._request(subject, chunk) for chunk in chunks), keep)
            return
        with ThreadPoolExecutor(self._connections) as threads:
            try:
                self._keep_all(self._answers(threads, subject, chunks), keep)
            except CatalogError:
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    def _answers(self, threads: Executor, subject: Subject, chunks: list[list[str]]) -> Iterator[list[FoundRecord]]:
        """The answers in the order of the chunks. Only a few requests run ahead of the consumed answers: a broken API
        does not get all requests, and few answers wait in memory."""
        running: deque[Future[list[FoundRecord]]] = deque()
        for chunk in chunks:
            running.append(threads.submit(self._request, subject, chunk))
            if len(running) > 2 * self._connections:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()

    def _keep_all(self, answers: Iterable[list[FoundRecord]], keep: Callable[[list[FoundRecord]], None]) -> None:
        failed = 0
        for answer in answers:
            keep(answer)
            failed = failed + 1 if all(reason.startswith(_NO_RECORDS) for _, _, _, reason in answer) else 0
            if failed == _GIVE_UP:
                raise CatalogError(
                    f"catalogue: {failed} answers of {self._shown} in a row held no records; is [batch] api right?"
                )

    def _request(self, subject: Subject, ids: Sequence[str]) -> list[FoundRecord]:
        url = f"{self._root}/{subject}/{','.join(ids)}"
        try:
            response = self._pool.request("GET", url)
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
        answer = orjson.loads(body)
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
) -> Counter[Status]:
    """Request the ids whose status is neither known nor unknown; returns how many got which status.

    `advance` gets the number of finished ids. Raises `CatalogError` if the API does not answer; earlier records are
    kept.
    """
    statuses = catalog.statuses(subject)
    missing = [name for name in ids if statuses.get(name, "bad") == "bad"]
    missing.sort(key=lambda name: name in statuses)  # previously bad ids come last
    advance(len(ids) - len(missing))
    return fetch_into_catalog(catalog, subject, missing, api, advance)


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
