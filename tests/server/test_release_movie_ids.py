"""Releases hold exactly the movie ids that the stream has, each once."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import BadRelease
from server.release import Release
from server.release_layout import wrong_files
from stream.grammar import MOVIE, is_movie
from tests.server.sample_releases import MOVIES, NO_MOVIE, seal, write_release


def with_movie(folder: Path, name: str) -> Path:
    """A release in which one movie has the id `name`."""
    return write_release(folder, "changed", movies=[*MOVIES[:3], name, *MOVIES[4:]])


@pytest.mark.parametrize(
    "name",
    [
        "movie+4+2000", "", "a b", "é+2000", "٣+2000", "a+٢٠٠٠", "Movie", "a,b", "without-a-plus", "a+99", "a+19999",
        "a+2000x", "x" * 296 + "+1999",
    ],
)  # fmt: skip
def test_a_repeated_or_invalid_movie_id_is_refused(tmp_path: Path, name: str) -> None:
    folder = with_movie(tmp_path, name)
    with pytest.raises(BadRelease, match=r"movies\.txt"):
        Release.open(folder)


def test_a_movie_id_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    folder = write_release(tmp_path, "changed")
    (folder / "movies.txt").write_bytes((folder / "movies.txt").read_bytes().replace(b"movie+4", b"movi\xe9+4"))
    seal(folder)
    with pytest.raises(BadRelease, match=r"movies\.txt"):
        Release.open(folder)


@pytest.mark.parametrize("name", ["endeavour+", "+nos+amours+1983", "++++++1959", "m*a*s*h+1970", "x" * 295 + "+1999"])
def test_every_movie_id_of_the_stream_is_accepted(tmp_path: Path, name: str) -> None:
    assert is_movie(name)
    assert name in Release.open(with_movie(tmp_path, name)).movies


NO_USERS: dict[str, np.ndarray] = {
    "users": np.zeros(0, np.uint32),
    "lists": np.zeros((0, 20), np.uint16),
    "fallbacks": np.array([[0, *[NO_MOVIE] * 19]], np.uint16),
    "segments": np.zeros(0, np.uint8),
    "items": np.zeros((1, 1), np.float32),
}
"""The arrays of a release with one movie and no users."""


@given(st.one_of(st.from_regex(MOVIE, fullmatch=True), st.text("aA09+-._*,é ", max_size=9)))
def test_releases_and_the_stream_accept_the_same_movie_ids(name: str) -> None:
    assert wrong_files([name.encode()], NO_USERS, None) == ([] if is_movie(name) else ["movies.txt"])
