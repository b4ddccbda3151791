"""The summary of a service's first days: figures by day from Marquee's files, targets, and text for people."""

from collections import Counter
from pathlib import Path

import msgspec
import orjson
import pytest

from batch.nights import outcomes
from batch.releases import publish
from loadtest.demo import days_summary
from loadtest.demo.days_summary import DayFigures, DayRelease, DaysSummary
from loadtest.simulation.service import ServiceCounts
from quality.metrics.intervals import Interval
from quality.settings import QualitySettings
from quality.telemetry.day_report import DayReport
from quality.telemetry.report import Reports
from quality.telemetry.store import Store
from server.manifest import Manifest, ReleaseModel
from stream import durable
from stream.settings import StreamSettings
from stream.zone import HOUR_MS, day_number, zone_named

ZONE = zone_named("America/New_York")
NONE = Interval(None, None, None)


def day(name: str, model: str, uplift: Interval) -> DayFigures:
    releases = [DayRelease(id=None, model=None, requests=3), DayRelease(id="b", model=model, requests=90)]
    return DayFigures(
        day=name, nights={"published": 5, "refused": 1}, releases=releases, answers=90, uplift=uplift,
        hit_rate=Interval(0.3, 0.2, 0.4), baseline=Interval(0.2, 0.1, 0.3), movies_shown=1234,
    )  # fmt: skip


def a_run(history_days: int, second: DayFigures, last: DayFigures) -> DaysSummary:
    first = day("2026-02-10", "popular", Interval(0.0, 0.0, 0.0))
    return DaysSummary(
        seconds=61.0,
        history_days=history_days,
        first_release_s=None if history_days else 42.0,
        failed_at_first=0 if history_days else 17,
        lines={},
        days=[first, second, last],
        broken=[],
    )


def runs(second_model: str, second: float, low: float, last: float, with_history: float) -> list[DaysSummary]:
    second_day = day("2026-02-11", second_model, Interval(second, low, 1.0))
    empty = a_run(0, second_day, day("2026-02-12", "blend", Interval(last, 0.0, 1.0)))
    other = a_run(14, second_day, day("2026-02-12", "blend", Interval(with_history, 0.0, 1.0)))
    return [empty, other]


@pytest.mark.parametrize(
    ("given", "met"),
    [
        (runs("blend", 0.1, 0.01, 0.27, 0.3), [True, True, True]),
        (runs("popular", 0.1, 0.01, 0.27, 0.3), [False, True, True]),
        (runs("segment", 0.1, 0.0, 0.27, 0.3), [False, False, True]),
        (runs("blend", 0.1, 0.01, 0.26, 0.3), [True, True, False]),
        (runs("blend", 0.1, 0.01, 0.5, 0.3), [True, True, True]),
        (runs("blend", 0.1, 0.01, 0.27, 0.3)[:1], [True, True]),
    ],
)
def test_targets_are_met_or_missed(given: list[DaysSummary], met: list[bool]) -> None:
    assert [*days_summary.targets(given).values()] == met
    text = days_summary.as_text(given)
    assert text.count("\nMISSED: ") == met.count(False)
    assert text.count("\nmet: ") == met.count(True)


def test_a_day_without_answers_meets_no_target() -> None:
    given = runs("blend", 0.1, 0.01, 0.27, 0.3)
    for run in given:
        run.days[1:] = [msgspec.structs.replace(each, uplift=NONE) for each in run.days[1:]]
    assert [*days_summary.targets(given).values()] == [True, False, False]


def test_text_for_people(tmp_path: Path) -> None:
    given = runs("blend", 0.1, 0.01, 0.27, 0.3)
    text = days_summary.as_text(given)
    assert "From an empty archive: 61 s" in text
    assert "the first release answers 42 s after the first line, 17 requests before it" in text
    assert "After 14 days of history: 61 s" in text
    row = "  2026-02-11  0.300 [0.200, 0.400]    0.200 [0.100, 0.300]    0.100 [0.010, 1.000]     1,234       90"
    assert f"{row}  none, blend; 5 published, 1 refused" in text
    assert text.endswith("All invariants hold.")
    broken = [msgspec.structs.replace(given[0], broken=["3 requests failed"])]
    assert days_summary.as_text(broken).endswith("BROKEN: 3 requests failed")
    days_summary.write_summary(tmp_path / "summary.json", given)
    document = orjson.loads((tmp_path / "summary.json").read_bytes())
    assert [run["history_days"] for run in document["runs"]] == [0, 14]
    assert list(document["targets"].values()) == [True, True, True]


def written(var: Path, name: str, final: bool) -> DayReport:
    """Write the report of a day without lines, as if two releases had been in force, after hours without one."""
    reports, store = Reports(StreamSettings(var=var), QualitySettings()), Store(var / "telemetry.db")
    number = day_number(name)
    empty = reports.build(number, store.day_rows(number, reports.days), reports.days.final_from(number), final=final)
    store.close()
    groups = [msgspec.structs.replace(empty.total, name=release) for release in ("b", "a", None)]
    rates = {"hit_rate": Interval(0.3, 0.2, 0.4), "uplift": Interval(0.1, 0.0, 0.2)}
    made = msgspec.structs.replace(empty, by_release=groups, total=msgspec.structs.replace(empty.total, **rates))
    durable.write_json(var / "reports" / f"{name}.json", msgspec.to_builtins(made))
    return made


def test_a_run_is_summarised_from_its_files(tmp_path: Path) -> None:
    first, second = "2026-02-10", "2026-02-11"
    made = written(tmp_path, first, final=True)
    written(tmp_path, second, final=False)
    for hour, name, model in ((4, "a", "popular"), (8, "b", "blend")):
        (tmp_path / "releases" / name).mkdir(parents=True)
        publish.make_current(tmp_path, name, ZONE.bounds(first)[0] + hour * HOUR_MS)
        folder = "manifests" if name == "a" else name  # which was removed since
        manifest = msgspec.to_builtins(Manifest(id=name, model=ReleaseModel(lists=model)))
        durable.write_json(tmp_path / "releases" / folder / f"{'a' if name == 'a' else 'manifest'}.json", manifest)
    for hour, code in ((1, 0), (5, 3), (9, 0), (25, 1)):
        outcomes.note_outcome(tmp_path, code, 1.0, ZONE.bounds(first)[0] + hour * HOUR_MS)
    counts = ServiceCounts(statuses=Counter({200: 30, 0: 5}))
    streaming = StreamSettings(var=tmp_path)
    result = days_summary.summarise(
        streaming, counts, [first, second, "2026-02-12"], history_days=0, failed_at_first=3, first_release_s=41.96,
        seconds=1.25,
    )  # fmt: skip
    assert (result.first_release_s, result.failed_at_first) == (42.0, 3)
    one, two = result.days
    assert (one.day, one.nights, two.nights) == (first, {"published": 2, "refused": 1}, {"failed": 1})
    assert [(release.id, release.model) for release in one.releases] == [(None, None), ("a", "popular"), ("b", "blend")]
    assert one.is_personal
    assert (one.hit_rate, one.uplift, one.movies_shown) == (made.total.hit_rate, made.total.uplift, 0)
    assert result.broken == [
        "None duplicates found, 0 lines sent twice",
        "2 requests failed after the first release",
        f"the report of {second} is not final",
        "there is no report of 2026-02-12",
    ]
