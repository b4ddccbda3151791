"""Bad candidates for the gate, each by the rule that is there for it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from quality.alerts.alert_file import Alert
from server.release import Release
from stream.zone import DAY_MS
from tests.batch.gate.candidates import (
    DAYS,
    NOW,
    CandidateParts,
    Spoil,
    after,
    against,
    build_parts,
    days_end_before,
    figures,
    hardly_popular,
    lost,
    made_without_api,
    measured,
    measured_on,
    models,
    not_personal,
    numbered,
    one_ranking,
    popular,
    popular_for_short,
    proven,
    sessions,
    unmeasured,
    week_entry,
)

SMALL = {"users": 100, "movies": 100}
"""Just enough that lists must differ, and too little for the data to tell whose history a list matches."""


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


def against_another(parts: CandidateParts, current: Release) -> None:
    """As the current release was, but nothing was measured."""
    parts.evaluation["against_current"] = {"release": "20300105T030000Z-00000000", "none": "only 9 users"}


def not_measured_of_120(parts: CandidateParts, _: Release) -> None:
    parts.seen[120:] = False
    unmeasured(parts)


def lost_without_an_api_again(parts: CandidateParts, current: Release) -> None:
    proven(parts, 1)
    parts.current = made_without_api(numbered(current, movies=241))


def half_lost_one_less_proven(parts: CandidateParts, current: Release) -> None:
    """Two nights without an API: of the second, fewer movies are proven since sessions were lost."""
    proven(parts, 2)
    parts.current = made_without_api(numbered(current, movies=241), 3)


def half_lost_few_answered(parts: CandidateParts, current: Release) -> None:
    """The API answered at last, but on fewer than half of the movies that were open."""
    current = replace(current, names=[b"a+2000", b"b+2000", *current.names[2:]])
    parts.current = made_without_api(sessions(current, 10**6), 3)
    parts.facts["counts"]["unknown_movie"] = 10**6


def half_lost_not_denied(parts: CandidateParts, current: Release) -> None:
    """The API answered, but it has not denied what is lost."""
    parts.catalog_movies.add("a+2000")
    parts.current = made_without_api(numbered(current, movies=241))


def half_lost_after_an_answer(parts: CandidateParts, current: Release) -> None:
    """The API answered both times; the record of one movie was bad the first time."""
    parts.denied_movies.add("a+2000")
    parts.current = made_without_api(numbered(current, movies=241), api_answered=True)


def worse_one_less_proven(parts: CandidateParts, current: Release) -> None:
    proven(parts, 2)
    parts.current = made_without_api(current, 3)
    parts.evaluation.update(against_current=against(current, -0.02, 0.01))


def fall(parts: CandidateParts, _: Release) -> None:
    """The popular list won on one user fewer than a tenth of all."""
    popular(parts)
    measured_on(parts, 39, 30)


def measured_on_few(choice: int, test: int) -> Callable[[CandidateParts, Release], object]:
    def spoil(parts: CandidateParts, current: Release) -> None:
        measured_on(parts, choice, test)
        parts.evaluation["against_current"] = {"release": current.id, "none": "only 9 users"}

    return spoil


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
    ("lists_suit_their_users", "worst first",
     set_lists(lambda lists: lists.__setitem__(slice(None), lists[:, ::-1].copy()))),
    ("lists_suit_their_users", "shuffled users", shuffled_users),
    ("lists_suit_their_users", "shuffled movies", shuffled_movies),
    ("lists_suit_their_users", "transposed factors", transposed),
    ("embeddings_suit_their_movies", "shuffled", lambda parts: np.random.default_rng(2).shuffle(parts.items)),
    ("embeddings_suit_their_movies", "transposed",
     lambda parts: setattr(parts, "items", parts.items.T.reshape(120, -1))),
    ("embeddings_suit_their_movies", "constant", lambda parts: parts.items.__setitem__(slice(None), parts.items[0])),
    ("popular_lists_are_popular", "what nobody watches", unpopular),
    ("popular_lists_are_popular", "hardly what is watched", hardly_popular),
    ("popular_lists_are_popular", "segments off by one",
     lambda parts: setattr(parts, "segments", (np.arange(1, 401) % 3).astype(np.uint8))),
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


NEXT: list[tuple[str, str, Callable[[CandidateParts, Release], object]]] = [
    ("input_goes_on", "the stream turned back",
     lambda parts, now: setattr(parts, "current", lost(now, stream_time=NOW + 1, offsets=parts.facts["offsets"]))),
    ("input_goes_on", "a day in between is gone", lambda parts, _: parts.facts["days"].remove("2030-01-04")),
    ("input_goes_on", "the newest day is gone",
     lambda parts, now: setattr(parts, "current", lost(now, days=[*DAYS, "2030-01-08"]))),
    ("input_goes_on", "lines taken back",
     lambda parts, now: setattr(parts, "current", lost(now, offsets={"movielog1-0": [0, 1000]}))),
    ("input_goes_on", "a partition gone",
     lambda parts, now: setattr(parts, "current", lost(now, offsets={"movielog1-1": [0, 0]}))),
    ("counts_hold", "users lost", lambda parts, now: setattr(parts, "current", numbered(now, users=801))),
    ("counts_hold", "movies lost", lambda parts, now: setattr(parts, "current", numbered(now, movies=241))),
    ("counts_hold", "sessions lost",
     lambda parts, now: setattr(parts, "current", sessions(now, 2 * parts.facts["counts"]["sessions"] + 1))),
    ("counts_hold", "movies lost, without an API as before", lost_without_an_api_again),
    ("counts_hold", "movies lost, one less proven without an API", half_lost_one_less_proven),
    ("counts_hold", "sessions lost, the API has answered on few", half_lost_few_answered),
    ("counts_hold", "movies lost, which the API has not denied", half_lost_not_denied),
    ("counts_hold", "movies lost, the API answered before", half_lost_after_an_answer),
    ("counts_hold", "sessions lost, though an API answered",
     lambda parts, now: setattr(parts, "current", made_without_api(sessions(now, 10**6)))),
    ("not_below_current", "ranks lower, one less proven without an API", worse_one_less_proven),
    ("counts_hold", "users lost after one without an API",
     lambda parts, now: setattr(parts, "current", made_without_api(numbered(now, users=801)))),
    ("measured_on_enough", "nothing held out", lambda parts, _: unmeasured(parts)),
    ("measured_on_enough", "nothing held out of 120 users", not_measured_of_120),
    ("measured_on_enough", "chosen on few", measured_on_few(29, 200)),
    ("measured_on_enough", "tested on few", measured_on_few(200, 29)),
    ("measured_on_enough", "popular, chosen on few", fall),
    ("not_below_current", "worse than the current one",
     lambda parts, now: parts.evaluation.update(against_current=against(now, -0.01, 0.009))),
    ("not_below_current", "held against another one",
     lambda parts, now: parts.evaluation["against_current"].update(release="yesterday")),
    ("not_below_current", "not compared with another one", against_another),
    ("not_below_current", "the evaluation of the first night",
     lambda parts, now: parts.evaluation.update(against_current={"none": "there is no current release"})),
]  # fmt: skip
"""Spoilt releases of the next night."""
OTHERS: list[tuple[str, str, dict[str, int], Spoil]] = [
    ("lists_differ", "constant scores", SMALL, lambda parts: setattr(parts, "scores", np.zeros(parts.seen.shape))),
    ("lists_differ", "one ranking for all", SMALL, one_ranking),
    ("lists_differ", "a popular model upside down", {}, upside_down),
    ("lists_differ", "a segment model with lists of each user's own", {}, lambda parts: not_personal(parts, "segment")),
    ("lists_suit_their_users", "lists of the next user in a block", {"users": 5000}, next_users_in_a_block),
    ("popular_lists_are_popular", "what nobody watches of few", SMALL, unpopular),
    (SOUND, "leaked test: a leap on few movies", SMALL, measured(figures(0.09), figures(0.34))),
    (SOUND, "leaked test: ranks of a few", SMALL, measured(figures(0.3), figures(0.901, 100))),
    ("there_is_enough", "nobody", {"users": 0}, lambda parts: None),
    ("there_is_enough", "one user", {"users": 1}, lambda parts: None),
    ("there_is_enough", "four movies", {"movies": 4}, lambda parts: None),
]
"""Spoilt first releases of services of other sizes."""


def planted(name: str, current: Release) -> CandidateParts:
    """A spoilt candidate."""
    for rule, of, spoil in FIRST:
        if name == f"{rule}: {of}":
            spoil(parts := build_parts())
            return parts
    for rule, of, sizes, spoil in OTHERS:
        if name == f"{rule}: {of}":
            spoil(parts := build_parts(**sizes))
            return parts
    [change] = [change for rule, of, change in NEXT if name == f"{rule}: {of}"]
    change(parts := after(build_parts(), current), current)
    return parts


PLANTED = [f"{rule}: {name}" for rule, name, *_ in (*FIRST, *OTHERS, *NEXT)]
