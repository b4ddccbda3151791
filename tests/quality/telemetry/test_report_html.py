"""The page of a report: whole, self-contained, escaped, and with every figure."""

from collections.abc import Iterator
from html.parser import HTMLParser

import msgspec
import pytest

from quality.telemetry.day_report import FIGURES, DayReport
from quality.telemetry.report_html import render_html
from tests.quality.telemetry.known_day import KnownDay, report_after

NOT_ON_THE_PAGE = {
    "hits",
    "baseline.answers",
    "baseline.unknown",
    "baseline.hits",
    "by_release.answers",
    "by_release.baseline.answers",
    "by_release.baseline.unknown",
    "by_release.baseline.hits",
    "left_out.lines",
}
"""The notes say how many answers have no baseline; the others are sums of figures on the page, or behind its rates."""


class Page(HTMLParser):
    """Collects tags, and whether every opened one is closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag != "meta":
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
        by_release=[before, msgspec.structs.replace(first, release="<script>alert(1)</script>")],
        notes=[*report.notes, 'a "note" with <b> & more'],
    )
    html = render_html(report)
    page = Page()
    page.feed(html)
    assert page.open == []
    assert "script" not in page.tags
    assert page.tags.count("svg") == 3
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
    elif isinstance(value, int | float):
        yield path.removeprefix("."), value + (1 if isinstance(value, int) else 0.123)


@pytest.fixture
def full_report(known: KnownDay) -> DayReport:
    """A report in which every number is there."""
    report = report_after(known)
    left_out = msgspec.structs.replace(report.left_out, lines=2, by_reason={"late": 2})
    return msgspec.structs.replace(report, left_out=left_out)


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
