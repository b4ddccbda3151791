"""The trial: a real worker answers from a candidate; one that cannot, or answers wrongly, is detected."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from batch.gate import worker_trial
from server.manifest import ReleaseModel
from server.release import Explored, Release
from tests.batch.gate.candidates import CandidateParts, build_parts, sealed
from tests.batch.gate.planted_draws import explore


def fault(var: Path, parts: CandidateParts) -> str | None:
    """What the trial says of a candidate."""
    candidate = sealed(var, parts)
    return worker_trial.first_wrong_answer(candidate.folder, candidate.release, parts.hidden)


def children() -> str:
    """The child processes of this process."""
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text()


def short(parts: CandidateParts) -> None:
    parts.lists = parts.made_lists()
    parts.lists[::2, 7:] = -1
    parts.lists[1::2] = -1


def no_segment_list(parts: CandidateParts) -> None:
    short(parts)
    parts.fallbacks = parts.made_fallbacks()
    parts.fallbacks[1] = -1


def popular_hidden(parts: CandidateParts) -> None:
    no_segment_list(parts)
    assert parts.fallbacks is not None
    parts.hidden = {parts.movies[item] for item in parts.fallbacks[0].tolist()}


def list_hidden(parts: CandidateParts) -> None:
    short(parts)
    parts.fallbacks = parts.made_fallbacks()
    assert parts.lists is not None
    parts.hidden = {parts.movies[item] for row in (0, 4) for item in parts.lists[row, :7].tolist()} | {
        "never+heard+of+1999"
    }


def most_hidden(parts: CandidateParts) -> None:
    short(parts)
    parts.fallbacks = parts.made_fallbacks()
    parts.hidden = set(parts.movies[:90])


def text_with_gaps(parts: CandidateParts) -> None:
    parts.text, parts.users = True, np.array([*range(29), 2**32 - 1], np.uint32)


def made_by(parts: CandidateParts, model: str) -> None:
    list_hidden(parts)
    parts.manifest["model"] = {"lists": model}


GOOD: dict[str, tuple[dict[str, int], Callable[[CandidateParts], object]]] = {
    "2,000 users": ({"users": 2000}, lambda parts: None),
    "short lists and none": ({}, short),
    "a segment without a list": ({}, no_segment_list),
    "all that is popular is hidden": ({}, popular_hidden),
    "hidden movies": ({}, most_hidden),
    "whole lists hidden": ({}, list_hidden),
    "popular lists": ({}, lambda parts: made_by(parts, "popular")),
    "popular lists of segments": ({}, lambda parts: made_by(parts, "segment")),
    "some explore": ({}, explore),
    "as text, with gaps between the ids": ({"users": 30, "movies": 5}, text_with_gaps),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_worker_answers_rightly(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    sizes, change = GOOD[name]
    change(parts := build_parts(**sizes))
    before = children()
    assert fault(tmp_path, parts) is None
    assert {path.name for path in tmp_path.iterdir()} == {"night", "releases", "temporary"}
    assert (children(), list(temporary.iterdir())) == (before, [])


def swapped(release: Release) -> Release:
    """As if a list were another in one place, for the last user of all."""
    lists = np.array(release.lists)
    lists[-1, [18, 19]] = lists[-1, [19, 18]]
    return replace(release, lists=lists)


def other_fallback(release: Release) -> Release:
    fallbacks = np.array(release.fallbacks)
    fallbacks[0] = np.roll(fallbacks[0], 1)
    return replace(release, fallbacks=fallbacks)


def other_name(release: Release) -> Release:
    return replace(release, names=[*release.names[:-1], b"never+heard+of+1999"])


def other_segment(release: Release) -> Release:
    segments = np.array(release.segments)
    segments[-3] = 0
    return replace(release, segments=segments)


def other_model(release: Release) -> Release:
    return replace(release, manifest=msgspec.structs.replace(release.manifest, model=ReleaseModel(lists="popular")))


def others_explore(release: Release) -> Release:
    """One user of 400 is said to explore, who does not."""
    return replace(release, explored=Explored(np.array([399], np.uint32), np.full((1, 20), 0.4, np.float32)))


SPOILT: dict[str, tuple[Callable[[Release], Release], str]] = {
    "a list": (swapped, "user 410 is answered 200 "),
    "the popular list": (other_fallback, f"user {10**19 - 1} is answered 200 "),
    "the release": (lambda release: replace(release, id="another"), "and should be 200 another personal"),
    "a movie": (other_name, "never+heard+of+1999"),
    "what made it": (other_model, "and should be 200"),
    "who explores": (others_explore, "exploring text/plain"),
    "the source": (other_segment, "user 408 is answered 200"),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Release]]:
    """A worker's port, and what it answers from: its third last user has no list, but a segment."""
    var = tmp_path_factory.mktemp("served")
    parts = build_parts()
    parts.seen[-3] = False
    candidate = sealed(var, parts)
    (var / "releases" / "current").symlink_to(candidate.folder)
    with (var / "log").open("wb") as log, worker_trial._serving(var, log.fileno()) as port:
        yield port, candidate.release


@pytest.mark.parametrize("name", SPOILT)
def test_an_answer_that_is_not_as_it_should_be_is_a_fault(served: tuple[int, Release], name: str) -> None:
    (port, release), (spoil, text) = served, SPOILT[name]
    assert worker_trial._wrong_answer(port, release, set()) is None
    assert text in str(worker_trial._wrong_answer(port, spoil(release), set()))


def test_a_worker_that_has_nothing_to_answer_with_is_a_fault(tmp_path: Path) -> None:
    parts = build_parts()
    parts.fallbacks = parts.made_fallbacks()
    parts.hidden = set(parts.movies)
    assert "user 11 is answered 503" in str(fault(tmp_path, parts))


def test_the_fault_of_a_worker_that_dies_quotes_the_last_line_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARQUEE_SERVER_PORT", "none")
    text = str(fault(tmp_path, build_parts()))
    assert "did not answer" in text
    assert "port" in text
    assert "TimeoutError" not in text  # its death is noticed at once


def test_a_worker_that_says_nothing_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexec sleep 60\n")
    silent.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(silent))
    monkeypatch.setattr(worker_trial, "_DEADLINE_S", 0.3)
    before = children()
    assert "TimeoutError" in str(fault(tmp_path, build_parts()))
    assert children() == before


def test_known_users_are_taken_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate = sealed(tmp_path, build_parts(users=3000))
    asked: list[int] = []

    def note(_: object, user: int, __: float) -> worker_trial.Answer:
        asked.append(user)
        row = user - 11 if user < 3011 else None
        return worker_trial._expected_answer(
            candidate.release, row, set(), worker_trial._fallbacks(candidate.release, set())
        )

    monkeypatch.setattr(worker_trial, "_ask", note)
    assert worker_trial.first_wrong_answer(candidate.folder, candidate.release, set()) is None
    assert (len(asked), asked[0], asked[-2]) == (1001, 11, 3010)
    assert set(np.diff(asked[:-1]).tolist()) <= {3, 4}
