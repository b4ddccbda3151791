"""What the tests of the gate's rules share: a current release, and a gate without its worker trial."""

import pytest

from batch.gate import worker_trial
from server.release import Release
from tests.batch.gate.candidates import previous


@pytest.fixture
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker trial has tests of its own; here it would take most of the time."""
    monkeypatch.setattr(worker_trial, "first_wrong_answer", lambda *_: None)


@pytest.fixture(scope="session")
def current(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """The release of the night before; tests must leave it as it is."""
    return previous(tmp_path_factory.mktemp("before"))
