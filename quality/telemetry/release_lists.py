"""What a release gives each user, read from its files: segment, source and list.

Answers are made in `server/answers.py`; a test compares. A line of the stream does not say how its list was chosen, so
a report derives it from the release that was in force. Movies that were hidden then are not known here.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from stream.decoding import decode_json
from stream.event import LIST_LENGTH

SOURCES = ("personal", "segment", "popular", "exploring")
"""Where a list comes from; a source's number is its place here."""
_PERSONAL, _SEGMENT, _POPULAR, _EXPLORING = range(4)
NO_SEGMENT = "no segment"
"""Users whom the release does not know, without a known age and gender, or of a segment that is too small."""
OF_AGE, MINOR, UNKNOWN_AGE = range(3)
"""The values of `minors.npy`; a test compares them with those of `batch.models.list_caps`."""
_CHUNK = 1 << 16
"""Lists compared at a time, to bound memory."""


class _ModelName(msgspec.Struct, frozen=True):
    lists: str | None = None
    """The model that made `lists.npy`."""


class _ManifestParts(msgspec.Struct, frozen=True):
    """The parts of `manifest.json` that say what users are given."""

    segments: list[str] = []
    model: _ModelName = _ModelName()


@dataclass(frozen=True, slots=True)
class ReleaseLists:
    """Memory-mapped; n users, m movies, s segments."""

    movies: list[str]
    """[m] ids."""
    users: np.ndarray
    """uint32 [n], ascending."""
    lists: np.ndarray
    """[n, 20] item indices, the largest value for none."""
    segments: np.ndarray
    """uint8 [n], 0 for none."""
    fallbacks: np.ndarray
    """int64 [s + 1, 20]: popular lists of everyone and of each segment, -1 for none."""
    explorers: np.ndarray
    """uint32 [k]: rows of the users whose lists were drawn by lot."""
    minors: np.ndarray | None
    """uint8 [n]; None: an older version made the release, which does not say who is a minor."""
    manifest: _ManifestParts

    def segment_names(self) -> list[str]:
        """The name of each segment by its number."""
        named = self.manifest.segments
        rest = (
            named[number] if number < len(named) else f"segment {number}" for number in range(1, len(self.fallbacks))
        )
        return [NO_SEGMENT, *rest]

    def rows_of(self, user_ids: np.ndarray) -> np.ndarray:
        """int64: the row of each user (int64 ids), -1 for one whom the release does not know."""
        if not len(self.users):
            return np.full(len(user_ids), -1, np.int64)
        # an id is searched for as one of `self.users`, which another type would copy; one too large for that is unknown
        rows = np.minimum(np.searchsorted(self.users, user_ids.astype(np.uint32)), len(self.users) - 1)
        return np.where(self.users[rows] == user_ids, rows, -1)

    def segments_of(self, rows: np.ndarray) -> np.ndarray:
        """int64: the segment of each row, 0 for none and for row -1."""
        return _taken(self.segments, rows, 0)

    def sources_of(self, rows: np.ndarray) -> np.ndarray:
        """int64: the number of the source of each row's list; -1 is a row as well."""
        segment = self.segments_of(rows)
        has_own = _taken(self.lists[:, 0], rows, _none(self.lists)) != _none(self.lists)
        fallback = np.where((segment > 0) & (self.fallbacks[segment, 0] >= 0), _SEGMENT, _POPULAR)
        model = self.manifest.model.lists
        if model == "segment":  # as `list_source` in server/release.py
            own = np.where(segment > 0, _SEGMENT, _POPULAR)
        else:
            own = np.full(len(rows), _POPULAR if model == "popular" else _PERSONAL)
        own[np.isin(rows, self.explorers)] = _EXPLORING
        return np.where(has_own, own, fallback)

    def minors_of(self, rows: np.ndarray) -> np.ndarray:
        """int64: `OF_AGE`, `MINOR` or `UNKNOWN_AGE` of each row; unknown for row -1."""
        if self.minors is None:
            return np.full(len(rows), UNKNOWN_AGE, np.int64)
        return _taken(self.minors, rows, UNKNOWN_AGE)

    def are_unlike(self, shown: np.ndarray, rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """bool: which shown lists (int32 [answers, 20], movie numbers, -1 for none) are not those of the rows.

        `numbers` is int64 [m]: the number of each movie of the release.
        """
        unlike = np.zeros(len(rows), bool)
        popular = self.fallbacks.copy()
        popular[popular[:, 0] < 0] = popular[0]
        by_item = np.append(numbers, -1).astype(np.int32)
        for begin in range(0, len(rows), _CHUNK):
            chunk = rows[begin : begin + _CHUNK]
            items = popular[self.segments_of(chunk)]
            own = np.flatnonzero(_taken(self.lists[:, 0], chunk, _none(self.lists)) != _none(self.lists))
            items[own] = self.lists[chunk[own]]
            expected = by_item[np.minimum(items, len(self.movies))]  # the last of `by_item` stands for none
            unlike[begin : begin + _CHUNK] = (expected != shown[begin : begin + _CHUNK]).any(axis=1)
        return unlike


def read_release_lists(releases: Path, release: str) -> ReleaseLists | None:
    """The lists of a release; None if the release was pruned or cannot be read."""
    folder = releases / release
    try:
        lists, users, segments = (np.load(folder / f"{name}.npy", "r") for name in ("lists", "users", "segments"))
        fallbacks = np.load(folder / "fallbacks.npy", "r")[:, :LIST_LENGTH]
        minors = np.load(folder / "minors.npy", "r") if (folder / "minors.npy").exists() else None
        movies = (folder / "movies.txt").read_text("utf-8").splitlines()
        manifest = decode_json((folder / "manifest.json").read_bytes(), _ManifestParts)
        explorers = _explorers(folder)
        are_of_one_release = lists.shape == (len(users), LIST_LENGTH) and segments.shape == users.shape
        are_of_one_release = are_of_one_release and (minors is None or minors.shape == users.shape)
        if not are_of_one_release or int(segments.max(initial=0)) >= len(fallbacks):
            return None
        padded = np.full((len(fallbacks), LIST_LENGTH), -1, np.int64)
        padded[:, : fallbacks.shape[1]] = np.where(fallbacks == _none(fallbacks), -1, fallbacks.astype(np.int64))
        return ReleaseLists(movies, users, lists, segments, padded, explorers, minors, manifest)
    except (OSError, EOFError, ValueError, IndexError, msgspec.DecodeError):
        return None


def _explorers(folder: Path) -> np.ndarray:
    """uint32 [k]; none in releases without drawn lists."""
    try:
        return np.asarray(np.load(folder / "explorers.npy", "r"))
    except FileNotFoundError:
        return np.zeros(0, np.uint32)


def _taken(values: np.ndarray, rows: np.ndarray, absent: int) -> np.ndarray:
    """int64: `values` at the rows, `absent` for row -1."""
    taken = np.full(len(rows), absent, np.int64)
    known = rows >= 0
    taken[known] = values[rows[known]]
    return taken


def _none(items: np.ndarray) -> int:
    return int(np.iinfo(items.dtype).max)
