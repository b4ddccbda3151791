"""Summary of the ledger: lines by day, fate, kind and reason.

Two checks prove that nothing was lost: the fates of each entry add up to its lines, and the files that the entries name
have as many rows as lines were kept or quarantined. `damaged_files` checks the files themselves, but for those that
retention has dropped (`dropped_days`).
"""

from collections import Counter
from collections.abc import Iterable

import msgspec
from msgspec import UNSET, UnsetType, field
from rich.table import Table

from stream.archive import Archive
from stream.dropped_days import Share, describe_drop
from stream.event import Kind
from stream.ledger_entry import FATES, Fate, LedgerEntry


class FateTotal(msgspec.Struct, frozen=True, kw_only=True):
    """The lines of one fate, kind and reason, over all entries and days of a summary."""

    fate: Fate
    kind: Kind | None
    """None for lines that became no event."""
    reason: str | None
    lines: int


class LedgerSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The output of `python -m quality ledger --json`."""

    day: str | None
    """The requested day; None for all days."""
    lines: int = field(name="in")
    """All lines: the sum of the four fates."""
    accepted: int
    repaired: int
    quarantined: int
    duplicate: int
    balanced: bool
    """Whether every line has one fate, and the files have as many rows as lines were kept or quarantined."""
    by: list[FateTotal]
    """By fate in the order of `FATES`, the largest number first."""
    lost: int | UnsetType = UNSET
    """Offsets that Kafka dropped before they were read; like the next field, only in the summary of all days."""
    redelivered: int | UnsetType = UNSET
    """Records that Kafka delivered again after they were archived."""
    damaged: list[str] | UnsetType = UNSET
    """Paths below `var` of files that are missing or damaged; unset if they were not checked."""
    dropped: list[str] | UnsetType = UNSET
    """What retention has dropped, in words; unset if nothing."""


def summarize(
    entries: Iterable[LedgerEntry],
    day: str | None = None,
    damaged: list[str] | UnsetType = UNSET,
    dropped: list[str] | UnsetType = UNSET,
) -> LedgerSummary:
    """Sum up the lines of a day (of the event, or of Kafka's time if there is no event), or of all days."""
    entries = list(entries)
    counted: Counter[tuple[Fate, Kind | None, str | None]] = Counter()
    for count in (count for entry in entries for count in entry.counts if day in (None, count.day)):
        counted[count.fate, count.kind, count.reason] += count.lines
    by = sorted(counted.items(), key=lambda item: (FATES.index(item[0][0]), -item[1]))
    fates = {name: sum(lines for (fate, _, _), lines in by if fate == name) for name in FATES}
    rows: Counter[bool] = Counter()
    for room, of_day, number in (each for entry in entries for each in entry.rows_by_file_day()):
        if day in (None, of_day):
            rows[room == "quarantine"] += number
    filed = rows[False] == fates["accepted"] + fates["repaired"] and rows[True] == fates["quarantined"]
    return LedgerSummary(
        day=day,
        lines=sum(fates.values()),
        accepted=fates["accepted"],
        repaired=fates["repaired"],
        quarantined=fates["quarantined"],
        duplicate=fates["duplicate"],
        balanced=filed and all(entry.balances() for entry in entries),
        by=[FateTotal(fate=fate, kind=kind, reason=reason, lines=lines) for (fate, kind, reason), lines in by],
        lost=UNSET if day is not None else sum(entry.lost for entry in entries),
        redelivered=UNSET if day is not None else sum(entry.redelivered for entry in entries),
        damaged=damaged,
        dropped=dropped or UNSET,
    )


def damaged_files(archive: Archive, entries: Iterable[LedgerEntry], day: str | None = None) -> list[str]:
    """Paths below `var` of files that are missing, or do not have as many rows as their entry says."""
    of_day = (entry for entry in entries if any(day in (None, other) for _, other, _ in entry.rows_by_file_day()))
    files = (file for entry in archive.expand(of_day) for file in entry.files if day in (None, file.day))
    return [file.path for file in files if archive.is_kept(file) and not archive.is_whole(file)]


def dropped_days(archive: Archive, day: str | None = None) -> list[str]:
    """What retention has dropped of a day, or of all days, in words."""
    shares: tuple[Share, ...] = ("events", "quarantine")
    return [
        f"{share} of {describe_drop(name, dropped)}"
        for share in shares
        for name, dropped in archive.dropped.of(share).items()
        if day in (None, name)
    ]


def summary_table(summary: LedgerSummary) -> Table:
    """A summary as a table for the terminal."""
    state = "balanced" if summary.balanced else "DOES NOT ADD UP"
    gaps = ""
    if summary.lost is not UNSET and summary.redelivered is not UNSET:
        gaps = f"{summary.lost:,} lost before they were read, {summary.redelivered:,} redelivered"
    title = f"{summary.day or 'all days'}: {summary.lines:,} lines in, {state}"
    table = Table(title=title, caption=gaps, title_justify="left", caption_justify="left")
    for name in ("fate", "kind", "reason"):
        table.add_column(name)
    table.add_column("lines", justify="right")
    table.add_column("share", justify="right")
    for total in summary.by:
        share = f"{total.lines / max(1, summary.lines):.4%}"
        table.add_row(total.fate, total.kind or "", total.reason or "", f"{total.lines:,}", share)
    return table
