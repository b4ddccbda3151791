"""The gate: a good candidate passes, a bad one is refused by the rule that is there for it, and by no other."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from batch import gate, publish
from batch.errors import Refusal
from batch.gate import RULES, Candidate, judge
from server.release import Release
from stream.archive import Count, Entry

WriteCandidate = Callable[..., Path]
Spoil = Callable[[Candidate], Candidate]


@pytest.fixture(scope="module")
def release(write_candidate: WriteCandidate, tmp_path_factory: pytest.TempPathFactory) -> Release:
    var = tmp_path_factory.mktemp("var")
    return Release.open(var / "releases" / publish.publish(var, write_candidate(var / "night"), {}, 1))


@pytest.fixture
def good(release: Release) -> Candidate:
    seen = np.zeros((150, 60), bool)
    for user in range(150):
        seen[user, np.setdiff1d(np.arange(60), release.lists[user])[:5]] = True
    return Candidate(release, against(0.01, 0.03), [entry(100, 100)], sp.csr_matrix(seen), release)


def against(low: float | None, high: float | None) -> dict[str, Any]:
    mean = None if low is None or high is None else (low + high) / 2
    return {"against_popular": {"mean": mean, "low": low, "high": high}}


def entry(lines: int, told: int) -> Entry:
    counts = [Count("accepted", "watch", "2030-01-01", None, told)]
    return Entry(topic="t", partition=0, first=0, last=99, lines=lines, counts=counts)


def fewer(candidate: Candidate, users: int, movies: int) -> Candidate:
    """A candidate whose current release had more users or movies."""
    release = candidate.release
    current = replace(release, users=np.arange(users, dtype=np.uint32), names=[b"a+2000"] * movies)
    return replace(candidate, current=current)


def with_lists(candidate: Candidate, change: Callable[[np.ndarray], object]) -> Candidate:
    lists = np.array(candidate.release.lists)
    change(lists)
    return replace(candidate, release=replace(candidate.release, lists=lists))


def stale(lists: np.ndarray) -> None:
    lists[149, 19] = np.setdiff1d(np.arange(60), lists[149])[0]


def twice(lists: np.ndarray) -> None:
    lists[70, 1] = lists[70, 0]


def alike(candidate: Candidate) -> Candidate:
    """Everybody gets the same list, and has seen nothing of it."""
    return replace(with_lists(candidate, lambda lists: lists.__setitem__(slice(None), lists[0])), seen=nothing_seen())


def nothing_seen() -> sp.csr_matrix:
    return sp.csr_matrix(np.zeros((150, 60), bool))


PLANTED: list[tuple[str, Spoil]] = [
    ("ledger_balances", lambda one: replace(one, entries=[entry(100, 100), entry(100, 99)])),
    ("not_below_popular", lambda one: replace(one, evaluation=against(-0.05, -0.001))),
    ("counts_hold", lambda one: fewer(one, 301, 60)),
    ("counts_hold", lambda one: fewer(one, 150, 121)),
    ("lists_are_fresh", lambda one: with_lists(one, stale)),
    ("lists_are_fresh", lambda one: with_lists(one, twice)),
    ("lists_differ", alike),
]


def test_a_good_candidate_passes_every_rule(good: Candidate) -> None:
    assert judge(good) == dict.fromkeys((rule.__name__ for rule in RULES), "passed")


@pytest.mark.parametrize(("rule", "spoil"), PLANTED)
def test_a_bad_candidate_is_refused_by_its_rule_and_no_other(good: Candidate, rule: str, spoil: Spoil) -> None:
    with pytest.raises(Refusal) as refusal:
        judge(spoil(good))
    assert f"{rule}: " in str(refusal.value)
    others = {other.__name__ for other in RULES} - {rule}
    assert not [other for other in others if f"{other}: " in str(refusal.value)]
    assert refusal.value.exit_code == 3


@pytest.mark.parametrize(("rule", "spoil"), PLANTED)
def test_without_its_rule_a_bad_candidate_would_pass(
    good: Candidate, rule: str, spoil: Spoil, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "RULES", tuple(one for one in RULES if one.__name__ != rule))
    assert rule not in judge(spoil(good))


def test_every_rule_has_a_candidate_that_only_it_refuses() -> None:
    assert {rule for rule, _ in PLANTED} == {rule.__name__ for rule in RULES}


def test_all_broken_rules_are_told_at_once(good: Candidate) -> None:
    bad = fewer(replace(good, evaluation=against(-0.05, -0.001), entries=[entry(5, 4)]), 301, 60)
    with pytest.raises(Refusal, match=r"ledger_balances: .*counts_hold: .*not_below_popular: ") as refusal:
        judge(bad)
    assert "\n" not in str(refusal.value)


GAP = Entry(topic="t", partition=0, first=0, last=9, lines=0, lost=10)
BORDERS: dict[str, Spoil] = {
    "the first release": lambda one: replace(one, current=None),
    "half as many users": lambda one: fewer(one, 300, 120),
    "a difference that may be nothing": lambda one: replace(one, evaluation=against(-0.05, 0.0)),
    "no difference to tell": lambda one: replace(one, evaluation=against(None, None)),
    "no entries": lambda one: replace(one, entries=[]),
    "a gap in the ledger": lambda one: replace(one, entries=[GAP]),
    "nobody has seen anything": lambda one: replace(one, seen=nothing_seen()),
    "short lists": lambda one: with_lists(one, lambda lists: lists.__setitem__((slice(None), slice(3, None)), 65_535)),
    "hardly anybody has a list": lambda one: with_lists(one, lambda lists: lists.__setitem__(slice(99, None), 65_535)),
}  # fmt: skip


@pytest.mark.parametrize("change", BORDERS.values(), ids=BORDERS.keys())
def test_a_candidate_at_the_border_passes(good: Candidate, change: Spoil) -> None:
    judge(change(good))


def test_lists_that_are_alike_for_few_users_prove_nothing(good: Candidate) -> None:
    few = with_lists(alike(good), lambda lists: lists.__setitem__(slice(99, None), 65_535))
    assert judge(few)["lists_differ"] == "passed"
