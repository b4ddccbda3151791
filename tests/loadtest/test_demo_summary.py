"""The demo's summary: figures from Marquee's files, broken invariants in words, and text for people."""

from collections import Counter
from pathlib import Path

import msgspec
import orjson
import pytest

from loadtest.demo import summary
from loadtest.demo.summary import (
    DemoSummary,
    OfflineFigures,
    RateSummary,
    ReleaseSummary,
    ReportSummary,
    ServiceSummary,
    SummaryFiles,
)
from loadtest.errors import DemoError
from loadtest.settings import WorldSettings
from loadtest.simulation import backfill
from loadtest.simulation.service import ServiceCounts
from loadtest.simulation.visits import Audience
from loadtest.simulation.world import World
from quality.metrics.intervals import Interval
from quality.telemetry.day_verdict import DayCheck, DayVerdict
from quality.telemetry.equal_hours import EqualHours
from quality.telemetry.report_figures import AdultListed, AnswerCounts, Baseline, LicenceCosts
from server.manifest import InputCounts
from stream.archive import Archive
from stream.zone import zone_named

RATE, NONE = Interval(0.31, 0.3, 0.32), Interval(None, None, None)
BASELINE = Baseline(answers=90, unknown=10, hits=20, hit_rate=RATE)
DAY = "2026-02-10"


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A folder `var` with a day of history, and its lines."""
    var, zone = tmp_path_factory.mktemp("demo") / "var", zone_named("America/New_York")
    archive, audience = Archive(var), Audience(World(WorldSettings(users=20, movies=30)), zone, 1)
    with archive.writing():
        lines = backfill.write(archive, audience, zone, DAY, zone.bounds(DAY)[1], lambda days: None)
    return var, lines


def counts_of(lines: int, repeated: int = 0) -> ServiceCounts:
    statuses, releases = Counter({200: 30}), Counter[str | None](["first", "second"])
    return ServiceCounts(lines, 1, repeated, statuses, Counter(), releases, 9, [1.0, 3.0])


def test_a_run_is_summarised_from_its_files(archived: tuple[Path, int]) -> None:
    var, lines = archived
    result = summary.summarise(var, "history", counts_of(lines), [], var / "logs", 12.34)
    assert lines > 100
    assert result.lines["history"]["in"] == result.lines["history"]["accepted"] == lines
    assert (result.service.requests, result.service.by_status, result.seconds) == (30, {"200": 30}, 12.3)
    assert result.service.latency_ms == {"p50": 2.0, "p95": 2.9, "p99": 2.98, "p99.9": 3.0, "max": 3.0}
    assert (result.releases, result.reports, result.broken) == ([], {}, [])


def test_broken_invariants_are_named(archived: tuple[Path, int]) -> None:
    var, lines = archived
    service = counts_of(lines + 1, repeated=2)
    service.statuses[0], service.releases = 3, Counter({"first": 30, None: 3})
    assert summary.summarise(var, "history", service, [DAY], var, 1.0).broken == [
        f"{lines} lines archived, {lines + 1} written",
        "0 duplicates found, 2 lines sent twice",
        "3 of 33 requests failed",
        "1 releases answered, not 2",
        f"there is no report of {DAY}",
    ]


def test_a_damaged_report_is_an_error_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / f"{DAY}.json").write_text('{"final": true}')
    with pytest.raises(DemoError, match=rf"cannot read .*{DAY}\.json: .*missing required field"):
        summary.is_final(tmp_path, DAY)
    assert not summary.is_final(tmp_path, "2026-02-11")


def sample() -> DemoSummary:
    offline = OfflineFigures(hit_rate=RATE, recall=RATE, ndcg=RATE, mrr=RATE, coverage=0.5)
    counts = AnswerCounts(requests=30, by_status={"200": 30}, closed=30, provisional=0)
    none = RateSummary(name=None, answers=counts, hits=0, hit_rate=NONE, baseline=BASELINE, uplift=NONE)
    costs = LicenceCosts(listed=2.5, hits=31.0, known=10, per_hit=3.1, per_answer=1.034)
    adult = AdultListed(minors=7, share_minors=0.0, unknown_age=2, share_unknown_age=0.0)
    total = RateSummary(name="all", answers=counts, hits=10, hit_rate=RATE, baseline=BASELINE, uplift=RATE,
                        licence_costs=costs, adult_listed=adult)  # fmt: skip
    check = DayCheck(name="lost", unit="lines", state="red", value=3, limit=0, why="3 lines lost.")
    pair = EqualHours(
        earlier="first", later="second", comparable=True, hours=["09:00"], earlier_answers=9, later_answers=9,
        earlier_hit_rate=0.1, later_hit_rate=0.2, difference=RATE, uplift_difference=NONE,
    )  # fmt: skip
    return DemoSummary(
        seconds=61.4,
        lines={"movielog": {"in": 1200, "accepted": 1200}},
        service=ServiceSummary(
            lines_written=1200,
            corrupted=1,
            repeated=0,
            requests=30,
            by_status={"200": 30},
            by_source={"personal": 30},
            by_release={"first": 30},
            lists_taken_from=9,
            latency_ms={"p50": 2.5},
        ),
        releases=[ReleaseSummary(id="first", model="blend", counts=InputCounts(users=20), offline={"blend": offline})],
        reports={
            DAY: ReportSummary(
                final=True,
                window_hours=2.0,
                verdict=DayVerdict(state="red", checks=[check]),
                total=total,
                by_release=[none],
                equal_hours=[pair, msgspec.structs.replace(pair, comparable=False)],
            )
        },
        files=SummaryFiles(archive="var/archive", releases="var/releases", reports="var/reports", logs="run"),
        broken=[],
    )


def test_text_for_people() -> None:
    text = summary.as_text(sample())
    assert "  movielog    in 1,200  accepted 1,200" in text
    assert "  by status: 200 30" in text
    assert "  first: lists by blend" in text
    assert "ndcg@20 0.3100 [0.3000, 0.3200]" in text
    assert f"  {DAY} (final, 2 h window): 0.3100 [0.3000, 0.3200], popular list 0.3100" in text
    assert "    second less first at equal hours (09:00): 0.3100 [0.3000, 0.3200]" in text
    assert "    second and first: not comparable, they served at no common hour" in text
    assert "    cost per hit 3.10, per answer 1.03" in text
    assert "    adult movies in the 7 lists of minors: 0.00%" in text
    assert "    red: lost. 3 lines lost." in text
    assert text.endswith("All invariants hold.")
    broken = msgspec.structs.replace(sample(), broken=["3 of 33 requests failed"])
    assert summary.as_text(broken).endswith("BROKEN: 3 of 33 requests failed")


def test_a_demo_that_shows_minors_adult_movies_is_broken() -> None:
    def broken(share: float | None) -> list[str]:
        adult = AdultListed(minors=7, share_minors=share, unknown_age=2, share_unknown_age=0.5)
        return summary.broken_shares(DAY, adult)

    assert broken(0.01) == [f"minors were shown adult movies on {DAY}"]
    assert broken(0.0) == broken(None) == summary.broken_shares(DAY, None) == []


def test_json_keeps_the_names_of_the_metrics(tmp_path: Path) -> None:
    summary.write_summary(tmp_path / "summary.json", sample())
    document = orjson.loads((tmp_path / "summary.json").read_bytes())
    assert list(document) == ["seconds", "lines", "service", "releases", "reports", "files", "broken"]
    assert list(document["releases"][0]["offline"]["blend"]) == ["hr@20", "recall@20", "ndcg@20", "mrr", "coverage"]
    assert document["reports"][DAY]["total"]["hit_rate"] == {"mean": 0.31, "low": 0.3, "high": 0.32}
