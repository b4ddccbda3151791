"""Plots of a report's page: hand-made SVG, 360 units wide so that text is as large on a phone as beside it."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from quality.metrics.intervals import Interval
from quality.telemetry.group_figures import percent

_WIDTH = 360


class Bar(NamedTuple):
    """A rate with its label."""

    label: str
    rate: Interval
    style: str
    """CSS class."""


def bars(rows: Sequence[Bar]) -> str:
    """Horizontal bars from 0 to the largest end, each below its label, with a line for the 95 % interval."""
    top = max((end or 0.0 for row in rows for end in _ends(row.rate)), default=0.0) or 1.0
    shapes = [_bar(row, 34 * place, _WIDTH / top) for place, row in enumerate(rows)]
    return _svg(34 * max(1, len(rows)), shapes)


def _bar(row: Bar, y: int, scale: float) -> str:
    mean, low, high = _ends(row.rate)
    shape = f'<rect class="{row.style}" x="0" y="{y + 17}" width="{(mean or 0) * scale:.1f}" height="11"/>'
    if low is not None and high is not None:
        shape += _range([(low * scale, y + 22.5), (high * scale, y + 22.5)], is_level=True)
    label = row.label if len(row.label) <= 44 else row.label[:43] + "…"
    return (
        f'<text x="0" y="{y + 12}">{escape(label)}</text>{shape}'
        f'<text class="soft" x="{_WIDTH}" y="{y + 12}" text-anchor="end">{percent(mean)}</text>'
    )


def columns(counts: Sequence[int], names: Sequence[str]) -> str:
    """Upright bars with their counts above and their names below; every second name if there are many."""
    width, top = _WIDTH / max(1, len(counts)), max(counts, default=0) or 1
    shapes = []
    for place, (count, name) in enumerate(zip(counts, names, strict=True)):
        height, middle = 76 * count / top, (place + 0.5) * width
        shapes.append(
            f'<rect class="bar" x="{place * width + 1:.1f}" y="{90 - height:.1f}" width="{width - 2:.1f}" '
            f'height="{height:.1f}"><title>{escape(name)}: {count:,}</title></rect>{_name(name, place, middle, 102)}'
        )
        if len(_short(count)) * 4.9 < width:
            shapes.append(f'<text class="tiny" x="{middle:.1f}" y="{87 - height:.1f}">{_short(count)}</text>')
    return _svg(106, shapes)


def _short(count: int) -> str:
    """`853`, `12k`, `3M`: rounded to at most three digits, so that it fits above a bar."""
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:.0f}{unit}"
    return str(count)


def rates_by_name(names: Sequence[str], rates: Sequence[Interval], others: Sequence[Interval]) -> str:
    """Rates as points with their 95 % intervals upright, and others as dashes; an axis from 0 to the largest end."""
    width = _WIDTH / max(1, len(names))
    ends = [end or 0.0 for rate in (*rates, *others) for end in _ends(rate)]
    top = max(ends, default=0.0) or 1.0
    shapes = [
        f'<text class="soft" x="0" y="9">{percent(top)}</text><line class="axis" x1="0" y1="110" x2="360" y2="110"/>'
    ]
    for place, (name, rate, other) in enumerate(zip(names, rates, others, strict=True)):
        middle = (place + 0.5) * width
        shapes += [_name(name, place, middle, 122), *_points(name, rate, other, middle, 96 / top)]
    return _svg(126, shapes)


def _points(name: str, rate: Interval, other: Interval, x: float, scale: float) -> Iterator[str]:
    mean, low, high = _ends(rate)
    if other.mean is not None:
        y = 110 - other.mean * scale
        yield f'<line class="mark" x1="{x - 5:.1f}" y1="{y:.1f}" x2="{x + 5:.1f}" y2="{y:.1f}"/>'
    if low is not None and high is not None:
        yield _range([(x, 110 - low * scale), (x, 110 - high * scale)], is_level=False)
    if mean is not None:
        title = f"<title>{escape(name)}: {percent(mean)}</title>"
        yield f'<circle class="bar" cx="{x:.1f}" cy="{110 - mean * scale:.1f}" r="3.5">{title}</circle>'


def _name(name: str, place: int, x: float, y: int) -> str:
    return "" if place % 2 else f'<text class="tiny soft" x="{x:.1f}" y="{y}">{escape(name)}</text>'


def _range(ends: Sequence[tuple[float, float]], *, is_level: bool) -> str:
    (x1, y1), (x2, y2) = ends
    line = f'<line class="range" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
    across, along = (0, 4) if is_level else (3, 0)
    stops = (
        f'<line class="range" x1="{x - across:.1f}" y1="{y - along:.1f}" x2="{x + across:.1f}" y2="{y + along:.1f}"/>'
        for x, y in ends
    )
    return line + "".join(stops)


def _ends(rate: Interval) -> tuple[float | None, float | None, float | None]:
    return rate.mean, rate.low, rate.high


def _svg(height: int, shapes: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img">{"".join(shapes)}</svg>'
