"""The HTML page of a report: the same figures in one self-contained file. No script, no network.

A function of the report alone; every text is escaped. Plots are hand-made SVG: bars with a line for the 95 % interval.
Figures with rows in the table of requests say so in `DayReport`; headline, plots and the table of releases are here.
"""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from quality.metrics.intervals import Interval, interval_text
from quality.telemetry.day_report import FIGURES, DayReport
from quality.telemetry.report_figures import ReleaseFigures

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1f24; --paper: #fff; --soft: #6b7280; --rule: #d8dce2; --bar: #2f6fde;
  --other: #9aa3af }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e9ec; --paper: #15181c; --soft: #9aa3af; --rule: #343a42;
  --bar: #6ea0ff; --other: #6b7280 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 46rem;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
p.soft, td.soft { color: var(--soft) } strong { font-size: 1.6rem }
table { border-collapse: collapse; width: 100% } th { text-align: left; font-weight: 500; color: var(--soft) }
td, th { border-bottom: 1px solid var(--rule); padding: .25rem .5rem .25rem 0 }
table { font-size: 14px } td + td, th + th { text-align: right; white-space: nowrap;
  font-variant-numeric: tabular-nums }
svg { width: 100%; height: auto } svg text { fill: var(--ink); font-size: 12px } svg .soft { fill: var(--soft) }
.bar { fill: var(--bar) } .other { fill: var(--other) } .range { stroke: var(--ink); stroke-width: 1.5 }
"""


class _Bar(NamedTuple):
    label: str
    rate: Interval
    style: str
    """CSS class."""


def render_html(report: DayReport) -> str:
    """A report as a page."""
    state = "final" if report.final else "provisional: windows are still open"
    day = escape(report.day)
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Marquee: answers of {day}</title><style>{_STYLE}</style>
<h1>Answers of {day}</h1>
<p class="soft">{escape(report.timezone)}; stream read up to {escape(report.watermark)}; {state}</p>
{_headline(report)}
<h2>Hits by rank</h2>{_columns(report.hits_by_rank)}
<h2>Hit rate by release</h2>{_bars(_release_bars(report.by_release))}
{_releases(report.by_release)}
<h2>Requests</h2>{_requests(report)}
<h2>Notes</h2><ul>{"".join(f"<li>{escape(note)}</li>" for note in report.notes)}</ul>
</html>
"""


def _headline(report: DayReport) -> str:
    bars = [_Bar("shown lists", report.hit_rate, "bar"), _Bar("popular list", report.baseline.hit_rate, "other")]
    uplift = _percent_interval(report.uplift, "points")
    return (
        f"<p><strong>{_percent(report.hit_rate.mean)}</strong> of {report.answers.closed:,} answers were hits within "
        f"{report.window_hours:g} hours. Uplift over the popular list: {uplift}.</p>{_bars(bars)}"
    )


def _bars(bars: Sequence[_Bar]) -> str:
    """Horizontal bars from 0 to the largest end, 28 px each."""
    ends = (end for bar in bars for end in (bar.rate.mean, bar.rate.low, bar.rate.high))
    top = max((end or 0.0 for end in ends), default=0.0) or 1.0
    rows = [_bar(bar, 28 * row, 400 / top) for row, bar in enumerate(bars)]
    return f'<svg viewBox="0 0 720 {28 * max(1, len(bars))}" role="img">{"".join(rows)}</svg>'


def _bar(bar: _Bar, y: int, scale: float) -> str:
    label = bar.label if len(bar.label) <= 30 else bar.label[:29] + "…"
    mean, low, high = bar.rate.mean, bar.rate.low, bar.rate.high
    shape = f'<rect class="{bar.style}" x="210" y="{y + 5}" width="{(mean or 0) * scale:.1f}" height="18"/>'
    if low is not None and high is not None:
        middle, ends = y + 14, (210 + low * scale, 210 + high * scale)
        shape += f'<line class="range" x1="{ends[0]:.1f}" y1="{middle}" x2="{ends[1]:.1f}" y2="{middle}"/>'
        shape += "".join(
            f'<line class="range" x1="{x:.1f}" y1="{middle - 5}" x2="{x:.1f}" y2="{middle + 5}"/>' for x in ends
        )
    return (
        f'<text x="0" y="{y + 18}">{escape(label)}</text>{shape}'
        f'<text class="soft" x="620" y="{y + 18}">{_percent(mean)}</text>'
    )


def _columns(counts: Sequence[int]) -> str:
    """Upright bars, one a rank, with their counts."""
    width, top = 720 / max(1, len(counts)), max(counts, default=0) or 1
    parts = []
    for rank, count in enumerate(counts, 1):
        height, x = 110 * count / top, (rank - 1) * width
        parts.append(
            f'<rect class="bar" x="{x + 3:.1f}" y="{130 - height:.1f}" width="{width - 6:.1f}" '
            f'height="{height:.1f}"/>'
            f'<text x="{x + width / 2:.1f}" y="{126 - height:.1f}" text-anchor="middle">{count:,}</text>'
            f'<text class="soft" x="{x + width / 2:.1f}" y="146" text-anchor="middle">{rank}</text>'
        )
    return f'<svg viewBox="0 0 720 150" role="img">{"".join(parts)}</svg>'


def _release_bars(releases: Sequence[ReleaseFigures]) -> list[_Bar]:
    bars = []
    for figures in releases:
        bars.append(_Bar(_release_name(figures), figures.hit_rate, "bar"))
        bars.append(_Bar("its popular list", figures.baseline.hit_rate, "other"))
    return bars


def _releases(releases: Sequence[ReleaseFigures]) -> str:
    rows = [
        (
            _release_name(figures),
            f"{figures.closed:,}",
            f"{figures.hits:,}",
            _percent_interval(figures.hit_rate, "%"),
            _percent_interval(figures.uplift, ""),
        )
        for figures in releases
    ]
    return _table(("release", "closed", "hits", "hit rate", "uplift, points"), rows)


def _requests(report: DayReport) -> str:
    rows = [row for name, figure in FIGURES.items() for row in figure.rows(getattr(report, name))]
    return _table(("all requests", f"{report.answers.requests:,}"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _release_name(figures: ReleaseFigures) -> str:
    return "before the first release" if figures.release is None else figures.release


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.2f} %"


def _percent_interval(shares: Interval, unit: str) -> str:
    text = interval_text(shares, ".2f", scale=100)
    return text if shares.mean is None else f"{text} {unit}"
