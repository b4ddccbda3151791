"""The HTML page of a report: the same figures in one self-contained file. No script, no network.

A function of the report alone; every text is escaped. Plots are SVG by hand: bars with a line for the 95 % interval.
"""

from collections.abc import Sequence
from html import escape
from typing import Any

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
_Bar = tuple[str, float | None, float | None, float | None, str]
"""Label, value, ends of the interval (None for none), class of the bar."""


def render_html(report: dict[str, Any]) -> str:
    """A report as a page."""
    state = "final" if report["final"] else "provisional: windows are still open"
    day = escape(report["day"])
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Marquee: answers of {day}</title><style>{_STYLE}</style>
<h1>Answers of {day}</h1>
<p class="soft">{escape(report["timezone"])}; stream read up to {escape(report["watermark"])}; {state}</p>
{_headline(report)}
<h2>Hits by rank</h2>{_columns(report["hits_by_rank"])}
<h2>Hit rate by release</h2>{_bars(_release_bars(report["by_release"]))}
{_releases(report["by_release"])}
<h2>Requests</h2>{_requests(report)}
<h2>Notes</h2><ul>{"".join(f"<li>{escape(note)}</li>" for note in report["notes"])}</ul>
</html>
"""


def _headline(report: dict[str, Any]) -> str:
    rate, baseline, uplift = report["hit_rate"], report["baseline"]["hit_rate"], report["uplift"]
    bars: list[_Bar] = [
        ("shown lists", rate["mean"], rate["low"], rate["high"], "bar"),
        ("popular list", baseline["mean"], baseline["low"], baseline["high"], "other"),
    ]
    return (
        f"<p><strong>{_percent(rate['mean'])}</strong> of {report['answers']['closed']:,} answers were hits within "
        f"{report['window_hours']:g} hours. Uplift over the popular list: {_interval(uplift, 'points')}.</p>"
        f"{_bars(bars)}"
    )


def _bars(bars: Sequence[_Bar]) -> str:
    """Horizontal bars from 0 to the largest end, 28 px each."""
    top = max((value or 0.0 for bar in bars for value in bar[1:4]), default=0.0) or 1.0
    rows = [_bar(bar, 28 * row, 400 / top) for row, bar in enumerate(bars)]
    return f'<svg viewBox="0 0 720 {28 * max(1, len(bars))}" role="img">{"".join(rows)}</svg>'


def _bar(bar: _Bar, y: int, scale: float) -> str:
    label, value, low, high, kind = bar
    short = label if len(label) <= 30 else label[:29] + "…"
    shape = f'<rect class="{kind}" x="210" y="{y + 5}" width="{(value or 0) * scale:.1f}" height="18"/>'
    if low is not None and high is not None:
        middle, ends = y + 14, (210 + low * scale, 210 + high * scale)
        shape += f'<line class="range" x1="{ends[0]:.1f}" y1="{middle}" x2="{ends[1]:.1f}" y2="{middle}"/>'
        shape += "".join(
            f'<line class="range" x1="{x:.1f}" y1="{middle - 5}" x2="{x:.1f}" y2="{middle + 5}"/>' for x in ends
        )
    texts = f'<text x="0" y="{y + 18}">{escape(short)}</text>'
    return f'{texts}{shape}<text class="soft" x="620" y="{y + 18}">{_percent(value)}</text>'


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


def _release_bars(releases: Sequence[dict[str, Any]]) -> list[_Bar]:
    bars: list[_Bar] = []
    for figures in releases:
        rate, baseline = figures["hit_rate"], figures["baseline"]["hit_rate"]
        bars.append((_name(figures["release"]), rate["mean"], rate["low"], rate["high"], "bar"))
        bars.append(("its popular list", baseline["mean"], baseline["low"], baseline["high"], "other"))
    return bars


def _releases(releases: Sequence[dict[str, Any]]) -> str:
    rows = [
        (
            _name(r["release"]),
            f"{r['closed']:,}",
            f"{r['hits']:,}",
            _interval(r["hit_rate"]),
            _interval(r["uplift"], ""),
        )
        for r in releases
    ]
    return _table(("release", "closed", "hits", "hit rate", "uplift, points"), rows)


def _requests(report: dict[str, Any]) -> str:
    answers, latency = report["answers"], report["latency_ms"]
    rows = [(f"status {status}", f"{count:,}") for status, count in answers["by_status"].items()]
    rows += [("answers whose window is open", f"{answers['provisional']:,}")]
    rows += [(f"latency {name}", "–" if value is None else f"{value:,} ms") for name, value in latency.items()]
    rows += [("mean reciprocal rank", _number(report["mean_reciprocal_rank"]))]
    rows += [("different movies shown", f"{report['movies_shown']:,}")]
    rows += [(f"left out: {reason}", f"{lines:,}") for reason, lines in report["left_out"]["by_reason"].items()]
    return _table(("all requests", f"{answers['requests']:,}"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _name(release: str | None) -> str:
    return "before the first release" if release is None else release


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f} %"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _interval(value: dict[str, float | None], unit: str = "%") -> str:
    mean, low, high = (100 * (value[name] or 0.0) for name in ("mean", "low", "high"))
    return "–" if value["mean"] is None else f"{mean:.2f} ({low:.2f} to {high:.2f}) {unit}"
