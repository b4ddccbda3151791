"""Nights as processes, killed at any moment: finished steps are not repeated, half ones are never seen."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from batch.nights.journal import Journal
from batch.nights.runner import STEPS
from batch.nights.step_results import RESULT_TYPES, SessionsResult, StepName, StepResult
from batch.releases import publish
from server.release import Release
from tests.batch.nights.small_nights import digests
from tests.polling import DEADLINE_S

StepResults = dict[StepName, StepResult]
ROOT = Path(__file__).parents[3]
SMALL = {
    "MARQUEE_STREAM_GENERATION": "2026",
    "MARQUEE_BATCH_API": "http://127.0.0.1:1",
    "MARQUEE_BATCH_API_RETRIES": "0",
    "MARQUEE_BATCH_FACTORS": "8",
    "MARQUEE_BATCH_ITERATIONS": "4",
    "MARQUEE_BATCH_TREES": "5",
}


DYING = """
import sys
from pathlib import Path
from batch.nights.journal import Journal
from batch.nights.runner import STEPS
from tests import killed_when
night, count = Path(sys.argv[1], "night"), int(sys.argv[2])
killed_when.run(lambda: len(Journal(night).done(list(STEPS))) >= count, "batch", "nightly")
"""


def begun(var: Path, *how: str, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *(how or ("-m", "batch", "nightly"))],
        cwd=ROOT,
        env={**os.environ, **SMALL, "MARQUEE_STREAM_VAR": str(var), **environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(var: Path, **environ: str) -> StepResults:
    out, err = begun(var, **environ).communicate(timeout=DEADLINE_S)
    assert out, err
    steps = msgspec.json.decode(out)["steps"]
    return {name: msgspec.convert(result, RESULT_TYPES[name]) for name, result in steps.items()}


def read_days(results: StepResults) -> int:
    sessions = results["sessions"]
    assert isinstance(sessions, SessionsResult)
    return sessions.days


def killed(var: Path, steps: int) -> None:
    """A night that is killed as soon as so many steps are done."""
    process = begun(var, "-c", DYING, str(var), str(steps))
    output = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == -signal.SIGKILL, output


def by_earlier(results: StepResults) -> list[str]:
    return [name for name, result in results.items() if result.by is not None]


def test_a_night_killed_between_steps_repeats_none_and_ends_the_same(var: Path, tmp_path: Path) -> None:
    shutil.copytree(var, tmp_path / "whole")
    whole = finished(tmp_path / "whole")
    assert by_earlier(whole) == []
    for count in (2, 5):
        killed(var, count)
        assert publish.current_release(var) is None
        if (var / "releases").exists():
            for folder in (var / "releases").glob("2*"):
                assert Release.open(folder).id == folder.name  # whole, if it is there
    (var / "night" / ".history.parquet.1.tmp").write_bytes(b"half")
    ids = {entry.step: entry.id for entry in Journal(var / "night").done(list(STEPS))}
    results = finished(var)
    assert by_earlier(results) == list(ids)
    assert len(ids) >= 5
    kept = {entry.step: entry.id for entry in Journal(var / "night").done(list(STEPS))}
    assert {name: kept[name] for name in ids} == ids
    current = publish.current_release(var)
    assert current is not None
    assert digests(current) == digests(tmp_path / "whole" / "releases" / "current")
    assert len(publish.read_publications(var)) == 1
    assert len(list((var / "releases").glob("2*"))) == 1
    assert not list((var / "night").rglob(".*.tmp"))


def test_an_interrupted_night_starts_over_when_the_settings_changed(var: Path) -> None:
    killed(var, 3)
    assert by_earlier(finished(var, MARQUEE_BATCH_SEED="2")) == []


def test_a_finished_night_is_not_resumed(var: Path) -> None:
    first = finished(var)
    second = finished(var)
    assert by_earlier(second) == []
    assert read_days(second) == 0  # and yet nothing is read twice
    assert read_days(first) == 6
