"""The page of a report: whole, self-contained, escaped, and with every figure."""

from collections.abc import Iterator
from html.parser import HTMLParser

import msgspec
import pytest

from quality.metrics.intervals import Interval
from quality.telemetry.day_report import FIGURES, DayReport
from quality.telemetry.day_verdict import DayCheck, DayVerdict
from quality.telemetry.equal_hours import EqualHours
from quality.telemetry.group_figures import GroupFigures
from quality.telemetry.report_figures import HitSessions, MeanRating, RatingFigures, ShownMovies, Sources
from quality.telemetry.report_html import render_html
from tests.quality.telemetry.known_day import KnownDay, report_after

NOT_ON_THE_PAGE = {"left_out.lines"}
"""The sum of figures on the page."""


class Page(HTMLParser):
    """Collects tags, and whether every opened one is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in {"meta", "br"}:
            self.open.append(tag)
        assert not any(name.startswith("on") or name in {"src", "href"} for name, _ in attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_self_contained_and_escaped(known: KnownDay) -> None:
    report = report_after(known)
    before, first = report.by_release
    report = msgspec.structs.replace(
        report,
        by_release=[before, msgspec.structs.replace(first, name="<script>alert(1)</script>")],
        notes=[*report.notes, 'a "note" with <b> & more'],
    )
    html = render_html(report)
    page = Page()
    page.feed(html)
    assert page.open == []
    assert "script" not in page.tags
    assert page.tags.count("svg") == 5
    assert "http" not in html
    assert "&lt;b&gt; &amp; more" in html
    assert "75.00 %" in html


def changed(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Each number in a value of JSON, by its path, and the value with another number in its place."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from ((name, {**value, key: other}) for name, other in changed(inner, f"{path}.{key}"))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from ((name, [*value[:place], other, *value[place + 1 :]]) for name, other in changed(inner, path))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path.removeprefix("."), value + (1 if isinstance(value, int) else 0.123)


def groups(name: str, group: GroupFigures) -> list[GroupFigures]:
    return [msgspec.structs.replace(group, name=name), msgspec.structs.replace(group, name=None)]


@pytest.fixture
def full_report(known: KnownDay) -> DayReport:
    """A report in which every number is there."""
    report = report_after(known)
    rate, mean = Interval(0.31, 0.3, 0.32), Interval(3.5, 3.25, 4.0)
    total = msgspec.structs.replace(
        report.total,
        sources=Sources(personalised=0.7, unknown=3, unlike_release=2, exploring=0.02),
        shown=ShownMovies(movies=3, catalogue=9, coverage=0.25, gini=0.5, novelty_bits=7.5),
        hit_sessions=HitSessions(over=4, unknown=1, minutes=88.5, with_runtime=3, finished=0.5),
        ratings=RatingFigures(recommended=MeanRating(ratings=5, mean=mean), other=MeanRating(ratings=6, mean=mean)),
        baseline=msgspec.structs.replace(report.total.baseline, hit_rate=rate),
    )
    pair = EqualHours(
        earlier="first", later="second", comparable=True, hours=["09:00"], earlier_answers=9, later_answers=8,
        earlier_hit_rate=0.1, later_hit_rate=0.2, difference=rate, uplift_difference=rate,
    )  # fmt: skip
    checks = [
        DayCheck(name="lost", unit="lines", state="red", value=3, limit=0, why="3 lines lost."),
        DayCheck(name="latency_p99", unit="ms", state="green", value=3, limit=600, why="Fast."),
        DayCheck(name="availability", unit="share", state="unknown", value=None, limit=0.99, why="Too few."),
    ]
    return msgspec.structs.replace(
        report,
        total=total,
        verdict=DayVerdict(state="red", checks=checks),
        by_release=groups("first", total),
        by_source=groups("personal", total),
        by_segment=groups("18-24, F", total),
        by_hour=groups("09:00", total),
        equal_hours=[pair],
        left_out=msgspec.structs.replace(report.left_out, lines=2, by_reason={"late": 2}),
    )


def test_releases_that_cannot_be_compared_are_said_to_be(full_report: DayReport) -> None:
    (pair,) = full_report.equal_hours
    assert "not comparable" not in render_html(full_report)
    report = msgspec.structs.replace(full_report, equal_hours=[msgspec.structs.replace(pair, comparable=False)])
    assert "<b>not comparable</b>" in render_html(report)


def test_what_is_red_comes_first(full_report: DayReport) -> None:
    html = render_html(full_report)
    assert html.index("Red: something needs a look") < html.index("lost: 3 lines") < html.index("availability: –")
    assert html.index("availability: –") < html.index("latency p99: 3 ms") < html.index("of 4 answers were hits")


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_on_the_page(full_report: DayReport, name: str) -> None:
    document = msgspec.to_builtins(full_report)
    html = render_html(full_report)
    hidden = {
        path
        for path, value in changed(document[name], name)
        if render_html(msgspec.convert({**document, name: value}, DayReport)) == html
    }
    assert document[name] is not None
    assert hidden == {path for path in NOT_ON_THE_PAGE if path.partition(".")[0] == name}
