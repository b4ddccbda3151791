"""Bad candidates for the gate, each by the rule that is there for it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from quality.alerts.alert_file import Alert
from server.release import Release
from stream.zone import DAY_MS
from tests.batch.gate.candidates import (
    DAYS,
    NOW,
    Made,
    Spoil,
    after,
    against,
    days_end_before,
    figures,
    hardly_popular,
    lost,
    made,
    measured,
    models,
    not_personal,
    numbered,
    one_ranking,
    sessions,
    week_entry,
)

SMALL = {"users": 100, "movies": 100}
"""Just enough that lists must differ, and too little for the data to tell whose history a list matches."""


def set_lists(change: Callable[[np.ndarray], object]) -> Spoil:
    def spoil(one: Made) -> None:
        one.lists = one.made_lists()
        change(one.lists)

    return spoil


def set_fallbacks(change: Callable[[np.ndarray], object]) -> Spoil:
    def spoil(one: Made) -> None:
        one.fallbacks = one.made_fallbacks()
        change(one.fallbacks)

    return spoil


def stale(one: Made) -> None:
    """The very last user is offered at the end of the list what he has seen."""
    one.lists = one.made_lists()
    one.lists[-1, 19] = np.flatnonzero(one.seen[-1])[-1]


def hidden_offer(one: Made) -> None:
    one.lists = one.made_lists()
    one.hidden = {one.movies[one.lists[7, 3]]}
    for row in np.flatnonzero((one.lists == one.lists[7, 3]).any(axis=1)).tolist():
        if row != 7:
            kept = np.flatnonzero(~one.seen[row] & ~np.isin(np.arange(len(one.movies)), one.lists[row]))[0]
            one.lists[row, one.lists[row] == one.lists[7, 3]] = kept


def shuffled_users(one: Made) -> None:
    one.scores = np.random.default_rng(5).permutation(one.scores)


def shuffled_movies(one: Made) -> None:
    one.scores = np.random.default_rng(5).permutation(one.scores, axis=1)


def next_users(one: Made) -> None:
    one.scores = np.roll(one.scores, 1, axis=0)


def next_users_in_a_block(one: Made) -> None:
    """One of eight blocks of users was written a row too far down."""
    begin, end = 5 * len(one.users) // 8, 6 * len(one.users) // 8
    one.scores[begin:end] = np.roll(one.scores[begin:end], 1, axis=0)


def transposed(one: Made) -> None:
    """The scores of factors that were read in the wrong order."""
    u, s, v = np.linalg.svd(one.scores - one.scores.mean(), full_matrices=False)
    one.scores = (u[:, :8] * s[:8]) @ v[:8].T.reshape(8, -1)


def unpopular(one: Made) -> None:
    one.fallbacks = one.made_fallbacks()
    one.fallbacks[0] = np.argsort(one.seen.sum(axis=0), kind="stable")[:100]


def hidden_in_reserve(one: Made) -> None:
    """The last of the popular list, which is shown only in place of others."""
    one.fallbacks = one.made_fallbacks()
    one.hidden = {one.movies[one.fallbacks[0, 99]]}


def renamed(one: Made) -> None:
    """Half of the titles have other ids, which the catalogue knows as well."""
    one.sealed_movies = [f"{name}1" if at % 2 else name for at, name in enumerate(one.movies)]
    one.catalog_movies |= set(one.sealed_movies)


def upside_down(one: Made) -> None:
    not_personal(one, "popular")
    one.scores = np.tile(-one.seen.sum(axis=0), (len(one.seen), 1))


def night_before(one: Made) -> None:
    """The evaluation that was left of it in the folder."""
    for part in one.evaluation["slices"].values():
        part.update(from_ms=part["from_ms"] - DAY_MS, until_ms=part["until_ms"] - DAY_MS)


def against_another(one: Made, current: Release) -> None:
    """As the current release was, but nothing was measured."""
    one.evaluation["against_current"] = {"release": "20300105T030000Z-00000000", "none": "only 9 users"}


def difference(**changed: Any) -> Spoil:
    return lambda one: one.evaluation["against_popular"].update(changed)


def on_test(**changed: Any) -> Spoil:
    return lambda one: models(one, "test")["als"].update(changed)


ALERT = Alert(id="quarantined:1", alert="quarantined", text="too many")
SOUND = "evaluation_is_sound"
FIRST: list[tuple[str, str, Spoil]] = [
    ("files_verify", "NaN among the embeddings", lambda one: one.items.__setitem__((3, 1), np.nan)),
    ("files_verify", "a movie twice in a list", set_lists(lambda lists: lists.__setitem__((70, 1), lists[70, 0]))),
    ("files_verify", "a gap in a list", set_lists(lambda lists: lists.__setitem__((70, 4), -1))),
    ("files_verify", "a movie that is not there", set_lists(lambda lists: lists.__setitem__((70, 4), 120))),
    ("files_verify", "lists of 13 users", lambda one: setattr(one, "lists", one.made_lists()[:13])),
    ("files_verify", "users of 64 bits", lambda one: setattr(one, "sealed_users", one.users.astype(np.uint64))),
    ("files_verify", "a segment that is not there", lambda one: setattr(one, "segments", np.full(400, 3, np.uint8))),
    ("files_verify", "users in disorder", lambda one: setattr(one, "sealed_users", one.users[::-1])),
    ("ledger_balances", "a line without a fate",
     lambda one: setattr(one, "entries", [week_entry(), week_entry(1000, 1010, 10)])),
    ("ledger_balances", "lines that nobody read", lambda one: one.facts["offsets"].update({"movielog1-0": [0, 1000]})),
    ("ledger_balances", "lines before the first", lambda one: setattr(one, "entries", [week_entry(1)])),
    ("ledger_balances", "a day is missing", lambda one: setattr(one, "entries", [week_entry(0, 399), week_entry(401)])),
    ("ledger_balances", "lines read twice", lambda one: setattr(one, "entries", [week_entry(0, 400), week_entry(400)])),
    ("ledger_balances", "another topic", lambda one: one.facts["offsets"].update({"movielog2-0": [0, 9]})),
    ("alerts_allow", "an hour of faults", lambda one: one.alerts.append(ALERT)),
    ("input_is_recent", "old input", lambda one: one.facts.update(stream_time=NOW - 2 * DAY_MS - 1)),
    ("input_is_recent", "stale days", lambda one: days_end_before(one, 2 * DAY_MS + 1)),
    ("input_is_recent", "input of the future", lambda one: one.facts.update(stream_time=NOW + 1)),
    ("there_is_enough", "13 users", lambda one: one.seen.__setitem__(slice(13, None), False)),
    ("there_is_enough", "19 users", lambda one: one.seen.__setitem__(slice(19, None), False)),
    ("release_is_of_its_input", "movies in another order", lambda one: setattr(one, "sealed_movies", one.movies[::-1])),
    ("release_is_of_its_input", "other users", lambda one: setattr(one, "sealed_users", one.users + np.uint32(1))),
    ("release_is_of_its_input", "segments lost", lambda one: setattr(one, "sealed_segments", np.zeros(400, np.uint8))),
    ("release_is_of_its_input", "users lost", lambda one: one.facts["counts"].update(users=401)),
    ("release_is_of_its_input", "movies lost", lambda one: one.facts["counts"].update(movies=121)),
    ("release_is_of_its_input", "sessions lost",
     lambda one: one.facts["counts"].update(sessions=int(one.seen.sum()) - 1)),
    ("release_is_of_its_input", "half of the titles renamed", renamed),
    ("movies_are_known", "one unknown movie", lambda one: one.catalog_movies.discard(one.movies[-1])),
    ("movies_are_known", "wrong catalogue", lambda one: setattr(one, "catalog_movies", {"aliens+1986"})),
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
    ("lists_suit_their_users", "worst first",
     set_lists(lambda lists: lists.__setitem__(slice(None), lists[:, ::-1].copy()))),
    ("lists_suit_their_users", "shuffled users", shuffled_users),
    ("lists_suit_their_users", "shuffled movies", shuffled_movies),
    ("lists_suit_their_users", "transposed factors", transposed),
    ("embeddings_suit_their_movies", "shuffled", lambda one: np.random.default_rng(2).shuffle(one.items)),
    ("embeddings_suit_their_movies", "transposed", lambda one: setattr(one, "items", one.items.T.reshape(120, -1))),
    ("embeddings_suit_their_movies", "constant", lambda one: one.items.__setitem__(slice(None), one.items[0])),
    ("popular_lists_are_popular", "what nobody watches", unpopular),
    ("popular_lists_are_popular", "hardly what is watched", hardly_popular),
    ("popular_lists_are_popular", "segments off by one",
     lambda one: setattr(one, "segments", (np.arange(1, 401) % 3).astype(np.uint8))),
    ("popular_lists_are_popular", "the list of another segment",
     set_fallbacks(lambda lists: lists.__setitem__(2, lists[1]))),
    ("popular_lists_are_popular", "a segment's worst first",
     set_fallbacks(lambda lists: lists.__setitem__((2, slice(20)), lists[2, 19::-1].copy()))),
    (SOUND, "another model than was chosen", lambda one: one.manifest.update(model={"lists": "popular"})),
    (SOUND, "a model that nobody measured", lambda one: one.evaluation.update(slices={})),
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
    (SOUND, "the chosen not measured in the test", lambda one: models(one, "test").pop("als")),
    (SOUND, "the chosen not measured in the choice", lambda one: models(one, "choice").pop("als")),
    (SOUND, "popular not measured", lambda one: models(one, "test").pop("popular")),
    (SOUND, "no choice slice", lambda one: one.evaluation["slices"].pop("choice")),
    (SOUND, "slices that overlap", lambda one: one.evaluation["slices"]["choice"].update(until_ms=NOW - DAY_MS + 1)),
    (SOUND, "an empty choice", lambda one: one.evaluation["slices"]["choice"].update(from_ms=NOW - DAY_MS)),
    (SOUND, "an empty test", lambda one: one.evaluation["slices"]["test"].update(from_ms=NOW)),
    (SOUND, "evaluation of the night before", night_before),
    (SOUND, "evaluation of a moment before", lambda one: one.evaluation["slices"]["test"].update(until_ms=NOW - 1)),
    (SOUND, "evaluation of what is to come", lambda one: one.evaluation["slices"]["test"].update(until_ms=NOW + 1)),
    ("not_below_popular", "worse than popular", lambda one: one.evaluation["against_popular"].update(high=-0.001)),
    ("not_below_popular", "NaN", lambda one: one.evaluation["against_popular"].update(high=float("nan"))),
]  # fmt: skip
"""Spoilt first releases: of a service as `made` makes it."""


NEXT: list[tuple[str, str, Callable[[Made, Release], object]]] = [
    ("input_goes_on", "the stream turned back",
     lambda one, now: setattr(one, "current", lost(now, stream_time=NOW + 1))),
    ("input_goes_on", "a day in between is gone", lambda one, _: one.facts["days"].remove("2030-01-04")),
    ("input_goes_on", "the newest day is gone",
     lambda one, now: setattr(one, "current", lost(now, days=[*DAYS, "2030-01-08"]))),
    ("input_goes_on", "lines taken back",
     lambda one, now: setattr(one, "current", lost(now, offsets={"movielog1-0": [0, 1000]}))),
    ("input_goes_on", "a partition gone",
     lambda one, now: setattr(one, "current", lost(now, offsets={"movielog1-1": [0, 0]}))),
    ("counts_hold", "users lost", lambda one, now: setattr(one, "current", numbered(now, users=801))),
    ("counts_hold", "movies lost", lambda one, now: setattr(one, "current", numbered(now, movies=241))),
    ("counts_hold", "sessions lost",
     lambda one, now: setattr(one, "current", sessions(now, 2 * one.facts["counts"]["sessions"] + 1))),
    ("not_below_current", "worse than the current one",
     lambda one, now: one.evaluation.update(against_current=against(now, -0.01, 0.009))),
    ("not_below_current", "held against another one",
     lambda one, now: one.evaluation["against_current"].update(release="yesterday")),
    ("not_below_current", "not compared with another one", against_another),
    ("not_below_current", "the evaluation of the first night",
     lambda one, now: one.evaluation.update(against_current={"none": "there is no current release"})),
]  # fmt: skip
"""Spoilt releases of the next night."""
OTHERS: list[tuple[str, str, dict[str, int], Spoil]] = [
    ("lists_differ", "constant scores", SMALL, lambda one: setattr(one, "scores", np.zeros(one.seen.shape))),
    ("lists_differ", "one ranking for all", SMALL, one_ranking),
    ("lists_differ", "a popular model upside down", {}, upside_down),
    ("lists_differ", "a segment model with lists of each user's own", {}, lambda one: not_personal(one, "segment")),
    ("lists_suit_their_users", "lists of the next user in a block", {"users": 5000}, next_users_in_a_block),
    ("popular_lists_are_popular", "what nobody watches of few", SMALL, unpopular),
    (SOUND, "leaked test: a leap on few movies", SMALL, measured(figures(0.09), figures(0.34))),
    (SOUND, "leaked test: ranks of a few", SMALL, measured(figures(0.3), figures(0.901, 100))),
    ("there_is_enough", "nobody", {"users": 0}, lambda one: None),
    ("there_is_enough", "one user", {"users": 1}, lambda one: None),
    ("there_is_enough", "four movies", {"movies": 4}, lambda one: None),
]
"""Spoilt first releases of services of other sizes."""


def planted(name: str, current: Release) -> Made:
    """A spoilt candidate."""
    for rule, of, spoil in FIRST:
        if name == f"{rule}: {of}":
            spoil(one := made())
            return one
    for rule, of, sizes, spoil in OTHERS:
        if name == f"{rule}: {of}":
            spoil(one := made(**sizes))
            return one
    [change] = [change for rule, of, change in NEXT if name == f"{rule}: {of}"]
    change(one := after(made(), current), current)
    return one


PLANTED = [f"{rule}: {name}" for rule, name, *_ in (*FIRST, *OTHERS, *NEXT)]
