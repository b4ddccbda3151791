"""The gate: good candidates of all kinds pass it, real workers answer from them, and refusals raise an alert."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from batch.errors import GateRefusal
from batch.gate.rules import RULES, raise_refusal_alert, refusal_alert
from batch.gate.verdict import RuleResult
from batch.models import own_rankings
from batch.models.list_caps import ListCaps
from batch.settings import BatchSettings
from quality.alerts.alert_file import AlertFile
from quality.alerts.thresholds import blocking_alerts
from quality.settings import QualitySettings
from server.manifest import InputFacts, Manifest, ReleaseModel
from server.release import Release
from stream.zone import DAY_MS
from tests.batch.gate.candidate_evaluations import NOW, figures
from tests.batch.gate.candidates import (
    DAYS,
    CandidateParts,
    Spoil,
    after,
    against,
    build_parts,
    days_end_before,
    measured,
    measured_on,
    one_ranking,
    passed,
    popular,
    proven,
    refused,
    sealed,
    unmeasured,
    week_entry,
)
from tests.batch.gate.current_releases import lost, made_without_api, sessions
from tests.batch.gate.planted_cap_faults import GOOD_CAPS, segment, short_histories
from tests.batch.gate.planted_draws import explore
from tests.batch.gate.planted_faults import hardly_popular
from tests.batch.gate.planted_first_lists import USERS, with_first_lists, with_first_lists_of_minors
from tests.batch.gate.planted_next_faults import numbered
from tests.ledger_entries import gap

pytestmark = [pytest.mark.blas, pytest.mark.usefixtures("no_worker")]

NAMES = [rule.__name__ for rule in RULES]


def pinned(parts: CandidateParts) -> None:
    unmeasured(parts)
    parts.evaluation["chosen"] = "als"
    parts.manifest = {"model": {"lists": "als"}, "settings": {"model": "als"}}
    parts.scores = build_parts().scores


def newcomers(parts: CandidateParts) -> None:
    parts.seen[200:] = False


def hide(parts: CandidateParts) -> None:
    parts.hidden = {*parts.movies[10:30], "never+heard+of+1999"}


def seen_nearly_all(parts: CandidateParts) -> None:
    """A user who has seen all but five, one who has seen everything, and something hidden that both have seen."""
    parts.seen[3, 5:] = True
    parts.seen[4, :] = True
    parts.hidden = {parts.movies[2], parts.movies[50]}


def few_left(parts: CandidateParts) -> None:
    parts.hidden = set(parts.movies[:8])


def imported(parts: CandidateParts) -> None:
    parts.entries, parts.facts["offsets"] = [], {}


def lost_lines(parts: CandidateParts) -> None:
    parts.entries.append(gap(1000, 1009))


def perfect(parts: CandidateParts) -> None:
    best = {"mean": 1.0, "low": 1.0, "high": 1.0}
    measured(figures(0.12), {**figures(0.13), "hr@20": best, "ndcg@20": best})(parts)


def few_movies(parts: CandidateParts) -> None:
    perfect(parts)
    one_ranking(parts)


def of_few(parts: CandidateParts) -> None:
    best = {"mean": 1.0, "low": 1.0, "high": 1.0}
    measured(figures(0.12), {**figures(0.13, 99), "hr@20": best, "ndcg@20": best})(parts)


def explores_popular(parts: CandidateParts) -> None:
    popular(parts)
    parts.manifest["settings"] = {"model": "best"}
    explore(parts)


def explores_what_is_left(parts: CandidateParts) -> None:
    seen_nearly_all(parts)
    explore(parts, 1.0)


def explores_as_text(parts: CandidateParts) -> None:
    explore(parts)
    parts.text = True


def explores_few(parts: CandidateParts) -> None:
    few_left(parts)
    explore(parts)


GOOD: dict[str, tuple[dict[str, int], Spoil]] = {
    "as it is": ({}, lambda parts: None),
    "another world": ({"seed": 7}, lambda parts: None),
    "lists by self-description": ({"users": USERS}, with_first_lists),
    "lists by self-description of minors": ({"users": USERS}, with_first_lists_of_minors),
    "more movies": ({"users": 300, "movies": 400}, lambda parts: None),
    "the first minutes": ({"users": 29, "movies": 25}, unmeasured),
    "20 users and all alike": ({"users": 20, "movies": 30}, one_ranking),
    "99 users and all alike": ({"users": 99}, one_ranking),
    "30 users": ({"users": 30}, lambda parts: None),
    "25 movies, eight of them hidden": ({"users": 60, "movies": 25}, few_left),
    "250 of 300 movies hidden": ({"movies": 300}, lambda parts: parts.hidden.update(parts.movies[:250])),
    "a movie that all have seen": ({}, lambda parts: parts.seen.__setitem__((slice(None), 3), True)),
    "a movie without an embedding": ({}, lambda parts: parts.items.__setitem__(5, 0)),
    "nobody of a segment": ({}, lambda parts: setattr(parts, "segments", np.zeros(400, np.uint8))),
    "a catalogue of five": ({"movies": 5}, popular),
    "a personal model of five movies": ({"movies": 5}, lambda parts: None),
    "99 movies and all alike, hits for all": ({"users": 110, "movies": 99}, few_movies),
    "hits for all of a few": ({}, of_few),
    "as good as may be": ({}, measured(figures(0.3), {**figures(0.9), "hr@20": figures(0.9)["ndcg@20"]})),
    "short histories with the popular list": ({}, short_histories),
    "one user measured": ({}, measured(figures(0.1, 1), figures(0.1, 1))),
    "half of the popular list is seen much": ({}, lambda parts: hardly_popular(parts, 10)),
    "99 movies that nobody watches": ({"movies": 99}, lambda parts: hardly_popular(parts, 0)),
    "popular": ({}, popular),
    "segment": ({}, segment),
    "nothing held out": ({}, unmeasured),
    "pinned and not measured": ({}, pinned),
    "a catalogue without answers": ({}, lambda parts: proven(parts, 1)),
    "32 bits": ({}, lambda parts: setattr(parts, "kind", np.uint32)),
    "some explore": ({}, explore),
    "all explore": ({}, lambda parts: explore(parts, 1.0)),
    "nobody was drawn": ({"users": 30}, lambda parts: explore(parts, 1e-9)),
    "some explore a popular model": ({}, explores_popular),
    "some explore 25 movies, eight of them hidden": ({"users": 60, "movies": 25}, explores_few),
    "all explore who have seen all or nearly all": ({}, explores_what_is_left),
    "some explore five movies": ({"movies": 5}, explore),
    "some explore, as text": ({}, explores_as_text),
    "as text": ({}, lambda parts: setattr(parts, "text", True)),
    "newcomers": ({}, newcomers),
    "hidden movies": ({}, hide),
    "seen nearly all": ({}, seen_nearly_all),
    "imported": ({}, imported),
    "a gap in the ledger": ({}, lost_lines),
    "more in the ledger": ({}, lambda parts: parts.entries.append(week_entry(1000, 1999))),
    "49 hours of nothing but the last two": ({}, lambda parts: parts.facts.update(stream_time=NOW - 2 * DAY_MS)),
    "a day that ended two days ago": ({}, lambda parts: days_end_before(parts, 2 * DAY_MS)),
    "another zone": ({}, lambda parts: parts.facts.update(days=DAYS[:6])),
    "yet another zone": ({}, lambda parts: parts.facts.update(days=[*DAYS, "2030-01-08"])),
    "a difference that may be nothing": (
        {}, lambda parts: parts.evaluation["against_popular"].update(low=-1, high=0.0)),
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
    change(parts := build_parts(**sizes))
    assert list(passed(sealed(tmp_path, parts)).results) == NAMES


@pytest.mark.parametrize("name", GOOD_CAPS)
def test_a_release_that_keeps_to_its_caps_passes(tmp_path: Path, name: str) -> None:
    change = GOOD_CAPS[name]
    change(parts := build_parts(20) if name.startswith("20 users") else build_parts())
    assert list(passed(sealed(tmp_path, parts)).results) == NAMES


def test_the_verdict_says_of_how_many_movies_a_cap_cannot_tell(tmp_path: Path) -> None:
    candidate = sealed(tmp_path, build_parts())
    facts = replace(candidate.caps.facts, adult=np.full(120, -1, np.int8), costs=np.full(120, np.nan))
    of_flags = "passed: the catalogue does not say of 120 movies that it is adult; they count as if it were not so"
    for settings, remark in ((BatchSettings(), of_flags), (BatchSettings(adult_share_minors=1.0), "passed")):
        unknown = replace(candidate, caps=ListCaps.of(facts, settings))
        assert passed(unknown).summary()["lists_keep_to_caps"] == remark


def another_partition(parts: CandidateParts, _: Release) -> None:
    parts.facts["offsets"]["movielog1-1"] = [0, 0]
    parts.entries.append(msgspec.structs.replace(week_entry(0, 0), partition=1))


def test_one_pair_of_users_in_twenty_with_rankings_of_their_own_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = sealed(tmp_path, build_parts())
    monkeypatch.setattr(own_rankings, "personal_share", lambda *_: 0.05)
    passed(candidate)
    monkeypatch.setattr(own_rankings, "personal_share", lambda *_: 0.0499)
    assert refused(candidate) == {"lists_differ": "only 5.0% of the users get a ranking of their own"}


def not_compared(parts: CandidateParts, current: Release, why: str) -> None:
    parts.evaluation["against_current"] = {"release": current.id, "none": why}


def not_measured_after_popular(parts: CandidateParts, current: Release) -> None:
    unmeasured(parts)
    manifest = msgspec.structs.replace(current.manifest, model=ReleaseModel(lists="popular"))
    parts.current = replace(current, manifest=manifest)


def not_measured_of_few(parts: CandidateParts, _: Release) -> None:
    """One user fewer than a history has whose slices hold enough."""
    parts.seen[119:] = False
    unmeasured(parts)


def not_measured_but_wanted(parts: CandidateParts, _: Release) -> None:
    unmeasured(parts)
    parts.manifest["settings"] = {"model": "popular"}


def worse_but_confirmed(parts: CandidateParts, current: Release) -> None:
    parts.current = made_without_api(current)
    parts.evaluation.update(against_current=against(current, -0.01, 0.009))


def without_an_api_again(parts: CandidateParts, current: Release) -> None:
    proven(parts, 3)
    parts.current = made_without_api(current, 3)


def denied_by_most(parts: CandidateParts, current: Release) -> None:
    names = [*current.names, *(b"wrong+%d" % number for number in range(380))]
    parts.denied_movies.update(name.decode() for name in names[len(current.names) :])
    parts.current = made_without_api(sessions(replace(current, names=names), 10**6), 500)
    parts.facts["counts"]["unknown_movie"] = 10**6


def fall_by_many(parts: CandidateParts, _: Release) -> None:
    popular(parts)
    measured_on(parts, 40, 30)


def after_an_outage(parts: CandidateParts, current: Release) -> None:
    days = [f"2029-12-{day}" for day in range(24, 31)]
    parts.current = lost(current, stream_time=NOW - 8 * DAY_MS, days=days, offsets={"movielog1-0": [0, 1]})


GOOD_NEXT: dict[str, Callable[[CandidateParts, Release], object]] = {
    "as it is": lambda parts, now: None,
    "no better and no worse": lambda parts, now: parts.evaluation.update(against_current=against(now, -0.01, 0.01)),
    "not compared": lambda parts, now: not_compared(parts, now, "it had read into the test slice"),
    "hardly measured": lambda parts, now: measured_on(parts, 30, 30),
    "measured on a tenth of the users, and popular": fall_by_many,
    "not measured, of few users": not_measured_of_few,
    "not measured, after a popular one": not_measured_after_popular,
    "not measured, of the model that the settings name": not_measured_but_wanted,
    "after a week without a stream": after_an_outage,
    "twelve times the movies, forty times the users": lambda parts, now: setattr(
        parts, "current", numbered(now, 10, 10)
    ),
    "all users are new": lambda parts, now: setattr(
        parts, "current", replace(now, users=now.users + np.uint32(1_000_000))
    ),
    "half as many": lambda parts, now: setattr(
        parts, "current", sessions(numbered(now, 800, 240), 2 * parts.facts["counts"]["sessions"])
    ),
    "nothing new": lambda parts, now: setattr(parts, "current", lost(now, **parts.facts)),
    "after one that had read a day that is to come": lambda parts, now: setattr(
        parts, "current", lost(now, days=[*DAYS, "2030-01-09"])
    ),
    "after one that had read fewer lines by a wrong clock": lambda parts, now: setattr(
        parts, "current", lost(now, stream_time=NOW + 3 * DAY_MS)
    ),
    "an API denies more than half of the movies": denied_by_most,
    "an API confirms movies, and ranks are lower": worse_but_confirmed,
    "without an API as before": without_an_api_again,
    "the oldest days left out": lambda parts, now: parts.facts.update(days=DAYS[2:]),
    "after one that does not say what it was made of": lambda parts, now: setattr(
        parts, "current", replace(now, manifest=Manifest())
    ),
    "after one that says little": lambda parts, now: setattr(
        parts, "current", replace(now, manifest=Manifest(input=InputFacts(stream_time=0)))
    ),
    "another partition": another_partition,
}


@pytest.mark.parametrize("name", GOOD_NEXT)
def test_a_good_next_release_passes(tmp_path: Path, current: Release, name: str) -> None:
    GOOD_NEXT[name](parts := after(build_parts(), current), current)
    assert list(passed(sealed(tmp_path, parts)).results) == NAMES


def test_a_release_that_is_current_already_passes_again(tmp_path: Path, current: Release) -> None:
    candidate = sealed(tmp_path, after(build_parts(), current))
    verdict = passed(replace(candidate, current=candidate.release)).summary()
    assert verdict["not_below_current"] == "passed: it is the current release"


def test_the_verdict_says_which_rules_could_not_be_judged(tmp_path: Path, current: Release) -> None:
    popular(parts := build_parts())
    verdict = passed(sealed(tmp_path / "1", parts)).summary()
    assert verdict["not_below_popular"] == "passed: the popular list won"
    assert verdict["not_below_current"] == "passed: there is no current release"
    assert verdict["lists_are_fresh"] == "passed"
    assert set(passed(sealed(tmp_path / "2", after(build_parts(), current))).summary().values()) == {"passed"}
    after(parts := build_parts(), current).evaluation["against_current"] = {"release": current.id, "none": "few"}
    assert passed(sealed(tmp_path / "3", parts)).summary()["not_below_current"] == "passed: not compared: few"
    unmeasured(parts := after(build_parts(), current))
    assert refused(sealed(tmp_path / "5", parts))["measured_on_enough"] == (
        "popular is to replace a personal model, but nothing could be held out: nothing new within a slice"
    )
    popular(parts := after(build_parts(), current))
    measured_on(parts, 39, 29)
    assert refused(sealed(tmp_path / "6", parts))["measured_on_enough"] == (
        "popular is to replace a personal model: measured on 39 users of the choice slice, 40 are needed; on 29 users"
        " of the test slice, 30 are needed"
    )
    verdict = passed(sealed(tmp_path / "4", build_parts(users=29))).summary()
    assert verdict["lists_differ"] == "passed: too few users or movies to tell"
    assert verdict["lists_suit_their_users"] == "passed: too little data to tell"


def test_the_sample_is_of_users_with_a_history_and_a_list(tmp_path: Path) -> None:
    parts = build_parts()
    newcomers(parts)
    parts.lists = parts.made_lists()
    parts.lists[:9] = -1
    parts.lists[9, :2] = [0, parts.lists[9, 0]]
    assert sorted(sealed(tmp_path, parts).sampled_rows().tolist()) == list(range(9, 200))


# The trial, and the alert


def test_a_candidate_that_no_worker_answers_from_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("MARQUEE_SERVER_PORT", "none")
    candidate = sealed(tmp_path, build_parts())
    assert list(refused(candidate)) == ["a_worker_answers"]
    monkeypatch.setattr("batch.gate.rules.RULES", RULES[:-1])
    passed(candidate)


def test_a_candidate_that_a_worker_answers_from_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert passed(sealed(tmp_path, build_parts())).results["a_worker_answers"] == RuleResult(passed=True)


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
