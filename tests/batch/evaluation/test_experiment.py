"""Experiments: every combination is run once and never again, and the results are those of the evaluations."""

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from batch.errors import BatchError, ExperimentError
from batch.evaluation import evaluate
from batch.evaluation.experiment import Run, digest_of, experiment, finish, runs_of
from batch.evaluation.experiment_results import read_run, write_run
from batch.evaluation.splits import by_order, by_time
from batch.evaluation_file import Evaluation
from batch.history import assemble
from batch.history.interactions import Requests, TrainingHistory
from batch.history.list_facts import ListFacts, save_list_facts
from batch.settings import BatchSettings
from stream.zone import HOUR_MS

pytestmark = pytest.mark.blas

USERS, MOVIES, HOURS = 120, 40, 240
BASE = BatchSettings(model="popular", seed=5)


def small(seed: int = 1) -> TrainingHistory:
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(USERS, dtype=np.int32), 15)
    movie = np.concatenate([rng.permutation(MOVIES)[:15] for _ in range(USERS)]).astype(np.int32)
    start = np.sort(rng.integers(0, HOURS * HOUR_MS, (USERS, 15)), axis=1).ravel()
    size = len(user)
    return TrainingHistory(
        user=user,
        movie=movie,
        start=start,
        minutes=np.full(size, 90, np.int32),
        share=np.ones(size, np.float32),
        rating=np.full(size, np.nan, np.float32),
        rated=np.zeros(size, np.int64),
        users=np.arange(1, USERS + 1, dtype=np.uint32),
        movies=[f"movie+{number:02}+2000" for number in range(MOVIES)],
        segments=np.zeros(USERS, np.uint8),
    )


def priced(*dear: int) -> ListFacts:
    """Everyone is of age, no movie is adult, and all cost 1 but some, which cost 9."""
    costs = np.ones(MOVIES)
    costs[[*dear]] = 9.0
    return ListFacts(np.full(USERS, 30, np.uint8), np.zeros(MOVIES, np.int8), costs)


Grid = Callable[[str], Path]


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    def write(text: str) -> Path:
        path = tmp_path / "grid.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[BatchSettings]:
    """The settings of each evaluation that is really made."""
    made: list[BatchSettings] = []
    own = evaluate.measure_models

    def counting(splits: Any, settings: BatchSettings, *rest: Any, **named: Any) -> Evaluation:
        made.append(settings)
        return own(splits, settings, *rest, **named)

    monkeypatch.setattr(evaluate, "measure_models", counting)
    return made


def test_every_combination_is_a_run_in_the_order_of_the_file(grid: Grid) -> None:
    path = grid('[base]\ntest_hours = 12\n[grid]\nmodel = ["als", "popular"]\nfactors = [8, 16]\nsplit = ["last"]\n')
    runs = runs_of(path, BASE)
    assert [(run.settings.model, run.settings.factors, run.split) for run in runs] == [
        ("als", 8, "last"), ("als", 16, "last"), ("popular", 8, "last"), ("popular", 16, "last"),
    ]  # fmt: skip
    assert {(run.settings.seed, run.settings.test_hours) for run in runs} == {(5, 12.0)}
    assert runs[0].label == "model als, factors 8, split last"


def test_several_grids_are_joined_and_a_run_that_is_in_both_is_one(grid: Grid) -> None:
    runs = runs_of(
        grid('[[grid]]\nmodel = ["als"]\nfactors = [8, 16]\n[[grid]]\nfactors = [16]\nmodel = ["als"]\n'), BASE
    )
    assert [run.settings.factors for run in runs] == [8, 16]
    assert [run.settings for run in runs_of(grid(""), BASE)] == [BASE]


BAD = {
    "[grid]\nfactor = [8]\n": r"unknown key 'factor'; the keys are .*\bfactors\b.*\bsplit\b",
    "[base]\nmodle = 'als'\n": "unknown key 'modle'; the keys are",
    "[grid]\nhistory_days = [30, 90]\n": "history_days makes no difference here",
    "[base]\ntrees = 7\n": "trees makes no difference here",
    "[grid]\nfactors = 8\n": "factors in .grid. must be a list",
    "[grid]\nfactors = []\n": "factors in .grid. must be a list",
    "[grid]\nfactors = [0]\n": r"factors",
    "[grid]\nfactors = ['many']\n": r"factors",
    "[grid]\nmodel = ['best', 'svd']\n": r"grid\.toml: models: there is no model 'svd'",
    "[grid]\nsplit = ['random']\n": "split is time or last, not 'random'",
    "[gird]\nfactors = [8]\n": "'gird'",
    "factors = [8]\n": "'factors'",
    "base = 3\n": "'base'",
    "grid = 3\n": "'grid'",
    "grid = [3]\n": "'grid'",
    "[grid\n": "cannot read",
}


@pytest.mark.parametrize("text", BAD)
def test_anything_unknown_in_a_grid_is_one_error(text: str, grid: Grid) -> None:
    with pytest.raises(ExperimentError, match=BAD[text]) as caught:
        runs_of(grid(text), BASE)
    assert "\n" not in str(caught.value)


def test_a_run_is_what_the_evaluation_says_of_its_settings_and_split(grid: Grid, tmp_path: Path) -> None:
    past = small()
    runs = runs_of(grid('[grid]\nsplit = ["time", "last"]\nhalf_life_days = [0.5]\n'), BASE)
    by_split = {outcome.run.split: outcome.run for outcome in finish(runs, past, tmp_path / "out")}
    settings = msgspec.structs.replace(BASE, half_life_days=0.5)
    expected = evaluate.measure_models(by_time(past, settings), settings, lambda _: None)
    assert by_split["time"].evaluation == expected
    expected = evaluate.measure_models(by_order(past), runs[1].settings, lambda _: None)
    assert by_split["last"].evaluation == expected
    assert by_split["last"].settings["half_life_days"] > 100_000


def test_finished_runs_are_not_repeated_and_new_ones_are_run(
    grid: Grid, tmp_path: Path, counted: list[BatchSettings]
) -> None:
    past, out = small(), tmp_path / "out"
    first = finish(runs_of(grid("[grid]\nseed = [1, 2]\n"), BASE), past, out)
    assert [one.seed for one in counted] == [1, 2]
    again = finish(runs_of(grid("[grid]\nseed = [2, 3, 1]\n"), BASE), past, out)
    assert [one.seed for one in counted] == [1, 2, 3]
    assert [again[0], again[2]] == first[::-1]
    idle = msgspec.structs.replace(BASE, api="http://elsewhere:1", trees=3, night_at="04:00", keep_releases=2)
    finish(runs_of(grid("[grid]\nseed = [2]\n"), idle), past, out)
    assert len(counted) == 3


@pytest.mark.parametrize("content", [b"", b'{"split": "time"', b"[]", b'{"evaluation": null}', b'{"split": "\xff"}'])
def test_a_run_whose_outcome_was_spoiled_is_done_again(
    grid: Grid, tmp_path: Path, counted: list[BatchSettings], content: bytes
) -> None:
    runs, past = runs_of(grid("[grid]\nseed = [1]\n"), BASE), small()
    [first] = finish(runs, past, tmp_path)
    [path] = (tmp_path / "runs").iterdir()
    path.write_bytes(content)
    [again] = finish(runs, past, tmp_path)
    assert len(counted) == 2
    assert again.run.evaluation == first.run.evaluation


def test_the_file_of_a_run_of_an_older_version_is_read_and_written_back(tmp_path: Path) -> None:
    old = Path(__file__).parents[1] / "old_files" / "experiment_run.json"
    run = read_run(old)
    assert run is not None
    assert (run.split, run.settings["seed"], list(run.evaluation.test_models)) == ("time", 3, ["popular"])
    write_run(tmp_path / "run.json", run)
    expected = json.loads(old.read_bytes())
    assert expected["versions"].pop("commit") is None  # what is unknown is left out now
    assert json.loads((tmp_path / "run.json").read_bytes()) == expected


def test_any_other_setting_or_history_is_another_run(grid: Grid, tmp_path: Path, counted: list[BatchSettings]) -> None:
    past, out = small(), tmp_path / "out"
    for text in ("", "evaluation_users = [7]", "half_life_days = [1]", "test_hours = [9]", 'split = ["last"]'):
        finish(runs_of(grid(f"[grid]\n{text}\n"), BASE), past, out)
    assert len(counted) == 5
    changed = {name: getattr(past, name).copy() for name in ("movie", "start", "share", "rating", "rated", "segments")}
    for name, column in changed.items():
        column[-1] = column[-1] + 1 if name != "rating" else 0.5
        finish(runs_of(grid(""), BASE), TrainingHistory(**{**vars(past), name: column}), out)
    assert len(counted) == 5 + len(changed)
    assert len({digest_of(small(seed)) for seed in range(5)}) == 5
    exposed = [replace(past, exposed=np.arange(len(past.user)) < count) for count in (0, 1, 2)]
    assert len({digest_of(history) for history in (past, *exposed)}) == 3  # without lists nothing is exposed
    both = runs_of(grid('[grid]\nsplit = ["time", "last"]\nhalf_life_days = [1e6]\n'), BASE)
    assert both[0].settings == both[1].settings
    assert both[0].key("") != both[1].key("")


def test_a_run_that_was_interrupted_is_run_again_and_the_others_are_not(
    grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: list[BatchSettings]
) -> None:
    past, out, runs = small(), tmp_path / "out", runs_of(grid("[grid]\nseed = [1, 2, 3]\n"), BASE)
    own = evaluate.measure_models

    def interrupted(splits: Any, settings: BatchSettings, *rest: Any, **named: Any) -> Evaluation:
        if settings.seed == 2:
            raise KeyboardInterrupt
        return own(splits, settings, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "measure_models", interrupted)
        with pytest.raises(KeyboardInterrupt):
            finish(runs, past, out)
    assert len(list((out / "runs").iterdir())) == 1
    assert len(finish(runs, past, out)) == 3
    assert [one.seed for one in counted] == [1, 2, 3]


def test_a_run_that_fails_does_not_stop_the_others(grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = evaluate.measure_models

    def failing(splits: Any, settings: BatchSettings, *rest: Any, **named: Any) -> Evaluation:
        if settings.seed == 1:
            raise BatchError("too large")
        return own(splits, settings, *rest, **named)

    monkeypatch.setattr(evaluate, "measure_models", failing)
    runs = runs_of(grid("[grid]\nseed = [1, 2]\n"), BASE)
    with pytest.raises(BatchError, match=r"1 of 2 runs failed; the first: run 1 of 2: seed 1: too large"):
        finish(runs, small(), tmp_path / "out")
    stored = json.loads((tmp_path / "out" / "experiment.json").read_bytes())
    assert [run["given"] for run in stored["runs"]] == [{"seed": 2}]


def test_a_history_that_is_too_short_is_an_error(grid: Grid, tmp_path: Path) -> None:
    past = small()
    rows = np.arange(3)
    columns = {
        name: getattr(past, name)[rows] for name in ("user", "movie", "start", "minutes", "share", "rating", "rated")
    }
    short = TrainingHistory(**{**vars(past), **columns})
    with pytest.raises(BatchError, match="could be held out"):
        finish(runs_of(grid('[grid]\nsplit = ["last"]\n'), BASE), short, tmp_path / "out")


def test_the_table_the_csv_and_the_json_say_the_same(grid: Grid, tmp_path: Path) -> None:
    out = tmp_path / "out"
    finish(runs_of(grid('[grid]\ntest_hours = [12, 24]\nsplit = ["time", "last"]\n'), BASE), small(), out)
    stored = json.loads((out / "experiment.json").read_bytes())
    rows = list(csv.DictReader((out / "experiment.csv").read_text().splitlines()))
    assert [(row["split"], row["test_hours"]) for row in rows] == [("time", "12"), ("last", ""), ("time", "24")]
    for row, own in zip(rows, stored["rows"], strict=True):
        assert float(row["ndcg@20 mean"]) == own["ndcg@20 mean"]
        assert row["seconds"] == str(own["seconds"])
    table = (out / "experiment.md").read_text().splitlines()
    assert len(table) == 2 + len(rows)  # popular with split last is the same, whatever test_hours: once
    assert len({line.count("|") for line in table}) == 1
    for own in stored["rows"]:
        cells = f"{own['ndcg@20 mean']:.4f} ({own['ndcg@20 low']:.4f}-{own['ndcg@20 high']:.4f})"
        assert sum(cells in line for line in table) >= 1
    means = [float(re.findall(r"0\.\d{4}", line)[0]) for line in table if line.startswith("| time")]
    assert means == sorted(means, reverse=True)


def test_what_a_cap_costs_is_measured_as_any_other_setting(
    grid: Grid, tmp_path: Path, counted: list[BatchSettings]
) -> None:
    past, dear = small(), range(0, MOVIES, 2)
    runs = runs_of(grid("[grid]\nmax_cost = [8.99, 9.0]\n"), BASE)

    def recall(facts: ListFacts | None) -> list[float | None]:
        outcomes = finish(runs, past, tmp_path / "out", facts)
        return [outcome.run.evaluation.test_models["popular"].recall.mean for outcome in outcomes]

    capped, whole = recall(priced(*dear))
    assert capped is not None
    assert whole is not None
    assert 0 < capped < whole
    assert recall(None) == [whole, whole]
    assert len(counted) == 4
    assert recall(priced(*dear)) == [capped, whole]
    assert len(counted) == 4  # other facts are other runs, the same ones are not
    recall(priced(0))
    assert len(counted) == 6


@pytest.fixture
def night(tmp_path: Path) -> Path:
    """A `var` with a history."""
    none = Requests(np.zeros(0, np.int32), np.zeros(0, np.int64))
    assemble.save_history(tmp_path / "var" / "night", small(), none)
    save_list_facts(tmp_path / "var" / "night", priced())
    return tmp_path / "var"


def invoke(*arguments: str) -> tuple[int, str, BaseException | None]:
    result = CliRunner().invoke(experiment, list(arguments))
    return result.exit_code, result.stdout, result.exception


def test_the_command_prints_a_table_and_keeps_it_with_a_plot(
    grid: Grid, night: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("MARQUEE_STREAM_VAR", str(night))
    path = grid('[base]\nmodel = "popular"\n[grid]\nsplit = ["time", "last"]\n')
    code, printed, error = invoke(str(path))
    assert (code, error) == (0, None)
    assert printed.count("popular") == 2
    folder = night / "experiments" / "grid"
    assert "2 runs in" in printed
    picture = (folder / "experiment.svg").read_text()
    assert "NDCG@20" in picture or "<svg" in picture
    first = (folder / "experiment.svg").read_bytes()
    assert invoke(str(path))[0] == 0
    assert (folder / "experiment.svg").read_bytes() == first


def test_without_matplotlib_nothing_is_run_and_the_error_says_what_to_install(
    grid: Grid, night: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: list[BatchSettings]
) -> None:
    monkeypatch.setenv("MARQUEE_STREAM_VAR", str(night))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    path = grid('[base]\nmodel = "popular"\n')
    error = invoke(str(path))[2]
    assert isinstance(error, BatchError)
    assert "pip install matplotlib" in str(error)
    assert not counted
    out = tmp_path / "elsewhere"
    assert invoke(str(path), "--no-plot", "--out", str(out))[0] == 0
    assert sorted(one.name for one in out.iterdir()) == [
        "experiment.csv", "experiment.json", "experiment.md", "runs",
    ]  # fmt: skip


def test_without_a_history_the_error_says_what_to_run(
    grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARQUEE_STREAM_VAR", str(tmp_path / "nothing"))
    assert "python -m batch history" in str(invoke(str(grid("")), "--no-plot")[2])
    (tmp_path / "nothing" / "night").mkdir(parents=True)
    for name in assemble.FILES:
        (tmp_path / "nothing" / "night" / name).write_bytes(b"PAR1")
    assert "python -m batch history" in str(invoke(str(grid("")), "--no-plot")[2])


def test_matplotlib_is_not_needed_to_import_the_command() -> None:
    program = "import sys, batch.evaluation.experiment; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=600)


def test_a_run_without_given_values_has_a_label() -> None:
    assert Run({}, BASE, "time").label == "the settings as they are"
