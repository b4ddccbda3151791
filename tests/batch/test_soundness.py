"""Where doubts about an evaluation begin, to the millisecond and the last digit."""

from typing import Any

import pytest

from batch.gate.soundness import day_ms, doubts
from stream.zone import DAY_MS
from tests.batch.candidates import evaluation, figures

MIDNIGHT = day_ms("2030-01-07")


@pytest.mark.parametrize(
    ("newest", "off", "sound"),
    [("2030-01-08", 0, True), ("2030-01-08", -1, False), ("2030-01-05", 0, True), ("2030-01-05", 1, False)],
)
def test_the_test_slice_ends_with_the_data_give_or_take_a_day(newest: str, off: int, sound: bool) -> None:
    told = evaluation()
    told["slices"]["choice"].update(from_ms=MIDNIGHT - 2 * DAY_MS, until_ms=MIDNIGHT - DAY_MS)
    told["slices"]["test"].update(from_ms=MIDNIGHT - DAY_MS, until_ms=MIDNIGHT + off)
    assert (doubts(told, 120, newest) == "") is sound


@pytest.mark.parametrize(("low", "sound"), [(0.75, True), (0.7501, False)])
def test_a_model_leaps_that_is_more_than_three_times_as_good(low: float, sound: bool) -> None:
    told = evaluation()
    models: list[dict[str, Any]] = [told["slices"][part]["models"] for part in ("choice", "test")]
    models[0]["als"] = {**figures(0.2), "ndcg@20": {"mean": 0.2, "low": 0.1, "high": 0.25}}
    models[1]["als"] = {**figures(0.2), "ndcg@20": {"mean": 0.8, "low": low, "high": 0.9}}
    told["against_popular"]["mean"] = 0.8 - 0.09
    assert (doubts(told, 120, "2030-01-07") == "") is sound


def test_days_begin_at_midnight_utc() -> None:
    assert day_ms("1970-01-02") == DAY_MS
