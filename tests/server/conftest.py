"""Releases, and folders with a current release for workers to answer from."""

from pathlib import Path

import pytest

from tests.server.sample_releases import point_current, write_release


def _with_current_release(var: Path) -> Path:
    write_release(var / "releases", "one")
    point_current(var, "one")
    return var


@pytest.fixture
def var(tmp_path: Path) -> Path:
    """A `var` whose current release is `one`, for a single test."""
    return _with_current_release(tmp_path / "var")


@pytest.fixture(scope="module")
def module_var(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for all tests of a module, which must leave it as it is."""
    return _with_current_release(tmp_path_factory.mktemp("module") / "var")


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    """A release with its answers as text (`answers.bin`, `answers.npy`)."""
    return write_release(tmp_path, "rendered", text=True)
