"""Setup of the tests of the evaluation."""

import pytest

from batch import models
from batch.models import Model, Popular
from batch.settings import BatchSettings
from tests.batch.evaluation.planted_tastes import KINDS, Taste


@pytest.fixture
def made_models(monkeypatch: pytest.MonkeyPatch) -> list[Taste]:
    """Let the popular list, `taste` and `contrary` compete; the models that are made, in their order."""
    tastes: list[Taste] = []

    def candidates(settings: BatchSettings) -> list[Model]:
        names = list(KINDS) if settings.model == "best" else [name for name in KINDS if name == settings.model]
        new = [KINDS[name]({}) for name in names]
        tastes.extend(new)
        return [Popular(settings, {}), *new]

    monkeypatch.setattr(models, "candidates", candidates)
    return tastes
