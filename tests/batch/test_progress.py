"""Progress: bars at a terminal, lines in the log elsewhere; a step that fails is not told as done."""

import logging
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from batch.progress import step


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A pseudo terminal in place of stderr; gives the end that reads what is shown."""
    reader, writer = os.openpty()
    with os.fdopen(writer, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        monkeypatch.setenv("TERM", "xterm")
        yield reader
        monkeypatch.undo()
    os.close(reader)


def test_without_a_terminal_a_step_is_two_lines_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), step("sessions", 3) as advance:
        advance(2)
    assert [record.getMessage()[:9] for record in caplog.records] == ["sessions ", "sessions:"]


@pytest.mark.parametrize("total", [3, None])
def test_at_a_terminal_a_step_is_a_bar(monkeypatch: pytest.MonkeyPatch, total: int | None) -> None:
    with terminal(monkeypatch) as reader:
        with step("sessions", total) as advance:
            advance(2)
        shown = b""
        while b"100%" not in shown:  # it comes in pieces
            assert select.select([reader], [], [], 10)[0], shown
            shown += os.read(reader, 100_000)
    assert b"sessions" in shown


def test_a_step_that_fails_is_not_told_as_done(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), pytest.raises(ZeroDivisionError), step("sessions"):
        _ = 1 / 0
    assert len(caplog.records) == 1
