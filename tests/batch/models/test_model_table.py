"""A new model is one entry of `MODELS`. These tests name every other place that must know it."""

import re
from pathlib import Path
from typing import get_args

import pytest

from batch.gate import worker_trial
from batch.models import MODELS, is_personal, make
from batch.settings import BatchSettings, ModelName
from server.release import Release, list_source
from tests.batch.models import test_models
from tests.server.sample_releases import write_release

ROOT = Path(__file__).parents[3]


def test_the_setting_names_every_model_and_best() -> None:
    assert get_args(ModelName) == ("best", *MODELS), "batch/settings.py: ModelName"


@pytest.mark.parametrize("name", MODELS)
def test_an_entry_makes_the_model_of_its_name(name: str) -> None:
    assert make(name, BatchSettings(), {}).name == name


def test_every_model_inherits_the_contract_tests() -> None:
    classes = [value for value in vars(test_models).values() if isinstance(value, type)]
    tested = {cls.name for cls in classes if issubclass(cls, test_models.Contract) and hasattr(cls, "name")}
    assert tested == {*MODELS}, "tests/batch/models/test_models.py: a subclass of Contract for each model"


def test_every_model_has_a_row_in_the_docs() -> None:
    text = (ROOT / "docs" / "nights.md").read_text("utf-8")
    table = text.partition("| `[batch] model` |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [*MODELS, "best"], "docs/nights.md: Models"


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("segment", [0, 1])
def test_a_worker_and_the_trial_call_the_lists_of_a_model_what_it_says(name: str, segment: int, tmp_path: Path) -> None:
    release = Release.open(write_release(tmp_path, "of-the-model", model=name))
    source = list_source(release, segment)
    assert (source == "personal") is is_personal(name), "server/release.py: list_source"
    assert worker_trial.expected_source(name, segment) == source, "batch/gate/worker_trial.py: expected_source"


def test_an_unknown_model_counts_as_personal() -> None:
    assert is_personal("of-a-later-version")
