"""Results of benchmarks: how figures are held against targets, and how results are kept and read again."""

from pathlib import Path

import msgspec
import orjson
import pytest
from msgspec import UNSET, Struct, UnsetType, field

from loadtest.bench.result import BenchmarkResult, Target, as_figures, make_result, read_result, write_result
from loadtest.demo.processes import ROOT
from loadtest.errors import LoadtestError

KEPT = sorted((ROOT / "docs" / "bench").glob("*.json"))
OLD = b"""{
  "bench": "night", "host_load": 0.5,
  "figures": {"users": 1000000, "compaction_seconds": 40.85, "compaction_again_changes_nothing": true,
    "growth": {"250000": {"seconds": 330.17, "peak_memory_mb": 2775}}, "night_lists_users_per_s": null},
  "targets": {"compaction_seconds": ["<=", 360], "compaction_again_changes_nothing": ["==", true]},
  "met": true,
  "machine": {"cpu": "AMD EPYC", "cores": 2, "python": "3.11.7"},
  "commit": "45592c1"
}
"""
"""A file as commit 9277935 kept it, shortened, and with a field that is not known."""


@pytest.mark.parametrize(
    ("figure", "target", "met"),
    [
        (400_000, (">=", 400_000), True),
        (399_999, (">=", 400_000), False),
        (2.0, ("<=", 2.0), True),
        (2.01, ("<=", 2.0), False),
        (True, ("==", True), True),
        (False, ("==", True), False),
        (None, (">=", 0.995), False),
        (float("nan"), (">=", 0.0), False),
    ],
)
def test_a_target_is_met_or_not(figure: object, target: Target, met: bool) -> None:
    result = make_result("x", {"measured": figure, "other": 1}, {"measured": target})
    assert result.met is met
    assert ("MISSED" in result.as_table()) is not met


def test_the_object_holds_what_was_measured_and_no_paths() -> None:
    figures = {"a": 1.5, "b": {"c": {"d": None}}}
    result = make_result("x", figures, {"a": (">=", 1), "left_out": ("<=", 3)})
    document = orjson.loads(orjson.dumps(msgspec.to_builtins(result)))
    assert list(document) == ["bench", "figures", "targets", "met", "machine", "commit"]
    assert document["figures"] == figures
    assert document["targets"] == {"a": [">=", 1]}
    assert document["met"] is True
    assert set(document["machine"]) == {"cpu", "cores", "python"}
    assert str(ROOT) not in orjson.dumps(document).decode()
    assert "d none" in result.as_table()


class SampleFigures(Struct):
    ndcg: float = field(name="ndcg@20")
    lines: int
    by_field: dict[str, int] = {}
    ratio: float | UnsetType = UNSET


def test_figures_of_a_part_are_named_by_their_prefix_and_read_again() -> None:
    part = SampleFigures(ndcg=0.5, lines=3, by_field={"user": 1})
    assert as_figures(part) == {"ndcg@20": 0.5, "lines": 3, "by_field": {"user": 1}}
    assert as_figures(part, "x") == {"x_ndcg@20": 0.5, "x_lines": 3, "x_by_field": {"user": 1}}
    result = make_result("b", {"users": 1, **as_figures(part, "x"), **as_figures(part)}, {})
    assert result.read(SampleFigures, "x") == result.read(SampleFigures) == part
    with pytest.raises(LoadtestError, match=r"figures of b do not fit SampleFigures: .*ndcg@20"):
        result.read(SampleFigures, "y")


def test_a_result_is_written_and_read_again(tmp_path: Path) -> None:
    result = make_result("x", {"a": 1.5, "b": None}, {"a": (">=", 1)})
    assert read_result(write_result(tmp_path / "bench", result)) == result
    assert [path.name for path in (tmp_path / "bench").iterdir()] == ["x.json"]


def test_a_result_of_an_older_commit_is_read(tmp_path: Path) -> None:
    path = tmp_path / "night.json"
    path.write_bytes(OLD)
    result = read_result(path)
    assert result.targets == {"compaction_seconds": ("<=", 360), "compaction_again_changes_nothing": ("==", True)}
    assert result.figures["growth"]["250000"]["seconds"] == 330.17
    assert (result.met, result.machine.cores, result.commit) == (True, 2, "45592c1")


@pytest.mark.parametrize("path", KEPT, ids=[path.stem for path in KEPT])
def test_kept_results_are_read_and_written_the_same(path: Path, tmp_path: Path) -> None:
    result: BenchmarkResult = read_result(path)
    assert result.bench == path.stem
    assert write_result(tmp_path, result).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("content", [None, b"", OLD[:-20], OLD.replace(b'"AMD EPYC"', b"7"), b"{}"])
def test_a_damaged_result_is_an_error_with_its_path(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "night.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LoadtestError, match=r"cannot read .*night\.json: .*; run the benchmark again"):
        read_result(path)
