"""Fixtures of the tests of lines."""

from pathlib import Path

import pytest

from stream.archive import Archive


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """An empty archive."""
    return Archive(tmp_path / "var")
