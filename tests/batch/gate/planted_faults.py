"""Bad candidates for the gate, each by the rule that is there for it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from quality.alerts.alert_file import Alert
from server.release import Release
from stream.zone import DAY_MS
from tests.batch.gate.candidate_evaluations import NOW, figures
from tests.batch.gate.candidates import (
    CandidateParts,
    Spoil,
    after,
    build_parts,
    days_end_before,
    measured,
    models,
    not_personal,
    one_ranking,
    popular_for_short,
    proven,
    week_entry,
)
from tests.batch.gate.planted_cap_faults import CAPS
from tests.batch.gate.planted_draws import PLANTED_DRAWS
from tests.batch.gate.planted_first_lists import FIRST_LISTS
from tests.batch.gate.planted_new_movies import NEW_MOVIES
from tests.batch.gate.planted_next_faults import NEXT

SMALL = {"users": 100, "movies": 100}
"""Just enough that lists must differ, and too little for the data to tell whose history a list matches."""


def hardly_popular(parts: CandidateParts, share: int = 9) -> None:
    """A popular list of which so many of 20 are just among the quarter that is seen most, and the others just not."""
    counts = parts.seen.sum(axis=0)
    order = np.argsort(counts, kind="stable")
    often = counts[order] >= np.quantile(counts, 0.75)
    first = [*order[often][:share], *order[~often][share - 20 :]]
    parts.popularity = counts.astype(float)
    parts.popularity[first] = counts.max() + np.arange(20, 0, -1)


def served_worse(length: str, popular_below: int = 0) -> Spoil:
    """The chosen model ranks below the popular list for a length of history on the choice slice."""

    def spoil(parts: CandidateParts) -> None:
        worse = {"mean": -0.02, "low": -0.03, "high": -0.01}
        parts.evaluation["slices"]["choice"]["history_lengths"][length]["models"]["als"]["against_popular"] = worse
        if popular_below:
            parts.evaluation["popular_below"] = {"als": popular_below}
            popular_for_short(parts, popular_below)

    return spoil


def set_lists(change: Callable[[np.ndarray], object]) -> Spoil:
    def spoil(parts: CandidateParts) -> None:
        parts.lists = parts.made_lists()
        change(parts.lists)

    return spoil


def set_fallbacks(change: Callable[[np.ndarray], object]) -> Spoil:
    def spoil(parts: CandidateParts) -> None:
        parts.fallbacks = parts.made_fallbacks()
        change(parts.fallbacks)

    return spoil


def set_baseline(change: Callable[[np.ndarray], object]) -> Spoil:
    def spoil(parts: CandidateParts) -> None:
        parts.baseline = parts.made_baseline()
        change(parts.baseline)

    return spoil


def random_order(lists: np.ndarray, begin: int = 0, end: int | None = None) -> None:
    """Each of some lists holds what it should, but in an order of its own."""
    lists[begin:end] = np.random.default_rng(5).permuted(lists[begin:end], axis=1)


def random_order_in_a_block(parts: CandidateParts) -> None:
    users = len(parts.users)
    set_lists(lambda lists: random_order(lists, 5 * users // 8, 6 * users // 8))(parts)


def segments_in_random_order(parts: CandidateParts) -> None:
    not_personal(parts, "segment")
    one_ranking(parts)
    set_lists(random_order)(parts)


def shifted(begin: int, end: int) -> Spoil:
    """Embeddings from one eighth of the movies to another were written a row too far down."""

    def shift(parts: CandidateParts) -> None:
        rows = slice(begin * len(parts.items) // 8, end * len(parts.items) // 8)
        parts.items[rows] = np.roll(parts.items[rows], 1, axis=0)

    return shift


def swap_popular(first: int, second: int) -> Callable[[np.ndarray], object]:
    def swap(lists: np.ndarray) -> None:
        lists[0, [first, second]] = lists[0, [second, first]]

    return swap


def stale(parts: CandidateParts) -> None:
    """The very last user is offered at the end of the list what he has seen."""
    parts.lists = parts.made_lists()
    parts.lists[-1, 19] = np.flatnonzero(parts.seen[-1])[-1]


def hidden_offer(parts: CandidateParts) -> None:
    parts.lists = parts.made_lists()
    parts.hidden = {parts.movies[parts.lists[7, 3]]}
    for row in np.flatnonzero((parts.lists == parts.lists[7, 3]).any(axis=1)).tolist():
        if row != 7:
            kept = np.flatnonzero(~parts.seen[row] & ~np.isin(np.arange(len(parts.movies)), parts.lists[row]))[0]
            parts.lists[row, parts.lists[row] == parts.lists[7, 3]] = kept


def shuffled_users(parts: CandidateParts) -> None:
    parts.scores = np.random.default_rng(5).permutation(parts.scores)


def shuffled_movies(parts: CandidateParts) -> None:
    parts.scores = np.random.default_rng(5).permutation(parts.scores, axis=1)


def next_users(parts: CandidateParts) -> None:
    parts.scores = np.roll(parts.scores, 1, axis=0)


def next_users_in_a_block(parts: CandidateParts) -> None:
    """One of eight blocks of users was written a row too far down."""
    begin, end = 5 * len(parts.users) // 8, 6 * len(parts.users) // 8
    parts.scores[begin:end] = np.roll(parts.scores[begin:end], 1, axis=0)


def transposed(parts: CandidateParts) -> None:
    """The scores of factors that were read in the wrong order."""
    u, s, v = np.linalg.svd(parts.scores - parts.scores.mean(), full_matrices=False)
    parts.scores = (u[:, :8] * s[:8]) @ v[:8].T.reshape(8, -1)


def unpopular(parts: CandidateParts) -> None:
    parts.fallbacks = parts.made_fallbacks()
    parts.fallbacks[0] = np.argsort(parts.seen.sum(axis=0), kind="stable")[:100]


def segments_off_by_one(parts: CandidateParts) -> None:
    parts.fallbacks = parts.made_fallbacks()
    parts.segments = (np.arange(1, 401) % 3).astype(np.uint8)


def hidden_in_reserve(parts: CandidateParts) -> None:
    """The last of the popular list, which is shown only in place of others."""
    parts.fallbacks = parts.made_fallbacks()
    parts.hidden = {parts.movies[parts.fallbacks[0, 99]]}


def renamed(parts: CandidateParts) -> None:
    """Half of the titles have other ids, which the catalogue knows as well."""
    parts.sealed_movies = [
        name.replace("+2000", "+2001") if index % 2 else name for index, name in enumerate(parts.movies)
    ]
    parts.catalog_movies |= set(parts.sealed_movies)


def proven_by_nine(parts: CandidateParts) -> None:
    proven(parts, 1)
    parts.seen[9, 0] = False


def proven_silently(parts: CandidateParts) -> None:
    proven(parts, 2)
    parts.manifest["proven_movies"] = 1


def proven_but_denied(parts: CandidateParts) -> None:
    proven(parts, 2)
    parts.denied_movies.add(parts.movies[1])


def upside_down(parts: CandidateParts) -> None:
    not_personal(parts, "popular")
    parts.scores = np.tile(-parts.seen.sum(axis=0), (len(parts.seen), 1))


def night_before(parts: CandidateParts) -> None:
    """The evaluation that was left of it in the folder."""
    for part in parts.evaluation["slices"].values():
        part.update(from_ms=part["from_ms"] - DAY_MS, until_ms=part["until_ms"] - DAY_MS)


def difference(**changed: Any) -> Spoil:
    return lambda parts: parts.evaluation["against_popular"].update(changed)


def on_test(**changed: Any) -> Spoil:
    return lambda parts: models(parts, "test")["als"].update(changed)


ALERT = Alert(id="quarantined:1", alert="quarantined", text="too many")
SOUND = "evaluation_is_sound"
FIRST: list[tuple[str, str, Spoil]] = [
    ("files_verify", "NaN among the embeddings", lambda parts: parts.items.__setitem__((3, 1), np.nan)),
    ("files_verify", "a movie twice in a list", set_lists(lambda lists: lists.__setitem__((70, 1), lists[70, 0]))),
    ("files_verify", "a gap in a list", set_lists(lambda lists: lists.__setitem__((70, 4), -1))),
    ("files_verify", "a movie that is not there", set_lists(lambda lists: lists.__setitem__((70, 4), 120))),
    ("files_verify", "lists of 13 users", lambda parts: setattr(parts, "lists", parts.made_lists()[:13])),
    ("files_verify", "users of 64 bits", lambda parts: setattr(parts, "sealed_users", parts.users.astype(np.uint64))),
    ("files_verify", "a segment that is not there",
     lambda parts: setattr(parts, "segments", np.full(400, 3, np.uint8))),
    ("files_verify", "users in disorder", lambda parts: setattr(parts, "sealed_users", parts.users[::-1])),
    ("ledger_balances", "a line without a fate",
     lambda parts: setattr(parts, "entries", [week_entry(), week_entry(1000, 1010, 10)])),
    ("ledger_balances", "lines that nobody read",
     lambda parts: parts.facts["offsets"].update({"movielog1-0": [0, 1000]})),
    ("ledger_balances", "lines before the first", lambda parts: setattr(parts, "entries", [week_entry(1)])),
    ("ledger_balances", "a day is missing",
     lambda parts: setattr(parts, "entries", [week_entry(0, 399), week_entry(401)])),
    ("ledger_balances", "lines read twice",
     lambda parts: setattr(parts, "entries", [week_entry(0, 400), week_entry(400)])),
    ("ledger_balances", "another topic", lambda parts: parts.facts["offsets"].update({"movielog2-0": [0, 9]})),
    ("alerts_allow", "an hour of faults", lambda parts: parts.alerts.append(ALERT)),
    ("input_is_recent", "old input", lambda parts: parts.facts.update(stream_time=NOW - 2 * DAY_MS - 1)),
    ("input_is_recent", "stale days", lambda parts: days_end_before(parts, 2 * DAY_MS + 1)),
    ("input_is_recent", "input of the future", lambda parts: parts.facts.update(stream_time=NOW + 1)),
    ("there_is_enough", "13 users", lambda parts: parts.seen.__setitem__(slice(13, None), False)),
    ("there_is_enough", "19 users", lambda parts: parts.seen.__setitem__(slice(19, None), False)),
    ("release_is_of_its_input", "movies in another order",
     lambda parts: setattr(parts, "sealed_movies", parts.movies[::-1])),
    ("release_is_of_its_input", "other users",
     lambda parts: setattr(parts, "sealed_users", parts.users + np.uint32(1))),
    ("release_is_of_its_input", "segments lost",
     lambda parts: setattr(parts, "sealed_segments", np.zeros(400, np.uint8))),
    ("release_is_of_its_input", "users lost", lambda parts: parts.facts["counts"].update(users=401)),
    ("release_is_of_its_input", "movies lost", lambda parts: parts.facts["counts"].update(movies=121)),
    ("release_is_of_its_input", "sessions lost",
     lambda parts: parts.facts["counts"].update(sessions=int(parts.seen.sum()) - 1)),
    ("release_is_of_its_input", "half of the titles renamed", renamed),
    ("movies_are_known", "one unknown movie", lambda parts: parts.catalog_movies.discard(parts.movies[-1])),
    ("movies_are_known", "wrong catalogue", lambda parts: setattr(parts, "catalog_movies", {"aliens+1986"})),
    ("movies_are_known", "proven by nine users", proven_by_nine),
    ("movies_are_known", "proven, but not named so", proven_silently),
    ("movies_are_known", "proven, but denied", proven_but_denied),
    ("lists_are_full", "a list of 19", set_lists(lambda lists: lists.__setitem__((-1, 19), -1))),
    ("lists_are_full", "no list for a user", set_lists(lambda lists: lists.__setitem__(5, -1))),
    ("lists_are_full", "NaN for scores", set_lists(lambda lists: lists.__setitem__(slice(None), -1))),
    ("lists_are_full", "a short popular list",
     set_fallbacks(lambda lists: lists.__setitem__((2, slice(19, None)), -1))),
    ("lists_are_full", "a segment without a list", set_fallbacks(lambda lists: lists.__setitem__(1, -1))),
    ("lists_are_fresh", "what was seen", stale),
    ("lists_are_fresh", "what is hidden", hidden_offer),
    ("lists_are_fresh", "what is hidden, far down the popular list", hidden_in_reserve),
    ("lists_suit_their_users", "lists of the next user", next_users),
    ("lists_suit_their_users", "shuffled users", shuffled_users),
    ("lists_suit_their_users", "shuffled movies", shuffled_movies),
    ("lists_suit_their_users", "transposed factors", transposed),
    ("lists_suit_their_users", "random order", set_lists(random_order)),
    ("lists_suit_their_users", "by number", set_lists(lambda lists: lists.sort(axis=1))),
    ("lists_suit_their_users", "worst first",
     set_lists(lambda lists: lists.__setitem__(slice(None), lists[:, ::-1].copy()))),
    ("embeddings_suit_their_movies", "shuffled", lambda parts: np.random.default_rng(2).shuffle(parts.items)),
    ("embeddings_suit_their_movies", "transposed",
     lambda parts: setattr(parts, "items", parts.items.T.reshape(120, -1))),
    ("embeddings_suit_their_movies", "constant", lambda parts: parts.items.__setitem__(slice(None), parts.items[0])),
    ("embeddings_suit_their_movies", "a quarter shifted", shifted(3, 5)),
    ("popular_lists_are_popular", "two in the wrong order", set_fallbacks(swap_popular(2, 3))),
    ("popular_lists_are_popular", "far down, two in the wrong order", set_fallbacks(swap_popular(70, 85))),
    ("popular_lists_are_popular", "in order, of what is seen least",
     lambda parts: setattr(parts, "popularity", -parts.seen.sum(axis=0))),
    ("popular_lists_are_popular", "what nobody watches", unpopular),
    ("popular_lists_are_popular", "hardly what is watched", hardly_popular),
    ("popular_lists_are_popular", "segments off by one", segments_off_by_one),
    ("popular_lists_are_popular", "the list of another segment",
     set_fallbacks(lambda lists: lists.__setitem__(2, lists[1]))),
    ("popular_lists_are_popular", "a segment's worst first",
     set_fallbacks(lambda lists: lists.__setitem__((2, slice(20)), lists[2, 19::-1].copy()))),
    ("baseline_is_popular", "with what users had seen",
     lambda parts: setattr(parts, "baseline", np.tile(parts.made_fallbacks()[0, :20], (400, 1)))),
    ("baseline_is_popular", "of the next user",
     set_baseline(lambda lists: lists.__setitem__(slice(None), np.roll(lists, 1, axis=0)))),
    ("baseline_is_popular", "one movie short for one user", set_baseline(lambda lists: lists.__setitem__((9, 19), -1))),
    ("baseline_is_popular", "personal lists", lambda parts: setattr(parts, "baseline", parts.made_lists())),
    ("baseline_is_popular", "of one user too few",
     lambda parts: setattr(parts, "baseline", parts.made_baseline()[:-1])),
    (SOUND, "another model than was chosen", lambda parts: parts.manifest.update(model={"lists": "popular"})),
    (SOUND, "a model that nobody measured", lambda parts: parts.evaluation.update(slices={})),
    (SOUND, "leaked test: ranks", measured(figures(0.3), figures(0.901))),
    (SOUND, "leaked test: hits", on_test(**{"hr@20": {"mean": 1.0, "low": 1.0, "high": 1.0}})),
    (SOUND, "leaked test: a leap", measured(figures(0.09), figures(0.34))),
    (SOUND, "leaked test: a leap from nothing", measured(figures(0), figures(0.2))),
    (SOUND, "leaked test: a leap of a few", measured(figures(0.01, 100), figures(0.5, 100))),
    (SOUND, "NaN", on_test(mrr={"mean": float("nan"), "low": 0.1, "high": 0.2})),
    (SOUND, "more than all", on_test(**{"recall@20": {"mean": 0.9, "low": 0.8, "high": 1.1}})),
    (SOUND, "less than nothing", on_test(**{"ndcg@20": {"mean": 0.13, "low": -0.1, "high": 0.2}})),
    (SOUND, "an interval upside down", on_test(mrr={"mean": 0.15, "low": 0.2, "high": 0.1})),
    (SOUND, "a difference of other figures", difference(mean=0.04 + 1e-6)),
    (SOUND, "the difference turned round", difference(mean=-0.04)),
    (SOUND, "a difference of another metric", difference(metric="mrr", mean=0.0)),
    (SOUND, "coverage of more than all", on_test(coverage=1.5)),
    (SOUND, "a share of less than nothing", on_test(personal=-0.1)),
    (SOUND, "nobody measured", on_test(users=0)),
    (SOUND, "the chosen not measured in the test", lambda parts: models(parts, "test").pop("als")),
    (SOUND, "the chosen not measured in the choice", lambda parts: models(parts, "choice").pop("als")),
    (SOUND, "popular not measured", lambda parts: models(parts, "test").pop("popular")),
    (SOUND, "no choice slice", lambda parts: parts.evaluation["slices"].pop("choice")),
    (SOUND, "slices that overlap",
     lambda parts: parts.evaluation["slices"]["choice"].update(until_ms=NOW - DAY_MS + 1)),
    (SOUND, "an empty choice", lambda parts: parts.evaluation["slices"]["choice"].update(from_ms=NOW - DAY_MS)),
    (SOUND, "an empty test", lambda parts: parts.evaluation["slices"]["test"].update(from_ms=NOW)),
    (SOUND, "evaluation of the night before", night_before),
    (SOUND, "evaluation of a moment before", lambda parts: parts.evaluation["slices"]["test"].update(until_ms=NOW - 1)),
    (SOUND, "evaluation of what is to come", lambda parts: parts.evaluation["slices"]["test"].update(until_ms=NOW + 1)),
    ("not_below_popular", "worse than popular", lambda parts: parts.evaluation["against_popular"].update(high=-0.001)),
    ("not_below_popular", "long histories served worse", served_worse("6-10")),
    ("not_below_popular", "histories served worse that are just long enough", served_worse("6-10", popular_below=6)),
    (SOUND, "lengths of history that do not add up", lambda parts: parts.evaluation["slices"]["choice"].update(
        history_lengths={})),
    ("lists_differ", "own lists of users with short histories", lambda parts: parts.evaluation.update(
        popular_below={"als": 11})),
    ("not_below_popular", "NaN", lambda parts: parts.evaluation["against_popular"].update(high=float("nan"))),
]  # fmt: skip
"""Spoilt first releases: of a service as `build_parts` makes it."""


OTHERS: list[tuple[str, str, dict[str, int], Spoil]] = [
    ("lists_differ", "constant scores", SMALL, lambda parts: setattr(parts, "scores", np.zeros(parts.seen.shape))),
    ("lists_differ", "one ranking for all", SMALL, one_ranking),
    ("lists_differ", "a popular model upside down", {}, upside_down),
    ("lists_differ", "a segment model with lists of each user's own", {}, lambda parts: not_personal(parts, "segment")),
    ("lists_suit_their_users", "lists of the next user in a block", {"users": 5000}, next_users_in_a_block),
    ("lists_differ", "a segment model with lists in random order", {}, segments_in_random_order),
    ("lists_suit_their_users", "random order in a block", {"users": 5000}, random_order_in_a_block),
    ("embeddings_suit_their_movies", "an eighth shifted", {"movies": 400}, shifted(5, 6)),
    ("popular_lists_are_popular", "what nobody watches of few", SMALL, unpopular),
    (SOUND, "leaked test: a leap on few movies", SMALL, measured(figures(0.09), figures(0.34))),
    (SOUND, "leaked test: ranks of a few", SMALL, measured(figures(0.3), figures(0.901, 100))),
    ("there_is_enough", "nobody", {"users": 0}, lambda parts: None),
    ("there_is_enough", "one user", {"users": 1}, lambda parts: None),
    ("there_is_enough", "four movies", {"movies": 4}, lambda parts: None),
    *FIRST_LISTS,
]
"""Spoilt first releases of services of other sizes."""


def planted(name: str, current: Release) -> CandidateParts:
    """A spoilt candidate."""
    for rule, of, spoil in (*FIRST, *CAPS, *NEW_MOVIES):
        if name == f"{rule}: {of}":
            spoil(parts := build_parts())
            return parts
    for rule, of, sizes, spoil in (*OTHERS, *PLANTED_DRAWS):
        if name == f"{rule}: {of}":
            spoil(parts := build_parts(**sizes))
            return parts
    [change] = [change for rule, of, change in NEXT if name == f"{rule}: {of}"]
    change(parts := after(build_parts(), current), current)
    return parts


PLANTED = [f"{rule}: {name}" for rule, name, *_ in (*FIRST, *CAPS, *NEW_MOVIES, *OTHERS, *PLANTED_DRAWS, *NEXT)]
