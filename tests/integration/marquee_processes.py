"""Commands of Marquee as processes of a test."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Protocol

from loadtest.demo.processes import ROOT
from tests.polling import DEADLINE_S

SMALL = {
    "MARQUEE_LOADTEST_USERS": "400",
    "MARQUEE_LOADTEST_MOVIES": "250",
    "MARQUEE_LOADTEST_DEADLINE_MS": "60000",  # a busy machine must not lose a request
}
"""Settings of a demo in a small world."""


def processes_below(folder: Path) -> list[str]:
    """Command lines of processes that name a folder in their environment."""
    commands = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            environ, command = (path / "environ").read_bytes(), (path / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in environ:
            commands.append(command.decode("utf-8", "replace").replace("\0", " "))
    return commands


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
