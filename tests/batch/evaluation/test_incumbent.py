"""The incumbent: what it shows is what a worker would answer, and it is compared only where that is fair."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import annoy
import numpy as np
import pytest
import scipy.sparse as sp

from batch.evaluation.figures import MeasuredLists, measure_lists
from batch.evaluation.incumbent import Incumbent, compare_with_incumbent, incumbent_of
from batch.evaluation.splits import Slice
from batch.evaluation_file import LEAST_USERS, AgainstCurrent
from batch.history.interactions import Interactions, TrainingHistory
from batch.releases.publish import publish
from server.answers import Answers
from server.manifest import Manifest
from server.release import Explored, Release
from stream.zone import HOUR_MS

pytestmark = pytest.mark.blas

USERS, MOVIES = 40, 50
FROM, UNTIL = 100 * HOUR_MS, 124 * HOUR_MS
EVERYONE = np.arange(USERS)


def slice_(barred: int = 0) -> Slice:
    """Every user began the movie of his own number, of 50; the first users took another one from a list."""
    known = Interactions(
        indptr=np.zeros(USERS + 1, np.int64),
        movies=np.zeros(0, np.int32),
        starts=np.zeros(0, np.int64),
        weights=np.zeros(0, np.float32),
        popularity=np.zeros(MOVIES),
        segments=np.zeros(USERS, np.uint8),
        until=FROM,
        barred=sp.csr_matrix((np.ones(barred, bool), (np.arange(barred), np.arange(barred) + 1)), (USERS, MOVIES)),
    )
    relevant = sp.csr_matrix((np.ones(USERS, bool), (EVERYONE, EVERYONE)), (USERS, MOVIES))
    return Slice(known, relevant, FROM, UNTIL)


def lists(rank: int, right: np.ndarray = EVERYONE) -> np.ndarray:
    """Lists that have the right movie at a rank, for some users; for the others nothing right."""
    wrong_lists = np.tile(np.arange(MOVIES - 20, MOVIES, dtype=np.int32)[::-1], (USERS, 1))
    wrong_lists[:, 10:] = -1  # 49..40, which nobody began
    wrong_lists[right, rank - 1] = right
    return wrong_lists


def showing(until: int, shown: np.ndarray, drawn: int = 0) -> Incumbent:
    """A current release; the lists of the first users were drawn by lot."""
    return Incumbent("r", until, shown, drawn > EVERYONE)


def model(rank: int) -> MeasuredLists:
    return measure_lists(slice_(), EVERYONE, lists(rank))


def compared(incumbent: Incumbent | None, part: Slice | None = None) -> AgainstCurrent:
    return compare_with_incumbent(incumbent, part or slice_(), EVERYONE, model(1))


def test_a_better_model_is_ahead_of_the_incumbent_by_the_difference_of_their_scores() -> None:
    against = compared(showing(FROM, lists(3)))
    assert (against.release, against.users, against.metric, against.reason) == ("r", USERS, "ndcg@20", None)
    assert against.mean == against.low == against.high == pytest.approx(0.5)  # 1 / log2(2) - 1 / log2(4)


def test_a_worse_model_is_behind() -> None:
    against = compare_with_incumbent(showing(FROM, lists(1)), slice_(), EVERYONE, model(3))
    assert against.high == pytest.approx(-0.5)


def test_users_are_paired_by_row() -> None:
    rows = np.arange(3, USERS)
    part = slice_()
    incumbent = showing(FROM, lists(1, np.arange(20, USERS)))
    mine = measure_lists(part, rows, lists(1)[rows])
    assert compare_with_incumbent(incumbent, part, rows, mine).mean == pytest.approx(17 / 37)


def test_users_who_took_from_a_list_in_the_slice_are_left_out() -> None:
    """The incumbent's list may hold what they took, while the model's has another movie in its place."""
    incumbent = showing(FROM, lists(1, np.arange(3)))
    against = compared(incumbent, slice_(barred=3))
    assert (against.users, against.mean) == (USERS - 3, 1.0)


def test_users_whose_lists_were_drawn_by_lot_are_left_out() -> None:
    """Their lists are worse than those of the incumbent's model, and so the candidate would seem better."""
    against = compared(showing(FROM, lists(1, np.arange(3, USERS)), drawn=3))
    assert (against.users, against.mean) == (USERS - 3, 0.0)


def test_slices_of_exposed_starts_are_not_compared() -> None:
    against = compared(showing(FROM, lists(1)), replace(slice_(), counts_exposed=True))
    assert against == AgainstCurrent(release="r", reason="shown lists may have suggested what is held out")


@pytest.mark.parametrize("until", [FROM + HOUR_MS + 1, UNTIL])
def test_a_release_that_had_read_what_is_held_out_is_not_compared(until: int) -> None:
    against = compared(showing(until, lists(1)))
    assert against == AgainstCurrent(release="r", reason="the current release had read what is held out")
    assert against.difference is None


@pytest.mark.parametrize("until", [0, FROM, FROM + HOUR_MS])
def test_a_release_of_the_slices_beginning_or_older_is_compared(until: int) -> None:
    difference = compared(showing(until, lists(3))).difference
    assert difference is not None
    assert difference.mean == pytest.approx(0.5)


def test_without_a_release_or_users_the_result_is_a_reason() -> None:
    assert compared(None) == AgainstCurrent(reason="there is no current release")
    against = compared(showing(FROM, lists(1)), slice_(barred=USERS - LEAST_USERS + 1))
    assert str(against.reason).startswith(f"only {LEAST_USERS - 1} users")
    assert against.mean is None


def release(none: Literal[65535, 4294967295]) -> Release:
    """Users 2, 3, 5, 7 of four movies: the third has no list, and the fourth is of segment 1 and has none."""
    kind = np.uint16 if none == 65535 else np.uint32
    rows = np.full((4, 20), none, kind)
    rows[0, :3], rows[1, :2] = [2, 0, 3], [1, 2]
    fallbacks = np.full((2, 100), none, kind)
    fallbacks[0, :4], fallbacks[1, :4] = [0, 1, 2, 3], [3, 2, 1, 0]
    return Release(
        id="now",
        manifest=Manifest(stream_time=77),
        names=[b"a+2000", b"b+2000", b"c+2000", b"d+2000"],
        users=np.array([2, 3, 5, 7], np.uint32),
        lists=rows,
        fallbacks=fallbacks,
        segments=np.array([0, 1, 0, 1], np.uint8),
        items=np.zeros((4, 1), np.float32),
        index=annoy.AnnoyIndex(1, "angular"),
        rendered=None,
        published=0.0,
    )


def history(users: list[int], movies: list[str]) -> TrainingHistory:
    empty: dict[str, Any] = {
        name: np.zeros(0, np.int64) for name in ("user", "movie", "start", "minutes", "share", "rating", "rated")
    }
    return TrainingHistory(
        **empty, users=np.array(users, np.uint32), movies=movies, segments=np.zeros(len(users), np.uint8)
    )


@pytest.mark.parametrize("none", [65535, 4294967295])
def test_shown_lists_are_the_own_ones_or_those_of_the_segment_or_of_everyone(
    none: Literal[65535, 4294967295],
) -> None:
    incumbent = incumbent_of(
        release(none), history([1, 2, 3, 5, 7, 9], ["0+2000", "a+2000", "c+2000", "d+2000", "e+2000"])
    )
    a, c, d = 1, 2, 3
    expected = [[a, -1, c, d], [c, a, d, -1], [-1, c, -1, -1], [a, -1, c, d], [d, c, -1, a], [a, -1, c, d]]
    assert incumbent.lists[:, :4].tolist() == expected  # b is gone, and its place stays empty
    assert (incumbent.lists[:, 4:] == -1).all()
    assert (incumbent.release, incumbent.until, incumbent.lists.dtype.name) == ("now", 77, "int32")
    assert not incumbent.is_drawn.any()


def test_users_who_explore_are_known_by_their_ids() -> None:
    explored = Explored(np.array([1, 3], np.uint32), np.zeros((2, 20), np.float32))
    incumbent = incumbent_of(replace(release(65535), explored=explored), history([1, 2, 3, 5, 7, 9], ["a+2000"]))
    assert incumbent.is_drawn.tolist() == [False, False, True, False, True, False]


def test_the_lists_of_an_incumbent_are_what_a_worker_answers(tmp_path: Path, write_candidate: Any) -> None:
    folder = write_candidate(tmp_path / "candidate", users=60)
    rows = np.load(folder / "lists.npy")
    rows[::7] = 65535
    np.save(folder / "lists.npy", rows)
    fallbacks = np.load(folder / "fallbacks.npy")
    fallbacks = np.stack([np.roll(row, at) for at, row in enumerate(fallbacks)])
    fallbacks[[1, 8]] = 65535  # segments for which nothing is known
    np.save(folder / "fallbacks.npy", fallbacks)
    np.save(folder / "segments.npy", (np.arange(60) % 13).astype(np.uint8))
    opened = Release.open(tmp_path / "releases" / publish(tmp_path, folder, Manifest(stream_time=5)))
    past = history(list(range(1, 71)), sorted(opened.movies))
    incumbent = incumbent_of(opened, past)
    answers = Answers(opened)
    sources = set()
    for user, own in zip(range(1, 71), incumbent.lists.tolist(), strict=True):
        body, source = answers.find(user)
        assert ",".join(past.movies[movie] for movie in own if movie >= 0).encode() == body
        sources.add(source)
    assert sources == {0, 1, 2}
