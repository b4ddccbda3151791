"""Summary of the ledger for people: lines by day, fate, kind and reason.

The sum is proved twice: every entry's lines are the lines of its fates, and the rows of the files that the entries
name are the lines that were kept or set aside. `damaged_files` looks whether these files are there, with so many rows.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from rich.table import Table

from stream.archive import FATES, Archive, Fate, LedgerEntry

Summary = dict[str, Any]


def summarize(entries: Iterable[LedgerEntry], day: str | None = None) -> Summary:
    """What became of the lines of a day (of the event, or of Kafka's time where there is no event), or of all days."""
    entries = list(entries)
    counted: Counter[tuple[Fate, str | None, str | None]] = Counter()
    for count in (count for entry in entries for count in entry.counts if day in (None, count.day)):
        counted[count.fate, count.kind, count.reason] += count.lines
    by = sorted(counted.items(), key=lambda item: (FATES.index(item[0][0]), -item[1]))
    fates: Summary = {fate: sum(lines for (one, _, _), lines in by if one == fate) for fate in FATES}
    rows: Counter[bool] = Counter()
    for file in (file for entry in entries for file in entry.files if day in (None, file.day)):
        rows[file.room == "quarantine"] += file.rows
    filed = rows[False] == fates["accepted"] + fates["repaired"] and rows[True] == fates["quarantined"]
    found: Summary = {
        "day": day,
        "in": sum(fates.values()),
        **fates,
        "balanced": filed and all(entry.balances() for entry in entries),
        "by": [{"fate": fate, "kind": kind, "reason": reason, "lines": lines} for (fate, kind, reason), lines in by],
    }
    if day is None:
        found |= {name: sum(getattr(entry, name) for entry in entries) for name in ("lost", "redelivered")}
    return found


def damaged_files(archive: Archive, entries: Iterable[LedgerEntry], day: str | None = None) -> list[str]:
    """The files that are gone, or do not hold as many rows as their entry says."""
    files = (file for entry in entries for file in entry.files if day in (None, file.day))
    return [file.path for file in files if not archive.is_whole(file)]


def summary_table(found: Summary) -> Table:
    """A summary as a table."""
    state = "balanced" if found["balanced"] else "DOES NOT ADD UP"
    gaps = "{lost:,} lost before they were read, {redelivered:,} redelivered".format(**found) if "lost" in found else ""
    title = f"{found['day'] or 'all days'}: {found['in']:,} lines in, {state}"
    shown = Table(title=title, caption=gaps, title_justify="left", caption_justify="left")
    for name in ("fate", "kind", "reason"):
        shown.add_column(name)
    shown.add_column("lines", justify="right")
    shown.add_column("share", justify="right")
    for row in found["by"]:
        share = f"{row['lines'] / max(1, found['in']):.4%}"
        shown.add_row(row["fate"], row["kind"] or "", row["reason"] or "", f"{row['lines']:,}", share)
    return shown
