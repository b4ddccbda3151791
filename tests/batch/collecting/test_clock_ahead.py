"""Records of a wrong clock, taken by a real collector: only the line that is set aside differs from a run without them.

The stream is three partitions of lines a second apart. A wrong record is ahead on Kafka's clock alone, or on both.
"""

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest

from batch.collecting import collector as collecting
from quality.lines.quarantine import quarantined_lines, replay_quarantine
from stream.archive import Archive
from stream.clock import CLOCK_AHEAD, PartitionClock
from stream.decoding import decode_json
from stream.grammar import render_time
from stream.kafka import FetchedRecords
from stream.ledger_clock import stream_time, was_live
from stream.ledger_entry import LedgerEntry, count_by_fate
from stream.set_aside import OpenCases
from stream.zone import DAY_MS, HOUR_MS
from tests.batch.collecting.collected_lines import CLOCK, HELD, NOW, TOPIC, alerts, collector_of, run
from tests.ledger_entries import clock_at, entry

MINUTE_MS = 60_000
FOLDER = Path(__file__).parents[1] / "old_files"


def records(times: list[int], first: int, partition: int = 0, ahead_ms: int = 0) -> FetchedRecords:
    """Good lines at these times, each of another user; Kafka's clock is ahead of them."""
    lines = [
        f"{render_time(time, CLOCK)},{first + row + 1},GET /create_account".encode() for row, time in enumerate(times)
    ]
    return FetchedRecords(partition, lines, np.arange(first, first + len(times)), np.array(times, np.int64) + ahead_ms)


def stretch(first: int, count: int, since_ms: int = NOW, step_ms: int = 1000, partition: int = 0) -> FetchedRecords:
    """Lines a step apart, the first one at `since_ms`."""
    return records([since_ms + row * step_ms for row in range(count)], first, partition)


def collected(var: Path, *polls: list[FetchedRecords]) -> list[LedgerEntry]:
    """One batch and partition for each poll."""
    collector = collector_of(var)
    collector.resume()
    for poll in polls:
        run(collector, list(poll))
    return Archive(var).entries()


def with_record(polls: list[list[FetchedRecords]], wrong: FetchedRecords, alone: bool) -> list[list[FetchedRecords]]:
    """The record as a batch of its own after the second poll, or at the end of the second batch."""
    return [*polls[:2], [wrong], *polls[2:]] if alone else [polls[0], [*polls[1], wrong], *polls[2:]]


def shifted(records: FetchedRecords, by: int) -> FetchedRecords:
    return FetchedRecords(records.partition, records.values, records.offsets + by, records.times)


def three_partitions(first: int) -> tuple[list[list[FetchedRecords]], list[list[FetchedRecords]]]:
    """Two batches of each partition, those of the `first` one first, and a later one of each."""
    polls = [[stretch(0, 60, NOW + 60_000 * n, partition=p)] for n in range(2) for p in range(3)]
    polls.sort(key=lambda poll: poll[0].partition != first)
    polls = [
        [shifted(poll[0], 60 * sum(earlier[0].partition == poll[0].partition for earlier in polls[:n]))]
        for n, poll in enumerate(polls)
    ]
    return polls, [[stretch(120, 60, NOW + 120_000, partition=p)] for p in range(3)]


@pytest.fixture(scope="module")
def clean_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[LedgerEntry]]:
    """By first partition: what the archive has without a wrong record."""
    runs = {}
    for first in (0, 2):
        polls, later = three_partitions(first)
        runs[first] = collected(tmp_path_factory.mktemp("clean"), *polls, *later)
    return runs


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("ahead_minutes", [60, 5_000])
@pytest.mark.parametrize("partition", [0, 2])
def test_one_wrong_record_changes_nothing(
    clean_runs: dict[int, list[LedgerEntry]],
    tmp_path: Path,
    partition: int,
    ahead_minutes: int,
    both: bool,
    alone: bool,
) -> None:
    clean, (polls, later) = clean_runs[partition], three_partitions(partition)
    ahead, last = ahead_minutes * MINUTE_MS, NOW + 120_000
    wrong = records([last + ahead * both], 120, partition, 0 if both else ahead)
    after = [[shifted(poll[0], poll[0].partition == partition)] for poll in later]
    entries = collected(tmp_path / "wrong", *with_record(polls, wrong, alone), *after)
    # a record that is just beyond the allowance soon is one line more, and lines are a second apart
    most_apart = 1000 if ahead_minutes == 60 else 0
    assert 0 <= (stream_time(entries) or 0) - (stream_time(clean) or 0) <= most_apart
    fates = count_by_fate(clean)
    assert count_by_fate(entries) == {**fates, "quarantined": 1}
    (line,) = quarantined_lines(Archive(tmp_path / "wrong"))
    assert (line.reason, line.raw) == (CLOCK_AHEAD, wrong.values[0])
    assert not (tmp_path / "wrong" / "alerts.jsonl").exists() or not alerts(tmp_path / "wrong")
    reached = [{entry.partition: entry.reached or 0 for entry in each} for each in (entries, clean)]
    assert all(0 <= reached[0][number] - reached[1][number] <= most_apart for number in range(3))


@pytest.mark.parametrize("ahead_minutes", [1, 59])
def test_a_record_within_the_allowance_is_archived_and_moves_no_clock(tmp_path: Path, ahead_minutes: int) -> None:
    polls = [[stretch(60 * n, 60, NOW + 60_000 * n)] for n in range(2)]
    wrong = records([NOW + 119_000], 120, ahead_ms=ahead_minutes * MINUTE_MS)
    clean = collected(tmp_path / "clean", *polls)
    entries = collected(tmp_path / "wrong", *polls, [wrong])
    assert count_by_fate(entries)["accepted"] == 121
    # one more line confirms each time: at most the distance of two lines
    assert 0 <= (stream_time(entries) or 0) - (stream_time(clean) or 0) <= 1000


def test_microseconds_are_set_aside_whatever_their_number(tmp_path: Path) -> None:
    """They are no times, so no number of them confirms one."""
    wrong = stretch(100, 60, NOW + 100_000)
    wrong = FetchedRecords(0, wrong.values, wrong.offsets, wrong.times * 1000)
    entries = collected(tmp_path, [stretch(0, 100)], [wrong], [stretch(160, 40, NOW + 160_000)])
    assert stream_time(entries) == NOW + 180_000
    assert count_by_fate(entries) == {"accepted": 140, "repaired": 0, "quarantined": 60, "duplicate": 0}


@pytest.mark.parametrize("killed", [False, True])
def test_a_true_jump_is_followed_and_its_first_lines_are_archived(tmp_path: Path, killed: bool) -> None:
    """A service that stood still for a day: its first lines are set aside until as many as a quorum have come."""
    collector = collector_of(tmp_path)
    collector.resume()
    run(collector, [stretch(0, 100)])
    for row in range(20):
        run(collector, [stretch(100 + row, 1, NOW + DAY_MS + row * 1000)])
        if row < 19:
            assert stream_time(Archive(tmp_path).entries()) == NOW + 80_000
            assert len(list(quarantined_lines(Archive(tmp_path)))) == row + 1
        if killed:
            collector = collector_of(tmp_path)
            collector.resume()
    entries = Archive(tmp_path).entries()
    assert count_by_fate(entries) == {"accepted": 120, "repaired": 0, "quarantined": 0, "duplicate": 0}
    assert sum(entry.revision for entry in entries) == 19
    assert stream_time(entries) == NOW + DAY_MS
    assert all(entry.clock and entry.clock.ahead_from is None for entry in entries)


def test_lines_that_a_killed_collector_had_confirmed_are_archived_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise SystemExit("killed")

    polls = [[stretch(0, 100)], [stretch(100, 5, NOW + DAY_MS)], [stretch(105, 30, NOW + DAY_MS + 5000)]]
    with monkeypatch.context() as patch:
        patch.setattr(collecting, "replay_entry", killed)
        with pytest.raises(SystemExit):
            collected(tmp_path, *polls)
    assert len(list(quarantined_lines(Archive(tmp_path)))) == 5
    entries = collected(tmp_path, [stretch(135, 1, NOW + DAY_MS + 36_000)])
    assert count_by_fate(entries)["accepted"] == 136


def torn(records: FetchedRecords) -> FetchedRecords:
    """The lines without a readable time."""
    values = [b"2022-10-07Tnine" + value[value.index(b",") :] for value in records.values]
    return FetchedRecords(records.partition, values, records.offsets, records.times)


def test_damaged_lines_of_a_true_jump_are_repaired_as_if_they_had_come_later(tmp_path: Path) -> None:
    jump = [stretch(100 + row, 1, NOW + DAY_MS + row * 1000) for row in range(24)]
    jump[0], jump[7] = torn(jump[0]), torn(jump[7])
    entries = collected(tmp_path, [stretch(0, 100)], *([record] for record in jump))
    assert count_by_fate(entries) == {"accepted": 122, "repaired": 2, "quarantined": 0, "duplicate": 0}


def test_a_jump_within_a_batch_sets_nothing_aside(tmp_path: Path) -> None:
    entries = collected(tmp_path, [stretch(0, 100), stretch(100, 30, NOW + DAY_MS)])
    assert [entry.lines for entry in entries] == [130]
    assert count_by_fate(entries)["accepted"] == 130
    assert stream_time(entries) == NOW + DAY_MS + 10_000


def test_a_wrong_record_stays_aside_when_the_clock_reaches_its_time(tmp_path: Path) -> None:
    polls = [[stretch(0, 100)], [stretch(100, 1, NOW + 2 * HOUR_MS)]]
    polls += [[stretch(101 + 100 * n, 100, NOW + 100_000 + n * 100_000)] for n in range(90)]
    entries = collected(tmp_path, *polls)
    assert (stream_time(entries) or 0) > NOW + 2 * HOUR_MS
    assert [line.reason for line in quarantined_lines(Archive(tmp_path))] == [CLOCK_AHEAD]
    # by hand it can be taken, as its time has come
    assert replay_quarantine(Archive(tmp_path), HELD)["accepted"] == 1


def test_a_damaged_line_that_was_ahead_can_be_taken_by_hand_when_its_time_has_come(tmp_path: Path) -> None:
    collected(tmp_path, [stretch(0, 100)], [torn(stretch(100, 1, NOW + 2 * HOUR_MS))])
    assert [line.reason for line in quarantined_lines(Archive(tmp_path))] == [CLOCK_AHEAD]
    assert replay_quarantine(Archive(tmp_path), HELD)["quarantined"] == 1
    collected(tmp_path, *([stretch(101 + 100 * n, 100, NOW + HOUR_MS * n)] for n in range(1, 4)))
    assert [line.reason for line in quarantined_lines(Archive(tmp_path))] == [CLOCK_AHEAD]
    assert replay_quarantine(Archive(tmp_path), HELD)["repaired"] == 1


def test_a_replay_by_hand_leaves_aside_what_is_ahead(tmp_path: Path) -> None:
    collected(tmp_path, [stretch(0, 100)], [stretch(100, 1, NOW + 2 * HOUR_MS)])
    assert replay_quarantine(Archive(tmp_path), HELD)["quarantined"] == 1
    (own,) = [each for each in Archive(tmp_path).entries() if each.first == 100]
    assert (own.revision, own.clock and own.clock.ahead_from) == (0, NOW + 2 * HOUR_MS)


def test_a_quiet_stream_comes_through_late_but_whole(tmp_path: Path) -> None:
    """One line in two hours, twice the allowance: each is set aside until a quorum confirms it."""
    entries = collected(tmp_path, *([stretch(n, 1, NOW + n * 2 * HOUR_MS)] for n in range(70)))
    assert count_by_fate(entries)["quarantined"] <= 20
    assert (stream_time(entries) or 0) >= NOW + (69 - 40) * 2 * HOUR_MS


def test_a_ledger_that_a_wrong_record_has_poisoned_heals(tmp_path: Path) -> None:
    """It was written before there was a clock: one record three days ahead on both clocks, one in microseconds."""
    ledger = Archive(tmp_path).ledger
    ledger.mkdir(parents=True)
    for line in (FOLDER / "poisoned_ledger.jsonl").read_bytes().splitlines():
        entry = decode_json(line, LedgerEntry)
        (ledger / f"{entry.name}.json").write_bytes(line)
    entries = Archive(tmp_path).entries()
    assert max(entry.kafka_time.last for entry in entries if entry.kafka_time) > NOW + 70 * 365 * DAY_MS
    assert stream_time(entries) == NOW + 109_000
    entries = collected(tmp_path, [stretch(102, 60, NOW + 180_000)], [records([NOW + 3 * DAY_MS], 162)])
    assert stream_time(entries) == NOW + 220_000
    assert count_by_fate(entries)["quarantined"] == 2
    assert isinstance(msgspec.to_builtins(entries[-1].clock), dict)
    assert isinstance(entries[-1].clock, PartitionClock)
    assert entries[-1].topic == TOPIC


def test_the_old_pace_is_counted_line_by_line(tmp_path: Path) -> None:
    """One batch of ten hours reaches beyond the record's time, but begins far before it."""
    later = stretch(101, 600, NOW + 100_000, step_ms=MINUTE_MS)
    collected(tmp_path, [stretch(0, 100)], [stretch(100, 1, NOW + 3 * HOUR_MS)], [later])
    assert [line.reason for line in quarantined_lines(Archive(tmp_path))] == [CLOCK_AHEAD]


def test_a_topic_made_anew_keeps_its_clock_in_the_ledger(tmp_path: Path) -> None:
    collected(tmp_path, [stretch(0, 100)], [stretch(100, 3, NOW + 2 * HOUR_MS)])
    Archive(tmp_path).begin_again(TOPIC, "seen in a test")
    entries = collected(tmp_path, [stretch(0, 1, NOW + 40 * DAY_MS)])
    assert stream_time(entries) == NOW + 80_000
    assert count_by_fate(entries)["quarantined"] == 4
    later = collected(tmp_path, *([stretch(1 + 100 * n, 100, NOW + HOUR_MS * n)] for n in range(4)))
    assert (stream_time(later) or 0) > NOW + 2 * HOUR_MS
    assert replay_quarantine(Archive(tmp_path), HELD)["accepted"] == 3  # those of before as well


def test_a_case_that_a_replay_of_one_day_has_settled_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = records([NOW + 2 * HOUR_MS, NOW + 30 * HOUR_MS], 100)
    collected(tmp_path, [stretch(0, 100), wrong])
    collected(tmp_path, *([stretch(102 + n * 40, 40, NOW + n * HOUR_MS)] for n in range(5)))
    assert replay_quarantine(Archive(tmp_path), HELD, CLOCK.day(NOW + 2 * HOUR_MS))["accepted"] == 1
    [first] = [each for each in Archive(tmp_path).entries() if each.first == 0]
    assert (first.clock and first.clock.ahead_from) == NOW + 30 * HOUR_MS
    recounts: list[object] = []
    collector = collector_of(tmp_path)
    monkeypatch.setattr(collector, "_recount", recounts.append)
    collector.resume()
    for n in range(40):
        run(collector, [stretch(302 + n * 40, 40, NOW + (5 + n) * HOUR_MS)])
    assert len(recounts) == 1  # at the start


def test_a_sender_that_stays_wrong_leaves_few_open_cases() -> None:
    """Weeks of it: no case is ever confirmed or refuted."""
    cases = OpenCases()
    for number in range(500):
        clock = msgspec.structs.replace(clock_at(NOW), lines=5, ahead_from=NOW + DAY_MS + number)
        cases.committed(entry(number, number, clock=clock))
        cases.committed(entry(number, number, clock=clock, partition=1))
    behind = cases.lines_behind(0, np.array([NOW]))
    assert list(behind) == [f"{TOPIC}-0-{number:012}-{number:012}" for number in range(480, 500)]


def test_liveness_is_read_from_the_ledger() -> None:
    def entries(*behind_ms: int) -> list[LedgerEntry]:
        made = []
        for number, ms in enumerate(behind_ms):  # five minutes apart
            written_ms = NOW + number * 300_000
            written = datetime.fromtimestamp(written_ms / 1000, UTC).isoformat()
            clock = msgspec.structs.replace(clock_at(written_ms - ms), ahead_ms=HOUR_MS)
            made.append(entry(number, number, clock=clock, written=written))
        return made

    assert was_live(entries(*[1000] * 5))
    assert not was_live([])
    assert not was_live(entries(1000, 1000))  # for too short a time
    assert not was_live(entries(2 * HOUR_MS, 1000, 1000, 1000))
    assert not was_live(entries(*[1000] * 4, 2 * HOUR_MS))
    assert not was_live(entries(*[DAY_MS] * 5))
