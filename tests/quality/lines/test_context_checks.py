"""Checks against a restatement of their table, row by row: the same faults for any rows, however a table is cut."""

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from quality.catalog import KnownIds
from quality.lines.context_checks import JudgingContext, context_faults, make_context, resolve_repeated_hour
from quality.lines.rule_functions import Validator
from quality.lines.schemas import LONGEST_MINUTE, breaches, event_schemas
from quality.settings import QualitySettings
from stream.event import KINDS, Event, Kind
from stream.line_columns import events_of, table_of, times_of
from stream.settings import StreamSettings
from stream.zone import HOUR_MS, zone_named

CLOCK = zone_named("America/New_York")
NOW = 1_665_150_000_000  # 2022-10-07T09:40 in New York
AHEAD, BEHIND = HOUR_MS, 24 * HOUR_MS
KNOWN = KnownIds(
    {"short+1999": 20, "long+1999": 100, "silent+1999": None}, frozenset({"none+1999"}), frozenset({2_000})
)
HELD = JudgingContext(CLOCK, event_schemas(StreamSettings()), 1_000, AHEAD, BEHIND, KNOWN)

edges = [-BEHIND - 1, -BEHIND, -AHEAD - 1, -AHEAD, 0, AHEAD, AHEAD + 1]
times = st.one_of(st.sampled_from(edges), st.integers(-2 * BEHIND, 2 * AHEAD)).map(lambda off: NOW + off)
users = st.sampled_from([1, 2, 1_000, 1_001, 2_000, 5_521_777, 2**32 - 1])
movies = st.sampled_from(["short+1999", "long+1999", "silent+1999", "none+1999", "new+1999"])
minutes = st.one_of(st.sampled_from([0, 26, 27, 28, 110, 111, 112, 113]), st.integers(LONGEST_MINUTE, 20_001))
lists = st.lists(movies, min_size=1, max_size=3)
errors = st.one_of(st.just("timed out"), st.just(""), lists.map(", ".join), lists.map(",".join))
rows: dict[Kind, st.SearchStrategy[Event]] = {
    "watch": st.builds(Event, st.just("watch"), times, users, movies, minute=minutes),
    "rate": st.builds(Event, st.just("rate"), times, users, movies, rating=st.integers(0, 11)),
    "account": st.builds(Event, st.just("account"), times, users),
    "recommend": st.one_of(
        st.builds(
            Event, st.just("recommend"), times, users, host=st.just("a:1"), status=st.just(200),
            movies=lists.map(tuple), latency_ms=st.integers(0, 9),
        ),
        st.builds(
            Event, st.just("recommend"), times, users, host=st.just("a:1"), status=st.sampled_from([0, 400]),
            error=errors, latency_ms=st.integers(0, 9),
        ),
    ),
}  # fmt: skip
contexts = st.builds(
    lambda ahead_ms, known, users_, missing: replace(
        HELD,
        ahead_ms=ahead_ms,
        known=KnownIds(
            KNOWN.runtimes if known else {},
            KNOWN.missing if missing else frozenset(),
            KNOWN.users if users_ else frozenset(),
        ),
    ),
    st.sampled_from([AHEAD, None]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


@st.composite
def tables(draw: st.DrawFn, kind: Kind) -> tuple[list[Event], pa.Table]:
    """Rows, and a table of them: in pieces with words of their own, and cut out of a longer one."""
    events = draw(st.lists(rows[kind], max_size=8))
    cut = draw(st.integers(0, len(events)))
    begin = draw(st.integers(0, len(events)))
    end = draw(st.integers(begin, len(events)))
    table = table_of(kind, events)
    if draw(st.booleans()):
        table = pa.concat_tables([table_of(kind, events[:cut]), table_of(kind, events[cut:])])
    return events[begin:end], table.slice(begin, end - begin)


def by_row(
    kind: Kind, events: list[Event], kafka_times: list[int], held: JudgingContext, strict: bool
) -> list[set[str]]:
    """The table of reasons as `quality/lines/context_checks.py` states it, in plain words, one row after the other."""
    return [
        schema_reasons(kind, event, held)
        | user_reasons(event, held.max_user, held.known)
        | time_reasons(event, kafka_time, held, strict)
        | movie_reasons(event, held.known, strict)
        | minute_reasons(event, held.known)
        | status_reasons(event, held.known)
        for event, kafka_time in zip(events, kafka_times, strict=True)
    ]


def schema_reasons(kind: Kind, event: Event, held: JudgingContext) -> set[str]:
    schema = held.schemas[kind]
    validator = Validator(schema)
    of_a_row = {name: getattr(event, name) for name in schema}
    validator.validate({name: list(value) if isinstance(value, tuple) else value for name, value in of_a_row.items()})
    return {f"{error.field}_{error.rule}" for error in validator._errors}


def user_reasons(event: Event, max_user: int, known: KnownIds) -> set[str]:
    return {"user_unknown"} if event.user > max_user and event.user not in known.users else set()


def time_reasons(event: Event, kafka_time: int, held: JudgingContext, strict: bool) -> set[str]:
    if held.ahead_ms is None:
        return set()
    if event.time - kafka_time > held.ahead_ms:
        return {"time_ahead"}
    return {"time_behind"} if kafka_time - event.time > (held.ahead_ms if strict else held.behind_ms) else set()


def movie_reasons(event: Event, known: KnownIds, strict: bool) -> set[str]:
    named = event.movies if event.kind == "recommend" else () if event.movie is None else (event.movie,)
    doubtful = {name for name in named if name in known.missing}
    if strict and known.runtimes:
        doubtful = {name for name in named if name not in known.runtimes}
    return {"movie_unknown"} if doubtful else set()


def minute_reasons(event: Event, known: KnownIds) -> set[str]:
    runtime = known.runtimes.get(event.movie or "")
    minute = event.minute or 0
    past = minute > LONGEST_MINUTE if runtime is None else 100 * minute > 105 * runtime + 500
    return {"minute_runtime"} if past else set()


def status_reasons(event: Event, known: KnownIds) -> set[str]:
    if event.error is None or event.status == 0:
        return set()
    return {"status_list"} if all(part in known.runtimes for part in event.error.split(", ")) else set()


def reasons_by_row(
    kind: Kind, table: pa.Table, kafka_times: list[int], held: JudgingContext, strict: bool
) -> list[set[str]]:
    reasons: list[set[str]] = [set() for _ in kafka_times]
    for reason, broken in context_faults(kind, table, np.array(kafka_times, np.int64), held, strict):
        assert broken.dtype == bool
        assert broken.shape == (len(kafka_times),)
        assert broken.any()
        for row in np.flatnonzero(broken).tolist():
            assert reason not in reasons[row]
            reasons[row].add(reason)
    return reasons


@pytest.mark.parametrize("strict", [False, True], ids=["", "strict"])
@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_faults_of_any_rows_match_the_table_of_reasons(kind: Kind, strict: bool, data: st.DataObject) -> None:
    events, table = data.draw(tables(kind))
    held = data.draw(contexts)
    kafka_times = data.draw(st.lists(st.sampled_from([NOW, NOW + 1]), min_size=len(events), max_size=len(events)))
    assert reasons_by_row(kind, table, kafka_times, held, strict) == by_row(kind, events, kafka_times, held, strict)


ORDER = ["time_ahead", "time_behind", "user_unknown", "movie_unknown", "minute_runtime", "status_list"]


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_the_schema_comes_first_and_then_the_checks_in_one_order(kind: Kind, data: st.DataObject) -> None:
    events, table = data.draw(tables(kind))
    kafka_times = np.full(len(events), NOW)
    reasons = [reason for reason, _ in context_faults(kind, table, kafka_times, HELD)]
    of_schema = [reason for reason, _ in breaches(table, HELD.schemas[kind])]
    of_checks = reasons[len(of_schema) :]
    assert reasons[: len(of_schema)] == of_schema
    assert of_checks == sorted(of_checks, key=ORDER.index)


def reasons_of(event: Event, held: JudgingContext = HELD, strict: bool = False, kafka_time: int = NOW) -> set[str]:
    return reasons_by_row(event.kind, table_of(event.kind, [event]), [kafka_time], held, strict)[0]


@pytest.mark.parametrize(
    ("off_ms", "reasons"),
    [
        (AHEAD, set()), (AHEAD + 1, {"time_ahead"}), (-AHEAD - 1, set()), (-BEHIND, set()),
        (-BEHIND - 1, {"time_behind"}),
    ],
)  # fmt: skip
def test_a_time_may_differ_from_kafkas_up_to_the_limit(off_ms: int, reasons: set[str]) -> None:
    assert reasons_of(Event("account", NOW + off_ms, 5)) == reasons


@pytest.mark.parametrize(("off_ms", "reasons"), [(-AHEAD, set()), (-AHEAD - 1, {"time_behind"})])
def test_a_candidate_may_be_late_only_as_it_may_be_early(off_ms: int, reasons: set[str]) -> None:
    assert reasons_of(Event("account", NOW + off_ms, 5), strict=True) == reasons


@pytest.mark.parametrize(
    ("minute", "movie", "past"),
    [
        (26, "short+1999", False), (27, "short+1999", True), (110, "long+1999", False), (111, "long+1999", True),
        (20_000, "silent+1999", False), (20_000, "new+1999", False),
    ],
)  # fmt: skip
def test_minutes_may_exceed_the_runtime_a_little(minute: int, movie: str, past: bool) -> None:
    event = Event("watch", NOW, 5, movie, minute=minute)
    assert reasons_of(event) == ({"minute_runtime"} if past else set())


def test_adjacent_lines_past_the_end_are_judged_apart() -> None:
    # batches are short: whether the line beside it comes in the same one is chance
    past = [Event("watch", NOW, 5, "long+1999", minute=minute) for minute in (110, 111, 112)]
    assert reasons_by_row("watch", table_of("watch", past), [NOW] * 3, HELD, False) == [
        set(),
        *[{"minute_runtime"}] * 2,
    ]


def test_above_the_largest_user_only_users_of_the_api_are_known() -> None:
    for user, unknown in ((1_000, False), (1_001, True), (2_000, False), (2**32 - 1, True)):
        assert reasons_of(Event("account", NOW, user)) == ({"user_unknown"} if unknown else set())


def test_without_a_catalogue_any_movie_may_exist() -> None:
    held = replace(HELD, known=KnownIds())
    for strict in (False, True):
        assert reasons_of(Event("rate", NOW, 5, "new+1999", rating=3), held, strict) == set()


def test_a_movie_that_was_never_looked_up_is_doubtful_only_in_strict_mode() -> None:
    event = Event("rate", NOW, 5, "new+1999", rating=3)
    assert (reasons_of(event), reasons_of(event, strict=True)) == (set(), {"movie_unknown"})


def test_a_table_without_rows_has_no_faults() -> None:
    for kind in KINDS:
        assert context_faults(kind, table_of(kind, []), np.zeros(0, np.int64), HELD) == []


def test_the_context_follows_the_settings() -> None:
    quality = QualitySettings(time_window_minutes=2, late_hours=3)
    held = make_context(StreamSettings(timezone="Europe/Berlin", max_user=7, generation="2026"), quality, KNOWN)
    assert (held.zone.name, held.max_user, held.ahead_ms, held.behind_ms) == ("Europe/Berlin", 7, 120_000, 3 * HOUR_MS)
    assert held.known is KNOWN
    assert held.schemas["rate"]["rating"]["max"] == 10


SET_BACK = {
    "America/New_York": [datetime(2022, 11, 6, 6, tzinfo=UTC), datetime(2024, 11, 3, 6, tzinfo=UTC)],
    "Europe/Berlin": [datetime(2022, 10, 30, 1, tzinfo=UTC)],
    "Australia/Lord_Howe": [datetime(2022, 4, 2, 15, tzinfo=UTC)],  # half an hour
    "Africa/Casablanca": [datetime(2022, 3, 27, 2, tzinfo=UTC)],  # before Ramadan
}
"""By zone: moments at which the clock is set back."""


def readings(name: str, utc_ms: int) -> list[int]:
    """The moments (ms UTC) at which the wall clock of a zone shows what it shows at one, by Python's own data."""
    info = ZoneInfo(name)
    shown = datetime.fromtimestamp(utc_ms // 1000, info).replace(tzinfo=None)
    moments = {
        int(shown.replace(tzinfo=info, fold=fold).astimezone(UTC).timestamp()) * 1000 + utc_ms % 1000 for fold in (0, 1)
    }
    return sorted(moments)


@st.composite
def around_a_change(draw: st.DrawFn) -> tuple[str, int, int]:
    """A zone, a time as it is read from a line (so the first reading), and Kafka's time of it."""
    name = draw(st.sampled_from(sorted(SET_BACK)))
    change = int(draw(st.sampled_from(SET_BACK[name])).timestamp()) * 1000
    halves = st.integers(-6, 6).map(lambda half: half * HOUR_MS // 2)
    local = zone_named(name).to_local(change + draw(halves | st.integers(-3 * HOUR_MS, 3 * HOUR_MS)))
    time = zone_named(name).to_utc(local)
    return name, time, time + draw(halves | st.integers(-3 * HOUR_MS, 3 * HOUR_MS))


@settings(deadline=None, max_examples=100)
@given(st.lists(around_a_change(), min_size=1, max_size=5))
def test_a_repeated_time_is_read_as_the_one_nearer_to_kafkas(moments: list[tuple[str, int, int]]) -> None:
    name = moments[0][0]
    moments = [moment for moment in moments if moment[0] == name]
    held = replace(HELD, zone=zone_named(name))
    events = [Event("watch", time, 1 + row, "a+1999", minute=row) for row, (_, time, _) in enumerate(moments)]
    kafka_times = [kafka_time for _, _, kafka_time in moments]
    table = resolve_repeated_hour(table_of("watch", events), np.array(kafka_times), held)
    nearest = [
        min(readings(name, time), key=lambda reading: (abs(reading - kafka_time), reading))
        for _, time, kafka_time in moments
    ]
    assert table.schema.equals(table_of("watch", []).schema)
    assert events_of("watch", table) == [replace(event, time=time) for event, time in zip(events, nearest, strict=True)]


@given(around_a_change())
def test_only_the_hour_before_the_clock_is_set_back_has_two_readings(moment: tuple[str, int, int]) -> None:
    name, time, _ = moment
    assume(len(readings(name, time)) == 1)
    for kafka_time in (time - 10 * HOUR_MS, time + 10 * HOUR_MS):
        held, table = replace(HELD, zone=zone_named(name)), table_of("account", [Event("account", time, 5)])
        assert times_of(resolve_repeated_hour(table, np.array([kafka_time]), held)).tolist() == [time]


FIRST = int(datetime(2022, 11, 6, 5, 30, tzinfo=UTC).timestamp()) * 1000  # 01:30 in New York, for the first time


@pytest.mark.parametrize("kind", KINDS)
def test_resolving_a_repeated_hour_changes_only_the_time_of_any_kind(kind: Kind) -> None:
    own = {
        "watch": {"movie": "a+1999", "minute": 3},
        "rate": {"movie": "a+1999", "rating": 3},
        "recommend": {"host": "a:1", "status": 200, "movies": ("a+1999",), "latency_ms": 1},
        "account": {},
    }[kind]
    event = Event(kind, FIRST, 5, **own)  # type: ignore[arg-type]
    table = resolve_repeated_hour(table_of(kind, [event, event]), np.array([FIRST, FIRST + HOUR_MS]), HELD)
    assert events_of(kind, table) == [event, replace(event, time=FIRST + HOUR_MS)]


def test_half_way_between_both_readings_the_first_is_taken() -> None:
    table = table_of("account", [Event("account", FIRST, 5)])
    for late, time in ((HOUR_MS // 2, FIRST), (HOUR_MS // 2 + 1, FIRST + HOUR_MS)):
        assert times_of(resolve_repeated_hour(table, np.array([FIRST + late]), HELD)).tolist() == [time]


def test_where_the_clocks_disagree_the_first_reading_stands() -> None:
    table = table_of("account", [Event("account", FIRST, 5)])
    assert resolve_repeated_hour(table, np.array([FIRST + HOUR_MS]), replace(HELD, ahead_ms=None)).equals(table)
