"""Steps run alone: each needs those before it, and an error is one line."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from batch.errors import GateRefusal, NotEnoughData
from batch.nights.journal import Journal
from batch.nights.runner import STEPS, run_night, run_step
from batch.nights.step_results import StepName
from batch.releases import publish
from quality.settings import QualitySettings
from stream.settings import StreamSettings
from tests.batch.nights.small_nights import SETTINGS

pytestmark = pytest.mark.filterwarnings("ignore:OpenBLAS is configured:RuntimeWarning")
ROOT = Path(__file__).parents[3]


def run_alone(var: Path, *names: StepName) -> None:
    settings = msgspec.structs.replace(SETTINGS, model="popular")
    for name in names:
        run_step(name, StreamSettings(var=var, generation="2026"), QualitySettings(), settings)


@pytest.mark.parametrize(
    ("before", "step", "missing"),
    [
        ((), "catalog", "sessions"),
        ((), "publish", "sessions"),
        (("sessions",), "history", "catalog"),
        (("sessions", "catalog", "history"), "train", "evaluate"),
        (("sessions", "catalog", "history", "evaluate"), "publish", "train"),
        (("sessions", "catalog", "history", "evaluate", "train", "history"), "train", "evaluate"),
        (("sessions", "catalog", "history", "evaluate", "train", "sessions"), "publish", "catalog"),
    ],
)
def test_a_single_step_needs_the_results_of_the_steps_before_it(
    var: Path, before: tuple[StepName, ...], step: StepName, missing: str
) -> None:
    run_alone(var, *before)
    with pytest.raises(NotEnoughData, match=f"{step}: {missing} has to be done before it.*-m batch {missing}"):
        run_alone(var, step)
    assert publish.current_release(var) is None


def test_running_each_step_alone_makes_a_release(var: Path) -> None:
    run_alone(var, *STEPS)
    assert publish.current_release(var) is not None


def test_a_refused_night_ends_with_an_alert_and_leaves_current(var: Path) -> None:
    arguments = StreamSettings(var=var, generation="2026"), QualitySettings()
    settings = msgspec.structs.replace(SETTINGS, model="popular")
    first = run_night(*arguments, settings, despite_alerts=False)
    ledger = next((var / "archive" / "ledger").glob("*.json"))
    ledger.write_bytes(ledger.read_bytes().replace(b'"lines": ', b'"lines": 1'))  # the sum is wrong now
    with pytest.raises(GateRefusal, match="ledger_balances"):
        run_night(*arguments, settings, despite_alerts=False)
    current = publish.current_release(var)
    assert current is not None
    assert current.name == first.release
    assert len(publish.refused_releases(var)) == 1
    assert "night_refused" in (var / "alerts.jsonl").read_text()
    assert Journal(var / "night").night is None  # the next one begins anew


COMMAND_ERRORS = [
    (["evaluate"], 1),
    (["publish"], 1),
    (["history"], 1),
    (["schedule", "--at", "25:99"], 2),
    (["nightly", "--seed", "-5"], 2),
]


@pytest.mark.parametrize(("arguments", "code"), COMMAND_ERRORS)
def test_an_error_of_a_command_is_one_line(tmp_path: Path, arguments: list[str], code: int) -> None:
    environ = {**os.environ, "MARQUEE_STREAM_VAR": str(tmp_path / "var")}
    command = [sys.executable, "-m", "batch", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=600, check=False)
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].lower().startswith("error: ")
    assert (done.returncode, done.stdout) == (code, "")
