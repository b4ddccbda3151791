"""Does the ledger account for the whole input? Each line once, from the first offset to the last."""

from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise

from stream.ledger_entry import LedgerEntry, in_order


def first_gap(entries: Sequence[LedgerEntry], offsets: Mapping[str, Sequence[int]]) -> str:
    """What a ledger lacks of an input, in words; "" if nothing.

    `offsets` holds by topic and partition the first offset that the input was made of, and the last.
    """
    if unbalanced := [entry.name for entry in entries if not entry.balances()]:
        return f"the lines of {', '.join(unbalanced[:5])} do not add up"
    covered: dict[str, tuple[int, int]] = {}
    ordered = sorted(entries, key=in_order)
    for partition, group in groupby(ordered, key=lambda entry: f"{entry.topic}-{entry.partition}"):
        ranges = list(group)
        for before, after in pairwise(ranges):
            if after.first != before.last + 1:
                return f"{after.name} does not begin where {before.name} ends"
        covered[partition] = ranges[0].first, ranges[-1].last
    for partition, (first, last) in offsets.items():
        if partition not in covered or first < covered[partition][0] or last > covered[partition][1]:
            return f"the input was made of {partition} {first} to {last}, which the ledger does not hold"
    return ""
