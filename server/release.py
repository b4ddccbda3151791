"""A release as a worker sees it: verified, mapped, immutable.

`Release.open` takes nothing on trust: layout, size and sha256 of every file, shapes and dtypes against each other,
the Annoy file against the manifest before it is loaded (a wrong dimension is garbage or a crash), then a self-test.
Arrays are mapped read-only, so workers share one copy in the page cache. Files of a published release are never
written to.
"""

import hashlib
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import annoy
import numpy as np
import orjson

from server.errors import BadRelease

LAYOUT = 1
LENGTH = 20
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
METRIC: Literal["angular"] = "angular"

MAX_USER = 2**32 - 1

Source = Literal["personal", "segment", "popular"]


@dataclass(frozen=True)
class Release:
    """One release. n users, m movies, s segments; `none`, the largest value of the dtype of `lists`, ends a short
    list."""

    id: str
    manifest: dict[str, Any]
    movies: list[str]
    """[m] movie ids by item index."""
    users: np.ndarray
    """uint32 [n], ascending."""
    lists: np.ndarray
    """uint16 or uint32 [n, 20] item indices, best first."""
    fallbacks: np.ndarray
    """As `lists`, [s + 1, 20]: the popular list of everyone, then of each segment."""
    segments: np.ndarray
    """uint8 [n]: each user's segment, 0 for none."""
    items: np.ndarray
    """float32 [m, d] item embeddings."""
    index: annoy.AnnoyIndex

    @staticmethod
    def open(folder: Path) -> "Release":
        """Open and verify a release. Raises `BadRelease` with what is wrong."""
        manifest = _manifest(folder)
        for name in FILES:
            _verify(folder, name, manifest)
        try:
            movies = (folder / "movies.txt").read_text("utf-8").splitlines()
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
        except (OSError, ValueError, EOFError) as error:
            raise BadRelease(f"{folder}: {error}") from error
        _check_shapes(folder, len(movies), arrays)
        index = _index(folder, arrays["items"])
        release = Release(id=manifest["id"], manifest=manifest, movies=movies, index=index, **arrays)
        release.self_test()
        return release

    def indices(self, user: int) -> tuple[np.ndarray, Source]:
        """The list of a user id, item indices without `none`, and where it came from."""
        # as uint32: for an int of Python's, numpy would copy all ids to int64 first
        row = int(self.users.searchsorted(np.uint32(user))) if user <= MAX_USER else len(self.users)
        known = row < len(self.users) and self.users[row] == user
        none = np.iinfo(self.lists.dtype).max
        if known and self.lists[row, 0] != none:
            return self.lists[row][self.lists[row] != none], "personal"
        segment = int(self.segments[row]) if known else 0
        fallback = self.fallbacks[segment]
        return fallback[fallback != none], "segment" if segment else "popular"

    def answer(self, user: int) -> tuple[str, Source]:
        """What to answer for a user id: up to 20 movie ids separated by commas, best first; never empty."""
        found, source = self.indices(user)
        return ",".join([self.movies[item] for item in found.tolist()]), source

    def self_test(self) -> None:
        """Raises `BadRelease` where an answer is not as it must be, or a movie is not its own neighbour."""
        step = max(1, len(self.users) // 100)
        for user in [0, *self.users[::step].tolist()]:
            answer = self.answer(user)[0].split(",")
            if not 1 <= len(answer) == len(set(answer)) <= LENGTH or not all(answer):
                raise BadRelease(f"{self.id}: self-test: user {user} would be answered {answer}")
        item = int(np.argmax(np.linalg.norm(self.items, axis=1)))
        if not self.items[item].any() or not np.allclose(self.index.get_item_vector(item), self.items[item]):
            raise BadRelease(f"{self.id}: self-test: items.ann and items.npy do not hold the same of movie {item}")
        distance = self.index.get_nns_by_item(item, 1, include_distances=True)[1]
        if not distance or distance[0] > _NEAR:
            raise BadRelease(f"{self.id}: self-test: movie {item} is not its own nearest neighbour")


_NEAR = 1e-3
"""Angular distance of float32 vectors that are the same."""
_ARRAYS = ("users", "lists", "fallbacks", "segments", "items")


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = orjson.loads((folder / "manifest.json").read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise BadRelease(f"{folder}: manifest.json cannot be read: {error}") from error
    if not isinstance(manifest, dict) or manifest.get("layout") != LAYOUT:
        raise BadRelease(f"{folder}: this version reads layout {LAYOUT}, not what manifest.json says")
    if not isinstance(manifest.get("id"), str) or not isinstance(manifest.get("files"), dict):
        raise BadRelease(f"{folder}: manifest.json has no id or no files")
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


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            return hashlib.sha256().hexdigest()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return hashlib.sha256(view).hexdigest()


def _check_shapes(folder: Path, movies: int, arrays: dict[str, np.ndarray]) -> None:
    """Raises `BadRelease` where the arrays are not of the layout, or contradict each other."""
    users, lists, fallbacks, segments, items = (arrays[name] for name in _ARRAYS)
    forms = {
        "movies.txt": movies > 0,
        "users.npy": users.dtype == np.uint32 and users.ndim == 1,
        "lists.npy": lists.dtype in (np.uint16, np.uint32) and lists.shape[:1] == users.shape[:1],
        "fallbacks.npy": fallbacks.dtype == lists.dtype and fallbacks.ndim == 2 and len(fallbacks) > 0,
        "segments.npy": segments.dtype == np.uint8 and segments.shape == users.shape,
        "items.npy": items.dtype == np.float32 and items.ndim == 2 and len(items) == movies and items.shape[1] > 0,
    }
    forms["lists.npy"] &= lists.ndim == 2 and lists.shape[1:] == fallbacks.shape[1:] == (LENGTH,)
    if all(forms.values()):
        none = np.iinfo(lists.dtype).max
        forms["users.npy"] = bool(np.all(users[1:] > users[:-1]))
        forms["lists.npy"] = bool(((lists < movies) | (lists == none)).all())
        forms["fallbacks.npy"] = bool(((fallbacks < movies) | (fallbacks == none)).all())
        forms["fallbacks.npy"] &= bool((fallbacks[:, 0] != none).all())
        forms["segments.npy"] = bool((segments < len(fallbacks)).all())
        forms["items.npy"] = bool(np.isfinite(items).all())
    wrong = [name for name, holds in forms.items() if not holds]
    if wrong:
        raise BadRelease(f"{folder}: {', '.join(wrong)}: not of the layout, or in contradiction to the other files")


def _index(folder: Path, items: np.ndarray) -> annoy.AnnoyIndex:
    index = annoy.AnnoyIndex(items.shape[1], METRIC)
    try:
        index.load(str(folder / "items.ann"))
    except OSError as error:
        raise BadRelease(f"{folder}: items.ann: {error}") from error
    if index.get_n_items() != len(items):
        raise BadRelease(f"{folder}: items.ann holds {index.get_n_items()} movies, movies.txt {len(items)}")
    return index
