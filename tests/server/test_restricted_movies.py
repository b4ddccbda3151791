"""Movies that are not for everyone: never a neighbour, and never the last resort when all popular movies are hidden."""

from pathlib import Path

import orjson
import pytest

from batch.gate.worker_trial import first_wrong_answer
from server.answers import Answers
from server.release import Release
from tests.server.sample_releases import MOVIES, write_release

RESTRICTED = [MOVIES[0], MOVIES[20], MOVIES[22], "never+heard+of+1999"]
POPULAR = frozenset(MOVIES[:20])
"""The whole popular list of everyone."""


def sample(var: Path, restricted: list[str]) -> Release:
    folder = write_release(var, "sample")
    manifest = orjson.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").write_bytes(orjson.dumps({**manifest, "restricted": restricted}))
    return Release.open(folder)


@pytest.mark.parametrize("count", [1, 5, 20])
def test_they_are_no_neighbours_and_the_next_ones_take_their_places(tmp_path: Path, count: int) -> None:
    near = Answers(sample(tmp_path / "all", [])).similar(MOVIES[3], 29)
    assert near is not None
    release, hidden = sample(tmp_path / "capped", RESTRICTED), {near[1]}
    expected = [movie for movie in near if movie not in {*RESTRICTED, *hidden}][:count]
    assert Answers(release, frozenset(hidden)).similar(MOVIES[3], count) == expected
    own = Answers(release).similar(RESTRICTED[0], 20)  # whoever asks about one may know it
    assert own is not None
    assert set(own).isdisjoint(RESTRICTED)


def test_a_stranger_gets_none_when_all_popular_movies_are_hidden(tmp_path: Path) -> None:
    release = sample(tmp_path, RESTRICTED)
    answers = Answers(release, POPULAR)
    assert answers.find(77)[0].decode().split(",") == [movie for movie in MOVIES[20:] if movie not in RESTRICTED]
    assert first_wrong_answer(release.folder, release, POPULAR) is None  # a real worker, by the gate's own arithmetic
    assert Answers(release, frozenset(MOVIES) - set(RESTRICTED[1:])).empty
