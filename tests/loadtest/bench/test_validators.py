"""The contestants of `quality` give the same verdicts and records as Marquee."""

import importlib.util

import numpy as np
import pytest

from loadtest.bench.lines import validators
from loadtest.bench.lines.judging_speed import difficult_lines, verdicts
from loadtest.bench.lines.line_sources import CLOCK, SimulatedLines
from loadtest.errors import LoadtestError
from stream.grammar import parse, render
from tests.loadtest.sample_lines import LINES


def test_missing_contestants_are_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LoadtestError, match=r"pydantic and pandera: make bench") as raised:
        validators.contestants()
    assert "\n" not in str(raised.value)


def mixed_lines(source: SimulatedLines) -> list[bytes]:
    """Good lines, lines with a stray character, and bad ones."""
    sample = source.sample(2_000)
    return [*LINES.values(), *sample.lines[:600], *difficult_lines(sample, 1)]


@pytest.mark.parametrize("name", ["pydantic", "pandera", "cerberus", "cerberus_kept"])
def test_their_verdicts_equal_ours(source: SimulatedLines, name: str) -> None:
    if "cerberus" in name:
        other: validators.Contestant = validators.Cerberus(kept=name == "cerberus_kept")
    else:
        pytest.importorskip(name)
        other = validators.Pydantic() if name == "pydantic" else validators.Pandera()
    lines = mixed_lines(source)
    ours, theirs = verdicts(validators.Marquee(), lines), verdicts(other, lines)
    assert [lines[row] for row in np.flatnonzero(ours != theirs)] == []
    assert 0.3 < ours.mean() < 0.7


def test_a_record_holds_what_the_event_holds(source: SimulatedLines) -> None:
    pytest.importorskip("pydantic")
    lines = [*LINES.values(), *source.sample(300, rare=True).lines]
    for line, record in zip(lines, validators.Pydantic().work(lines), strict=True):
        fields, event = vars(record), parse(line, CLOCK)
        assert int(fields.pop("time").timestamp() * 1000) == event.time
        assert tuple(fields.pop("movies", ())) == event.movies
        assert {name: getattr(event, name) for name in fields} == fields


def test_the_sample_lines_are_what_the_service_writes() -> None:
    for name in ("watch", "rate", "account"):
        assert render(parse(LINES[name], CLOCK), CLOCK) == LINES[name]
