"""The benchmarks: what they measure with, how they judge what came out, and what they print. No times are asserted."""

import importlib.util
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from click.testing import CliRunner

from loadtest.bench import commands, cpu_clock
from loadtest.bench.lines import collector_speed, damage, lines_benchmark, repair_accuracy, validators
from loadtest.bench.lines.judged_lines import KAFKA_TIME, JudgedLine, context_of, events, judged, places
from loadtest.bench.lines.line_sources import CLOCK, LineSample, RecordedLines, SimulatedLines
from loadtest.bench.result import BenchmarkResult, Target
from loadtest.demo.processes import ROOT
from loadtest.errors import LoadtestError
from stream.event import Event
from stream.grammar import parse, render
from tests.loadtest.sample_lines import LINES

TINY = lines_benchmark.LinesSize(
    judged=2_000,
    compared={"schema_only": 2_000, "pydantic": 500, "pandera": 500, "cerberus": 20, "cerberus_kept": 20},
    repaired=1_000,
    collected=3_000,
    collects=1,
    bad=1_000,
    rounds=1,
)


def told(outcome: BenchmarkResult) -> Any:
    return orjson.loads(orjson.dumps(outcome.as_object()))


# Outcomes


@pytest.mark.parametrize(
    ("figure", "target", "met"),
    [
        (400_000, (">=", 400_000), True),
        (399_999, (">=", 400_000), False),
        (2.0, ("<=", 2.0), True),
        (2.01, ("<=", 2.0), False),
        (True, ("==", True), True),
        (False, ("==", True), False),
        (None, (">=", 0.995), False),
        (float("nan"), (">=", 0.0), False),
    ],
)
def test_a_target_is_met_or_not(figure: object, target: Target, met: bool) -> None:
    outcome = BenchmarkResult("x", {"one": figure, "other": 1}, {"one": target})
    assert outcome.met is met
    assert ("MISSED" in outcome.as_table()) is not met


def test_the_object_says_what_was_measured_and_nothing_of_paths() -> None:
    outcome = BenchmarkResult("x", {"a": 1.5, "b": {"c": {"d": None}}}, {"a": (">=", 1), "left_out": ("<=", 3)})
    found = told(outcome)
    assert list(found) == ["bench", "figures", "targets", "met", "machine", "commit"]
    assert found["figures"] == outcome.figures
    assert found["targets"] == {"a": [">=", 1]}
    assert found["met"] is True
    assert set(found["machine"]) == {"cpu", "cores", "python"}
    text = orjson.dumps(found).decode()
    assert str(ROOT) not in text
    assert "d none" in outcome.as_table()


# The clock


def test_contestants_take_turns() -> None:
    turns: list[str] = []
    work: dict[str, Callable[[], object]] = {name: lambda name=name: turns.append(name) for name in "ab"}  # type: ignore[misc]
    assert set(cpu_clock.medians(work, 3)) == {"a", "b"}
    assert turns == ["a", "b"] * 3


def test_one_core_is_taken_and_given_back() -> None:
    before = os.sched_getaffinity(0), pa.cpu_count()
    with cpu_clock.one_core():
        assert len(os.sched_getaffinity(0)) == pa.cpu_count() == 1
    assert (os.sched_getaffinity(0), pa.cpu_count()) == before


# Repair

MEANT = Event("watch", 1_000_000, 5, "alien+1979", minute=7)


@pytest.mark.parametrize(
    ("taken", "what"),
    [
        (None, "set_aside"),
        (JudgedLine(MEANT, None), "unchanged"),
        (JudgedLine(replace(MEANT, user=55), None), "unseen"),
        (JudgedLine(MEANT, "one_character"), "right"),
        (JudgedLine(replace(MEANT, user=55), "one_character"), "wrong"),
        (JudgedLine(replace(MEANT, time=1_000_001), "one_character"), "wrong"),
        (JudgedLine(replace(MEANT, time=1_000_700), KAFKA_TIME), "right"),
        (JudgedLine(replace(MEANT, time=1_000_701), KAFKA_TIME), "wrong"),
        (JudgedLine(replace(MEANT, time=999_999), KAFKA_TIME), "wrong"),
        (JudgedLine(replace(MEANT, time=1_000_700, minute=8), KAFKA_TIME), "wrong"),
    ],
)
def test_what_came_out_of_a_damaged_line(taken: JudgedLine | None, what: str) -> None:
    assert repair_accuracy.outcome(MEANT, taken, 1_000_700) == what
    assert what in repair_accuracy.OUTCOMES


def test_precision_and_recall() -> None:
    counts = Counter(right=6, wrong=2, set_aside=3, unseen=1, unchanged=4)
    assert repair_accuracy.precision(counts) == 6 / 8
    assert repair_accuracy.recall(counts) == 6 / 12
    assert repair_accuracy.precision(Counter(unchanged=3)) is None
    assert repair_accuracy.recall(Counter(unchanged=3)) is None


def test_every_damaged_line_is_counted_once(source: SimulatedLines) -> None:
    found = repair_accuracy.measure(source, 1_000)
    assert sum(found[f"repair_{name}"] for name in repair_accuracy.OUTCOMES) == 1_000
    by_field = found["repair_by_field"]
    assert sum(counts[name] for counts in by_field.values() for name in repair_accuracy.OUTCOMES) == 1_000
    assert {"time", "user", "movie", "minute", "rest"} <= set(by_field) <= set(damage.FIELDS)
    assert {"rating", "host", "status", "movies"} <= set(found["repair_rare_by_field"])
    assert found["repair_precision"] >= 0.99
    assert 0.5 < found["repair_recall"] <= 1


def test_recorded_lines_that_are_no_good_are_not_damaged_further(recorded: RecordedLines) -> None:
    found = repair_accuracy.outcomes(recorded, 9, rare=False)
    # "no line" is none; the movie of the rating is not in the catalogue
    assert sum(map(Counter.total, found.values())) == 3


# Contestants


def test_without_them_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LoadtestError, match=r"pydantic and pandera .* make bench") as raised:
        validators.contestants()
    assert "\n" not in str(raised.value)


def difficult(source: SimulatedLines) -> list[bytes]:
    """Good lines, lines with a stray character, and bad ones."""
    sample = source.sample(2_000)
    return [*LINES.values(), *sample.lines[:600], *lines_benchmark._difficult(sample, 1)]


@pytest.mark.parametrize("name", ["pydantic", "pandera", "cerberus", "cerberus_kept"])
def test_their_verdicts_are_ours(source: SimulatedLines, name: str) -> None:
    if "cerberus" in name:
        other: validators.Contestant = validators.Cerberus(kept=name == "cerberus_kept")
    else:
        pytest.importorskip(name)
        other = validators.Pydantic() if name == "pydantic" else validators.Pandera()
    lines = difficult(source)
    ours = lines_benchmark._verdicts(validators.Marquee(), lines)
    theirs = lines_benchmark._verdicts(other, lines)
    assert [lines[at] for at in np.flatnonzero(ours != theirs)] == []
    assert 0.3 < ours.mean() < 0.7


def test_a_record_says_what_the_event_says(source: SimulatedLines) -> None:
    pytest.importorskip("pydantic")
    lines = [*LINES.values(), *source.sample(300, rare=True).lines]
    for line, record in zip(lines, validators.Pydantic().work(lines), strict=True):
        found = vars(record)
        event = parse(line, CLOCK)
        assert int(found.pop("time").timestamp() * 1000) == event.time
        assert tuple(found.pop("movies", ())) == event.movies
        assert {name: getattr(event, name) for name in found} == found


def test_the_speeds_are_compared(source: SimulatedLines) -> None:
    pytest.importorskip("pydantic")
    pytest.importorskip("pandera")
    outcome = lines_benchmark.run(source, TINY, 1, ("speed",))
    figures = outcome.figures
    assert figures["verdicts_equal"] is True
    assert figures["verdicts_compared"] == 2 * (500 + 500 + 20 + 20)
    assert all(figures[f"{name}_lines_per_s"] > 0 for name in [*TINY.compared, "split", "split_commas"])
    assert set(outcome.measured) == {name for name in lines_benchmark.TARGETS if name in figures}


# The benchmark, and how it is called


def test_bad_lines_have_one_fate_each(source: SimulatedLines) -> None:
    figures = lines_benchmark.run(source, TINY, 7, ("bad_lines",)).figures
    assert figures["bad_lines_accounted"] is True
    assert sum(figures["bad_lines_fates"].values()) == figures["bad_lines"] == 1_000
    assert figures["bad_lines_seed"] == 7


def test_a_line_without_a_fate_is_noticed(source: SimulatedLines, monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(fates: Any) -> dict[str, np.ndarray]:
        found = places(fates)
        return {**found, "quarantined": found["quarantined"][1:]}

    monkeypatch.setattr(lines_benchmark, "places", forgetful)
    assert not lines_benchmark.run(source, TINY, 7, ("bad_lines",)).met


def test_lines_are_collected_end_to_end(
    source: SimulatedLines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector_speed, "_WORK", tmp_path)
    figures = lines_benchmark.run(source, TINY, 1, ("collect",)).figures
    assert figures["collect_lines_per_s"] > 0
    assert list(tmp_path.iterdir()) == []


def test_a_collector_that_fails_is_told(
    source: SimulatedLines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector_speed, "_WORK", tmp_path)
    monkeypatch.setattr(collector_speed, "_EMPTY", "not-there")
    monkeypatch.setattr(collector_speed, "_write", no_topics)
    with pytest.raises(LoadtestError, match=r"collect ended with code 1: .*not-there"):
        collector_speed.measure(source.sample(10), source.runtimes, 1)


async def no_topics(sample: LineSample, bootstrap: str) -> None:
    """Write nothing."""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """A small world behind the command."""
    monkeypatch.setattr(commands, "_USERS", 20_000)
    monkeypatch.setattr(commands, "_MOVIES", 500)
    monkeypatch.setattr(lines_benchmark, "QUICK", TINY)
    return CliRunner()


def test_the_object_is_the_last_line(small: CliRunner) -> None:
    result = small.invoke(commands.bench, ["quality", "--quick", "--part", "repair"])
    assert result.exit_code == 0
    found = orjson.loads(result.stdout.splitlines()[-1])
    assert (found["bench"], found["met"]) == ("quality", True)
    assert found["targets"] == {"repair_precision": [">=", 0.995]}
    assert "repair_precision" in result.stderr


def test_an_outcome_is_kept_and_a_missed_target_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands.tell(BenchmarkResult("x", {"a": 1}, {"a": (">=", 2)}), tmp_path / "bench")
    assert orjson.loads((tmp_path / "bench" / "x.json").read_bytes())["met"] is False
    assert "targets MISSED" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--part", "sped"], ["--movies", __file__], ["--part", "repair", "--keep", "somewhere"]]
)
def test_a_wrong_call_is_refused(arguments: list[str]) -> None:
    assert CliRunner().invoke(commands.bench, ["quality", *arguments]).exit_code == 2


def test_recorded_lines_can_be_measured(small: CliRunner, source: SimulatedLines, tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(b"\n".join(source.sample(500).lines))
    table = "".join(f"{name},{minutes}\n" for name, minutes in source.runtimes.items())
    (tmp_path / "movies.csv").write_text("id,runtime\n" + table)
    call = ["quality", "--quick", "--part", "repair", "--lines", str(tmp_path / "lines")]
    result = small.invoke(commands.bench, [*call, "--movies", str(tmp_path / "movies.csv")])
    assert result.exit_code == 0
    assert orjson.loads(result.stdout)["figures"]["repair_right"] > 500


def test_fuzz_is_a_process_that_names_its_seed() -> None:
    command = [sys.executable, "-m", "loadtest", "bench", "fuzz", "--count", "300", "--seed", "5"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = orjson.loads(done.stdout.splitlines()[-1])
    assert (found["bench"], found["met"], found["figures"]["bad_lines_seed"]) == ("fuzz", True, 5)
    assert "seed 5" in done.stderr


def test_what_the_tests_take_for_good_lines_is_what_the_service_writes() -> None:
    for name in ("watch", "rate", "account"):
        assert render(parse(LINES[name], CLOCK), CLOCK) == LINES[name]


def test_all_events_of_a_batch_are_found(source: SimulatedLines) -> None:
    values = pa.array([LINES["watch"], b"junk", LINES["rate"]], pa.binary())
    found = events(judged(values, np.full(3, parse(LINES["watch"], CLOCK).time), context_of({})))
    assert sorted(found) == [0, 2]
    assert found[0] == JudgedLine(parse(LINES["watch"], CLOCK), None)
