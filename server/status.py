"""The status of the release in a worker: the release in use, its faults, the hidden movies."""

import msgspec

EXAMPLES = 10
"""Entries of `hidden.txt` without a movie that a status shows at most."""
_LONGEST = 80
"""Characters of an entry that are shown."""
LATE_LOOK_S = 10.0
"""From this age on a status mentions the last check of `current` and `hidden.txt`, seconds."""


class ReleaseStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the release in a worker."""

    release: str | None
    """The release in use; None before the first."""
    ready: bool
    """Whether `/recommend` is answered."""
    refused: str | None
    """Why the release that `current` points at is not in use; None if it is."""
    fallback: bool
    """Whether the last good release answers in place of `current`."""
    damaged: str | None
    """What is wrong with the release in use, if it is damaged; everyone then gets its popular list."""
    damaged_answers: int
    """Answers that could not be found in a damaged release, since the worker began."""
    hidden_count: int
    """Movies of the release that are hidden."""
    hidden_unmatched: list[str]
    """Some of the entries of `hidden.txt` that are no movie of the release."""
    hidden_unmatched_count: int
    """How many there are."""
    hidden_known: bool
    """False if `hidden.txt` cannot be read and no earlier list is known; nothing is answered then."""
    hidden_fault: str | None
    """Why `hidden.txt` cannot be read; None if it can."""
    last_look_age_s: float
    """Since `current` and `hidden.txt` were checked last, seconds."""

    def why_not(self) -> str:
        """Why no list is answered, without paths: clients of the public port may read it."""
        if self.release is None:
            return "no release yet"
        return "every movie is hidden" if self.hidden_known else "hidden.txt cannot be read"

    def detail(self) -> str:
        """One line: the release in use, and all faults."""
        parts = [f"{self.release} answers" if self.ready else self.why_not()]
        if self.release is None and self.refused:
            parts.append(self.refused)
        if self.hidden_fault and not self.hidden_known:
            parts.append(self.hidden_fault)
        if self.fallback:
            parts.append(f"it is the last good one, current was refused: {self.refused}")
        elif self.ready and self.refused:
            parts.append(f"a newer one was refused: {self.refused}")
        if self.damaged:
            parts.append(f"its files are damaged, everyone is answered the popular list: {self.damaged}")
        if self.hidden_fault and self.hidden_known:
            parts.append(f"the last list of hidden movies is used: {self.hidden_fault}")
        if self.hidden_unmatched_count:
            parts.append(f"{self.hidden_unmatched_count} lines of hidden.txt name no movie: {self.examples()}")
        if self.last_look_age_s > LATE_LOOK_S:
            parts.append(f"current was looked at {self.last_look_age_s:.0f} s ago")
        return "; ".join(parts)

    def examples(self) -> str:
        """Some entries of `hidden.txt` that hide nothing."""
        shown = ", ".join(self.hidden_unmatched)
        return shown if len(self.hidden_unmatched) == self.hidden_unmatched_count else f"{shown}, …"


def examples_of(unmatched: frozenset[str]) -> list[str]:
    """The first few entries, cut to a length that can be shown."""
    return [line[:_LONGEST] for line in sorted(unmatched)[:EXAMPLES]]
