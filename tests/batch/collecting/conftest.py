"""Fixtures of the tests of collecting."""

from pathlib import Path

import pytest

from batch.collecting import unknown_ids
from quality.catalog import Catalog


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An API that answers is waited for, however slow the machine is."""
    monkeypatch.setattr(unknown_ids, "_PATIENCE_S", 60.0)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """A catalogue that is not empty."""
    found = Catalog(tmp_path)
    found.keep("movie", [("old+1999", "known", {"id": "old+1999", "runtime": 90}, "")])
    return found
