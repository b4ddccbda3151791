"""The access log: a random sample of the requests, one line of JSON each. Off by default."""

import logging
import random

log = logging.getLogger("server.access")


class AccessLog:
    """Logs a share of the requests, 0 to 1."""

    def __init__(self, share: float) -> None:
        self._share = share

    def log_request(self, method: str, path: str, status: int, seconds: float) -> None:
        """Log a request; `seconds` is the time from its first byte to its answer."""
        if random.random() < self._share:
            log.info({"method": method, "path": path, "status": status, "us": round(1e6 * seconds)})

    def log_list(self, user: bytes, seconds: float) -> None:
        """Log a list that the fast lane answered."""
        self.log_request("GET", f"/recommend/{user.decode()}", 200, seconds)
