"""Decay: older events of a user's history weigh less, by their age and by how many came after them.

Both count back from the user's latest event, not from now: who was away for a month has the same history as before.
What was watched last says what comes next, and everything ever watched says what else is liked: with a `floor`, no
event weighs less than that beside the latest one, and what is far back counts together.
"""

import numpy as np
import scipy.sparse as sp

from batch.history.interactions import Interactions
from stream.zone import DAY_MS

_LEAST = 1e-4
"""What weighs less than this beside the latest event is left out."""
Decay = dict[str, float]
"""`items`: an event weighs 1/e for every so many that came after it; `days`: half for every so many days between it and
the latest; `floor`: the share of its weight that no decay takes. 0, or nothing, for no decay, or no floor."""
ITEMS = (50.0, 20.0, 10.0, 5.0, 2.5)
DAYS = (60.0, 14.0, 3.0)
FLOORS = (0.2, 0.1, 0.05, 0.02)
"""What is tried, gentle first."""


def recent(data: Interactions, users: np.ndarray, decay: Decay, confidence: float = 0) -> sp.csr_matrix:
    """What some users (int64 [k]) watched: float32 [k, m]; 1 + `confidence` × weight, times what decay leaves of it."""
    lengths = data.indptr[users + 1] - data.indptr[users]
    at = data.events_of(users)
    user = np.repeat(np.arange(len(users)), lengths)
    last = data.indptr[users + 1] - 1
    exponent = np.zeros(len(at))
    if decay.get("items"):
        exponent -= (last[user] - at) / decay["items"]
    if decay.get("days"):
        exponent -= np.log(2) / decay["days"] / DAY_MS * (data.starts[last[user]] - data.starts[at])
    floor = decay.get("floor", 0.0)
    left = floor + (1 - floor) * np.exp(exponent)
    kept = left > _LEAST
    at = at[kept]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(user[kept], minlength=len(users)))]).astype(np.int32)
    left = (left[kept] * (1 + confidence * data.weights[at])).astype(np.float32)
    return sp.csr_matrix((left, data.movies[at], indptr), (len(users), data.shape[1]))
