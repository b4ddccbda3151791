"""The stream's clock, held against its definition: a slow one over the whole set of lines, written from the text."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.clock import ClockLimit, LatestLines, PartitionClock, Quorum, TopicClock, merged
from stream.settings import StreamSettings
from stream.zone import HOUR_MS, LATEST_MS

START = 1_770_742_800_000
"""2026-02-10T12:00 in New York."""
MINUTE_MS = 60_000
QUORUM = Quorum(lines=5, users=3, ahead_ms=HOUR_MS)

Lines = list[tuple[int, int]]
"""Time (ms UTC) and user of each line."""


def latest_of(lines: Lines, quorum: Quorum = QUORUM) -> LatestLines:
    times, users = np.array(lines, np.int64).reshape(-1, 2).T
    return LatestLines.of(quorum, times, users)


def by_definition(lines: Lines, quorum: Quorum) -> tuple[int | None, int | None]:
    """Limit and time, from all lines."""
    counted = sorted(
        {(time // MINUTE_MS, user): time for time, user in sorted(lines)}.items(), key=lambda item: -item[1]
    )
    witnesses = [(time, user) for (_, user), time in counted]
    young = not (
        len(witnesses) >= 2 * quorum.lines
        and len({u for _, u in witnesses}) >= max(quorum.lines, quorum.users) + quorum.users
    )

    def confirmed(among: Lines) -> int | None:
        users = len({user for _, user in among})
        needed = min(quorum.lines, len(among) // 2 + 1) if young else quorum.lines
        needed_users = min(quorum.users, users // 2 + 1) if young else quorum.users
        for time in sorted({time for time, _ in among}, reverse=True):
            reached = [(t, user) for t, user in among if t >= time]
            if len(reached) >= needed and len({user for _, user in reached}) >= needed_users:
                return time
        return None

    first = confirmed(witnesses)
    if first is None:
        return None, None
    limit = first + quorum.ahead_ms
    return limit, confirmed([witness for witness in witnesses if witness[0] <= limit])


def busy(count: int, start: int = START, users: int = 50, step_ms: int = 1000) -> Lines:
    """Lines a step apart, of so many users in turn."""
    return [(start + number * step_ms, number % users) for number in range(count)]


some_lines = st.lists(
    st.tuples(
        st.integers(0, 40).map(lambda number: START + number * 7 * MINUTE_MS) | st.integers(START, START + 9 * HOUR_MS),
        st.integers(0, 30),
    ),
    max_size=60,
)
quorums = st.builds(
    Quorum, lines=st.integers(1, 6), users=st.integers(1, 6), ahead_ms=st.sampled_from([MINUTE_MS, HOUR_MS])
)


@given(some_lines, quorums)
def test_limit_and_time_are_those_of_the_definition(lines: Lines, quorum: Quorum) -> None:
    latest = latest_of(lines, quorum)
    assert (latest.limit, latest.reached) == by_definition(lines, quorum)


@given(some_lines, quorums, st.randoms(use_true_random=False), st.integers(1, 7))
def test_order_and_batches_do_not_matter(lines: Lines, quorum: Quorum, random: object, batches: int) -> None:
    shuffled = list(lines)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    parts = [latest_of(shuffled[number::batches], quorum) for number in range(batches)]
    pooled, at_once = merged(parts), latest_of(lines, quorum)
    assert pooled is not None
    assert (pooled.time.tolist(), pooled.user.tolist()) == (at_once.time.tolist(), at_once.user.tolist())


@given(some_lines, some_lines, quorums)
def test_a_clock_that_is_not_young_never_goes_backwards(before: Lines, after: Lines, quorum: Quorum) -> None:
    first = latest_of([*before, *busy(20, users=12)], quorum)
    second = first + latest_of(after, quorum)
    assert quorum.is_full(first.user)
    assert (second.reached or 0) >= (first.reached or 0) > 0
    assert (second.limit or 0) >= (first.limit or 0) > 0


@given(
    st.integers(16, 200),
    st.lists(st.tuples(st.integers(HOUR_MS + MINUTE_MS, 40 * 365 * 24 * HOUR_MS), st.integers(0, 60)), max_size=4),
)
def test_few_wrong_lines_move_nothing(count: int, wrong: Lines) -> None:
    """Whatever the wrong lines say, alone or together; and whoever sent them."""
    lines = busy(count)
    right = latest_of(lines)
    ahead = [(lines[-1][0] + by, user) for by, user in wrong]
    poisoned = latest_of(lines + ahead)
    assert poisoned.reached == right.reached
    assert poisoned.limit is not None
    assert all(time > poisoned.limit for time, _ in ahead)
    assert all(time <= poisoned.limit for time, _ in lines)


@pytest.mark.parametrize("batches", [1, 40])
@pytest.mark.parametrize("users", [1, 2, 9])
def test_few_users_confirm_nothing_however_many_their_lines(users: int, batches: int) -> None:
    """One line a minute of each, for two days: as many as all that are remembered, and more."""
    lines, quorum = busy(200), Quorum()
    ahead = [(START + 50 * HOUR_MS + minute * MINUTE_MS, user) for minute in range(2880) for user in range(users)]
    latest = latest_of(lines, quorum)
    for number in range(batches):
        latest += latest_of(ahead[number::batches], quorum)
    assert len(latest.time) <= quorum.most
    assert latest.reached == latest_of(lines, quorum).reached
    assert latest.limit is not None
    assert latest.limit <= lines[-1][0] + quorum.ahead_ms


@pytest.mark.parametrize("days", [1, 3, 400])
def test_a_true_jump_is_followed_by_a_quorum(days: int) -> None:
    latest, later = latest_of(busy(200)), busy(QUORUM.lines, START + days * 24 * HOUR_MS)
    for number in range(QUORUM.lines - 1):
        latest += latest_of([later[number]])
        assert latest.limit is not None
        assert latest.limit < later[0][0]
    latest += latest_of([later[-1]])
    assert latest.limit == later[0][0] + QUORUM.ahead_ms
    assert latest.reached == later[0][0]


@pytest.mark.parametrize("users", [1, 2, 3, 40])
@pytest.mark.parametrize("gap_hours", [1, 30])
def test_a_quiet_stream_comes_through_late(users: int, gap_hours: int) -> None:
    """One line in many hours, of few users: the clock is behind by two quorums of lines, and goes on."""
    latest, reached = LatestLines(QUORUM), []
    lines = busy(80, users=users, step_ms=gap_hours * HOUR_MS)
    for line in lines:
        latest += latest_of([line])
        reached.append(latest.reached)
    behind = 2 * QUORUM.lines
    for number, time in enumerate(reached):
        assert time is not None
        assert time <= lines[number][0]
        assert number < 40 or time >= lines[number - behind][0]


def test_a_young_stream_takes_the_word_of_most() -> None:
    wrong = (START + 72 * HOUR_MS, 99)
    latest = latest_of([wrong])
    assert latest.reached == wrong[0]  # nobody else has said anything
    for number, line in enumerate(busy(12)):
        latest += latest_of([line])
        assert latest.reached == by_definition([wrong, *busy(number + 1)], QUORUM)[1]
        assert latest.reached is not None
        assert latest.reached <= line[0]


def test_a_user_counts_once_a_minute() -> None:
    late = START + HOUR_MS
    lines = busy(100) + [(late, user) for user in (1, 2)] + [(late + 1, user) for user in (1, 2)]
    assert latest_of(lines).limit == latest_of([*busy(100), (late, 1), (late, 2)]).limit


def test_times_that_are_none_do_not_count() -> None:
    """They are clipped to the years that a time may lie in: a producer may count in microseconds."""
    lines = busy(10)
    none = [(LATEST_MS, user) for user in range(50)]
    assert latest_of(lines + none).time.tolist() == latest_of(lines).time.tolist()
    assert latest_of(none).reached is None
    assert latest_of([]).limit is None


def test_a_busy_batch_leaves_few_lines() -> None:
    rng = np.random.default_rng(5)
    times, users = START + np.sort(rng.integers(0, HOUR_MS, 200_000)), rng.integers(0, 10_000, 200_000)
    quorum = Quorum()
    latest = LatestLines.of(quorum, times, users)
    assert len(latest.time) == 40
    assert latest.reached == times[-20]
    one_user = LatestLines.of(quorum, times, np.zeros(len(times), np.int64))
    assert one_user.reached is not None
    assert one_user.reached >= times[-1] - 31 * MINUTE_MS


@given(some_lines, st.none() | st.integers(START, LATEST_MS))
def test_what_is_stored_is_read_again(lines: Lines, ahead_from: int | None) -> None:
    latest = latest_of(lines)
    stored = PartitionClock.of(latest, ahead_from)
    again = stored.read()
    assert (again.quorum, again.time.tolist(), again.user.tolist()) == (
        latest.quorum, latest.time.tolist(), latest.user.tolist(),
    )  # fmt: skip
    assert stored.ahead_from == ahead_from


def test_the_quorum_is_that_of_the_settings() -> None:
    assert Quorum.of(StreamSettings()) == Quorum() == Quorum(20, 10, HOUR_MS)
    changed = StreamSettings(clock_lines=3, clock_users=2, clock_ahead_minutes=0.5)
    assert Quorum.of(changed) == Quorum(3, 2, 30_000)


@settings(max_examples=30)
@given(st.integers(1, 30), st.integers(1, 10))
def test_the_latest_word_is_the_clock_of_a_quorum_of_one(count: int, step: int) -> None:
    lines = busy(count, step_ms=step * 5 * HOUR_MS)
    ones = Quorum(1, 1, HOUR_MS)
    seen = [latest_of(lines[: number + 1], ones).reached for number in range(count)]
    assert seen == [time for time, _ in lines]
    assert all(left < right for left, right in pairwise(seen) if left is not None and right is not None)


def test_a_live_stream_is_bounded_by_this_machines_clock_also_after_a_restart() -> None:
    """A sender whose clock is a day ahead writes as many lines as it likes."""
    now_s, monotonic_s = [START / 1000], [0.0]

    def clock(*partitions: LatestLines, was_live: bool = False) -> TopicClock:
        return TopicClock(QUORUM, dict(enumerate(partitions)), was_live, lambda: now_s[0], lambda: monotonic_s[0])

    def lines(ahead_ms: int) -> tuple[np.ndarray, np.ndarray]:
        return round(now_s[0] * 1000) + ahead_ms + np.arange(40), np.arange(40)

    topic = clock()
    for _ in range(12):
        topic.add(0, *lines(-1000))
        assert topic.is_live() == (monotonic_s[0] >= TopicClock.LIVE_S)
        now_s[0], monotonic_s[0] = now_s[0] + 60, monotonic_s[0] + 60
    reached = topic.reached
    topic.add(1, *lines(24 * HOUR_MS))
    assert topic.reached == reached
    started = clock(topic.latest(0), was_live=True)
    started.add(0, *lines(24 * HOUR_MS))
    assert started.reached == reached
    # without that, as in a replay, a quorum is believed
    started = clock(topic.latest(0))
    started.add(0, *lines(24 * HOUR_MS))
    assert (started.reached or 0) > (reached or 0) + 23 * HOUR_MS
    assert not started.is_live()


def test_a_record_of_this_very_hour_is_not_ahead_of_a_quiet_stream() -> None:
    limit = ClockLimit(START, QUORUM, START + 50 * HOUR_MS)
    times = START + np.array([0, 1, 48 * HOUR_MS, 49 * HOUR_MS, 51 * HOUR_MS, 51 * HOUR_MS + 1])
    assert limit.is_ahead(times).tolist() == [False, True, True, False, False, True]
    assert ClockLimit(START, QUORUM).is_ahead(times).tolist() == [False, True, True, True, True, True]


def test_a_larger_quorum_sets_a_clock_right_that_a_wrong_sender_had_moved() -> None:
    """What docs/architecture.md advises an operator to do."""
    moved = latest_of([*busy(200), *busy(40, START + 24 * HOUR_MS)], Quorum())
    assert (moved.reached or 0) > START + 23 * HOUR_MS
    mended = LatestLines(Quorum(lines=60)) + moved
    for number in range(5):
        mended += latest_of(busy(40, START + (200 + 40 * number) * 1000), Quorum(lines=60))
    assert mended.reached is not None
    assert START < mended.reached < START + HOUR_MS
