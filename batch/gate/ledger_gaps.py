"""Does the ledger account for the whole input? Each line once, from the first offset to the last."""

from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise

from stream.archive import LedgerEntry


def first_gap(entries: Sequence[LedgerEntry], offsets: Mapping[str, Sequence[int]]) -> str:
    """What a ledger lacks of an input, "" for nothing.

    `offsets` has by topic and partition the first offset that the input was made of, and the last.
    """
    if wrong := [entry.name for entry in entries if not entry.balances()]:
        return f"the lines of {', '.join(wrong[:5])} do not add up"
    held: dict[str, tuple[int, int]] = {}
    ordered = sorted(entries, key=lambda entry: (entry.topic, entry.partition, entry.first))
    for name, of in groupby(ordered, key=lambda entry: f"{entry.topic}-{entry.partition}"):
        ranges = list(of)
        for one, two in pairwise(ranges):
            if two.first != one.last + 1:
                return f"{two.name} does not begin where {one.name} ends"
        held[name] = ranges[0].first, ranges[-1].last
    for name, (first, last) in offsets.items():
        if name not in held or first < held[name][0] or last > held[name][1]:
            return f"the input was made of {name} {first} to {last}, which the ledger does not hold"
    return ""
