"""A night in which some users explore: the release, its gate, and what it answers; the lists of all others stay."""

from pathlib import Path

import numpy as np
import pytest

from batch.models.exploring import explores
from server.answers import SOURCES, Answers
from server.manifest import Exploring
from server.release import EXPLORED, Release
from tests.batch.nights.small_nights import digests, night, run

pytestmark = pytest.mark.filterwarnings("ignore:OpenBLAS is configured:RuntimeWarning")
SHARE = 0.3


@pytest.mark.parametrize("model", ["ease", "popular"])
def test_drawn_lists_stand_among_the_others_and_pass_the_gate(var: Path, model: str) -> None:
    steps = night(var, model=model, explore_share=SHARE)
    done = run(steps)
    assert done["publish"].current
    assert done["publish"].gate["explorers_are_drawn"].startswith("passed: ")
    release = Release.open(var / "releases" / "current")
    history, _ = steps._history()
    explored, data = release.explored, history.before(history.until, 14.0)
    assert explored is not None
    has_history = np.diff(data.indptr) > 0
    due = np.flatnonzero(has_history & explores(release.users, release.manifest.require_stream_time(), SHARE))
    assert explored.rows.tolist() == due.tolist()
    assert 50 < len(due) < 130
    assert release.manifest.exploring == Exploring(share=SHARE, users=len(due))
    sources = [SOURCES[Answers(release).find(user)[1]] for user in release.users.tolist()]
    assert [row for row, source in enumerate(sources) if source == "exploring"] == due.tolist()
    listed = np.array(release.lists[explored.rows], np.int64)
    assert (data.matrix[np.repeat(explored.rows, 20), listed.ravel()] == 0).all()
    sizes = 20 / explored.propensities[:, 0]
    assert ((sizes > 50) & (sizes < 100.5)).all()  # also if the popular list was chosen: ALS has the other half
    before = digests(release.folder), [(release.folder / name).read_bytes() for name in EXPLORED]

    run(night(var, model=model, explore_share=SHARE), "train")
    assert [(var / "night" / name).read_bytes() for name in EXPLORED] == before[1]
    assert (var / "night" / "lists.npy").read_bytes() == (release.folder / "lists.npy").read_bytes()
    run(night(var, model=model), "train")
    assert not any((var / "night" / name).exists() for name in EXPLORED)
    own = np.load(var / "night" / "lists.npy")
    assert (own[due] != release.lists[due]).any(axis=1).mean() > 0.99
    own[due] = release.lists[due]
    assert np.array_equal(own, release.lists)
