"""`evaluation.json`: files of the release before the types are read, and written back as they were."""

from pathlib import Path

import pytest

from batch.errors import EvaluationDamaged
from batch.evaluation_file import AgainstCurrent, read_evaluation, write_evaluation
from quality.metrics.ranking import METRICS

OLD_FILES = Path(__file__).parent / "old_files"


@pytest.mark.parametrize("name", ["evaluation", "evaluation_not_compared", "evaluation_unmeasured"])
def test_an_old_file_is_read_and_written_back_byte_for_byte(tmp_path: Path, name: str) -> None:
    old = (OLD_FILES / f"{name}.json").read_bytes()
    (tmp_path / "evaluation.json").write_bytes(old)
    evaluation = read_evaluation(tmp_path)
    (tmp_path / "evaluation.json").unlink()
    write_evaluation(tmp_path, evaluation)
    assert (tmp_path / "evaluation.json").read_bytes() == old


def test_the_figures_are_those_of_the_file() -> None:
    evaluation = read_evaluation(OLD_FILES)
    segment = evaluation.test_models["segment"]
    assert (evaluation.chosen, evaluation.is_measured, list(evaluation.test_models)) == (
        "segment",
        True,
        ["popular", "segment"],
    )
    assert segment.ndcg.mean == pytest.approx(0.5456721)
    assert segment.largest_gap is not None
    assert segment.largest_gap.high == "under 18, F"
    assert list(segment.intervals) == [metric.name for metric in METRICS]
    assert evaluation.against_current.difference is not None
    assert evaluation.against_current.difference.mean == pytest.approx(0.3996705)


def test_a_file_without_figures_says_why(tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_bytes((OLD_FILES / "evaluation_unmeasured.json").read_bytes())
    evaluation = read_evaluation(tmp_path)
    assert (evaluation.is_measured, evaluation.test_models, evaluation.against_popular.mean) == (False, {}, None)
    assert evaluation.against_current == AgainstCurrent(reason=evaluation.chosen_by)
    assert evaluation.against_current.difference is None


def test_a_field_of_a_later_version_is_passed_over(tmp_path: Path) -> None:
    old = (OLD_FILES / "evaluation.json").read_bytes()
    (tmp_path / "evaluation.json").write_bytes(old.replace(b'"chosen":', b'"later": [1], "chosen":', 1))
    assert read_evaluation(tmp_path) == read_evaluation(OLD_FILES)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff", b'{"chosen": "\xff"}', b'{"chosen": 3}'])
def test_a_damaged_file_is_one_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "evaluation.json").write_bytes(content)
    with pytest.raises(EvaluationDamaged, match=r"evaluation: .*evaluation\.json cannot be read: "):
        read_evaluation(tmp_path)


def test_a_missing_file_is_the_same_error(tmp_path: Path) -> None:
    with pytest.raises(EvaluationDamaged, match=r"evaluation\.json cannot be read: .*No such file"):
        read_evaluation(tmp_path)
