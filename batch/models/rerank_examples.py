"""What the second stage learns from: candidates of some users, and which of them were watched next.

Two kinds of users make examples. Those of the choice slice have their whole history, and what they watched in the
slice. And to know how much to trust a short history, other histories are cut twice, after a few events and after a
random number of them, and the user's next five movies are to be found; where a list suggested the next one, the cut is
moved to a movie that none suggested. As models that are fitted to such a history know
the rest of it, a first stage is fitted without these users: only what others did describes their candidates.
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
"""Lengths of the first cut, at random; those of the second are spread evenly by their logarithm."""
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
    users: np.ndarray
    """int64 [k]: whose they are; a user may have several."""

    def __len__(self) -> int:
        return len(self.movies)

    def of(self, rows: np.ndarray) -> "Examples":
        """Those of some users: bool or int64."""
        arrays = self.movies[rows], self.was_next[rows], self.found[rows], self.lengths[rows], self.users[rows]
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
        piece = Examples(features, named.movies, was_next, watched.sum(axis=1), lengths, block)
        pieces.append(piece.of(was_next.any(axis=1) & ~named.is_empty))
    return joined(pieces)


def joined(pieces: list[Examples]) -> Examples:
    """All of them, in order."""
    return Examples(
        np.concatenate([piece.features for piece in pieces], axis=1),
        *(
            np.concatenate([getattr(piece, field) for piece in pieces])
            for field in ("movies", "was_next", "found", "lengths", "users")
        ),
    )


def cut_examples(parameters: dict[str, float], data: Interactions, settings: BatchSettings) -> list[Examples]:
    """Examples of histories that are cut; none if there are too few. `parameters` are those of the blend."""
    rng = np.random.default_rng([settings.seed, _STREAM])
    lengths = np.diff(data.indptr)
    able = np.unique(_event_users(data)[_labels(data)])
    users = np.sort(rng.choice(able, min(_MOST_CUT, int(_CUT_SHARE * len(able))), replace=False))
    if not len(users):
        return []
    is_cut = np.zeros(len(lengths), bool)
    is_cut[users] = True
    others = only(data, ~np.repeat(is_cut, lengths))
    blend = Blend(settings, parameters, BlendParts.make(settings, parameters))
    blend.fit(others)
    stage = FirstStage(blend, others, settings)
    short = rng.choice(_SHORT, len(users))
    spread = np.exp(rng.random(len(users)) * np.log(lengths[users])).astype(np.int64)
    cuts = (_before_label(data, users, np.clip(kept, 1, lengths[users] - 1)) for kept in (short, spread))
    return [examples_of(stage, *cut_histories(data, users, kept), users) for kept in cuts]


def _labels(data: Interactions) -> np.ndarray:
    """Events that may be the first after a cut, ascending: int64. No user's first one is, and no exposed one: it says
    which list was shown, and candidates that others take from their lists would count as unwanted."""
    is_label = np.ones(len(data.movies), bool) if data.exposed is None else ~data.exposed
    is_label[data.indptr[:-1][np.diff(data.indptr) > 0]] = False
    return np.flatnonzero(is_label)


def _before_label(data: Interactions, users: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Cuts of some users (int64 [k]) that have labels, moved on to the next label, or back to the last: int64 [k]."""
    labels = _labels(data)
    at = np.searchsorted(labels, data.indptr[users] + kept)
    at -= np.append(labels, len(data.movies))[at] >= data.indptr[users + 1]
    return labels[at] - data.indptr[users]


def _event_users(data: Interactions) -> np.ndarray:
    """int64 [e]: whose each event is."""
    return np.repeat(np.arange(data.shape[0]), np.diff(data.indptr))


def cut_histories(data: Interactions, users: np.ndarray, kept: np.ndarray) -> tuple[Interactions, sp.csr_matrix]:
    """The first events of some users (int64 [k]), `kept` of each (int64 [k]), and the next five: bool [n, m]; of these,
    only those before the first exposed one."""
    first = np.zeros(data.shape[0], np.int64)
    first[users] = kept
    user = _event_users(data)
    place = np.arange(len(user)) - data.indptr[user]
    is_next = (place >= first[user]) & (place < first[user] + _NEXT) & (first[user] > 0)
    if data.exposed is not None:
        exposed_until = np.concatenate([[0], np.cumsum(data.exposed)])
        is_next &= exposed_until[1:] == exposed_until[data.indptr[user] + first[user]]
    pairs = user[is_next], data.movies[is_next]
    return only(data, place < first[user]), sp.csr_matrix((np.ones(len(pairs[0]), bool), pairs), data.shape)


def only(data: Interactions, kept: np.ndarray) -> Interactions:
    """Some of the events (bool [e]); the popularity of a movie shrinks with the events that it has."""
    row = _event_users(data)[kept]
    before, after = (np.bincount(movies, minlength=data.shape[1]) for movies in (data.movies, data.movies[kept]))
    return replace(
        data,
        indptr=np.concatenate([[0], np.cumsum(np.bincount(row, minlength=data.shape[0]))]),
        movies=data.movies[kept],
        starts=data.starts[kept],
        weights=data.weights[kept],
        exposed=None if data.exposed is None else data.exposed[kept],
        popularity=data.popularity * (after / np.maximum(before, 1)),
    )
