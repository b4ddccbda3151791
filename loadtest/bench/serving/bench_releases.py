"""Releases to serve from, written straight in the layout of `server/release.py`: of any size, within seconds.

Movie ids are those of the simulated catalogue; lists are random, without repetition. So neither the names of a list nor
the requested users are adjacent in memory: nothing is easier than in production.

The rendered release is the compact one plus rendered answers, and both exist twice: below separate
folders, for the compared workers, and below one folder together, for the swapping ones. The files are hard links.

    <folder>/compact/releases/<id>      <folder>/rendered/releases/<id>      <folder>/both/releases/<id>, <id>
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import annoy
import numpy as np

from batch.releases import rendered
from batch.releases.publish import file_digest, write_manifest
from batch.settings import BatchSettings
from loadtest.simulation.catalogue import make_catalogue
from server.manifest import Manifest
from server.release import FILES, LAYOUT, METRIC, RENDERED
from stream import durable
from stream.event import LIST_LENGTH

DIMENSIONS = BatchSettings().factors
_TREES = BatchSettings().trees
_SEGMENTS, _FALLBACK = 10, 100
_CLUSTERS = 300
_COMPACT, _RENDERED = "20260101T080000Z-00000001", "20260102T080000Z-00000002"
_SPREAD = 20
"""Movies of a list are at most 1/20 of the catalogue apart, so that all twenty are different."""


@dataclass(frozen=True)
class ReleaseStage:
    """Folders `var` to serve from, each with a current release for the users 1 to `users`."""

    users: int
    compact: Path
    rendered: Path
    both: Path
    """Holds both releases; the compact one is current."""

    @property
    def releases(self) -> tuple[Path, Path]:
        """The two releases of `both`."""
        return self.both / "releases" / _COMPACT, self.both / "releases" / _RENDERED


def make(folder: Path, users: int, movies: int, seed: int) -> ReleaseStage:
    """Write both releases."""
    rng = np.random.default_rng(seed)
    stage = ReleaseStage(users, folder / "compact", folder / "rendered", folder / "both")
    compact, full = stage.compact / "releases" / _COMPACT, stage.rendered / "releases" / _RENDERED
    names = make_catalogue(movies, seed, "2022").ids
    arrays = _arrays(rng, users, movies)
    write(compact, names, arrays, clustered(rng, movies))
    full.mkdir(parents=True)
    _link(compact, full, FILES)
    rendered.write(full, arrays["lists"], list(names), int(np.iinfo(arrays["lists"].dtype).max))
    _seal(full)
    for release, twin in zip((compact, full), stage.releases, strict=True):
        twin.mkdir(parents=True)
        _link(release, twin, sorted(path.name for path in release.iterdir()))
    for var, release in ((stage.compact, compact), (stage.rendered, full), (stage.both, compact)):
        durable.point(var / "releases" / "current", release.name)
    return stage


def write(release: Path, names: Iterable[str], arrays: dict[str, np.ndarray], items: np.ndarray) -> None:
    """Write a compact release with these movies, arrays and embeddings, its index and its manifest."""
    release.mkdir(parents=True)
    durable.write_bytes(release / "movies.txt", "".join(f"{name}\n" for name in names).encode())
    for name, array in {**arrays, "items": items}.items():
        durable.write_array(release / f"{name}.npy", array)
    index = annoy.AnnoyIndex(items.shape[1], METRIC)
    index.set_seed(1)
    for number, vector in enumerate(items.tolist()):
        index.add_item(number, vector)
    index.build(_TREES)
    index.save(str(release / "items.ann"))
    durable.write_json(release / "evaluation.json", {})
    _seal(release)


def write_small(release: Path, items: np.ndarray) -> None:
    """Write a release with few users, to search neighbours of movies."""
    movies = len(items)
    arrays = _arrays(np.random.default_rng(1), 100, movies)
    write(release, (f"movie+{number}+2000" for number in range(movies)), arrays, items)


def clustered(rng: np.random.Generator, movies: int) -> np.ndarray:
    """Embeddings like those of a factorisation: clusters of all sizes, few strong dimensions, different lengths.

    float32 [movies, d].
    """
    strength = (np.arange(DIMENSIONS) + 1.0) ** -0.5
    centres = rng.normal(size=(_CLUSTERS, DIMENSIONS))
    cluster = np.minimum(rng.zipf(1.3, movies), _CLUSTERS) - 1
    around = centres[cluster] + 0.7 * rng.normal(size=(movies, DIMENSIONS))
    return np.asarray(around * strength * rng.lognormal(0.0, 1.0, (movies, 1)), np.float32)


def scattered(rng: np.random.Generator, movies: int) -> np.ndarray:
    """Embeddings without any order, in which neighbours are hardest to find: float32 [movies, d]."""
    return rng.normal(size=(movies, DIMENSIONS)).astype(np.float32)


def _arrays(rng: np.random.Generator, users: int, movies: int) -> dict[str, np.ndarray]:
    kind = np.uint16 if movies < np.iinfo(np.uint16).max else np.uint32
    step = rng.integers(1, max(2, movies // _SPREAD), (users, 1))
    lists = (rng.integers(0, movies, (users, 1)) + step * np.arange(LIST_LENGTH)) % movies
    fallbacks = np.stack([rng.permutation(movies)[:_FALLBACK] for _ in range(_SEGMENTS + 1)])
    return {
        "users": np.arange(1, users + 1, dtype=np.uint32),
        "lists": lists.astype(kind),
        "fallbacks": fallbacks.astype(kind),
        "segments": rng.integers(0, _SEGMENTS + 1, users).astype(np.uint8),
    }


def _seal(release: Path) -> None:
    """Write the manifest of the files in a release."""
    names = [name for name in (*FILES, *RENDERED) if (release / name).exists()]
    files = {name: file_digest(release / name) for name in names}
    write_manifest(release, Manifest(layout=LAYOUT, id=release.name, files=files))


def _link(source: Path, target: Path, names: Iterable[str]) -> None:
    for name in names:
        os.link(source / name, target / name)
