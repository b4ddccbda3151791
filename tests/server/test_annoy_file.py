"""Indexes that Annoy builds pass, and no file that passes can crash or hang the process that searches it."""

import mmap
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import annoy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.annoy_file import MOST_DIMENSIONS, structure_fault
from server.errors import BadRelease
from server.release import Release
from tests.polling import DEADLINE_S
from tests.server.sample_releases import seal, write_release
from tests.server.worker_processes import ROOT

KINDS: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "normal": lambda rng, count, dimensions: rng.normal(size=(count, dimensions)),
    "all the same": lambda rng, count, dimensions: np.ones((count, dimensions)),
    "nothing": lambda rng, count, dimensions: np.zeros((count, dimensions)),
    "few values": lambda rng, count, dimensions: rng.integers(-1, 2, (count, dimensions)),
    "huge": lambda rng, count, dimensions: 1e30 * rng.normal(size=(count, dimensions)),
}


def built(path: Path, items: np.ndarray, trees: int, jobs: int = 1) -> bytes:
    index = annoy.AnnoyIndex(items.shape[1], "angular")
    for number, vector in enumerate(items):
        index.add_item(number, vector)
    index.build(trees, n_jobs=jobs)
    index.save(str(path))
    return path.read_bytes()


@settings(max_examples=150)
@given(
    kind=st.sampled_from(list(KINDS)),
    count=st.one_of(st.integers(1, 5), st.integers(1, 300)),
    dimensions=st.one_of(st.integers(1, 4), st.integers(1, 70)),
    trees=st.integers(1, 12),
    jobs=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_every_index_that_annoy_builds_passes(
    tmp_path_factory: pytest.TempPathFactory, kind: str, count: int, dimensions: int, trees: int, jobs: int, seed: int
) -> None:
    items = KINDS[kind](np.random.default_rng(seed), count, dimensions).astype(np.float32)
    data = built(tmp_path_factory.mktemp("index") / "items.ann", items, trees, jobs)
    assert structure_fault(data, items) is None


def test_blocks_are_checked_one_by_one_and_show_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = np.random.default_rng(1).normal(size=(500, 4)).astype(np.float32)
    data = built(tmp_path / "items.ann", items, 3)
    monkeypatch.setattr("server.annoy_file._BLOCK_BYTES", 28 * 10)
    shown: list[int] = []
    assert structure_fault(data, items, lambda: shown.append(1)) is None
    assert len(shown) == -(-500 // 10) + -(-(len(data) // 28 - 500) // 10)
    nodes = np.frombuffer(bytearray(data), np.int32).reshape(-1, 7)
    for index in (499, 500, len(nodes) - 2):
        wrong = nodes.copy()
        wrong[index, 0] = 7
        assert str(index) in str(structure_fault(wrong.tobytes(), items))


def bucket_of(nodes: np.ndarray) -> int:
    return next(index for index in range(30, len(nodes)) if 1 < nodes[index, 0] <= 10)


def split_of(nodes: np.ndarray) -> int:
    return next(index for index in range(len(nodes)) if nodes[index, 0] > 10)


Wreck = Callable[[np.ndarray], object]


def wild_child(nodes: np.ndarray) -> None:
    nodes[split_of(nodes), 1] = 2**30


def negative_child(nodes: np.ndarray) -> None:
    nodes[split_of(nodes), 2] = -5


def own_child(nodes: np.ndarray) -> None:
    index = split_of(nodes)
    nodes[index, 1:3] = index


def circle(nodes: np.ndarray) -> None:
    nodes[split_of(nodes), 1] = len(nodes) - 1


def wild_member(nodes: np.ndarray) -> None:
    nodes[bucket_of(nodes), 2] = 2**30


def negative_member(nodes: np.ndarray) -> None:
    nodes[bucket_of(nodes), 1] = -(2**30)


def member_that_is_no_movie(nodes: np.ndarray) -> None:
    nodes[bucket_of(nodes), 1] = 30


def negative_count(nodes: np.ndarray) -> None:
    nodes[bucket_of(nodes), 0] = -(2**31)


def empty_bucket(nodes: np.ndarray) -> None:
    nodes[bucket_of(nodes), 0] = 0


def item_of_many(nodes: np.ndarray) -> None:
    nodes[3, 0] = 12


def more_movies(nodes: np.ndarray) -> None:
    nodes[nodes[:, 0] == 30, 0] = 2**31 - 1


def fewer_movies(nodes: np.ndarray) -> None:
    nodes[nodes[:, 0] == 30, 0] = 11


def other_vector(nodes: np.ndarray) -> None:
    nodes[29, 10] ^= 1


WRECKS = [
    wild_child, negative_child, own_child, circle, wild_member, negative_member,
    member_that_is_no_movie, negative_count, empty_bucket, item_of_many, more_movies, fewer_movies, other_vector,
]  # fmt: skip


def wrecked(folder: Path, wreck: Wreck) -> None:
    nodes = np.frombuffer(bytearray((folder / "items.ann").read_bytes()), np.int32).reshape(-1, 11).copy()
    wreck(nodes)
    (folder / "items.ann").write_bytes(nodes.tobytes())
    seal(folder)


@pytest.mark.parametrize("wreck", WRECKS)
def test_a_sealed_index_of_wild_structure_is_refused(tmp_path: Path, wreck: Wreck) -> None:
    folder = write_release(tmp_path, "wild")
    wrecked(folder, wreck)
    for _ in range(2):  # a refused release is not noted as verified
        with pytest.raises(BadRelease, match=r"items\.ann"):
            Release.open(folder)


@pytest.mark.parametrize("roots", [0, 1])
def test_an_index_without_trees_is_refused(tmp_path: Path, roots: int) -> None:
    items = np.random.default_rng(1).normal(size=(30, 8)).astype(np.float32)
    data = built(tmp_path / "items.ann", items, 1)[: 44 * (30 + roots)]
    assert structure_fault(data, items) is not None


def test_more_dimensions_than_the_stack_holds_are_refused() -> None:
    items = np.ones((1, MOST_DIMENSIONS + 1), np.float32)
    assert "dimensions" in str(structure_fault(b"", items))


SEARCH = """
import sys
from pathlib import Path
from server.answers import Answers
from server.errors import BadRelease
from server.release import Release
for folder in sys.argv[1:]:
    try:
        answers = Answers(Release.open(Path(folder)))
    except BadRelease:
        continue
    for movie in answers.release.movies:
        assert answers.similar(movie, 20) is not None
    print(folder)
"""


@settings(max_examples=3)
@given(seed=st.integers(0, 10**6), trees=st.integers(1, 8))
def test_a_sealed_index_with_random_damage_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, seed: int, trees: int
) -> None:
    """Whatever value a word of the structure gets, opening and searching the index never crashes or hangs."""
    rng, releases, folders = np.random.default_rng(seed), tmp_path_factory.mktemp("damaged"), list[Path]()
    values = [0, 1, 2, 10, 11, 29, 30, 31, 2**31 - 1, -1, -(2**31)]

    def wreck(nodes: np.ndarray) -> None:
        for _ in range(int(rng.integers(1, 4))):
            index, word = int(rng.integers(0, len(nodes))), int(rng.choice([0, 0, 1, 2, int(rng.integers(0, 11))]))
            nodes[index, word] = int(rng.choice([*values, int(rng.integers(0, len(nodes)))]))

    for number in range(40):
        folders.append(write_release(releases, f"damaged-{number}", trees=trees))
        wrecked(folders[-1], wreck)
    command = [sys.executable, "-c", SEARCH, *map(str, folders)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) < len(folders)


def test_a_worker_maps_the_index_and_does_not_copy_it(tmp_path: Path) -> None:
    folder = write_release(tmp_path, "one")
    release = Release.open(folder)
    with (folder / "items.ann").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        assert structure_fault(data, release.items) is None
    maps = Path("/proc/self/maps").read_text().splitlines()
    assert any(line.endswith(str(folder / "items.ann")) for line in maps)
