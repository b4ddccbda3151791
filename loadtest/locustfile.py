"""Users of the recommender for locust: known, unknown and invalid ids, in the proportions of the real service.

    .venv/bin/locust -f loadtest/locustfile.py -H http://127.0.0.1:8082                     with its page on :8089
    .venv/bin/locust -f loadtest/locustfile.py -H http://127.0.0.1:8082 --headless -u 20 -r 20 -t 30s

`HttpUser` on purpose: locust's fast user retries dropped requests, and so hides lost ones.
"""

import random
import sys

from locust import HttpUser, constant, task

from loadtest.settings import WorldSettings
from stream.errors import SettingsError
from stream.event import LIST_LENGTH
from stream.settings import load


def _known_users() -> int:
    """The number of users of the service. Exits with one line for wrong settings, which locust would print as a bug."""
    try:
        return load("loadtest", WorldSettings).users
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


_KNOWN = _known_users()
_UNKNOWN = (10**9, 2 * 10**9)
_INVALID = ("abc", "-5", "1.5", "%F0%9F%8E%AC", "9" * 20, "1%2C2", "0x10")


class Caller(HttpUser):
    """The service's caller, with an invalid request now and then."""

    wait_time = constant(0)

    @task(980)
    def known(self) -> None:
        """A user of the service."""
        self._ask(random.randint(1, _KNOWN), "known")

    @task(15)
    def unknown(self) -> None:
        """An unknown user gets the popular list."""
        self._ask(random.randint(*_UNKNOWN), "unknown")

    @task(5)
    def invalid(self) -> None:
        """An invalid user id is refused with 400."""
        url = f"/recommend/{random.choice(_INVALID)}"
        with self.client.get(url, name="invalid", catch_response=True) as response:
            if response.status_code == 400:
                response.success()
            else:
                response.failure(f"status {response.status_code} instead of 400")

    def _ask(self, user: int, name: str) -> None:
        with self.client.get(f"/recommend/{user}", name=name, catch_response=True) as response:
            movies = response.text.split(",")
            if response.status_code != 200:
                response.failure(f"status {response.status_code}")
            elif not 1 <= len(set(movies)) == len(movies) <= LIST_LENGTH or not all(movies):
                response.failure(f"not a list of up to {LIST_LENGTH} ids: {response.text[:80]!r}")
