"""Exposure: which starts a list may have suggested that the service showed.

A start is *exposed* if a list (an answer with status 200) was shown to its user within a window before it: the same
window in which a report counts hits. What users take from a list says much about which list was shown, and little about
which model is better, so models are chosen, tuned and measured on the other starts.
"""

from dataclasses import replace

import numpy as np

from batch.history.interactions import Requests, TrainingHistory

_BLOCK = 1 << 20
"""Starts that are looked up at once."""


def with_exposure(history: TrainingHistory, requests: Requests, window_ms: int) -> TrainingHistory:
    """The same history, with `exposed`."""
    exposed = exposed_starts(history.user, history.start, requests, window_ms)
    return replace(history, exposed=exposed, window_ms=window_ms)


def exposed_starts(user: np.ndarray, start: np.ndarray, requests: Requests, window_ms: int) -> np.ndarray:
    """Whether each user (int32 [s]) was shown a list in [start - window, start), `start` being int64 [s], ms UTC: bool
    [s].

    Takes a sort of the requests and a binary search per start: seconds for 20 million of each.
    """
    exposed = np.zeros(len(user), bool)
    if not len(requests.time) or not len(start):
        return exposed
    first, last = int(requests.time.min()), int(requests.time.max())
    window = min(window_ms, max(int(start.max()) - first, 0))
    span = np.int64(last - first + window + 2)  # user and time in one number; times outside it are not exposed
    shown = np.sort(requests.user * span + (requests.time - first))
    for begin in range(0, len(user), _BLOCK):
        rows = slice(begin, begin + _BLOCK)
        moments = user[rows] * span + np.clip(start[rows] - first, 0, span - 1)
        before = np.searchsorted(shown, moments) - 1  # the latest list before the start, of this user or another
        latest = shown[np.maximum(before, 0)]
        of_user = (before >= 0) & (latest // span == user[rows])
        exposed[rows] = of_user & (moments - latest <= window)
    return exposed
