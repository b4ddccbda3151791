"""Fates: every line of any batch has exactly one, the one that a line-by-line judge would give it, and sums hold."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quality.fates import Fates, judge, times_of
from quality.repair import Context, repaired
from quality.schemas import event_breach, event_schemas
from stream.archive import Count
from stream.columns import table_of
from stream.event import KINDS, Event
from stream.grammar import Refused, parse, render
from stream.settings import StreamSettings
from stream.zone import DAY_MS, day_name, zone

CLOCK = zone("America/New_York")
NOW = 1_665_150_000_000  # 2022-10-07T09:40 in New York
HELD = Context(CLOCK, event_schemas(StreamSettings(generation="2022", max_user=1_000)), 3_600_000)

times = st.sampled_from([NOW, NOW + 60_000, NOW - DAY_MS, NOW + 16 * 3_600_000])
users = st.sampled_from([0, 1, 2, 1_000, 1_001, 70_000])
movies = st.sampled_from(["a+1984", "endeavour+", "m*a*s*h+1970"])
events = st.one_of(
    st.builds(Event, st.just("watch"), times, users, movies, minute=st.sampled_from([0, 5, 20_000, 20_001])),
    st.builds(Event, st.just("rate"), times, users, movies, rating=st.integers(0, 11)),
    st.builds(Event, st.just("account"), times, users),
    st.builds(
        Event, st.just("recommend"), times, users, host=st.just("a:1"), status=st.just(200),
        movies=st.lists(movies, min_size=1, max_size=3).map(tuple), latency_ms=st.integers(0, 9),
    ),
)  # fmt: skip


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[bytes], list[int]]:
    """Lines that are good, out of their schema, with a character inserted, or noise, and some of them again."""
    good = [render(event, CLOCK) for event in draw(st.lists(events, max_size=10))]
    lines = [draw(damage(line)) for line in good] + draw(st.lists(st.binary(max_size=12), max_size=3))
    lines += draw(st.lists(st.sampled_from(lines), max_size=5)) if lines else []
    lines = draw(st.permutations(lines))
    return lines, [draw(st.sampled_from([NOW, NOW + 30_000, NOW + 20 * 3_600_000])) for _ in lines]


def damage(line: bytes) -> st.SearchStrategy[bytes]:
    inserted = st.builds(
        lambda at, letter: line[:at] + letter + line[at:],
        st.integers(0, len(line)),
        st.sampled_from([b"x", b"-", b" ", b"0", b"7", b"T"]),
    )
    return st.one_of(st.just(line), inserted)


Verdict = tuple[str, str | None, Event | None]
"""Fate, reason or None, event or None."""


def by_line(lines: list[bytes], kafka_times: list[int]) -> list[Verdict]:
    seen: set[bytes] = set()
    verdicts = []
    for line, kafka_time in zip(lines, kafka_times, strict=True):
        verdicts.append(("duplicate", None, None) if line in seen else verdict(line, kafka_time))
        seen.add(line)
    return verdicts


def verdict(line: bytes, kafka_time: int) -> Verdict:
    try:
        event = parse(line, CLOCK)
        reason = event_breach(event.kind, event, HELD.schemas)
    except Refused as refusal:
        reason = refusal.reason
    else:
        if reason is None:
            return "accepted", None, event
    mended = repaired(line, kafka_time, HELD)
    return ("quarantined", reason, None) if mended is None else ("repaired", "one_character", mended)


def told(fates: Fates, lines: int) -> list[Verdict]:
    """The fates as verdicts in the order of the lines; a line with two fates, or none, is an error."""
    found: dict[int, Verdict] = {}
    for kind, good in fates.good.items():
        assert (np.diff(good.rows) > 0).all()
        for row, mended, event in zip(
            good.rows.tolist(), good.repaired.tolist(), events_in(kind, good.table), strict=True
        ):
            assert row not in found
            found[row] = ("repaired", "one_character", event) if mended else ("accepted", None, event)
    for row, reason in zip(fates.quarantined.tolist(), fates.reasons, strict=True):
        assert row not in found
        found[row] = ("quarantined", reason, None)
    for row in fates.duplicates.tolist():
        assert row not in found
        found[row] = ("duplicate", None, None)
    return [found[row] for row in range(lines)]


def events_in(kind: str, table: pa.Table) -> list[Event]:
    plain = table.set_column(0, "time", table.column("time").cast(pa.int64()))
    return [Event(kind, **{**row, "movies": tuple(row.get("movies") or ())}) for row in plain.to_pylist()]  # type: ignore[arg-type]


def judged(lines: list[bytes], kafka_times: list[int]) -> Fates:
    return judge(pa.array(lines, pa.binary()), np.array(kafka_times, np.int64), HELD)


@settings(deadline=None, max_examples=100)
@given(batches())
@example(([], []))
@example(([b""], [NOW]))
@example(([b"\xff", b"\xff"], [NOW, NOW]))
def test_every_line_has_the_one_fate_that_a_judge_of_lines_gives_it(batch: tuple[list[bytes], list[int]]) -> None:
    lines, kafka_times = batch
    fates = judged(lines, kafka_times)
    assert told(fates, len(lines)) == by_line(lines, kafka_times)
    for kind in KINDS:
        assert fates.good[kind].table.schema.equals(table_of(kind, []).schema)


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
def test_any_bytes_are_judged_and_none_is_lost(lines: list[bytes]) -> None:
    fates = judged(lines, [NOW] * len(lines))
    assert len(told(fates, len(lines))) == len(lines)
    assert len(fates.duplicates) == len(lines) - len(set(lines))


def test_a_duplicate_is_one_whatever_the_first_was() -> None:
    good, bad = b"2022-10-07T09:40,5,GET /create_account", b"nonsense"
    fates = judged([good, bad, good, bad, bad], [NOW] * 5)
    assert fates.duplicates.tolist() == [2, 3, 4]
    assert fates.good["account"].rows.tolist() == [0]
    assert (fates.quarantined.tolist(), fates.reasons) == ([1], ["fields"])


def test_a_repaired_line_stands_among_the_accepted_at_its_place() -> None:
    lines = [f"2022-10-07T09:40,{user},GET /rate/a+1984=3".encode() for user in ("1", "x2", "3", "4-", "5")]
    good = judged(lines, [NOW] * 5).good["rate"]
    assert good.rows.tolist() == [0, 1, 2, 3, 4]
    assert good.repaired.tolist() == [False, True, False, True, False]
    assert good.table.column("user").to_pylist() == [1, 2, 3, 4, 5]
    assert times_of(good.table).tolist() == [NOW] * 5


def test_the_first_rule_that_is_broken_is_the_reason() -> None:
    line = b"2022-10-07T09:40,70000,GET /data/m/a+1984/99999.mpg"
    fates = judged([line], [NOW])
    assert fates.reasons == ["user_max"]


@pytest.mark.parametrize(("kafka_time", "day"), [(NOW, "2022-10-07"), (NOW + 16 * 3_600_000, "2022-10-08")])
def test_what_has_no_event_counts_on_kafkas_day(kafka_time: int, day: str) -> None:
    counts = judged([b"x", b"x"], [kafka_time] * 2).counts(np.array([kafka_time] * 2), CLOCK)
    assert counts == [Count("duplicate", None, day, None, 1), Count("quarantined", None, day, "fields", 1)]
    assert day == day_name(CLOCK.day_number(kafka_time))
