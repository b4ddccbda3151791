"""Verdicts: every line of any batch has exactly one, the one that a line-by-line judge would give it, and sums hold."""

from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quality.catalog import KnownIds
from quality.lines.context_checks import JudgingContext
from quality.lines.schemas import event_breach, event_schemas
from quality.lines.verdicts import ParsedLines, Verdicts, judge
from stream.clock import ClockLimit, Quorum
from stream.event import KINDS, Event
from stream.grammar import LineRefused, parse, render, render_time
from stream.ledger_entry import FateCount, TimeRange
from stream.line_columns import events_of, table_of, times_of
from stream.settings import StreamSettings
from stream.zone import DAY_MS, HOUR_MS, day_name, zone_named

CLOCK = zone_named("America/New_York")
NOW = 1_665_150_000_000  # 2022-10-07T09:40 in New York
SCHEMAS = event_schemas(StreamSettings(generation="2022"))
KNOWN = KnownIds({"a+1984": 90, "endeavour+": None}, frozenset({"none+1999"}), frozenset({70_000}))
HELD = JudgingContext(CLOCK, SCHEMAS, 1_000, HOUR_MS, DAY_MS, KNOWN)

times = st.sampled_from([NOW, NOW + 60_000, NOW - DAY_MS, NOW - DAY_MS - 1_000, NOW + 2 * HOUR_MS])
users = st.sampled_from([0, 1, 12, 1_000, 1_001, 70_000])
movies = st.sampled_from(["a+1984", "endeavour+", "none+1999", "m*a*s*h+1970"])
events = st.one_of(
    st.builds(Event, st.just("watch"), times, users, movies, minute=st.sampled_from([0, 5, 90, 300, 20_001])),
    st.builds(Event, st.just("rate"), times, users, movies, rating=st.integers(0, 11)),
    st.builds(Event, st.just("account"), times, users),
    st.builds(
        Event, st.just("recommend"), times, users, host=st.just("a:1"), status=st.just(200),
        movies=st.lists(movies, min_size=1, max_size=3).map(tuple), latency_ms=st.integers(0, 9),
    ),
    st.builds(
        Event, st.just("recommend"), times, users, host=st.just("a:1"), status=st.sampled_from([0, 400]),
        error=st.sampled_from(["a+1984, endeavour+", "a+1984, b+1984", "n\u00e9"]), latency_ms=st.integers(0, 9),
    ),
)  # fmt: skip


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[bytes], list[int]]:
    """Lines that are good, out of their schema, with a character inserted, or noise, and some of them again."""
    good = [render(event, CLOCK) for event in draw(st.lists(events, max_size=10))]
    lines = [draw(damage(line)) for line in good] + draw(st.lists(st.binary(max_size=12), max_size=3))
    lines += draw(st.lists(st.sampled_from(lines), max_size=5)) if lines else []
    lines = draw(st.permutations(lines))
    return lines, [draw(st.sampled_from([NOW, NOW + 30_001, NOW + 20 * HOUR_MS])) for _ in lines]


def damage(line: bytes) -> st.SearchStrategy[bytes]:
    inserted = st.builds(
        lambda at, letter: line[:at] + letter + line[at:],
        st.integers(0, len(line)) | st.integers(0, 18),
        st.sampled_from([b"x", b"-", b" ", b"0", b"7", b"T", b",", b"\xff"]),
    )
    return st.one_of(st.just(line), inserted)


Verdict = tuple[str, str | None, Event | None]
"""Fate; the reason, or the rule that repaired; the event. None where there is none."""


def by_line(lines: list[bytes], kafka_times: list[int], held: JudgingContext = HELD) -> list[Verdict]:
    """The verdicts as the documents state them, one line after the other, with nothing but the reader of one line."""
    firsts: dict[bytes, tuple[int, int]] = {}
    for row, (line, kafka_time) in enumerate(zip(lines, kafka_times, strict=True)):
        firsts[line] = min(firsts.get(line, (kafka_time, row)), (kafka_time, row))
    return [
        verdict(line, kafka_time, held) if firsts[line] == (kafka_time, row) else ("duplicate", None, None)
        for row, (line, kafka_time) in enumerate(zip(lines, kafka_times, strict=True))
    ]


def verdict(line: bytes, kafka_time: int, held: JudgingContext) -> Verdict:
    try:
        event = parse(line, CLOCK)
        reason = fault(event, kafka_time, held, strict=False)
    except LineRefused as refusal:
        reason = refusal.reason
    else:
        if reason is None:
            return "accepted", None, event
    rule, meant = mended(line, reason, kafka_time, held)
    return ("quarantined", reason, None) if meant is None else ("repaired", rule, meant)


def fault(event: Event, kafka_time: int, held: JudgingContext, strict: bool) -> str | None:
    """The first fault of one event."""
    known, late = held.known, kafka_time - event.time
    named = [event.movie] if event.movie else list(event.movies)
    ends = {name: runtime for name, runtime in known.runtimes.items() if runtime}
    faults = {
        event_breach(event.kind, event, held.schemas): True,
        "time_ahead": held.ahead_ms is not None and -late > held.ahead_ms,
        "time_behind": held.ahead_ms is not None and late > (held.ahead_ms if strict else held.behind_ms),
        "user_unknown": event.user > held.max_user and event.user not in known.users,
        "movie_unknown": any(name not in known.runtimes if strict else name in known.missing for name in named),
        "minute_runtime": event.minute is not None and event.minute > ends.get(event.movie or "", 20_000) * 1.05 + 5,
        "status_list": event.status != 0
        and event.error is not None
        and all(name in known.runtimes for name in event.error.split(", ")),
    }
    return next((reason for reason, broken in faults.items() if reason is not None and broken), None)


def mended(line: bytes, reason: str, kafka_time: int, held: JudgingContext) -> tuple[str | None, Event | None]:
    if reason in ("user_unknown", "minute_runtime", "status_list"):
        return None, None
    if reason == "rating_max" and line.endswith(b"=10"):
        return None, None
    could_mean = {event for at in range(len(line)) for event in certain(line[:at] + line[at + 1 :], kafka_time, held)}
    first = next(iter(could_mean), None)
    if first is not None and len(could_mean) == 1:
        return "one_character", first
    if held.ahead_ms is not None:
        if first is not None and len({replace(event, time=0) for event in could_mean}) == 1:
            return "kafka_time", replace(first, time=kafka_time)
        if first is None and reason == "time":
            timed = render_time(kafka_time, CLOCK).encode() + line[line.index(b",") :]
            return "kafka_time", next(iter(certain(timed, kafka_time, held)), None)
    return None, None


def certain(line: bytes, kafka_time: int, held: JudgingContext) -> set[Event]:
    try:
        event = parse(line, CLOCK)
    except LineRefused:
        return set()
    return {event} if fault(event, kafka_time, held, strict=True) is None else set()


def verdicts_by_line(fates: Verdicts, lines: int) -> list[Verdict]:
    """The fates as verdicts in the order of the lines; a line with two fates, or none, is an error."""
    verdicts: dict[int, Verdict] = {}
    for kind, good in fates.kept.items():
        assert (np.diff(good.rows) > 0).all()
        assert set(good.rules) <= set(range(len(good.rows)))
        for position, (row, event) in enumerate(zip(good.rows.tolist(), events_of(kind, good.table), strict=True)):
            assert row not in verdicts
            verdicts[row] = (
                ("repaired", good.rules[position], event) if position in good.rules else ("accepted", None, event)
            )
    assert (np.diff(fates.quarantined) > 0).all()
    for row, reason in zip(fates.quarantined.tolist(), fates.reasons, strict=True):
        assert row not in verdicts
        verdicts[row] = ("quarantined", reason, None)
    assert (np.diff(fates.duplicates) > 0).all()
    for row in fates.duplicates.tolist():
        assert row not in verdicts
        verdicts[row] = ("duplicate", None, None)
    return [verdicts[row] for row in range(lines)]


def read(lines: list[bytes], kafka_times: list[int]) -> ParsedLines:
    return ParsedLines.read(pa.array(lines, pa.binary()), np.array(kafka_times, np.int64), CLOCK)


def judged(lines: list[bytes], kafka_times: list[int], held: JudgingContext = HELD) -> Verdicts:
    return judge(read(lines, kafka_times), held)


@pytest.mark.parametrize("held", [HELD, replace(HELD, ahead_ms=None)], ids=["", "clocks apart"])
@settings(deadline=None, max_examples=60)
@given(batch=batches())
@example(batch=([], []))
@example(batch=([b""], [NOW]))
@example(batch=([b"\xff", b"\xff"], [NOW, NOW]))
@example(batch=([b"2022-10-07T09:410,5,GET /create_account", b"x,5,GET /create_account"], [NOW, NOW + 1]))
def test_every_line_has_the_fate_of_a_naive_reference(
    held: JudgingContext, batch: tuple[list[bytes], list[int]]
) -> None:
    lines, kafka_times = batch
    fates = judged(lines, kafka_times, held)
    assert verdicts_by_line(fates, len(lines)) == by_line(lines, kafka_times, held)
    for kind in KINDS:
        assert fates.kept[kind].table.schema.equals(table_of(kind, []).schema)


@settings(deadline=None, max_examples=60)
@given(batches())
def test_the_counts_add_up_to_the_lines_by_fate_kind_day_and_reason(batch: tuple[list[bytes], list[int]]) -> None:
    lines, kafka_times = batch
    counts = judged(lines, kafka_times).counts(np.array(kafka_times, np.int64), CLOCK)
    assert sum(count.lines for count in counts) == len(lines)
    expected = Counter(
        (fate, event and event.kind, CLOCK.day(event.time if event else kafka_time), reason)
        for (fate, reason, event), kafka_time in zip(by_line(lines, kafka_times), kafka_times, strict=True)
    )
    assert {(count.fate, count.kind, count.day, count.reason): count.lines for count in counts} == expected
    assert all(count.lines > 0 for count in counts)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.binary(max_size=30), max_size=30))
def test_lines_of_any_bytes_are_judged_and_counted(lines: list[bytes]) -> None:
    fates = judged(lines, [NOW] * len(lines))
    assert len(verdicts_by_line(fates, len(lines))) == len(lines)
    assert len(fates.duplicates) == len(lines) - len(set(lines))


@settings(deadline=None, max_examples=30)
@given(batches(), st.randoms(use_true_random=False))
def test_the_order_of_the_lines_changes_no_fate(batch: tuple[list[bytes], list[int]], dice: Any) -> None:
    lines = list(dict.fromkeys(batch[0]))
    moved = dice.sample(range(len(lines)), len(lines))
    before = verdicts_by_line(judged(lines, [NOW] * len(lines)), len(lines))
    after = verdicts_by_line(judged([lines[row] for row in moved], [NOW] * len(lines)), len(lines))
    assert after == [before[row] for row in moved]


def test_a_repeated_line_is_a_duplicate_whatever_the_fate_of_the_first() -> None:
    good, bad = b"2022-10-07T09:40,5,GET /create_account", b"nonsense"
    fates = judged([good, bad, good, bad, bad], [NOW] * 5)
    assert fates.duplicates.tolist() == [2, 3, 4]
    assert fates.kept["account"].rows.tolist() == [0]
    assert (fates.quarantined.tolist(), fates.reasons) == ([1], ["fields"])


def test_a_repaired_line_keeps_its_place_among_the_accepted() -> None:
    lines = [f"2022-10-07T09:40,{user},GET /rate/a+1984=3".encode() for user in ("1", "x2", "3", "4-", "5")]
    good = judged([*lines, b"x,6,GET /rate/a+1984=3"], [NOW] * 6).kept["rate"]
    assert good.rows.tolist() == [0, 1, 2, 3, 4, 5]
    assert good.rules == {1: "one_character", 3: "one_character", 5: "kafka_time"}
    assert good.table.column("user").to_pylist() == [1, 2, 3, 4, 5, 6]
    assert times_of(good.table).tolist() == [NOW] * 6


def test_two_lines_restored_to_the_same_event_both_count() -> None:
    fates = judged([b"2022-10-07T09:40,x5,GET /create_account", b"2022-10-07T09:40,5y,GET /create_account"], [NOW] * 2)
    assert fates.kept["account"].rules == {0: "one_character", 1: "one_character"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"2022-10-07T09:40,70001,GET /data/m/a+1984/99999.mpg", "minute_max"),
        (b"2022-10-01T09:40,70001,GET /data/m/none+1999/300.mpg", "time_behind"),
        (b"2022-10-07T09:40,70001,GET /data/m/none+1999/300.mpg", "user_unknown"),
        (b"2022-10-07T09:40,70000,GET /data/m/none+1999/300.mpg", "movie_unknown"),
        (b"2022-10-07T09:40,5,GET /data/m/a+1984/1234.mpg", "minute_runtime"),
        (b"2022-10-07T09:40,5,recommendation request a:1, status 400, result: a+1984, 5 ms", "status_list"),
    ],
)
def test_the_first_rule_that_is_broken_is_the_reason(line: bytes, reason: str) -> None:
    assert judged([line], [NOW]).reasons == [reason]


@pytest.mark.parametrize("body", ["a+1984", "a+1984,b+1984", "a+1984, b+1984", "none+1999", "a+1984,", ""])
def test_the_body_of_a_late_answer_is_the_error_of_a_request_without_answer(body: str) -> None:
    line = f"2022-10-07T09:40:00.854,5,recommendation request a.example.org:8082, status 0, result: {body}, 819 ms"
    kept = judged([line.encode()], [NOW]).kept["recommend"]
    late = {"host": "a.example.org:8082", "status": 0, "error": body, "latency_ms": 819}
    assert kept.rules == {}
    assert events_of("recommend", kept.table) == [Event("recommend", NOW + 854, 5, **late)]  # type: ignore[arg-type]


@pytest.mark.parametrize(("kafka_time", "day"), [(NOW, "2022-10-07"), (NOW + 16 * HOUR_MS, "2022-10-08")])
def test_lines_without_an_event_count_on_kafkas_day(kafka_time: int, day: str) -> None:
    counts = judged([b"x", b"x"], [kafka_time] * 2).counts(np.array([kafka_time] * 2), CLOCK)
    assert counts == [FateCount("duplicate", None, day, None, 1), FateCount("quarantined", None, day, "fields", 1)]
    assert day == day_name(CLOCK.day_number(kafka_time))


FIRST = 1_667_712_600_000  # 2022-11-06T01:30 in New York, for the first time


def test_kafkas_time_decides_in_the_repeated_hour() -> None:
    lines = [f"2022-11-06T01:30,{user},GET /create_account".encode() for user in (1, 2)]
    good = judged(lines, [FIRST + 1_000, FIRST + HOUR_MS + 1_000]).kept["account"]
    assert times_of(good.table).tolist() == [FIRST, FIRST + HOUR_MS]


# what a batch says as a whole -----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(batches())
@example(([b"2022-10-07T09:40,5,GET /rate/a1984=3", b"2022-13-07T09:40,5,GET /rate/b+1984=3"], [NOW, NOW]))
def test_the_movies_and_users_of_a_batch_are_those_of_its_well_formed_lines(
    batch: tuple[list[bytes], list[int]],
) -> None:
    named, users = set[str](), set[int]()
    for line in batch[0]:
        try:
            event = parse(line, CLOCK)
        except LineRefused:
            continue
        named |= {event.movie, *event.movies} if event.movie else set(event.movies)
        users.add(event.user)
    lines = read(*batch)
    assert lines.movies() == named
    for most in (0, 12, 1_000, 70_000):
        assert lines.users_above(most) == {user for user in users if user > most}


def accounts(count: int) -> list[bytes]:
    """Lines of 09:40, each of another user."""
    return [render(Event("account", NOW, 1 + user), CLOCK) for user in range(count)]


lates = st.sampled_from([-2 * HOUR_MS, -HOUR_MS - 1, -HOUR_MS, 0, HOUR_MS, HOUR_MS + 1, DAY_MS + 1, 9 * DAY_MS])


@settings(deadline=None, max_examples=40)
@given(st.lists(lates, max_size=24) | st.lists(lates, min_size=20, max_size=24))
def test_the_clocks_are_apart_if_the_median_line_is(differences_ms: list[int]) -> None:
    apart_ms = read(
        accounts(len(differences_ms)) + [b"nonsense"] * 30, [NOW + late for late in differences_ms] + [0] * 30
    )
    median = int(np.median(differences_ms)) if len(differences_ms) >= 20 else 0
    assert apart_ms.clocks_apart_ms(HELD) == (median if abs(median) > HOUR_MS else None)


@pytest.mark.parametrize(("outside", "apart_ms"), [(9, None), (10, -2 * HOUR_MS), (20, -4 * HOUR_MS)])
def test_only_half_of_the_lines_or_more_can_put_the_clocks_apart(outside: int, apart_ms: int | None) -> None:
    kafka_times = [NOW - 4 * HOUR_MS if row < outside else NOW for row in range(20)]
    assert read(accounts(20), kafka_times).clocks_apart_ms(HELD) == apart_ms


@pytest.mark.parametrize(("lines", "apart_ms"), [(19, None), (20, 4 * HOUR_MS)])
def test_a_few_lines_do_not_put_the_clocks_apart(lines: int, apart_ms: int | None) -> None:
    assert read(accounts(lines), [NOW + 4 * HOUR_MS] * lines).clocks_apart_ms(HELD) == apart_ms


@pytest.mark.parametrize(
    "lines", [[], [b""], [b"nonsense", b"\xff"] * 20], ids=["no lines", "an empty line", "no events"]
)
def test_lines_without_events_do_not_put_the_clocks_apart(lines: list[bytes]) -> None:
    assert read(lines, [0] * len(lines)).clocks_apart_ms(HELD) is None


def test_a_repeated_line_counts_once_for_the_clocks() -> None:
    lines = accounts(1) * 30 + accounts(21)
    assert read(lines, [0] * 30 + [NOW] * 21).clocks_apart_ms(HELD) is None


def test_the_time_span_of_a_batch_is_that_of_its_kept_lines() -> None:
    lines = [*accounts(3), b"nonsense", b"2022-10-07T09:40,x9,GET /create_account"]
    times = np.array([NOW, NOW + 1, NOW + 9 * DAY_MS, NOW - DAY_MS, NOW + 2])
    fates = judge(ParsedLines.read(pa.array(lines, pa.binary()), times, CLOCK), HELD)
    assert fates.span(times) == TimeRange(NOW, NOW + 2)
    fates = judge(ParsedLines.read(pa.array(lines[2:4], pa.binary()), times[2:4], CLOCK), HELD)
    assert fates.span(times[2:4]) == TimeRange(NOW - DAY_MS, NOW + 9 * DAY_MS)


def test_while_the_clocks_are_apart_no_line_is_refused_for_its_time() -> None:
    lines = [render(Event("account", NOW, user), CLOCK) for user in range(1, 4)]
    kafka_times = [NOW - 4 * HOUR_MS] * 3
    assert judged(lines, kafka_times).reasons == ["time_ahead"] * 3
    assert judged(lines, kafka_times, replace(HELD, ahead_ms=None)).reasons == []


def test_the_repeated_hour_does_not_put_the_clocks_apart() -> None:
    lines = [f"2022-11-06T01:30,{1 + user},GET /create_account".encode() for user in range(30)]
    assert read(lines, [FIRST + HOUR_MS + 1_000] * 30).clocks_apart_ms(HELD) is None


@settings(max_examples=50)
@given(batches())
def test_each_well_formed_line_counts_for_the_clock_also_a_copy(batch: tuple[list[bytes], list[int]]) -> None:
    lines, kafka_times = batch
    expected = Counter[tuple[int, int]]()
    for line, kafka_time in zip(lines, kafka_times, strict=True):
        with suppress(LineRefused):
            expected[kafka_time, parse(line, CLOCK).user] += 1
    read = ParsedLines.read(pa.array(lines, pa.binary()), np.array(kafka_times, np.int64), CLOCK)
    found_times, found_users = read.times_and_users()
    assert Counter(zip(found_times.tolist(), found_users.tolist(), strict=True)) == expected


def test_a_line_that_would_be_repaired_waits_for_the_clock_as_one_that_would_be_accepted() -> None:
    lines = [
        b"2022-10-07T09:40,1,GET /create_account",
        b"2022-10-07Tnine,2,GET /create_account",
        b"2022-10-07T09:x40,3,GET /create_account",
        b"2022-10-07T09:40,x4,GET /create_account",
        b"2022-10-07T09:40,5,GET /rate/a+1984=33",
        b"2022-10-07Tnine,x6,GET /create_account",
        b"nonsense",
    ]
    late = ClockLimit(NOW - 1, Quorum())
    set_aside = judged(lines, [NOW] * 7, replace(HELD, clock=late))
    assert set_aside.reasons == ["clock_ahead"] * 5 + ["time", "fields"]
    for clock in (None, replace(late, latest_ms=NOW)):
        rules = judged(lines, [NOW] * 7, replace(HELD, clock=clock)).kept
        assert rules["account"].rows.tolist() == [0, 1, 2, 3]
        assert rules["account"].rules == {1: "kafka_time", 2: "one_character", 3: "one_character"}
        assert rules["rate"].rows.tolist() == [4]
    only_first = replace(HELD, clock=replace(late, latest_ms=NOW))
    assert judged(lines[:2], [NOW, NOW + 1], only_first).reasons == ["clock_ahead"]
