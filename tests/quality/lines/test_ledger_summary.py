"""The summary of the ledger: sums checked by brute force, and every damage to files or counts is reported."""

import io
from collections import Counter
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET
from rich.console import Console

from quality.lines.ledger_summary import LedgerSummary, summarize, summary_table
from stream.event import KINDS
from stream.ledger_entry import FATES, ArchiveFile, Fate, FateCount, LedgerEntry

DAYS = ["2022-10-07", "2022-10-08"]
REASONS: dict[Fate, list[str | None]] = {
    "accepted": [None],
    "repaired": ["one_character", "kafka_time"],
    "quarantined": ["time", "movie_unknown"],
    "duplicate": [None],
}


@st.composite
def counts(draw: st.DrawFn) -> FateCount:
    fate = draw(st.sampled_from(FATES))
    kind = draw(st.sampled_from(KINDS)) if fate in ("accepted", "repaired") else None
    return FateCount(
        fate, kind, draw(st.sampled_from(DAYS)), draw(st.sampled_from(REASONS[fate])), draw(st.integers(1, 9))
    )


def filed(counts: list[FateCount]) -> list[ArchiveFile]:
    """Files with as many rows as the counts say."""
    rows: Counter[tuple[str, str]] = Counter()
    for count in counts:
        if count.fate != "duplicate":
            rows[f"archive/{count.kind}" if count.kind else "quarantine", count.day] += count.lines
    return [ArchiveFile(f"{folder}/day={day}/x.parquet", number) for (folder, day), number in rows.items()]


@st.composite
def entries(draw: st.DrawFn) -> list[LedgerEntry]:
    """Entries whose counts and files are as they must be, end to end; some of them are gaps."""
    ledger, first = [], 0
    for _ in range(draw(st.integers(0, 4))):
        own = draw(st.lists(counts(), max_size=6, unique_by=lambda count: (count.fate, count.kind, count.day)))
        lines = sum(count.lines for count in own)
        lost, redelivered = (0, draw(st.integers(0, 3))) if lines else (7, 0)
        last = first + max(lines, 7) - 1
        ledger.append(
            LedgerEntry(
                topic="t", partition=0, first=first, last=last, lines=lines, counts=own, files=filed(own), lost=lost,
                redelivered=redelivered,
            )
        )  # fmt: skip
        first = last + 1
    return ledger


@settings(deadline=None, max_examples=80)
@given(entries(), st.sampled_from([None, *DAYS, "2022-10-09"]))
def test_the_sums_are_those_of_the_entries_of_all_days_or_of_one(ledger: list[LedgerEntry], day: str | None) -> None:
    summary = summarize(ledger, day)
    of_day = [count for entry in ledger for count in entry.counts if day in (None, count.day)]
    assert (summary.day, summary.lines) == (day, sum(count.lines for count in of_day))
    assert {fate: getattr(summary, fate) for fate in FATES} == {
        fate: sum(count.lines for count in of_day if count.fate == fate) for fate in FATES
    }
    by: Counter[tuple[str, str | None, str | None]] = Counter()
    for count in of_day:
        by[count.fate, count.kind, count.reason] += count.lines
    assert {(total.fate, total.kind, total.reason): total.lines for total in summary.by} == by
    assert len(summary.by) == len(by)
    assert summary.balanced is True
    gaps = {name: getattr(summary, name) for name in ("lost", "redelivered")}
    assert gaps == {name: UNSET if day else sum(getattr(entry, name) for entry in ledger) for name in gaps}


@settings(deadline=None, max_examples=40)
@given(entries())
def test_the_days_add_up_to_all_days(ledger: list[LedgerEntry]) -> None:
    parts, whole = [summarize(ledger, day) for day in DAYS], summarize(ledger)
    for name in ("lines", *FATES):
        assert sum(getattr(part, name) for part in parts) == getattr(whole, name)


@settings(deadline=None, max_examples=40)
@given(entries())
def test_totals_are_sorted_by_fate_and_then_by_number(ledger: list[LedgerEntry]) -> None:
    places = [(FATES.index(total.fate), -total.lines) for total in summarize(ledger).by]
    assert places == sorted(places)


GOOD = LedgerEntry(
    topic="t",
    partition=0,
    first=0,
    last=9,
    lines=10,
    counts=[
        FateCount("accepted", "watch", "2022-10-07", None, 5),
        FateCount("repaired", "rate", "2022-10-07", "one_character", 2),
        FateCount("quarantined", None, "2022-10-07", "time", 2),
        FateCount("duplicate", None, "2022-10-07", None, 1),
    ],
    files=[
        ArchiveFile("archive/watch/day=2022-10-07/x.parquet", 5),
        ArchiveFile("archive/rate/day=2022-10-07/x.parquet", 2),
        ArchiveFile("quarantine/day=2022-10-07/x.parquet", 2),
    ],
)


def with_count(at: int, lines: int) -> LedgerEntry:
    counts = list(GOOD.counts)
    counts[at] = msgspec.structs.replace(counts[at], lines=lines)
    return msgspec.structs.replace(GOOD, counts=counts)


def with_rows(at: int, rows: int) -> LedgerEntry:
    files = list(GOOD.files)
    files[at] = ArchiveFile(files[at].path, rows)
    return msgspec.structs.replace(GOOD, files=files)


DAMAGED: dict[str, Callable[[], LedgerEntry]] = {
    "a count is larger": lambda: with_count(0, 6),
    "a count is smaller": lambda: with_count(3, 0),
    "a count is missing": lambda: msgspec.structs.replace(GOOD, counts=GOOD.counts[1:]),
    "a file has more rows": lambda: with_rows(0, 6),
    "a file has fewer rows": lambda: with_rows(1, 1),
    "a file of the quarantine has fewer rows": lambda: with_rows(2, 1),
    "a file is missing": lambda: msgspec.structs.replace(GOOD, files=GOOD.files[1:]),
    "the quarantine is missing": lambda: msgspec.structs.replace(GOOD, files=GOOD.files[:2]),
    "more lines were read": lambda: msgspec.structs.replace(GOOD, lines=11),
    "events lie in the quarantine": lambda: msgspec.structs.replace(
        with_rows(0, 4), files=[*with_rows(0, 4).files[:2], ArchiveFile("quarantine/day=2022-10-07/x.parquet", 3)]
    ),
}


@pytest.mark.parametrize("damaged", DAMAGED.values(), ids=DAMAGED.keys())
@pytest.mark.parametrize("day", [None, "2022-10-07"])
def test_an_entry_that_does_not_add_up_is_reported(damaged: Callable[[], LedgerEntry], day: str | None) -> None:
    assert summarize([GOOD], day).balanced is True
    assert summarize([damaged()], day).balanced is False


def test_an_entry_that_does_not_add_up_is_reported_for_every_day() -> None:
    assert summarize([with_count(0, 6)], "2022-10-08").balanced is False


def test_without_entries_nothing_came_in_and_the_sum_holds() -> None:
    numbers: dict[str, object] = dict.fromkeys(["in", *FATES, "lost", "redelivered"], 0)
    assert msgspec.to_builtins(summarize([])) == numbers | {"day": None, "balanced": True, "by": []}


def test_the_json_has_the_documented_keys_in_order() -> None:
    keys = ["day", "in", "accepted", "repaired", "quarantined", "duplicate", "balanced", "by"]
    total = {"fate": "accepted", "kind": "watch", "reason": None, "lines": 5}
    of_all, of_day = summarize([GOOD], damaged=["a/b"]), summarize([GOOD], "2022-10-07")
    assert list(msgspec.to_builtins(of_all)) == [*keys, "lost", "redelivered", "damaged"]
    assert list(msgspec.to_builtins(of_day)) == keys
    assert list(msgspec.to_builtins(of_all)["by"][0].items()) == list(total.items())


def shown(summary: LedgerSummary) -> str:
    text = io.StringIO()
    Console(file=text, width=80).print(summary_table(summary))
    return text.getvalue()


def test_the_table_shows_every_number_with_its_share() -> None:
    text = shown(summarize([GOOD]))
    for row in (["accepted", "watch", "5", "50.0000%"], ["quarantined", "time", "2", "20.0000%"]):
        assert any(all(cell in line for cell in row) for line in text.splitlines())
    assert "all days: 10 lines in, balanced" in text
    assert "0 lost before they were read, 0 redelivered" in text


def test_the_table_of_a_day_names_it_and_omits_gaps() -> None:
    text = shown(summarize([GOOD], "2022-10-07"))
    assert "2022-10-07: 10 lines in, balanced" in text
    assert "lost" not in text


def test_the_table_says_so_where_the_sum_does_not_hold() -> None:
    assert "DOES NOT ADD UP" in shown(summarize([with_count(0, 6)]))


@settings(deadline=None, max_examples=30)
@given(entries(), st.sampled_from([None, *DAYS]))
def test_any_summary_can_be_shown(ledger: list[LedgerEntry], day: str | None) -> None:
    assert "lines in" in shown(summarize(ledger, day))


def test_a_count_of_no_lines_can_be_shown() -> None:
    nothing = msgspec.structs.replace(
        GOOD, lines=0, counts=[FateCount("accepted", "watch", DAYS[0], None, 0)], files=[]
    )
    assert "0 lines in" in shown(summarize([nothing]))
