"""A release as a worker sees it: verified, mapped, immutable.

`Release.open` takes nothing on trust the first time: layout, size and sha256 of every file, shapes, dtypes and ranges
of the arrays against each other, the Annoy file against the manifest before it is loaded (a wrong dimension is garbage
or a crash). What was verified once on a host is remembered. Arrays are mapped read-only, so workers share one copy in
the page cache. Files of a published release are never written to. What is answered from it is `answers.py`.
"""

import hashlib
import mmap
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import annoy
import numpy as np
import orjson

from server import verified
from server.errors import BadRelease

LAYOUT = 1
LENGTH = 20
"""Movies in an answer."""
FILES = (
    "movies.txt",
    "users.npy",
    "lists.npy",
    "fallbacks.npy",
    "segments.npy",
    "items.npy",
    "items.ann",
    "evaluation.json",
)
RENDERED = ("answers.bin", "answers.npy")
"""Files that a release may have as well: every personal answer as text, one after the other, and where each begins."""
METRIC: Literal["angular"] = "angular"
MOVIE = r"[a-z0-9+\-._*]+"
"""A movie id, as the grammar of the stream has it."""


@dataclass(frozen=True)
class Rendered:
    """Personal answers as they are sent: that of row i is `texts[begins[i] : begins[i + 1]]`, empty for none."""

    texts: mmap.mmap | bytes
    begins: np.ndarray
    """uint64 [n + 1]."""


@dataclass(frozen=True)
class Release:
    """One release. n users, m movies, s segments; `none`, the largest value of the dtype of `lists`, ends a short
    list."""

    id: str
    manifest: dict[str, Any]
    names: list[bytes]
    """[m] movie ids by item index, as they are sent."""
    users: np.ndarray
    """uint32 [n], ascending."""
    lists: np.ndarray
    """uint16 or uint32 [n, 20] item indices, best first."""
    fallbacks: np.ndarray
    """As `lists`, [s + 1, 20 or more]: the popular list of everyone, then of each segment. The first 20 are shown."""
    segments: np.ndarray
    """uint8 [n]: each user's segment, 0 for none."""
    items: np.ndarray
    """float32 [m, d] item embeddings."""
    index: annoy.AnnoyIndex
    rendered: Rendered | None
    published: float
    """When it was published, seconds since 1970."""

    @staticmethod
    def open(folder: Path) -> "Release":
        """Open and verify a release. Raises `BadRelease` with what is wrong."""
        manifest = read_manifest(folder)
        given = [name for name in RENDERED if name in manifest["files"]]
        if given not in ([], [*RENDERED]):
            raise BadRelease(f"{folder}: manifest.json names {given[0]} without the other of {', '.join(RENDERED)}")
        files = [*FILES, *given]
        try:
            state = verified.state_of(folder, ["manifest.json", *files])
        except OSError as error:
            raise BadRelease(f"{folder}: {Path(error.filename).name}: {error.strerror}") from error
        known = verified.is_known(folder, state)
        for name in () if known else files:
            _verify(folder, name, manifest)
        try:
            names = (folder / "movies.txt").read_bytes().splitlines()
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
            rendered = _rendered(folder) if given else None
        except Exception as error:  # numpy raises what it pleases over a garbled header
            raise BadRelease(f"{folder}: {error!r}") from error
        if not known:
            _check(folder, names, arrays, rendered)
        index = _index(folder, manifest, arrays["items"])
        published = (folder / "manifest.json").stat().st_mtime
        release = Release(
            manifest["id"], manifest, names, **arrays, index=index, rendered=rendered, published=published
        )
        release.test_index()
        if not known:
            verified.remember(folder, state)
        return release

    @cached_property
    def movies(self) -> list[str]:
        """[m] movie ids by item index. Made when it is asked for: answering does without, and a swap is to be quick."""
        return [name.decode() for name in self.names]

    def test_index(self) -> None:
        """Raises `BadRelease` where the index does not hold the embeddings, or a movie is not its own neighbour."""
        step = max(1, len(self.items) // _SAMPLE)
        item = step * int(np.argmax(np.linalg.norm(self.items[::step], axis=1)))
        if not self.items[item].any() or not np.allclose(self.index.get_item_vector(item), self.items[item]):
            raise BadRelease(f"{self.id}: self-test: items.ann and items.npy do not hold the same of movie {item}")
        distance = self.index.get_nns_by_item(item, 1, include_distances=True)[1]
        if not distance or distance[0] > _NEAR:
            raise BadRelease(f"{self.id}: self-test: movie {item} is not its own nearest neighbour")


def list_source(release: Release, segment: int) -> Literal["personal", "segment", "popular"]:
    """What a list that `lists.npy` holds for a user of a segment is.

    Popular models fill it as well, with the popular list less what the user has seen; that of the segments gives users
    without a segment (0) the list of everyone.
    """
    model = release.manifest.get("model")
    name = model.get("lists") if isinstance(model, dict) else None
    if name == "segment" and segment:
        return "segment"
    return "popular" if name in ("popular", "segment") else "personal"


_ID = re.compile(r"[!-~]{1,100}")
"""It is told in a header of each answer."""
_MOVIE = re.compile(MOVIE.encode())
_SAMPLE = 1000
_NODE_BYTES = 12
"""What a node of Annoy's angular index has before its vector: the number of its descendants, and two of them."""
_NEAR = 1e-3
"""Angular distance of float32 vectors that are the same."""
_ARRAYS = ("users", "lists", "fallbacks", "segments", "items")
_ROWS = 1 << 16
"""Rows that are looked at together, so that checking a million users takes no memory to speak of."""


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a release of this layout. Raises `BadRelease`."""
    try:
        manifest = orjson.loads((folder / "manifest.json").read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise BadRelease(f"{folder}: manifest.json cannot be read: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("layout") != LAYOUT:
        raise BadRelease(f"{folder}: this version reads layout {LAYOUT}, not what manifest.json says")
    if (
        not isinstance(name := manifest.get("id"), str)
        or not _ID.fullmatch(name)
        or not isinstance(manifest.get("files"), dict)
    ):
        raise BadRelease(f"{folder}: manifest.json has no files, or no id of visible ASCII")
    return manifest


def _verify(folder: Path, name: str, manifest: dict[str, Any]) -> None:
    promised = manifest["files"].get(name)
    if not isinstance(promised, dict):
        raise BadRelease(f"{folder}: manifest.json does not name {name}")
    path = folder / name
    try:
        size = path.stat().st_size
        digest = sha256(path) if size == promised.get("size") else ""
    except OSError as error:
        raise BadRelease(f"{folder}: {name}: {error.strerror}") from error
    if size != promised.get("size"):
        raise BadRelease(f"{folder}: {name} has {size} bytes, the manifest says {promised.get('size')}")
    if digest != promised.get("sha256"):
        raise BadRelease(f"{folder}: {name} is not what was published: its sha256 differs")


def forget(folder: Path) -> None:
    """Drop what is remembered of a release that is gone."""
    verified.forget(folder)


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            return hashlib.sha256().hexdigest()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return hashlib.sha256(view).hexdigest()


def _rendered(folder: Path) -> Rendered:
    begins = np.load(folder / "answers.npy", mmap_mode="r")
    with (folder / "answers.bin").open("rb") as file:
        if not (folder / "answers.bin").stat().st_size:  # nothing cannot be mapped
            return Rendered(b"", begins)
        return Rendered(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), begins)


def _check(folder: Path, names: list[bytes], arrays: dict[str, np.ndarray], rendered: Rendered | None) -> None:
    """Raises `BadRelease` where the files are not of the layout, or contradict each other."""
    wrong = _wrong_shapes(len(names), arrays, rendered) or _wrong_values(len(names), arrays)
    if not wrong and not (len(set(names)) == len(names) and all(map(_MOVIE.fullmatch, names))):
        wrong = ["movies.txt"]
    if not wrong and rendered is not None:
        wrong = _wrong_texts(names, arrays["lists"], rendered)
    if wrong:
        raise BadRelease(f"{folder}: {', '.join(wrong)}: not of the layout, or in contradiction to the other files")


def _wrong_shapes(movies: int, arrays: dict[str, np.ndarray], rendered: Rendered | None) -> list[str]:
    users, lists, fallbacks, segments, items = (arrays[name] for name in _ARRAYS)
    forms = {
        "movies.txt": movies > 0,
        "users.npy": users.dtype == np.uint32 and users.ndim == 1,
        "lists.npy": lists.dtype in (np.uint16, np.uint32) and lists.shape == (*users.shape, LENGTH),
        "fallbacks.npy": fallbacks.dtype == lists.dtype and fallbacks.ndim == 2 and fallbacks.shape[1] >= LENGTH,
        "segments.npy": segments.dtype == np.uint8 and segments.shape == users.shape,
        "items.npy": items.dtype == np.float32 and items.ndim == 2 and len(items) == movies and items.shape[1] > 0,
        "answers.npy": rendered is None or _is_of(rendered.begins, np.uint64, (users.size + 1,)),
    }
    return [name for name, holds in forms.items() if not holds]


def _is_of(array: np.ndarray, kind: type[np.generic], shape: tuple[int, ...]) -> bool:
    return array.dtype == kind and array.shape == shape


def _wrong_values(movies: int, arrays: dict[str, np.ndarray]) -> list[str]:
    users, lists, fallbacks, segments, items = (arrays[name] for name in _ARRAYS)
    none = np.iinfo(lists.dtype).max
    blocks = (lists[at : at + _ROWS] for at in range(0, len(lists), _ROWS))
    forms = {
        "users.npy": bool(np.all(users[1:] > users[:-1])),
        "lists.npy": all(_are_lists(block, movies, none) for block in blocks),
        "fallbacks.npy": len(fallbacks) > 0 and fallbacks[0, 0] != none and _are_lists(fallbacks, movies, none),
        "segments.npy": bool((segments < len(fallbacks)).all()),
        "items.npy": bool(np.isfinite(items).all()),
    }
    return [name for name, holds in forms.items() if not holds]


def _wrong_texts(names: list[bytes], lists: np.ndarray, rendered: Rendered) -> list[str]:
    """Whether the texts are those of the lists: the length of each, and all of some."""
    begins, texts, none = rendered.begins, rendered.texts, np.iinfo(lists.dtype).max
    lengths = np.array([*map(len, names), 0], np.uint64)
    forms = {"answers.npy": begins[0] == 0, "answers.bin": int(begins[-1]) == len(texts)}
    for at in range(0, len(lists), _ROWS):
        ends = lists[at : at + _ROWS] == none
        commas = np.maximum(LENGTH - ends.sum(axis=1), 1) - 1
        held = lengths[np.where(ends, len(names), lists[at : at + _ROWS])].sum(axis=1) + commas.astype(np.uint64)
        forms["answers.npy"] &= bool((np.diff(begins[at : at + len(held) + 1]) == held).all())
    for row in range(0, len(lists) if all(forms.values()) else 0, max(1, len(lists) // _SAMPLE)):
        said = b",".join(names[item] for item in lists[row].tolist() if item != none)
        forms["answers.bin"] &= texts[int(begins[row]) : int(begins[row + 1])] == said
    return [name for name, holds in forms.items() if not holds]


def _are_lists(lists: np.ndarray, movies: int, none: int) -> bool:
    """Whether rows are lists of movies, each at most once, with nothing behind the first `none`."""
    ordered = np.sort(lists, axis=1)
    ends = lists == none
    return bool(
        ((lists < movies) | ends).all()
        and not (ends[:, :-1] & ~ends[:, 1:]).any()
        and not ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != none)).any()
    )


def _index(folder: Path, manifest: dict[str, Any], items: np.ndarray) -> annoy.AnnoyIndex:
    told, count, dimensions = manifest.get("model"), *items.shape
    told = told if isinstance(told, dict) else {}
    if told.get("metric", METRIC) != METRIC or told.get("dimensions", dimensions) != dimensions:
        raise BadRelease(
            f"{folder}: items.ann is not of {dimensions} dimensions and metric {METRIC}, says manifest.json"
        )
    if (folder / "items.ann").stat().st_size % (_NODE_BYTES + dimensions * items.itemsize):
        raise BadRelease(f"{folder}: items.ann does not consist of nodes of {dimensions} dimensions")
    index = annoy.AnnoyIndex(items.shape[1], METRIC)
    try:
        index.load(str(folder / "items.ann"))
    except OSError as error:
        raise BadRelease(f"{folder}: items.ann: {error}") from error
    if index.get_n_items() != count:
        raise BadRelease(f"{folder}: items.ann holds {index.get_n_items()} movies, movies.txt {count}")
    return index
