"""Builds the files of a candidate: the chosen model's lists, the popular lists, the embeddings and their index."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import annoy
import numpy as np

from batch import models
from batch.errors import NotEnoughData
from batch.evaluation_file import Evaluation
from batch.history.interactions import Interactions, TrainingHistory
from batch.history.movie_content import MovieContent
from batch.history.segments import NAMES
from batch.history.self_descriptions import SelfDescriptions
from batch.models import exploring, new_movies, top_lists
from batch.models.content_regression import ContentRegression, content_embeddings
from batch.models.described_taste import DescribedTaste
from batch.models.list_caps import ListCaps
from batch.models.short_histories import PopularForShort
from batch.progress import Advance, step
from batch.releases import rendered
from batch.settings import BatchSettings
from server.manifest import Exploring
from server.release import BASELINE, EXPLORED, METRIC, MINORS, RENDERED
from stream import durable
from stream.event import LIST_LENGTH

RENDERED_BYTES = 1 << 30
"""Answers are rendered by default where they take less than this."""


def build_files(
    folder: Path,
    history: TrainingHistory,
    contents: Sequence[MovieContent],
    evaluation: Evaluation,
    settings: BatchSettings,
    hidden: frozenset[str],
    caps: ListCaps,
    night_ms: int,
    descriptions: SelfDescriptions | None = None,
) -> int:
    """Fit the model that the evaluation chose to the whole history, and write the files of a release.

    `contents`, and the movies of `caps`, are all movies of the release: those of the history in their order, then those
    that nobody has watched. `night_ms` is how far the night has read the stream, ms UTC. Returns the dimensions of the
    embeddings.
    """
    data = history.before(history.until, settings.half_life_days)
    names, watched_caps = [content.id for content in contents], caps.first(data.shape[1])
    is_hidden = np.array([name in hidden for name in history.movies])
    off_lists, off_pools = is_hidden | watched_caps.kept_off, is_hidden | watched_caps.not_for_everyone
    _require_one_for_everyone(off_lists[0], watched_caps)
    is_personal, below = models.is_personal(evaluation.chosen), evaluation.popular_below.get(evaluation.chosen, 0)
    model = _fitted(evaluation, data, settings)
    factors = _factorisation(model, data, settings)
    with step("lists", len(history.users)) as advance:
        shown = PopularForShort(model, below, data.popularity)
        personal = _personal_lists(shown, data, is_hidden, watched_caps, advance)
    if descriptions is not None and evaluation.ships_first_lists:
        _add_first_lists(personal, DescribedTaste(descriptions, settings), data, is_hidden, watched_caps)
    users = np.bincount(data.movies, minlength=data.shape[1])
    by_content = ContentRegression(contents, users)
    if is_personal:
        personal = _with_new_movies(personal, data, contents, by_content, settings, hidden, caps, below)
    explorer = model if is_personal else factors  # what is popular is in the pool already
    _explore(folder, personal, explorer, history, data, off_pools, settings.explore_share, night_ms)
    durable.write_array(folder / MINORS, caps.minor_kinds)
    _write_lists(folder, {"lists.npy": personal, **_popular_lists(data, off_lists)}, names, settings)
    items = content_embeddings(by_content, factors.item_embeddings)
    return _write_embeddings(folder, items, settings)


def _fitted(evaluation: Evaluation, data: Interactions, settings: BatchSettings) -> models.Model:
    """The chosen model, fitted to the whole history with what tuning found."""
    chosen = evaluation.chosen
    with step(f"fit {chosen}"):
        model = models.make(chosen, settings, evaluation.parameters.get(chosen, {}), evaluation.learned)
        model.fit(data)
    return model


def _popular_lists(data: Interactions, off_lists: np.ndarray) -> dict[str, np.ndarray]:
    """By file: the popular lists, and the baseline of reports, without the movies of `off_lists` (bool [s + 1, m])."""
    popular = top_lists.popular_lists(data.popularity, data.matrix > 0, data.segments, len(NAMES) - 1, off_lists)
    with step("baseline"):
        baseline = top_lists.unseen_lists(top_lists.popular_ranking(data.popularity, off_lists[0]), data)
    return {"fallbacks.npy": popular, BASELINE: baseline}


def _with_new_movies(
    lists: np.ndarray,
    data: Interactions,
    contents: Sequence[MovieContent],
    by_content: ContentRegression,
    settings: BatchSettings,
    hidden: frozenset[str],
    caps: ListCaps,
    below: int,
) -> np.ndarray:
    """The lists (int32 [n, 20]) of users who have `below` events or more with the new movies that a night tries."""
    users, budget = np.bincount(data.movies, minlength=data.shape[1]), new_movies.NewMovieBudget.of(settings)
    too_dear = {contents[item].id for item in np.flatnonzero(caps.too_dear).tolist()}
    with step("new movies"):
        tried = new_movies.tried_movies(contents, users, hidden | too_dear, by_content, budget)
        return new_movies.with_new_movies(lists, data, contents, tried, below, budget, caps)


def _write_lists(folder: Path, lists: dict[str, np.ndarray], names: list[str], settings: BatchSettings) -> None:
    """Write lists (by file, movie indices, -1 for none), the movies' names, and the personal lists as text."""
    kind = np.uint16 if len(names) < np.iinfo(np.uint16).max else np.uint32
    indices = {name: _indices(movies, kind) for name, movies in lists.items()}
    for name, movies in indices.items():
        durable.write_array(folder / name, movies)
    durable.write_bytes(folder / "movies.txt", "".join(f"{name}\n" for name in names).encode())
    _write_texts(folder, indices["lists.npy"], np.iinfo(kind).max, names, settings)


def read_exploring(folder: Path, share: float) -> Exploring | None:
    """What a manifest says of a candidate's drawn lists; None if there are none. Raises `OSError`, `ValueError`."""
    path = folder / EXPLORED[0]
    return Exploring(share=share, users=len(np.load(path, mmap_mode="r"))) if path.exists() else None


def _indices(lists: np.ndarray, kind: type[np.unsignedinteger[Any]]) -> np.ndarray:
    """Lists as a release holds them: -1, which stands for no movie, becomes the largest value of `kind`."""
    indices = lists.astype(kind)
    indices[lists < 0] = np.iinfo(kind).max
    return indices


def _require_one_for_everyone(is_left_out: np.ndarray, caps: ListCaps) -> None:
    """Raise `NotEnoughData` if the caps leave no movie for the popular list of everyone (bool [m])."""
    if is_left_out.all() and caps.not_for_everyone.any():
        raise NotEnoughData(
            f"lists: no movie is left for everyone: {int(caps.adult.sum())} are adult, {int(caps.too_dear.sum())} cost"
            " too much; raise [batch] max_cost, or set adult_share_minors = 1"
        )


def _personal_lists(
    model: top_lists.Scorer, data: Interactions, is_hidden: np.ndarray, caps: ListCaps, advance: Advance
) -> np.ndarray:
    """A list for each user with a history, int32 [n, 20]; the others get their segment's list from a worker."""
    lists = np.full((data.shape[0], LIST_LENGTH), -1, np.int32)
    users = np.flatnonzero(np.diff(data.indptr))
    advance(data.shape[0] - len(users))
    lists[users] = top_lists.top_lists(model, data, users, is_hidden, advance, caps=caps)
    return lists


def _explore(
    folder: Path,
    lists: np.ndarray,
    model: models.Model,
    history: TrainingHistory,
    data: Interactions,
    is_hidden: np.ndarray,
    share: float,
    night_ms: int,
) -> None:
    """Replace the lists of the users who explore this night by lists that are drawn, and note their propensities.

    New movies in them go, since nobody drew those.
    """
    for name in EXPLORED:
        (folder / name).unlink(missing_ok=True)
    if not share:
        return
    with step("exploring lists"):
        rows = np.flatnonzero((np.diff(data.indptr) > 0) & exploring.explores(history.users, night_ms, share))
        pool = exploring.pools(model, data, rows, is_hidden)
        lists[rows], propensities = exploring.draw_lists(pool, history.users[rows], night_ms)
        durable.write_array(folder / "explorers.npy", rows.astype(np.uint32))
        durable.write_array(folder / "propensities.npy", propensities)


def _add_first_lists(
    lists: np.ndarray, model: DescribedTaste, data: Interactions, is_hidden: np.ndarray, caps: ListCaps
) -> None:
    """Fill in the lists of users without a history who have described themselves in words that the model knows."""
    with step("first lists"):
        model.fit(data, left_out=np.zeros(0, np.int64))
        users = np.flatnonzero(np.diff(data.indptr) == 0)
        users = users[model.known(users)]
        lists[users] = top_lists.top_lists(model, data, users, is_hidden, caps=caps)


def _factorisation(model: models.Model, data: Interactions, settings: BatchSettings) -> models.Model:
    """The model of the item embeddings, float32 [m, d], whose neighbours are movies of similar taste: the chosen one if
    it has some, else ALS, fitted to the same history.
    """
    if isinstance(model, models.PluggedIn):
        has_own = model.has_embeddings
    else:
        has_own = model.name in (models.ALS.name, models.Blend.name, models.Reranker.name)
    if has_own:
        return model
    with step("fit als"):
        factors = models.make("als", settings, {})
        factors.fit(data)
    return factors


def _write_embeddings(folder: Path, items: np.ndarray, settings: BatchSettings) -> int:
    """Write the embeddings and their index; returns the dimensions."""
    durable.write_array(folder / "items.npy", items)
    with step("index"):
        durable.write(folder / "items.ann", lambda path: _build_index(items, settings, str(path)))
    return int(items.shape[1])


def _write_texts(folder: Path, personal: np.ndarray, none: int, names: list[str], settings: BatchSettings) -> None:
    for name in RENDERED:
        (folder / name).unlink(missing_ok=True)
    small = settings.answers == "auto" and rendered.size(personal, names, none) < RENDERED_BYTES
    if settings.answers == "rendered" or small:
        with step("answers", len(personal)) as advance:
            rendered.write(folder, personal, names, none, advance)


def _build_index(items: np.ndarray, settings: BatchSettings, path: str) -> None:
    index = annoy.AnnoyIndex(items.shape[1], METRIC)
    index.set_seed(settings.seed)
    for number, vector in enumerate(items):
        index.add_item(number, vector)
    index.build(settings.trees, n_jobs=1)  # several jobs would build another index every time
    index.save(path)
