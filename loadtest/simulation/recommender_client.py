"""The service's client of the recommender: sends requests, judges answers as the service does, and creates its log
line.

| the answer | status | text in the line |
|---|---|---|
| in time, 1..20 known ids | 200 | the ids |
| in time, but unusable | 400 | `movie X not found`, or `invalid recommendation format (empty)` |
| none in time, refused, or another HTTP status | 0 | the exception of the service's client |

No request is retried, so a lost one shows. Concurrent requests run in threads, on kept connections, at a third of the
cost of a comparable asynchronous client.
"""

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

import urllib3

from stream.event import LIST_LENGTH, Event

_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class RecommenderAnswer:
    """The outcome of one request."""

    status: int
    movies: tuple[str, ...]
    error: str | None
    latency_ms: float
    release: str | None
    """The release that answered, by its header."""
    source: str | None

    def event(self, user: int, asked_ms: int, host: str) -> Event:
        """The event that the service logs when the answer has arrived."""
        latency = round(self.latency_ms)
        return Event(
            "recommend",
            asked_ms + latency,
            user,
            host=host,
            status=self.status,
            movies=self.movies,
            latency_ms=latency,
            error=self.error,
        )


class RecommenderClient:
    """Asks one recommender; `known` are the ids of the service's catalogue."""

    def __init__(self, server: str, deadline_ms: int, known: Mapping[str, int]) -> None:
        self.host = urlsplit(server).netloc
        self._server = server.rstrip("/")
        self._deadline_ms = deadline_ms
        self._known = known
        timeout = urllib3.Timeout(total=deadline_ms / 1000)
        self._pool = urllib3.PoolManager(maxsize=_AT_ONCE, timeout=timeout, retries=False)
        self._threads = ThreadPoolExecutor(_AT_ONCE, "caller")

    async def ask(self, user: int) -> RecommenderAnswer:
        """Request the list of one user; failures of the recommender are answers too, not exceptions."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._ask, user)

    def close(self) -> None:
        """Close all connections."""
        self._threads.shutdown()
        self._pool.clear()

    def _ask(self, user: int) -> RecommenderAnswer:
        began = time.perf_counter()
        try:
            response = self._pool.request("GET", f"{self._server}/recommend/{user}")
        except urllib3.exceptions.TimeoutError:
            text = f"java.util.concurrent.TimeoutException: Request timeout to {self.host} after {self._deadline_ms} ms"
            return RecommenderAnswer(0, (), text, self._since(began), None, None)
        except urllib3.exceptions.HTTPError as error:
            return RecommenderAnswer(
                0, (), f"java.net.ConnectException: {type(error).__name__}", self._since(began), None, None
            )
        return self._judged(response, self._since(began))

    def _judged(self, response: urllib3.BaseHTTPResponse, latency_ms: float) -> RecommenderAnswer:
        release, source = response.headers.get("x-marquee-release"), response.headers.get("x-marquee-source")
        if response.status != 200:
            text = f"dispatch.StatusCode: Unexpected response status: {response.status}"
            return RecommenderAnswer(0, (), text, latency_ms, release, source)
        text = response.data.decode("utf-8", "replace")
        movies = tuple(text.split(",")) if text else ()
        if not 1 <= len(movies) <= LIST_LENGTH:
            text = "invalid recommendation format (empty)" if not movies else "invalid recommendation format (too long)"
            return RecommenderAnswer(400, (), text, latency_ms, release, source)
        for movie in movies:
            if movie not in self._known:
                return RecommenderAnswer(400, (), f"movie {movie} not found", latency_ms, release, source)
        return RecommenderAnswer(200, movies, None, latency_ms, release, source)

    @staticmethod
    def _since(began: float) -> float:
        return (time.perf_counter() - began) * 1000
