"""The `date` header of answers, rendered once per second (RFC 9110, 6.6.1)."""

from email.utils import formatdate
from functools import lru_cache
from time import time


def http_date() -> str:
    """The current time, to the second."""
    return _rendered(int(time()))


@lru_cache(maxsize=1)
def _rendered(second: int) -> str:
    return formatdate(second, usegmt=True)
