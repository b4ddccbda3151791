"""What the second stage learns from: candidates of some users, and which of them were watched next.

Two kinds of users make examples. The users of the choice slice have their whole history, and what they watched in the
slice. And to know how much to trust a short history, other histories are cut at random lengths, and the user's next
five movies are to be found. As the rest of such a history is known to models that are fitted to it, a first stage is
fitted without these users: only what others did describes their candidates.
"""

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp

from batch.history.interactions import Interactions
from batch.models.blend import Blend, BlendParts
from batch.models.rerank_candidates import FirstStage
from batch.settings import BatchSettings

_USERS = 256
"""Users whose candidates are described at once."""
_MOST_CUT, _CUT_SHARE = 2_000, 0.2
"""Histories that are cut, and the most of all histories that are."""
_SHORT = (1, 2, 3, 5)
"""Lengths of half of the cut histories; those of the other half are spread evenly by their logarithm."""
_NEXT = 5
"""Movies after the cut that are to be found."""
_STREAM = 7
"""Of random numbers."""


@dataclass(frozen=True)
class Examples:
    """Users with c candidates each, of whom at least one was watched next."""

    features: np.ndarray
    """float32 [f, k, c]."""
    movies: np.ndarray
    """int32 [k, c]: the candidates, -1 for none."""
    was_next: np.ndarray
    """bool [k, c]."""
    found: np.ndarray
    """int64 [k]: how many movies were to be found, candidates or not."""
    lengths: np.ndarray
    """int64 [k]: events of the histories."""

    def __len__(self) -> int:
        return len(self.movies)

    def of(self, rows: np.ndarray) -> "Examples":
        """Those of some users: bool or int64."""
        arrays = self.movies[rows], self.was_next[rows], self.found[rows], self.lengths[rows]
        return Examples(self.features[:, rows], *arrays)


def examples_of(stage: FirstStage, data: Interactions, relevant: sp.csr_matrix, users: np.ndarray) -> Examples:
    """The examples of some users (int64): `relevant` (bool [n, m]) is what they watched next."""
    pieces = []
    for first in range(0, max(1, len(users)), _USERS):
        block = users[first : first + _USERS]
        named = stage.name(data, block)
        watched = np.asarray(relevant[block].toarray(), bool)
        was_next = np.take_along_axis(watched, np.maximum(named.movies, 0), axis=1) & (named.movies >= 0)
        features = stage.describe(data, block, named)
        lengths = data.indptr[block + 1] - data.indptr[block]
        piece = Examples(features, named.movies, was_next, watched.sum(axis=1), lengths)
        pieces.append(piece.of(was_next.any(axis=1) & ~named.is_empty))
    return joined(pieces)


def joined(pieces: list[Examples]) -> Examples:
    """All of them, in order."""
    return Examples(
        np.concatenate([piece.features for piece in pieces], axis=1),
        *(
            np.concatenate([getattr(piece, field) for piece in pieces])
            for field in ("movies", "was_next", "found", "lengths")
        ),
    )


def cut_examples(parameters: dict[str, float], data: Interactions, settings: BatchSettings) -> Examples | None:
    """Examples of histories that are cut at random lengths; None if there are too few.

    `parameters` are those of the blend.
    """
    rng = np.random.default_rng([settings.seed, _STREAM])
    lengths = np.diff(data.indptr)
    able = np.flatnonzero(lengths > 1)
    users = np.sort(rng.choice(able, min(_MOST_CUT, int(_CUT_SHARE * len(able))), replace=False))
    if not len(users):
        return None
    is_cut = np.zeros(len(lengths), bool)
    is_cut[users] = True
    blend = Blend(settings, parameters, BlendParts.make(settings, parameters))
    place = np.arange(len(data.movies)) - np.repeat(data.indptr[:-1], lengths)
    others = only(data, np.repeat(~is_cut, lengths))
    blend.fit(others)
    left = np.zeros(len(lengths), np.int64)
    left[users] = _random_lengths(rng, lengths[users])
    left_of_event = np.repeat(left, lengths)
    of_cut = np.repeat(is_cut, lengths)
    known = only(data, of_cut & (place < left_of_event))
    is_next = np.flatnonzero(of_cut & (place >= left_of_event) & (place < left_of_event + _NEXT))
    row = np.repeat(np.arange(len(lengths)), lengths)[is_next]
    relevant = sp.csr_matrix((np.ones(len(row), bool), (row, data.movies[is_next])), data.shape)
    return examples_of(FirstStage(blend, others, settings), known, relevant, users)


def only(data: Interactions, kept: np.ndarray) -> Interactions:
    """Some of the events (bool [e]); the popularity of a movie shrinks with the events that it has."""
    row = np.repeat(np.arange(data.shape[0]), np.diff(data.indptr))[kept]
    before, after = (np.bincount(movies, minlength=data.shape[1]) for movies in (data.movies, data.movies[kept]))
    return replace(
        data,
        indptr=np.concatenate([[0], np.cumsum(np.bincount(row, minlength=data.shape[0]))]),
        movies=data.movies[kept],
        starts=data.starts[kept],
        weights=data.weights[kept],
        popularity=data.popularity * (after / np.maximum(before, 1)),
    )


def _random_lengths(rng: np.random.Generator, lengths: np.ndarray) -> np.ndarray:
    """A length for each history, at least 1 and shorter than it: int64 [k]."""
    short = rng.choice(_SHORT, len(lengths))
    spread = np.exp(rng.random(len(lengths)) * np.log(lengths)).astype(np.int64)
    chosen = np.where(rng.random(len(lengths)) < 0.5, short, spread)
    return np.clip(chosen, 1, lengths - 1)
