"""Small releases made by hand, file by file, as the layout says."""

import hashlib
from pathlib import Path

import annoy
import numpy as np
import orjson

from batch.releases import rendered
from stream import durable

MOVIES = [f"movie+{number}+2000" for number in range(30)]
NO_MOVIE = 65_535
USERS = [1, 5, 9, 11, 2**32 - 1]
"""1 has a full list, 5 a short one, 9 none but a segment, 11 neither, the last a full one."""


def arrays(shift: int) -> dict[str, np.ndarray]:
    """What a release holds; user 1's list begins with movie `shift`."""
    lists = np.full((5, 20), NO_MOVIE, np.uint16)
    lists[0] = (np.arange(20) + shift) % 30
    lists[1, :3] = [7, 0, 29]
    lists[4] = np.arange(29, 9, -1)
    fallbacks = np.stack([np.arange(20), np.arange(5, 25), np.arange(25, 5, -1)]).astype(np.uint16)
    fallbacks[2, 4:] = NO_MOVIE
    items = np.random.default_rng(3).normal(size=(30, 8)).astype(np.float32)
    return {
        "users": np.array(USERS, np.uint32),
        "lists": lists,
        "fallbacks": fallbacks,
        "segments": np.array([1, 0, 2, 0, 2], np.uint8),
        "items": items,
    }


def explored_arrays(lists: np.ndarray, rows: tuple[int, ...]) -> dict[str, np.ndarray]:
    """What a release holds besides, if the lists of some rows were drawn by lot, from pools of 50."""
    chances = np.where(lists[[*rows]] == NO_MOVIE, 0, 0.4).astype(np.float32)
    return {"explorers": np.array(rows, np.uint32), "propensities": chances}


def index_of(items: np.ndarray, trees: int) -> annoy.AnnoyIndex:
    index = annoy.AnnoyIndex(items.shape[1], "angular")
    index.set_seed(1)
    for number, vector in enumerate(items):
        index.add_item(number, vector)
    index.build(trees, n_jobs=1)
    return index


def seal(folder: Path) -> None:
    """Let the manifest say what lies there now."""
    manifest = orjson.loads((folder / "manifest.json").read_bytes())
    for name in manifest["files"]:
        data = (folder / name).read_bytes()
        manifest["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "manifest.json").write_bytes(orjson.dumps(manifest))


def write_release(
    releases: Path,
    name: str,
    shift: int = 0,
    text: bool = False,
    movies: list[str] = MOVIES,
    trees: int = 3,
    model: str = "blend",
    **changed: np.ndarray,
) -> Path:
    """A whole release, as `arrays` and what is changed of them say; with `text`, with the answers as text as well;
    `model` is said to have made the lists."""
    folder = releases / name
    folder.mkdir(parents=True)
    (folder / "movies.txt").write_text("".join(f"{movie}\n" for movie in movies), "utf-8")
    held = {**arrays(shift), **changed}
    for stem, array in held.items():
        np.save(folder / f"{stem}.npy", array)
    if text:
        rendered.write(folder, held["lists"], movies, int(np.iinfo(held["lists"].dtype).max))
    (folder / "evaluation.json").write_bytes(b"{}")
    index_of(held["items"], trees).save(str(folder / "items.ann"))
    files: dict[str, object] = {path.name: {} for path in folder.iterdir()}
    (folder / "manifest.json").write_bytes(
        orjson.dumps({"layout": 1, "id": name, "model": {"lists": model}, "files": files})
    )
    seal(folder)
    return folder


def point_current(var: Path, name: str) -> None:
    """Make a release below `var` the current one."""
    durable.point(var / "releases" / "current", name)


def names(*numbers: int) -> str:
    """Movies as an answer has them."""
    return ",".join(f"movie+{number}+2000" for number in numbers)
