"""Candidates with movies that nobody has watched, and bad ones."""

import numpy as np

from tests.batch.gate.candidates import CandidateParts, Spoil, not_personal

BUDGET, LIKE = "new_movies_keep_to_their_budget", "new_movies_lie_near_their_like"


def with_unwatched(parts: CandidateParts, movies: int = 30) -> None:
    """Nobody has watched the last so many movies; they are in no list."""
    parts.unwatched = movies
    parts.seen[:, -movies:] = False
    sessions = 2 * int(parts.seen.sum())
    parts.facts["counts"].update(movies=len(parts.movies) - movies, sessions=sessions)
    parts.manifest["unwatched_movies"] = movies


def with_new_movie(parts: CandidateParts, users: int = 120, movies: int = 1) -> None:
    """So many users, from the first on, have some that nobody has watched in the lower half of their lists."""
    with_unwatched(parts)
    parts.lists = parts.made_lists()
    for number in range(movies):
        parts.lists[:users, 10 + number] = len(parts.movies) - 1 - number


def shown_in_vain(parts: CandidateParts) -> None:
    with_new_movie(parts)
    parts.newest_shown = 501


def new_in_a_popular_list(parts: CandidateParts) -> None:
    """Far down, where it replaces a movie that is hidden later."""
    with_unwatched(parts)
    parts.fallbacks = parts.made_fallbacks()
    parts.fallbacks[1, (parts.fallbacks[1] >= 0).sum() - 1] = len(parts.movies) - 1


def new_though_not_personal(parts: CandidateParts) -> None:
    """The sample of `lists_differ` may miss the one list."""
    not_personal(parts, "segment")
    with_unwatched(parts)
    counts = [parts.seen.sum(axis=0), *(parts.seen[part::3].sum(axis=0) for part in (1, 2))]
    parts.scores = np.stack(counts)[np.arange(len(parts.users)) % 3]
    parts.lists = parts.made_lists()
    parts.lists[7, 19] = len(parts.movies) - 1


def new_movies_shuffled(parts: CandidateParts) -> None:
    with_unwatched(parts)
    new = parts.items[-parts.unwatched :]
    np.random.default_rng(2).shuffle(new)


def new_movies_alike(parts: CandidateParts) -> None:
    with_unwatched(parts)
    parts.items[-parts.unwatched :] = parts.items[-1] + 0.1 * parts.items[-parts.unwatched :]


NEW_MOVIES: list[tuple[str, str, Spoil]] = [
    (BUDGET, "two new movies in a list", lambda parts: with_new_movie(parts, movies=2)),
    (BUDGET, "a new movie in a list too many", lambda parts: with_new_movie(parts, users=121)),
    (BUDGET, "a movie that was shown in vain", shown_in_vain),
    (BUDGET, "a new movie in a popular list", new_in_a_popular_list),
    (BUDGET, "a new movie in lists that are not personal", new_though_not_personal),
    (LIKE, "embeddings of new movies shuffled", new_movies_shuffled),
    (LIKE, "one embedding for all new movies", new_movies_alike),
]
