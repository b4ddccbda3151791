"""Renders personal answers as they are sent, so that workers need not join them: the files of `RENDERED`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from stream import durable

_ROWS = 10_000


def size(lists: np.ndarray, names: list[str], none: int) -> int:
    """Bytes that `write` writes for the answers of `lists` ([n, 20] item indices; `none` ends a short one)."""
    lengths = np.array([*(len(name.encode()) for name in names), 0], np.int64)
    total = 0
    for start in range(0, len(lists), _ROWS):
        block = lists[start : start + _ROWS]
        ends = block == none
        commas = np.maximum((~ends).sum(axis=1) - 1, 0)
        total += int(lengths[np.where(ends, len(names), block)].sum() + commas.sum())
    return total + (len(lists) + 1) * np.dtype(np.uint64).itemsize


def write(
    folder: Path, lists: np.ndarray, names: list[str], none: int, advance: Callable[[int], object] = lambda users: None
) -> None:
    """Write the answers of `lists` (item indices [n, 20], `none` ends a short one) into `folder`."""
    words = [name.encode() for name in names]
    lengths = np.zeros(len(lists) + 1, np.uint64)

    def fill(path: Path) -> None:
        with path.open("wb") as file:
            for first in range(0, len(lists), _ROWS):
                block = lists[first : first + _ROWS].tolist()
                texts = [b",".join([words[item] for item in items if item != none]) for items in block]
                file.writelines(texts)
                lengths[first + 1 : first + 1 + len(texts)] = [len(text) for text in texts]
                advance(len(texts))

    durable.write(folder / "answers.bin", fill)
    begins = np.cumsum(lengths, dtype=np.uint64)
    durable.write_array(folder / "answers.npy", begins)
