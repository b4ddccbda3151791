"""Bad candidates whose lists break a cap, or that say wrong things of it; and good ones with every kind of cap."""

from collections.abc import Callable

import numpy as np

from tests.batch.gate.candidates import CandidateParts, Spoil, not_personal, one_ranking, popular, popular_for_short
from tests.batch.gate.planted_new_movies import with_unwatched


def with_minors(parts: CandidateParts) -> None:
    """Minors, users of unknown age, and adult movies among the most popular ones, one of which costs most."""
    parts.ages = {**dict.fromkeys(range(0, 400, 4), 17), **dict.fromkeys(range(1, 400, 8), 0), 3: 18}
    order = np.argsort(-parts.seen.sum(axis=0), kind="stable")
    parts.adult = set(order[[1, 4, 9, 30]].tolist())
    parts.costs = {int(order[2]): 9.5, int(order[4]): 9.5}


def capped(**caps: float) -> Spoil:
    def cap(parts: CandidateParts) -> None:
        with_minors(parts)
        parts.caps = caps

    return cap


def then(*spoils: Spoil) -> Spoil:
    """One after the other."""

    def spoil(parts: CandidateParts) -> None:
        for each in spoils:
            each(parts)

    return spoil


def with_new_adult_movie(parts: CandidateParts, rows: tuple[int, ...] = ()) -> None:
    """An adult movie that nobody has watched is in lists of users who are of age, and of some others; none has another
    one, which costs too much. One user has seen all but ten of the movies that anyone has.
    """
    with_unwatched(parts)
    with_minors(parts)
    parts.seen[3, 10 : -parts.unwatched] = True
    newest = len(parts.movies) - 1
    parts.adult.add(newest)
    parts.costs[newest - 1], parts.caps = 9.5, {"max_cost": 5.0}
    parts.lists = parts.made_lists()
    of_age = (parts.made_caps().facts.ages >= 18) & (parts.lists[:, 12] >= 0)
    parts.lists[[*np.flatnonzero(of_age)[:100], *rows], 12] = newest


def new_dear_movie(parts: CandidateParts) -> None:
    with_new_adult_movie(parts)
    assert parts.lists is not None
    parts.lists[2, 12] = len(parts.movies) - 2


def new_restricted_unsaid(parts: CandidateParts) -> None:
    with_new_adult_movie(parts)
    restricted = np.flatnonzero(parts.made_caps().not_for_everyone)[:-1]
    parts.manifest["restricted"] = [parts.movies[movie] for movie in restricted]


def adult_for(row: int, place: int = 19) -> Spoil:
    """An adult movie that the user has not seen takes a place of the list."""

    def spoil(parts: CandidateParts) -> None:
        with_minors(parts)
        movie = sorted(parts.adult)[0]
        parts.seen[row, movie] = False
        parts.lists = parts.made_lists()
        parts.lists[row, place] = movie

    return spoil


def in_popular(row: int, place: int, movie: Callable[[CandidateParts], int]) -> Spoil:
    """A movie stands in a popular list, and the others where they were."""

    def spoil(parts: CandidateParts) -> None:
        with_minors(parts)
        parts.caps = {"max_cost": 5.0}
        parts.fallbacks = parts.made_fallbacks()
        parts.fallbacks[row] = np.insert(parts.fallbacks[row], place, movie(parts))[:100]

    return spoil


def an_adult_movie(parts: CandidateParts) -> int:
    return min(movie for movie in parts.adult if movie not in parts.costs)


def a_dear_movie(parts: CandidateParts) -> int:
    return min(movie for movie in parts.costs if movie not in parts.adult)


def dear_for_one(parts: CandidateParts) -> None:
    capped(max_cost=9.49)(parts)
    movie = a_dear_movie(parts)
    parts.seen[7, movie] = False
    parts.lists = parts.made_lists()
    parts.lists[7, 19] = movie


def two_of_one(parts: CandidateParts) -> None:
    """A minor's list has two adult movies, of which the settings allow one."""
    capped(adult_share_minors=0.05)(parts)
    adult = sorted(parts.adult)[:2]
    parts.seen[8, adult] = False
    parts.lists = parts.made_lists()
    kept = [movie for movie in parts.lists[8] if movie not in adult][:18]
    parts.lists[8] = [*kept, *adult]


def minors_by_another_age(parts: CandidateParts) -> None:
    with_minors(parts)
    parts.sealed_minors = parts.made_caps().minor_kinds
    parts.sealed_minors[3] = 1


def restricted_unsaid(parts: CandidateParts) -> None:
    with_minors(parts)
    parts.manifest["restricted"] = [parts.movies[movie] for movie in sorted(parts.adult)[1:]]


def not_filled_up(parts: CandidateParts) -> None:
    with_minors(parts)
    parts.lists = parts.made_lists()
    parts.lists[4, 19] = -1


RULE = "lists_keep_to_caps"
CAPS: list[tuple[str, str, Spoil]] = [
    (RULE, "an adult movie for a minor", adult_for(4)),
    (RULE, "an adult movie for a user of unknown age", adult_for(9)),
    (RULE, "two adult movies of one", two_of_one),
    (RULE, "an adult movie in the popular list", in_popular(0, 3, an_adult_movie)),
    (RULE, "an adult movie far down the popular list", in_popular(0, 99, an_adult_movie)),
    (RULE, "an adult movie in the list of a segment with minors", in_popular(2, 60, an_adult_movie)),
    (RULE, "a movie that costs too much", dear_for_one),
    (RULE, "a movie that costs too much in a popular list", in_popular(1, 99, a_dear_movie)),
    (RULE, "reports are told of others", minors_by_another_age),
    (RULE, "workers are told of fewer movies", restricted_unsaid),
    (RULE, "a new movie for adults in a minor's list", lambda parts: with_new_adult_movie(parts, (4,))),
    (RULE, "a new movie that costs too much in a list", new_dear_movie),
    (RULE, "workers are not told of a new movie", new_restricted_unsaid),
    ("lists_are_full", "a capped list that is not filled up", not_filled_up),
    ("lists_differ", "a popular list for users of age without the adult movies",
     then(popular, with_minors, lambda parts: setattr(parts, "ages", dict.fromkeys(range(400), 17)),
          lambda parts: setattr(parts, "lists", parts.made_lists()),
          lambda parts: setattr(parts, "ages", {0: 17}))),
]  # fmt: skip
"""Spoilt first releases, each by the rule that is there for it."""


def segment(parts: CandidateParts) -> None:
    """One ranking for everyone, and one for each segment."""
    not_personal(parts, "segment")
    counts = [parts.seen.sum(axis=0), *(parts.seen[part::3].sum(axis=0) for part in (1, 2))]
    parts.scores = np.stack(counts)[np.arange(len(parts.users)) % 3]


def short_histories(parts: CandidateParts) -> None:
    """The chosen model serves short histories worse, and their users have the popular list."""
    worse = {"mean": -0.02, "low": -0.03, "high": -0.01}
    parts.evaluation["slices"]["choice"]["history_lengths"]["6-10"]["models"]["als"]["against_popular"] = worse
    parts.evaluation["popular_below"] = {"als": 11}
    popular_for_short(parts, 11)


def all_but_adult_seen(parts: CandidateParts) -> None:
    """A minor for whom nothing is left but adult movies, and 19 others."""
    with_minors(parts)
    parts.seen[4] = True
    parts.seen[4, [*parts.adult, *[movie for movie in range(120) if movie not in parts.adult][:19]]] = False


GOOD_CAPS: dict[str, Spoil] = {
    "minors": with_minors,
    "no minors": then(with_minors, lambda parts: parts.ages.clear()),
    "nobody of a known age": then(with_minors, lambda parts: parts.ages.update(dict.fromkeys(range(400), 0))),
    "no cap": capped(adult_share_minors=1.0),
    "two adult movies allowed": capped(adult_share_minors=0.1),
    "adults from 19 on": capped(minor_below_age=19),
    "no dear movie": capped(max_cost=9.49),
    "everything dear but the free": then(capped(max_cost=0.5), lambda parts: parts.costs.update(
        dict.fromkeys(range(60, 120), 0.0))),
    "popular": then(popular, with_minors),
    "popular, one adult movie allowed": then(popular, capped(adult_share_minors=0.05)),
    "popular, of those that cost little": then(popular, capped(max_cost=5.0)),
    "segment": then(segment, with_minors),
    "segment, two adult movies allowed": then(segment, capped(adult_share_minors=0.1, max_cost=5.0)),
    "short histories with the popular list": then(short_histories, with_minors),
    "nothing left for a minor": all_but_adult_seen,
    "new movies for adults only": with_new_adult_movie,
    "20 users and all alike": then(one_ranking, lambda parts: parts.adult.add(0)),
}  # fmt: skip
"""Changes of a first release that passes."""
