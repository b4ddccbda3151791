"""Decay: older events of a user's history weigh less, by their age and by the number of later events.

Both count back from the user's latest event, not from now: a user who was away for a month has the same history as
before. The latest events predict the next movie, and all events together the user's general taste: with a `floor`, no
event weighs less than that share of the latest one, so that old events still count in sum.
"""

import numpy as np
import scipy.sparse as sp

from batch.history.interactions import Interactions
from stream.zone import DAY_MS

_LEAST = 1e-4
"""Events that weigh less than this share of the latest one are left out."""
Decay = dict[str, float]
"""`items`: the weight of an event falls to 1/e with every so many later events; `days`: it halves with every so many
days before the latest event; `floor`: the share of the weight that does not decay. 0, or no key, for none."""
ITEMS = (50.0, 20.0, 10.0, 5.0, 2.5)
DAYS = (60.0, 14.0, 3.0)
FLOORS = (0.2, 0.1, 0.05, 0.02)
"""The values that tuning tries, the gentlest first."""


def decayed_histories(data: Interactions, users: np.ndarray, decay: Decay, confidence: float = 0) -> sp.csr_matrix:
    """The histories of some users (int64 [k]): float32 [k, m]; 1 + `confidence` × weight, times the decay."""
    lengths = data.indptr[users + 1] - data.indptr[users]
    events = data.events_of(users)
    row = np.repeat(np.arange(len(users)), lengths)
    latest = (data.indptr[users + 1] - 1)[row]
    exponent = np.zeros(len(events))
    if decay.get("items"):
        exponent -= (latest - events) / decay["items"]
    if decay.get("days"):
        exponent -= np.log(2) / decay["days"] / DAY_MS * (data.starts[latest] - data.starts[events])
    floor = decay.get("floor", 0.0)
    left = floor + (1 - floor) * np.exp(exponent)
    kept = left > _LEAST
    events = events[kept]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row[kept], minlength=len(users)))]).astype(np.int32)
    weights = (left[kept] * (1 + confidence * data.weights[events])).astype(np.float32)
    return sp.csr_matrix((weights, data.movies[events], indptr), (len(users), data.shape[1]))
