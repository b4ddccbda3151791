"""The status of a worker: which release answers, what is wrong, what is hidden."""

import msgspec

EXAMPLES = 10
"""Lines of `hidden.txt` that are told where they hide nothing."""
_LONGEST = 80
LATE_LOOK_S = 10.0
"""A look at `current` and `hidden.txt` that is older than this is told."""


class ReleaseStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The facts about a worker's release."""

    release: str | None
    """The release in use; None before the first."""
    ready: bool
    """Whether `/recommend` is answered."""
    refused: str | None
    """Why what `current` points at is not in use; None where it is."""
    fallback: bool
    """Whether the last good release answers in place of what `current` points at."""
    damaged: str | None
    """What is wrong with the release in use; everyone is answered its popular list."""
    damaged_answers: int
    """Answers that could not be found in a release, since the worker began."""
    hidden_count: int
    """Movies of the release that are hidden."""
    hidden_unmatched: list[str]
    """Some of the lines of `hidden.txt` that name no movie of the release."""
    hidden_unmatched_count: int
    """How many there are."""
    hidden_known: bool
    """False where `hidden.txt` cannot be read and no earlier list is known; nothing is answered then."""
    hidden_fault: str | None
    """Why `hidden.txt` cannot be read."""
    last_look_age_s: float
    """Since `current` and `hidden.txt` were looked at last, seconds."""

    def why_not(self) -> str:
        """Why nothing is answered, in words that the public may read: no paths."""
        if self.release is None:
            return "no release yet"
        return "every movie is hidden" if self.hidden_known else "hidden.txt cannot be read"

    def detail(self) -> str:
        """One line: what answers, and all that is not as it should be."""
        told = [f"{self.release} answers" if self.ready else self.why_not()]
        if self.release is None and self.refused:
            told.append(self.refused)
        if self.hidden_fault and not self.hidden_known:
            told.append(self.hidden_fault)
        if self.fallback:
            told.append(f"it is the last good one, current was refused: {self.refused}")
        elif self.ready and self.refused:
            told.append(f"a newer one was refused: {self.refused}")
        if self.damaged:
            told.append(f"its files are damaged, everyone is answered the popular list: {self.damaged}")
        if self.hidden_fault and self.hidden_known:
            told.append(f"the last list of hidden movies is used: {self.hidden_fault}")
        if self.hidden_unmatched_count:
            told.append(f"{self.hidden_unmatched_count} lines of hidden.txt name no movie: {self.examples()}")
        if self.last_look_age_s > LATE_LOOK_S:
            told.append(f"current was looked at {self.last_look_age_s:.0f} s ago")
        return "; ".join(told)

    def examples(self) -> str:
        """Some lines of `hidden.txt` that hide nothing."""
        shown = ", ".join(self.hidden_unmatched)
        return shown if len(self.hidden_unmatched) == self.hidden_unmatched_count else f"{shown}, …"


def examples_of(unmatched: frozenset[str]) -> list[str]:
    """The first few, cut to a length that can be told."""
    return [line[:_LONGEST] for line in sorted(unmatched)[:EXAMPLES]]
