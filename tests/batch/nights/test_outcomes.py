"""The metrics of nights: what is on disk and nothing else; whole at any time, and exact though lines are dropped."""

import logging
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from batch.nights import outcomes
from batch.nights.outcomes import NightMetrics
from batch.releases import publish
from stream import durable
from tests.batch.nights.small_nights import write_manifest

NOON = 1_770_742_800_000
Figures = dict[str, float]


def figures(var: Path, now_ms: int | None = NOON) -> Figures:
    """What a fresh process writes; counters by outcome."""
    NightMetrics(var).refresh(now_ms)
    return read(var)


def read(var: Path) -> Figures:
    families = text_string_to_metric_families((var / "metrics" / "nights.prom").read_text())
    samples = [sample for family in families for sample in family.samples]
    return {sample.name + "".join(f":{value}" for value in sample.labels.values()): sample.value for sample in samples}


COUNTS = {f"marquee_nights_total:{ending}": 0.0 for ending in ("published", "refused", "held", "failed")}


def test_before_the_first_night_only_counters_exist(tmp_path: Path) -> None:
    assert figures(tmp_path) == COUNTS
    assert figures(tmp_path, None) == COUNTS


def test_the_metrics_give_the_age_of_the_data_of_the_release(tmp_path: Path) -> None:
    publish.make_current(tmp_path, write_manifest(tmp_path, "a", NOON - 7_200_000), NOON - 3_600_000)
    values = figures(tmp_path)
    assert values["marquee_release_stream_time_seconds"] == NOON / 1000 - 7200
    assert values["marquee_release_age_seconds"] == 7200
    assert values["marquee_release_current_since_seconds"] == NOON / 1000 - 3600
    assert values["marquee_night_last_success_seconds"] == pytest.approx(time.time(), abs=60)
    assert "marquee_night_last_failure_seconds" not in values
    assert figures(tmp_path, NOON + 5000)["marquee_release_age_seconds"] == 7205
    assert "marquee_release_age_seconds" not in figures(tmp_path, None)


def test_a_rollback_makes_the_release_older_and_counts_as_no_published_night(tmp_path: Path) -> None:
    for name, read_ms in (("a", NOON - 9000), ("b", NOON - 5000)):
        publish.make_current(tmp_path, write_manifest(tmp_path, name, read_ms), read_ms + 1000)
    before = figures(tmp_path)
    publish.make_current(tmp_path, "a", NOON, "rollback")
    values = figures(tmp_path)
    assert (before["marquee_release_age_seconds"], values["marquee_release_age_seconds"]) == (5, 9)
    assert values["marquee_release_current_since_seconds"] == NOON / 1000
    assert values["marquee_night_last_success_seconds"] == before["marquee_night_last_success_seconds"]


def test_every_outcome_is_counted_and_the_time_of_its_last_night_is_kept(tmp_path: Path) -> None:
    began = time.time()
    for code in (1, 0, 3, 3, 4, -9, 2):
        outcomes.note_outcome(tmp_path, code, 1.5, NOON)
    values = figures(tmp_path)
    counts = {ending: values[f"marquee_nights_total:{ending}"] for ending in ("published", "refused", "held", "failed")}
    assert counts == {"published": 1, "refused": 2, "held": 1, "failed": 3}
    assert values["marquee_night_last_exit_code"] == 2
    assert began <= values["marquee_night_last_success_seconds"] <= values["marquee_night_last_failure_seconds"]
    assert [outcome.ending for outcome in outcomes.read_outcomes(tmp_path)] == [
        "failed", "published", "refused", "refused", "held", "failed", "failed",
    ]  # fmt: skip


@settings(deadline=None, max_examples=20)
@given(st.lists(st.sampled_from([0, 1, 3, 4]), min_size=1, max_size=12))
def test_lines_are_dropped_and_nothing_is_forgotten(tmp_path_factory: pytest.TempPathFactory, codes: list[int]) -> None:
    var = tmp_path_factory.mktemp("var")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outcomes, "KEPT", 3)
        for number, code in enumerate(codes):
            outcomes.note_outcome(var, code, 1, NOON + number)
    tries = outcomes.read_outcomes(var)
    assert [outcome.stream_time - NOON for outcome in tries] == [*range(len(codes))][-3:]
    values = figures(var)
    for code, ending in ((0, "published"), (3, "refused"), (4, "held"), (1, "failed")):
        assert values[f"marquee_nights_total:{ending}"] == codes.count(code)
    assert ("marquee_night_last_success_seconds" in values) == (0 in codes)
    assert ("marquee_night_last_failure_seconds" in values) == (set(codes) != {0})


def test_the_metrics_file_is_rewritten_when_it_changed_or_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics, path = NightMetrics(tmp_path), tmp_path / "metrics" / "nights.prom"

    def is_replaced(now_ms: int) -> bool:
        path.write_text("old")
        metrics.refresh(now_ms)
        return path.read_text() != "old"

    metrics.refresh(NOON)
    assert not is_replaced(NOON)
    assert is_replaced(NOON + 1)
    publish.make_current(tmp_path, write_manifest(tmp_path, "a", NOON), NOON)
    assert is_replaced(NOON + 1)
    outcomes.note_outcome(tmp_path, 1, 1, NOON)
    assert is_replaced(NOON + 1)
    assert not is_replaced(NOON + 1)
    monkeypatch.setattr(outcomes, "REFRESH_S", 0)
    assert is_replaced(NOON + 1)
    assert [path.name for path in path.parent.iterdir()] == ["nights.prom"]


def test_a_metrics_file_that_cannot_be_read_or_written_is_logged_once_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    durable.write_bytes(tmp_path / "night" / "outcomes.jsonl", b"{}\n")
    assert figures(tmp_path) == COUNTS
    assert figures(tmp_path) == COUNTS
    assert caplog.text.count("counting starts over") == 1
    outcomes.note_outcome(tmp_path, 3, 1, NOON)
    assert figures(tmp_path)["marquee_nights_total:refused"] == 1
    (tmp_path / "releases").mkdir()
    (tmp_path / "releases" / "history.jsonl").write_bytes(b"{")
    metrics = NightMetrics(tmp_path)
    with caplog.at_level(logging.ERROR):
        caplog.clear()
        metrics.refresh(NOON)
        metrics.refresh(NOON + 1)
    assert caplog.text.count("metrics: cannot write") == 1
    assert read(tmp_path)["marquee_nights_total:refused"] == 1
    (tmp_path / "releases" / "history.jsonl").unlink()
    (tmp_path / "metrics" / "nights.prom").unlink()
    (tmp_path / "metrics").rmdir()
    (tmp_path / "metrics").write_text("in the way")
    metrics.refresh(NOON + 2)
    (tmp_path / "metrics").unlink()
    metrics.refresh(NOON + 2)
    assert read(tmp_path)["marquee_nights_total:refused"] == 1


def test_the_docstring_lists_every_metric(tmp_path: Path) -> None:
    publish.make_current(tmp_path, write_manifest(tmp_path, "a", NOON), NOON)
    for code in (0, 1):
        outcomes.note_outcome(tmp_path, code, 1, NOON)
    figures(tmp_path)
    families = [*text_string_to_metric_families((tmp_path / "metrics" / "nights.prom").read_text())]
    assert len(families) == 7
    assert all(family.documentation.endswith(".") for family in families)
    for sample in (sample for family in families for sample in family.samples):
        labels = f"{{{','.join(sample.labels)}}}" if sample.labels else ""
        assert f"| `{sample.name}{labels}` |" in (outcomes.__doc__ or "")
