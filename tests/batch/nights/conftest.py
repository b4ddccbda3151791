"""What the tests of nights share."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def var(past: Path, tmp_path: Path) -> Path:
    """A copy of the past, to be written to."""
    shutil.copytree(past, tmp_path / "var")
    return tmp_path / "var"
