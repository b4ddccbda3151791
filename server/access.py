"""The access log: a random sample of requests, each as one line of JSON. Off by default."""

import logging
import random

log = logging.getLogger("server.access")


class AccessLog:
    """Notes a share of the requests (0..1)."""

    def __init__(self, share: float) -> None:
        self._share = share

    def note(self, method: str, path: str, status: int, seconds: float) -> None:
        """Note a request, and how long it took from its bytes to those of the answer."""
        if random.random() < self._share:
            log.info({"method": method, "path": path, "status": status, "us": round(1e6 * seconds)})

    def answered(self, user: bytes, seconds: float) -> None:
        """Note a list that was answered by the lane."""
        self.note("GET", f"/recommend/{user.decode()}", 200, seconds)
