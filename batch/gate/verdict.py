"""The gate's verdict on a candidate."""

import msgspec


class Wrong(str):
    """The result of a rule that the candidate breaks: the reason."""


class RuleResult(msgspec.Struct, frozen=True):
    """The verdict of one rule."""

    passed: bool
    text: str = ""
    """Why it was broken; of one that was passed, a remark such as "too little data to tell", or nothing."""

    @property
    def line(self) -> str:
        """`passed` or `broken`, and the text."""
        verdict = "passed" if self.passed else "broken"
        return f"{verdict}: {self.text}" if self.text else verdict


class GateVerdict(msgspec.Struct, frozen=True):
    """The verdicts of the rules, in order. If the files do not verify, `files_verify` is the only one."""

    release: str
    """The id of the candidate."""
    results: dict[str, RuleResult]
    """By name of the rule."""

    @property
    def broken(self) -> dict[str, str]:
        """Why each broken rule was broken; {} for a candidate that may become current."""
        return {rule: result.text for rule, result in self.results.items() if not result.passed}

    @property
    def reasons(self) -> str:
        """All broken rules, in one line."""
        return "; ".join(f"{rule}: {reason}" for rule, reason in self.broken.items())

    def summary(self) -> dict[str, str]:
        """For the summary of the night. By rule: `passed`, `passed: <remark>` or `broken: <reason>`."""
        return {rule: result.line for rule, result in self.results.items()}
