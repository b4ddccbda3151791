"""Compares telemetry with its reference in the worlds of some seeds, for tests."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.quality.telemetry_reference.checks import disagreements
from tests.quality.telemetry_reference.simulator import make_world
from tests.quality.telemetry_reference.worlds import save


def require_agreement(seeds: Iterable[int], folder: Path) -> None:
    """Fail at the first world that differs, and keep it in `folder`."""
    for seed in seeds:
        world = make_world(seed)
        if differing := disagreements(world, seed):
            save(world, folder / f"{seed}.tsv")
            again = f"python -m tests.quality.telemetry_reference --world {folder / f'{seed}.tsv'}"
            pytest.fail("\n".join([f"seed {seed}; again: {again}", *differing]))
