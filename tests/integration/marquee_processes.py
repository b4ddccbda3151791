"""Marquee's own commands as processes of a test."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from loadtest.demo.processes import ROOT

Until = Callable[[Callable[[], object]], None]
"""Poll until something holds; fails where it does not come."""
DEADLINE_S = 600.0
"""How long anything may take before a test gives it up; far more than it ever takes."""


class Command:
    """`python -m …` as a process; what it prints is kept."""

    def __init__(self, environ: dict[str, str], log: Path, *arguments: str) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=ROOT,
                env={**os.environ, **environ},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def text(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def ends(self) -> int:
        return self.process.wait(DEADLINE_S)


class Start(Protocol):
    """Start `python -m …` with settings in the environment."""

    def __call__(self, environ: dict[str, str], *arguments: str) -> Command: ...
