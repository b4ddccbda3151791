"""Answers as text: each user's list as it is sent, found by where it begins."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch.releases import rendered

NONE = 65_535


def written(folder: Path, lists: np.ndarray, names: list[str], none: int = NONE) -> tuple[bytes, np.ndarray]:
    rendered.write(folder, lists, names, none)
    return (folder / "answers.bin").read_bytes(), np.load(folder / "answers.npy")


def texts(data: bytes, begins: np.ndarray) -> list[str]:
    marks = begins.tolist()
    return [data[begin:end].decode() for begin, end in pairwise(marks)]


@settings(deadline=None, max_examples=100)
@given(
    lists=st.lists(st.lists(st.integers(0, 29), max_size=20, unique=True), max_size=30),
    names=st.lists(st.text("abc+-._*0123456789é", min_size=1, max_size=12), min_size=30, max_size=30),
    kind=st.sampled_from([np.uint16, np.uint32]),
)
def test_every_rendered_list_begins_at_its_offset(
    tmp_path_factory: pytest.TempPathFactory, lists: list[list[int]], names: list[str], kind: type[np.generic]
) -> None:
    none = 2**32 - 1 if kind is np.uint32 else NONE
    array = np.array([[*row, *[none] * (20 - len(row))] for row in lists], kind).reshape(-1, 20)
    data, begins = written(tmp_path_factory.mktemp("answers"), array, names, none)
    assert (begins.dtype, begins.shape) == (np.dtype(np.uint64), (len(lists) + 1,))
    assert texts(data, begins) == [",".join(names[item] for item in row) for row in lists]
    assert (begins[0], begins[-1]) == (0, len(data))
    assert rendered.size(array, names, none) == len(data) + begins.nbytes


def test_the_block_size_does_not_change_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lists = np.random.default_rng(1).permuted(np.tile(np.arange(30, dtype=np.uint16), (50, 1)), axis=1)[:, :20]
    lists[7, 3:] = lists[49] = NONE
    names, block_rows = [f"movie+{number}+2000" for number in range(30)], list[int]()
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    whole = written(tmp_path / "one", lists, names)
    monkeypatch.setattr(rendered, "_ROWS", 7)
    rendered.write(tmp_path / "two", lists, names, NONE, block_rows.append)
    for name in ("answers.bin", "answers.npy"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert block_rows == [7] * 7 + [1]
    assert texts(*whole)[49] == ""


def test_earlier_rendered_files_are_replaced(tmp_path: Path) -> None:
    names = [f"movie+{number}+2000" for number in range(30)]
    written(tmp_path, np.tile(np.arange(20, dtype=np.uint16), (9, 1)), names)
    data, begins = written(tmp_path, np.full((1, 20), NONE, np.uint16), names)
    assert (data, begins.tolist()) == (b"", [0, 0])
    assert {path.name for path in tmp_path.iterdir()} == {"answers.bin", "answers.npy"}
