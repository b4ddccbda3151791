"""A process that dies at its n-th write to the disk, as by kill -9: it does nothing after that, not even clean up."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


class Died(BaseException):
    """The process is gone."""


@dataclass
class DyingDisk:
    """Counts what is written."""

    left: int
    """So many calls are still done whole."""

    @property
    def died(self) -> bool:
        """Whether the process is gone."""
        return self.left < 0

    def patch(self, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
        """Count the calls of a function, and die at one."""
        real = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left >= 0:
                return real(*arguments, **options)
            if name == "write_bytes" and self.left == -1:
                path, data = arguments
                real(path, data[: len(data) // 2])
            raise Died

        monkeypatch.setattr(owner, name, call)


@contextmanager
def dying_at(number: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[DyingDisk]:
    """Raise `Died` at the n-th (from 0) write, flush, rename or removal of a file, and at each after it.

    Of the bytes that it then writes, half are written. `Died` does not leave the block.
    """
    disk = DyingDisk(number)
    with monkeypatch.context() as patched:
        for owner, name in ((Path, "write_bytes"), (Path, "replace"), (Path, "unlink"), (os, "fsync")):
            disk.patch(patched, owner, name)
        with suppress(Died):
            yield disk
