"""Fixtures of the tests of collecting."""

from pathlib import Path

import pytest

from batch.collecting import unknown_ids
from quality.catalog import Catalog


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches wait for an API that answers, however slow the machine is."""
    monkeypatch.setattr(unknown_ids, "_WAIT_S", 60.0)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    """A catalogue that is not empty."""
    catalog = Catalog(tmp_path)
    catalog.keep("movie", [("old+1999", "known", {"id": "old+1999", "runtime": 90}, "")])
    return catalog
