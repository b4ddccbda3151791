"""Models of other packages: the example of the docs makes a release, and every mistake is one line."""

import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from batch import models
from batch.errors import ModelError
from batch.models.plugged_in import GROUP, PluggedIn
from batch.nights.night_commands import nightly
from batch.nights.schedule import command as schedule_command
from batch.settings import BatchSettings
from loadtest.bench.ranking import sequences
from server.release import Release
from tests.batch.nights.small_nights import night, run

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "recent_movies"
NAME = "recent_movies:Recent"
HERE = __name__


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLE)


def test_the_example_makes_a_release_and_is_measured(past: Path, tmp_path: Path) -> None:
    shutil.copytree(past, var := tmp_path / "var")
    results = run(night(var, model=NAME))
    assert results["evaluate"].chosen == NAME
    assert set(results["evaluate"].ndcg_at_20) == {"popular", NAME}
    assert all(verdict.startswith("passed") for verdict in results["publish"].gate.values())
    manifest = Release.open(var / "releases" / "current").manifest
    assert (manifest.model.lists, set(manifest.model.parameters)) == (NAME, {"latest"})
    assert str(manifest.model_source).startswith("source ")


def test_an_entry_point_is_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    point = metadata.EntryPoint("recent", NAME, GROUP)
    monkeypatch.setattr(metadata, "entry_points", lambda group: metadata.EntryPoints([point]).select(group=group))
    made = models.make("recent", BatchSettings(), {"latest": 3.0}, b"x")
    assert (made.name, made.parameters, made.learned) == ("recent", {"latest": 3}, b"x")
    with pytest.raises(ModelError, match=r"no model 'recend'; entry points of marquee.models: recent; or give package"):
        models.make("recend", BatchSettings(), {})


class Good:
    personal = True

    def __init__(self, settings: BatchSettings, parameters: dict[str, float]) -> None:
        self.parameters = parameters

    def fit(self, data: Any) -> None: ...

    def tune(self, data: Any, relevant: Any, users: Any) -> None: ...

    def score(self, data: Any, users: np.ndarray) -> Any:
        return np.zeros((len(users), data.shape[1]), np.float32)


class Failing(Good):
    def fit(self, data: Any) -> None:
        raise ValueError("no\nmemory")


class Doubles(Good):
    def score(self, data: Any, users: np.ndarray) -> Any:
        return np.zeros((len(users), data.shape[1]))


class Transposed(Good):
    def score(self, data: Any, users: np.ndarray) -> Any:
        return np.zeros((data.shape[1], len(users)), np.float32)


class Flat(Good):
    def score(self, data: Any, users: np.ndarray) -> Any:
        return np.zeros(data.shape[1], np.float32)


class Lists(Good):
    def score(self, data: Any, users: np.ndarray) -> Any:
        return [[1.0]]


class NoNumber(Good):
    def score(self, data: Any, users: np.ndarray) -> Any:
        return np.full((len(users), data.shape[1]), np.nan, np.float32)


class BadParameters(Good):
    parameters: Any = "none"

    def __init__(self, settings: BatchSettings, parameters: dict[str, float]) -> None: ...


class NoFiniteParameter(Good):
    def __init__(self, settings: BatchSettings, parameters: dict[str, float]) -> None:
        self.parameters = {"rate": float("nan")}


class Shared(Good):
    def score(self, data: Any, users: np.ndarray) -> Any:
        return np.broadcast_to(np.zeros(data.shape[1], np.float32), (len(users), data.shape[1]))


class Endless(Good):
    item_embeddings = np.full((60, 2), np.inf, np.float32)


class TooFew(Good):
    def fit(self, data: Any) -> None:
        self.item_embeddings = np.ones((5, 2), np.float32)


class NoScore:
    personal = True
    fit = tune = Good.fit


class NotPersonal(Good):
    personal = False


UNLOADABLE = {
    "no_such_module:Class": r"importing no_such_module raised ModuleNotFoundError",
    f"{HERE}:Nothing": r"has no class Nothing",
    f"{HERE}:HERE": r"has no class HERE",
    f"{HERE}:NoScore": r"the class lacks score",
    f"{HERE}:NotPersonal": r"`personal` is not True",
    "nothing": r"there is no model 'nothing'; entry points of marquee\.models",
}


@pytest.mark.parametrize("name", UNLOADABLE)
def test_what_cannot_be_loaded_is_one_line_before_the_night_begins(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARQUEE_STREAM_VAR", str(tmp_path))
    result = CliRunner().invoke(nightly, ["--model", name])
    assert isinstance(result.exception, ModelError)
    with pytest.raises(ModelError, match=UNLOADABLE[name]) as error:
        models.require_model(name)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 1
    assert not (tmp_path / "night" / "journal.json").exists()


WRONG = {
    "Failing": r"fit raised ValueError: no memory$",
    "Doubles": r"score gave float64, not float32",
    "Transposed": r"score gave the shape \(60, 3\), not \(3, 60\)",
    "Flat": r"score gave the shape \(60,\), not \(3, 60\)",
    "Lists": r"score is list, not ndarray",
    "NoNumber": r"score gave values that are not a number",
    "BadParameters": r"parameters is str, not dict",
    "NoFiniteParameter": r"parameters are not finite numbers by name",
    "Shared": r"score gave an array that cannot be written to",
    "TooFew": r"item_embeddings gave the shape \(5, 2\), not \(60, None\)",
    "Endless": r"item_embeddings are not finite",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_result_is_one_line_that_names_it(name: str) -> None:
    history = sequences.sequences(30, 60, 20, 1)
    data = history.before(history.until, 14)
    model = PluggedIn(f"{HERE}:{name}", BatchSettings(), {})

    def use() -> None:
        model.fit(data)
        model.score(data, np.arange(3))
        assert model.parameters == {}
        assert model.has_embeddings
        assert model.item_embeddings.shape

    with pytest.raises(ModelError, match=f"^models: {HERE}:{name}: {WRONG[name]}"):
        use()
    assert isinstance(models.make(f"{HERE}:Good", BatchSettings(), {}), PluggedIn)


def test_a_changed_class_is_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "changing"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "a_model.py").write_text((EXAMPLE / "recent_movies.py").read_text())
    monkeypatch.syspath_prepend(tmp_path)
    first = models.source_version("changing.a_model:Recent")
    assert first == models.source_version("changing.a_model:Recent")
    (package / "a_model.py").write_text((EXAMPLE / "recent_movies.py").read_text() + "\n")
    assert first != models.source_version("changing.a_model:Recent")
    assert models.source_version("best") is models.source_version("als") is None


def test_an_installed_package_has_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "packages_distributions", lambda: {"recent_movies": ["numpy"]})
    assert str(models.source_version(NAME)).startswith(f"numpy {np.__version__} source ")


def test_a_schedule_does_not_begin_with_a_model_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARQUEE_STREAM_VAR", str(tmp_path))
    monkeypatch.setenv("MARQUEE_BATCH_MODEL", "rerankre")
    result = CliRunner().invoke(schedule_command, [])
    assert isinstance(result.exception, ModelError)
    assert "rerankre" in str(result.exception)
