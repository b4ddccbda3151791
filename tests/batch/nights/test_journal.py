"""The journal: a step counts as done only while all before it stand as they stood when it was done."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from batch.nights.journal import Journal, NightStart, forget_peak
from batch.nights.step_results import CatalogResult, HistoryResult, SessionsResult, StepName, StepResult

STEPS: list[StepName] = ["sessions", "catalog", "history"]
RESULT = CatalogResult(movies={"known": 3}, users={})
RESULTS: dict[StepName, StepResult] = {
    "sessions": SessionsResult(days=0, all_days=3),
    "catalog": RESULT,
    "history": HistoryResult(sessions=9, users=2, movies=3, ratings=1, unknown_movie=0),
}
NIGHT = NightStart(began="20300101T000000Z", stream_time=5, settings="x")


def run(folder: Path, *names: StepName) -> None:
    for name in names:
        journal = Journal(folder)
        before = journal.done(STEPS[: STEPS.index(name)])
        journal.undo(name)
        journal.note(name, before, 1.5, RESULTS[name])


def done(folder: Path) -> list[str]:
    return [entry.step for entry in Journal(folder).done(STEPS)]


def test_steps_are_done_in_their_order(tmp_path: Path) -> None:
    run(tmp_path, *STEPS)
    assert done(tmp_path) == STEPS
    first, second, _ = Journal(tmp_path).done(STEPS)
    assert (first.seconds, first.after, second.after) == (1.5, "", first.id)
    assert [entry.result() for entry in Journal(tmp_path).done(STEPS)] == [*RESULTS.values()]


@pytest.mark.parametrize(("again", "left"), [(name, STEPS[: number + 1]) for number, name in enumerate(STEPS)])
def test_repeating_a_step_undoes_the_steps_after_it(tmp_path: Path, again: StepName, left: list[StepName]) -> None:
    run(tmp_path, *STEPS, again)
    assert done(tmp_path) == left


def test_a_step_that_began_but_did_not_finish_is_not_done(tmp_path: Path) -> None:
    run(tmp_path, *STEPS)
    Journal(tmp_path).undo("catalog")
    assert done(tmp_path) == ["sessions"]


def test_a_new_night_has_no_done_steps_and_a_finished_one_keeps_its_steps(tmp_path: Path) -> None:
    run(tmp_path, *STEPS)
    journal = Journal(tmp_path)
    assert journal.night is None
    journal.begin(NIGHT)
    assert (Journal(tmp_path).night, done(tmp_path)) == (NIGHT, [])
    run(tmp_path, "sessions")
    Journal(tmp_path).end()
    assert (Journal(tmp_path).night, done(tmp_path)) == (None, ["sessions"])


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: "{",
        lambda text: "[]",
        lambda text: '{"night": 1}',
        lambda text: text.replace('"step": "sessions"', '"step": "nap"'),
        lambda text: text.replace('"all_days": 3', '"all_days": "x"'),
        lambda text: text.replace("sessions", "\udcff"),
    ],
)
def test_a_garbled_journal_counts_as_empty(tmp_path: Path, damage: Callable[[str], str]) -> None:
    run(tmp_path, *STEPS)
    path = tmp_path / "journal.json"
    path.write_text(damage(path.read_text("utf-8")), "utf-8", "surrogateescape")
    assert (done(tmp_path), Journal(tmp_path).night) == ([], None)


def test_peak_memory_is_that_of_the_step_alone(tmp_path: Path) -> None:
    np.ones(50_000_000)
    forget_peak()
    low = Journal(tmp_path).note("catalog", [], 0, RESULT).peak_memory_mb
    np.ones(50_000_000)  # 400 MB
    assert Journal(tmp_path).note("catalog", [], 0, RESULT).peak_memory_mb - low > 300
