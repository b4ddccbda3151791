"""Commands of Marquee as processes of a test."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Protocol

from loadtest.demo.processes import ROOT
from tests.polling import DEADLINE_S


class Command:
    """`python -m …` as a process; its output goes into a log."""

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
