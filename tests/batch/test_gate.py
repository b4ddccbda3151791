"""The gate: each bad candidate is refused by the rule that is there for it, and by no other."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batch.gate import rules as gate
from batch.gate import trial
from batch.gate.rules import RULES, Candidate, judge
from quality.outbox import Alert
from server.release import Release
from stream.zone import DAY_MS
from tests.batch.candidates import (
    DAYS,
    NOW,
    Made,
    Spoil,
    after,
    against,
    days_end_before,
    entry,
    figures,
    hardly_popular,
    lost,
    made,
    measured,
    models,
    numbered,
    one_ranking,
    previous,
    refused,
    sealed,
    sessions,
)

SMALL = {"users": 100, "movies": 100}
"""Just enough that lists must differ, and too little for the data to tell whom a list suits."""


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial has tests of its own; here it would take most of the time."""
    monkeypatch.setattr(trial, "fault", lambda *_: None)


@pytest.fixture(scope="session")
def current(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return previous(tmp_path_factory.mktemp("before"))


# What is planted


def set_lists(change: Callable[[np.ndarray], object]) -> Spoil:
    def spoil(one: Made) -> None:
        one.lists = one.made_lists()
        change(one.lists)

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


def transposed(one: Made) -> None:
    """The scores of factors that were read in the wrong order."""
    u, s, v = np.linalg.svd(one.scores - one.scores.mean(), full_matrices=False)
    one.scores = (u[:, :8] * s[:8]) @ v[:8].T.reshape(8, -1)


def unpopular(one: Made) -> None:
    one.fallbacks[0] = np.argsort(one.seen.sum(axis=0), kind="stable")[:100]


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
    ("files_verify", "users in disorder", lambda one: setattr(one, "sealed_users", one.users[::-1])),
    ("ledger_balances", "a line without a fate", lambda one: setattr(one, "entries", [entry(), entry(1000, 1010, 10)])),
    ("ledger_balances", "lines that nobody read", lambda one: one.facts["offsets"].update({"movielog1-0": [0, 1000]})),
    ("ledger_balances", "lines before the first", lambda one: setattr(one, "entries", [entry(1)])),
    ("ledger_balances", "another topic", lambda one: one.facts["offsets"].update({"movielog2-0": [0, 9]})),
    ("alerts_allow", "an hour of faults", lambda one: one.alerts.append(ALERT)),
    ("input_is_recent", "old input", lambda one: one.facts.update(stream_time=NOW - 2 * DAY_MS - 1)),
    ("input_is_recent", "stale days", lambda one: days_end_before(one, 2 * DAY_MS + 1)),
    ("there_is_enough", "13 users", lambda one: one.seen.__setitem__(slice(13, None), False)),
    ("there_is_enough", "19 users", lambda one: one.seen.__setitem__(slice(19, None), False)),
    ("release_is_of_its_input", "movies in another order", lambda one: setattr(one, "sealed_movies", one.movies[::-1])),
    ("release_is_of_its_input", "other users", lambda one: setattr(one, "sealed_users", one.users + np.uint32(1))),
    ("release_is_of_its_input", "users lost", lambda one: one.facts["counts"].update(users=401)),
    ("release_is_of_its_input", "movies lost", lambda one: one.facts["counts"].update(movies=121)),
    ("movies_are_known", "one unknown movie", lambda one: one.known.discard(one.movies[-1])),
    ("movies_are_known", "wrong catalogue", lambda one: setattr(one, "known", {"aliens+1986"})),
    ("lists_are_full", "a list of 19", set_lists(lambda lists: lists.__setitem__((-1, 19), -1))),
    ("lists_are_full", "no list for a user", set_lists(lambda lists: lists.__setitem__(5, -1))),
    ("lists_are_full", "NaN for scores", set_lists(lambda lists: lists.__setitem__(slice(None), -1))),
    ("lists_are_full", "a short popular list", lambda one: one.fallbacks.__setitem__((2, slice(19, None)), -1)),
    ("lists_are_fresh", "what was seen", stale),
    ("lists_are_fresh", "what is hidden", hidden_offer),
    ("lists_suit_their_users", "shuffled users", shuffled_users),
    ("lists_suit_their_users", "shuffled movies", shuffled_movies),
    ("lists_suit_their_users", "transposed factors", transposed),
    ("embeddings_suit_their_movies", "shuffled", lambda one: np.random.default_rng(2).shuffle(one.items)),
    ("embeddings_suit_their_movies", "transposed", lambda one: setattr(one, "items", one.items.T.reshape(120, -1))),
    ("embeddings_suit_their_movies", "constant", lambda one: one.items.__setitem__(slice(None), one.items[0])),
    ("popular_lists_are_popular", "what nobody watches", unpopular),
    ("popular_lists_are_popular", "hardly what is watched", hardly_popular),
    (SOUND, "another model than was chosen", lambda one: one.manifest.update(model={"lists": "popular"})),
    (SOUND, "a model that nobody measured", lambda one: one.evaluation.update(slices={})),
    (SOUND, "leaked test: ranks", measured(figures(0.3), figures(0.901))),
    (SOUND, "leaked test: hits", on_test(**{"hr@20": {"mean": 1.0, "low": 1.0, "high": 1.0}})),
    (SOUND, "leaked test: a leap", measured(figures(0.09), figures(0.34))),
    (SOUND, "leaked test: a leap from nothing", measured(figures(0), figures(0.2))),
    (SOUND, "leaked test: a leap of a few", measured(figures(0.01, 100), figures(0.5, 100))),
    (SOUND, "NaN", on_test(mrr={"mean": float("nan"), "low": 0.1, "high": 0.2})),
    (SOUND, "more than all", on_test(**{"recall@20": {"mean": 0.9, "low": 0.8, "high": 1.1}})),
    (SOUND, "less than nothing", on_test(**{"ndcg@20": {"mean": 0.1, "low": -0.1, "high": 0.2}})),
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
    (SOUND, "evaluation of another night", lambda one: one.facts.update(days=[*DAYS, "2030-01-08", "2030-01-09"])),
    (SOUND, "evaluation of what is to come", lambda one: one.facts.update(days=DAYS[:5])),
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
]  # fmt: skip
"""Spoilt releases of the next night."""
OTHERS: list[tuple[str, str, dict[str, int], Spoil]] = [
    ("lists_differ", "constant scores", SMALL, lambda one: setattr(one, "scores", np.zeros(one.seen.shape))),
    ("lists_differ", "one ranking for all", SMALL, one_ranking),
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


@pytest.mark.parametrize("name", PLANTED)
def test_a_bad_candidate_is_refused_by_its_rule_and_no_other_and_would_pass_without_it(
    tmp_path: Path, current: Release, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule, candidate = name.partition(":")[0], sealed(tmp_path, planted(name, current))
    assert list(refused(candidate)) == [rule]
    if rule != "files_verify":  # without which there is nothing to judge
        monkeypatch.setattr(gate, "RULES", tuple(one for one in RULES if one.__name__ != rule))
        assert rule not in judge(candidate)


def test_every_rule_has_a_candidate_that_only_it_refuses() -> None:
    assert {name.partition(":")[0] for name in PLANTED} | {"a_worker_answers"} == {one.__name__ for one in RULES}


# Files


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    return sealed(tmp_path_factory.mktemp("good"), made())


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
@pytest.mark.parametrize("name", ["lists.npy", "items.ann", "evaluation.json", "manifest.json"])
def test_damaged_files_are_refused(good: Candidate, tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    folder = tmp_path / good.folder.name
    shutil.copytree(good.folder, folder)
    damage(folder / name)
    assert "files_verify" in refused(replace(good, folder=folder))


def test_of_files_that_do_not_verify_nothing_else_is_said(good: Candidate, tmp_path: Path) -> None:
    assert list(refused(replace(good, folder=tmp_path / "none"))) == ["files_verify"]


@pytest.mark.parametrize("key", ["slices", "chosen", "against_popular", "against_current"])
@pytest.mark.parametrize("value", [None, 3, [], "x"])
def test_nothing_that_is_wrong_with_data_escapes_as_another_error(
    tmp_path: Path, current: Release, key: str, value: object
) -> None:
    one = after(made(), current)
    one.evaluation[key] = value
    assert refused(sealed(tmp_path, one))


def test_a_release_without_facts_or_evaluation_is_refused_by_the_rules_that_need_them(
    good: Candidate, tmp_path: Path
) -> None:
    one = made()
    one.facts.clear()
    broken = refused(sealed(tmp_path, one))
    assert set(broken) == {"ledger_balances", "input_is_recent", "release_is_of_its_input", SOUND}
    assert broken["input_is_recent"] == "cannot be judged: KeyError('stream_time')"


def test_it_is_said_what_is_wrong_with_the_ledger_and_which_alerts_hold(tmp_path: Path) -> None:
    one = made()
    one.facts["offsets"]["movielog2-0"] = [0, 9]
    one.alerts = [ALERT, ALERT, ALERT]
    assert refused(sealed(tmp_path, one)) == {
        "ledger_balances": "the input was made of movielog2-0 0 to 9, which the ledger does not hold",
        "alerts_allow": "quarantined:1 (too many) and 2 more",
    }


def test_of_an_evaluation_all_doubts_are_told(tmp_path: Path) -> None:
    one = made()
    on_test(mrr={"mean": float("nan"), "low": 0.1, "high": 0.2}, coverage=2)(one)
    one.evaluation["slices"]["test"]["from_ms"] = NOW
    models(one, "choice").pop("popular")
    assert refused(sealed(tmp_path, one)) == {
        SOUND: "the slices are not one after the other; popular was not measured; mrr of als on the test slice;"
        " coverage of als on the test slice"
    }


def test_all_broken_rules_are_told_at_once(tmp_path: Path, current: Release) -> None:
    one = after(made(), numbered(current, users=900))
    one.evaluation["against_popular"]["high"] = -0.01
    one.known.clear()
    broken = refused(sealed(tmp_path, one))
    assert list(broken) == ["counts_hold", "movies_are_known", "not_below_popular"]
    assert broken["counts_hold"] == "400 users, the current release has 900"
