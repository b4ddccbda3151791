"""The gate: good candidates of all kinds pass it, real workers answer from them, and refusals raise an alert."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from batch.errors import GateRefusal
from batch.gate import list_checks, worker_trial
from batch.gate.rules import RULES, judge, raise_refusal_alert, refusal_alert
from batch.gate.verdict import RuleResult
from quality.alerts.alert_file import AlertFile
from quality.alerts.thresholds import blocking_alerts
from quality.settings import QualitySettings
from server.release import Release
from stream.archive import LedgerEntry
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
    previous,
    refused,
    sealed,
    sessions,
    week_entry,
)

pytestmark = pytest.mark.blas

NAMES = [rule.__name__ for rule in RULES]


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial has tests of its own; here it would take most of the time."""
    monkeypatch.setattr(worker_trial, "first_wrong_answer", lambda *_: None)


@pytest.fixture(scope="session")
def current(tmp_path_factory: pytest.TempPathFactory) -> Release:
    return previous(tmp_path_factory.mktemp("before"))


def popular(one: Made) -> None:
    not_personal(one, "popular")
    one_ranking(one)


def segment(one: Made) -> None:
    """One ranking for everyone, and one for each segment."""
    not_personal(one, "segment")
    counts = [one.seen.sum(axis=0), *(one.seen[part::3].sum(axis=0) for part in (1, 2))]
    one.scores = np.stack(counts)[np.arange(len(one.users)) % 3]


def unmeasured(one: Made) -> None:
    """The first hours: nothing to hold out, so the popular list is taken."""
    popular(one)
    one.evaluation.update(slices={}, against_popular={"metric": "ndcg@20", "mean": None, "low": None, "high": None})


def pinned(one: Made) -> None:
    unmeasured(one)
    one.evaluation["chosen"] = "als"
    one.manifest = {"model": {"lists": "als"}, "settings": {"model": "als"}}
    one.scores = made().scores


def newcomers(one: Made) -> None:
    one.seen[200:] = False


def newcomers_with_lists(one: Made) -> None:
    one.seen[390:] = False
    one.lists = one.made_lists()
    one.lists[390:] = one.made_fallbacks()[0, :20]


def hide(one: Made) -> None:
    one.hidden = {*one.movies[10:30], "never+heard+of+1999"}


def seen_nearly_all(one: Made) -> None:
    """A user who has seen all but five, one who has seen everything, and something hidden that both have seen."""
    one.seen[3, 5:] = True
    one.seen[4, :] = True
    one.hidden = {one.movies[2], one.movies[50]}


def few_left(one: Made) -> None:
    one.hidden = set(one.movies[:8])


def imported(one: Made) -> None:
    one.entries, one.facts["offsets"] = [], {}


def gap(one: Made) -> None:
    one.entries.append(LedgerEntry(topic="movielog1", partition=0, first=1000, last=1009, lines=0, lost=10))


def perfect(one: Made) -> None:
    best = {"mean": 1.0, "low": 1.0, "high": 1.0}
    measured(figures(0.12), {**figures(0.13), "hr@20": best, "ndcg@20": best})(one)


def few_movies(one: Made) -> None:
    perfect(one)
    one_ranking(one)


def of_few(one: Made) -> None:
    perfect(one)
    models(one, "test")["als"]["users"] = 99


GOOD: dict[str, tuple[dict[str, int], Spoil]] = {
    "as it is": ({}, lambda one: None),
    "another world": ({"seed": 7}, lambda one: None),
    "more movies": ({"users": 300, "movies": 400}, lambda one: None),
    "the first minutes": ({"users": 29, "movies": 25}, unmeasured),
    "20 users and all alike": ({"users": 20, "movies": 30}, one_ranking),
    "99 users and all alike": ({"users": 99}, one_ranking),
    "30 users": ({"users": 30}, lambda one: None),
    "25 movies, eight of them hidden": ({"users": 60, "movies": 25}, few_left),
    "250 of 300 movies hidden": ({"movies": 300}, lambda one: one.hidden.update(one.movies[:250])),
    "a movie that all have seen": ({}, lambda one: one.seen.__setitem__((slice(None), 3), True)),
    "a movie without an embedding": ({}, lambda one: one.items.__setitem__(5, 0)),
    "nobody of a segment": ({}, lambda one: setattr(one, "segments", np.zeros(400, np.uint8))),
    "a catalogue of five": ({"movies": 5}, popular),
    "a personal model of five movies": ({"movies": 5}, lambda one: None),
    "99 movies and all alike, hits for all": ({"users": 110, "movies": 99}, few_movies),
    "hits for all of a few": ({}, of_few),
    "as good as may be": ({}, measured(figures(0.3), {**figures(0.9), "hr@20": figures(0.9)["ndcg@20"]})),
    "one user measured": ({}, measured(figures(0.1, 1), figures(0.1, 1))),
    "half of the popular list is": ({}, lambda one: hardly_popular(one, 10)),
    "99 movies that nobody watches": ({"movies": 99}, lambda one: hardly_popular(one, 0)),
    "popular": ({}, popular),
    "segment": ({}, segment),
    "nothing held out": ({}, unmeasured),
    "pinned and not measured": ({}, pinned),
    "32 bits": ({}, lambda one: setattr(one, "kind", np.uint32)),
    "as text": ({}, lambda one: setattr(one, "text", True)),
    "newcomers": ({}, newcomers),
    "newcomers with the popular list": ({}, newcomers_with_lists),
    "hidden movies": ({}, hide),
    "seen nearly all": ({}, seen_nearly_all),
    "imported": ({}, imported),
    "a gap in the ledger": ({}, gap),
    "more in the ledger": ({}, lambda one: one.entries.append(week_entry(1000, 1999))),
    "49 hours of nothing but the last two": ({}, lambda one: one.facts.update(stream_time=NOW - 2 * DAY_MS)),
    "a day that ended two days ago": ({}, lambda one: days_end_before(one, 2 * DAY_MS)),
    "another zone": ({}, lambda one: one.facts.update(days=DAYS[:6])),
    "yet another zone": ({}, lambda one: one.facts.update(days=[*DAYS, "2030-01-08"])),
    "a difference that may be nothing": ({}, lambda one: one.evaluation["against_popular"].update(low=-1, high=0.0)),
    "two and a half times as good": (
        {}, measured(figures(0.14), figures(0.5))),
    "good by chance": (
        {}, measured(figures(0.01, 99), figures(0.5))),
    "from next to nothing to little": (
        {}, measured(figures(0), figures(0.19))),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_a_good_first_release_passes(tmp_path: Path, name: str) -> None:
    sizes, change = GOOD[name]
    change(one := made(**sizes))
    assert list(judge(sealed(tmp_path, one)).results) == NAMES


def another_partition(one: Made, _: Release) -> None:
    one.facts["offsets"]["movielog1-1"] = [0, 0]
    one.entries.append(msgspec.structs.replace(week_entry(0, 0), partition=1))


def test_one_pair_of_users_in_twenty_with_rankings_of_their_own_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = sealed(tmp_path, made())
    monkeypatch.setattr(list_checks, "personal_share", lambda *_: 0.05)
    judge(candidate)
    monkeypatch.setattr(list_checks, "personal_share", lambda *_: 0.0499)
    assert refused(candidate) == {"lists_differ": "only 5.0% of the users get a ranking of their own"}


def not_compared(one: Made, current: Release, why: str) -> None:
    one.evaluation["against_current"] = {"release": current.id, "none": why}


def nothing_held_out(one: Made, _: Release) -> None:
    unmeasured(one)
    one.evaluation["against_current"] = {"none": "nothing could be held out"}


def after_an_outage(one: Made, current: Release) -> None:
    days = [f"2029-12-{day}" for day in range(24, 31)]
    one.current = lost(current, stream_time=NOW - 8 * DAY_MS, days=days, offsets={"movielog1-0": [0, 1]})


GOOD_NEXT: dict[str, Callable[[Made, Release], object]] = {
    "as it is": lambda one, now: None,
    "no better and no worse": lambda one, now: one.evaluation.update(against_current=against(now, -0.01, 0.01)),
    "not compared": lambda one, now: not_compared(one, now, "it had read into the test slice"),
    "nothing held out": nothing_held_out,
    "after a week without a stream": after_an_outage,
    "twelve times the movies, forty times the users": lambda one, now: setattr(one, "current", numbered(now, 10, 10)),
    "all users are new": lambda one, now: setattr(one, "current", replace(now, users=now.users + np.uint32(1_000_000))),
    "half as many": lambda one, now: setattr(
        one, "current", sessions(numbered(now, 800, 240), 2 * one.facts["counts"]["sessions"])
    ),
    "nothing new": lambda one, now: setattr(one, "current", lost(now, **one.facts)),
    "the oldest days left out": lambda one, now: one.facts.update(days=DAYS[2:]),
    "after one that does not say what it was made of": lambda one, now: setattr(
        one, "current", replace(now, manifest={})
    ),
    "after one that says little": lambda one, now: setattr(one, "current", replace(now, manifest={"input": {}})),
    "another partition": another_partition,
}


@pytest.mark.parametrize("name", GOOD_NEXT)
def test_a_good_next_release_passes(tmp_path: Path, current: Release, name: str) -> None:
    GOOD_NEXT[name](one := after(made(), current), current)
    assert list(judge(sealed(tmp_path, one)).results) == NAMES


def test_a_release_that_is_current_already_passes_again(tmp_path: Path, current: Release) -> None:
    candidate = sealed(tmp_path, after(made(), current))
    verdict = judge(replace(candidate, current=candidate.release)).summary()
    assert verdict["not_below_current"] == "passed: it is the current release"


def test_the_verdict_says_what_was_passed_for_want_of_something(tmp_path: Path, current: Release) -> None:
    popular(one := made())
    verdict = judge(sealed(tmp_path / "1", one)).summary()
    assert verdict["not_below_popular"] == "passed: the popular list won"
    assert verdict["not_below_current"] == "passed: there is no current release"
    assert verdict["lists_are_fresh"] == "passed"
    assert set(judge(sealed(tmp_path / "2", after(made(), current))).summary().values()) == {"passed"}
    after(one := made(), current).evaluation["against_current"] = {"release": current.id, "none": "few"}
    assert judge(sealed(tmp_path / "3", one)).summary()["not_below_current"] == "passed: not compared: few"
    verdict = judge(sealed(tmp_path / "4", made(users=29))).summary()
    assert verdict["lists_differ"] == "passed: too few users or movies to tell"
    assert verdict["lists_suit_their_users"] == "passed: too little data to tell"


def test_users_with_a_history_and_a_list_are_looked_at(tmp_path: Path) -> None:
    one = made()
    newcomers(one)
    one.lists = one.made_lists()
    one.lists[:9] = -1
    one.lists[9, :2] = [0, one.lists[9, 0]]
    assert sorted(sealed(tmp_path, one).sampled_rows().tolist()) == list(range(9, 200))


# The trial, and the alert


def test_a_candidate_that_no_worker_answers_from_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("MARQUEE_SERVER_PORT", "none")
    candidate = sealed(tmp_path, made())
    assert list(refused(candidate)) == ["a_worker_answers"]
    monkeypatch.setattr("batch.gate.rules.RULES", RULES[:-1])
    judge(candidate)


def test_a_candidate_that_a_worker_answers_from_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert judge(sealed(tmp_path, made())).results["a_worker_answers"] == RuleResult(passed=True)


REFUSAL = GateRefusal("gate: r1 is refused", {"counts_hold": "3 users", "lists_differ": "all alike"})


def test_a_refusal_raises_one_alert_a_day_for_the_same_rules(tmp_path: Path) -> None:
    assert raise_refusal_alert(tmp_path, "r1", REFUSAL, "2030-01-07")
    assert not raise_refusal_alert(tmp_path, "r2", REFUSAL, "2030-01-07")
    assert raise_refusal_alert(tmp_path, "r3", REFUSAL, "2030-01-08")
    assert raise_refusal_alert(tmp_path, "r4", GateRefusal("", {"counts_hold": "4 users"}), "2030-01-08")
    alerts = [alert for _, _, alert in AlertFile(tmp_path).read()]
    assert [alert.alert for alert in alerts] == ["night_refused"] * 3
    assert alerts[0].text == (
        "the night of 2030-01-07 made r1, which the gate refuses; the last release stays:"
        " counts_hold: 3 users; lists_differ: all alike"
    )


def test_the_alert_of_a_refusal_does_not_hold_the_next_night(tmp_path: Path) -> None:
    assert refusal_alert("r1", REFUSAL, "2030-01-07").stream_time is None
    raise_refusal_alert(tmp_path, "r1", REFUSAL, "2030-01-07")
    assert blocking_alerts(tmp_path, [], QualitySettings(), 0) == []
