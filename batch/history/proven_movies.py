"""Movies that only the stream proves, for nights in which the API does not answer: many users watched them.

A random character may come into an id, so an id that is another one with a character more, and that far fewer watched,
is a wrong spelling and no movie.
"""

import logging
from collections.abc import Collection, Mapping

import numpy as np
import pyarrow as pa

log = logging.getLogger(__name__)

_MISSPELT = 100
"""A wrong spelling has fewer than one in so many users of the right one; in the worst streams seen, one in 100,000."""


def proven_movies(sessions: pa.Table, answered: Collection[str], least_users: int) -> list[str]:
    """The movies that at least so many users watched, ascending, without those on which the API has answered.

    `sessions` has the columns `user` and `movie` of `DAY_SCHEMAS`.
    """
    users = _count_users(sessions)
    watched = (movie for movie, count in users.items() if count >= least_users and movie not in answered)
    return sorted(movie for movie in watched if not _is_misspelt(movie, users))


def find_proven(sessions: pa.Table, answered: Collection[str], least_users: int) -> list[str]:
    """As `proven_movies`, and say in the log how many there are."""
    proven = proven_movies(sessions, answered, least_users)
    if proven:
        log.warning("catalogue: %d movies are known only by the %d users or more of each", len(proven), least_users)
    return proven


def _count_users(sessions: pa.Table) -> dict[str, int]:
    """By movie: how many users watched it."""
    column = sessions.column("movie")
    if not column.num_chunks:
        return {}
    encoded = column.combine_chunks()
    words = encoded.dictionary.to_pylist()
    pairs = np.sort(encoded.indices.to_numpy().astype(np.int64) << 32 | sessions.column("user").to_numpy())
    movie = pairs[np.append(True, np.diff(pairs) != 0)[: len(pairs)]] >> 32
    return dict(zip(words, np.bincount(movie, minlength=len(words)).tolist(), strict=True))


def _is_misspelt(movie: str, users: Mapping[str, int]) -> bool:
    """Whether one character less makes a movie that many times as many users watched."""
    shorter = (movie[:at] + movie[at + 1 :] for at in range(len(movie)))
    return any(users.get(name, 0) > _MISSPELT * users[movie] for name in shorter)
