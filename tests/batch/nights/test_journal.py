"""The journal: a step counts as done only while all before it stand as they stood when it was done."""

from pathlib import Path

import numpy as np
import pytest

from batch.nights.journal import Journal, NightStart, forget_peak

STEPS = ["one", "two", "three"]
NIGHT = NightStart(began="20300101T000000Z", stream_time=5, settings="x")


def run(folder: Path, *names: str) -> None:
    for name in names:
        journal = Journal(folder)
        before = journal.done(STEPS[: STEPS.index(name)])
        journal.undo(name)
        journal.note(name, before, 1.5, {"rows": 3})


def done(folder: Path) -> list[str]:
    return [entry.step for entry in Journal(folder).done(STEPS)]


def test_steps_are_done_in_their_order(tmp_path: Path) -> None:
    run(tmp_path, *STEPS)
    assert done(tmp_path) == STEPS
    [entry, *_] = Journal(tmp_path).done(STEPS)
    assert (entry.seconds, entry.told, entry.after) == (1.5, {"rows": 3}, "")


@pytest.mark.parametrize(("again", "left"), [("one", ["one"]), ("two", ["one", "two"]), ("three", STEPS)])
def test_a_step_that_is_done_again_makes_those_after_it_undone(tmp_path: Path, again: str, left: list[str]) -> None:
    run(tmp_path, *STEPS, again)
    assert done(tmp_path) == left


def test_a_step_that_was_begun_and_not_finished_is_not_done(tmp_path: Path) -> None:
    run(tmp_path, *STEPS)
    Journal(tmp_path).undo("two")
    assert done(tmp_path) == ["one"]


def test_a_night_begins_with_nothing_done_and_its_end_leaves_what_was_done(tmp_path: Path) -> None:
    run(tmp_path, *STEPS)
    journal = Journal(tmp_path)
    assert journal.night is None
    journal.begin(NIGHT)
    assert (Journal(tmp_path).night, done(tmp_path)) == (NIGHT, [])
    run(tmp_path, "one")
    Journal(tmp_path).end()
    assert (Journal(tmp_path).night, done(tmp_path)) == (None, ["one"])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"night": 1}'])
def test_a_garbled_journal_is_an_empty_one(tmp_path: Path, text: str) -> None:
    run(tmp_path, *STEPS)
    (tmp_path / "journal.json").write_text(text)
    assert (done(tmp_path), Journal(tmp_path).night) == ([], None)


def test_the_peak_is_of_the_step_and_not_of_what_came_before(tmp_path: Path) -> None:
    np.ones(50_000_000)
    forget_peak()
    low = Journal(tmp_path).note("one", [], 0, {}).peak_memory_mb
    np.ones(50_000_000)  # 400 MB
    assert Journal(tmp_path).note("one", [], 0, {}).peak_memory_mb - low > 300
