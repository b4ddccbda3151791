"""The HTML page of a report: the same figures in one self-contained file. No script, no network.

A function of the report alone; every text is escaped. What must be done comes first: the verdict, then the figures.
Every figure of a group is a row of its table by its `Figure`; the groups of one kind are the table's columns.
"""

from collections.abc import Sequence
from html import escape

from quality.telemetry.day_report import FIGURES, DayReport
from quality.telemetry.day_verdict import DayCheck, DayVerdict
from quality.telemetry.equal_hours import EqualHours
from quality.telemetry.group_figures import GroupFigures, group_rows, number, percent, percent_interval
from quality.telemetry.report_plots import Bar, bars, columns, rates_by_name

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1f24; --paper: #fff; --soft: #626975; --rule: #d8dce2; --bar: #2f6fde;
  --other: #9aa3af; --red: #c02626; --green: #1d7a3e; --unknown: #6b7280 }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e9ec; --paper: #15181c; --soft: #9aa3af; --rule: #343a42;
  --bar: #6ea0ff; --other: #7b8492; --red: #ff8080; --green: #5fce8a; --unknown: #9aa3af } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 54rem;
  margin: 1.5rem auto; padding: 0 1rem; overflow-wrap: break-word }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
.soft { color: var(--soft) } strong { font-size: 1.6rem } b { font-weight: 600 }
.red { color: var(--red) } .green { color: var(--green) } .unknown { color: var(--unknown) }
.verdict { border-left: 4px solid; padding: .2rem 0 .2rem .8rem; margin: 1rem 0 } .verdict > * { color: var(--ink) }
.verdict p { margin: 0 0 .3rem } ul.checks { list-style: none; padding: 0; margin: 0 }
ul.checks li { margin: .35rem 0; line-height: 1.35 } ul.checks small { color: var(--soft) }
.scroll { overflow-x: auto } table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: 14px }
th { text-align: left; font-weight: 500; color: var(--soft) } td, th { border-bottom: 1px solid var(--rule);
  padding: .25rem .5rem .25rem 0 } td + td, th + th { text-align: right; font-variant-numeric: tabular-nums }
.scroll td + td, .scroll th + th { white-space: nowrap; padding-left: .6rem }
.scroll tr > :first-child { position: sticky; left: 0; background: var(--paper); min-width: 7rem; max-width: 9rem }
details { margin: .5rem 0 } summary { cursor: pointer; color: var(--soft) }
svg { display: block; width: 100%; max-width: 36rem; height: auto; overflow: visible }
svg text { fill: var(--ink); font-size: 11px } svg text.soft { fill: var(--soft) }
svg text.tiny { font-size: 7.5px; text-anchor: middle }
.bar { fill: var(--bar) } .other { fill: var(--other) } .range { stroke: var(--ink); stroke-width: 1.2 }
.mark { stroke: var(--other); stroke-width: 3 } .axis { stroke: var(--rule) }
"""
_HEAD = ("hit rate", "uplift, points", "closed", "available", "p99", "personal", "coverage")
_NO_RELEASE = "no known release"


def render_html(report: DayReport) -> str:
    """A report as a page."""
    state = "final" if report.final else "provisional: windows are still open"
    day = escape(report.day)
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Marquee: answers of {day}</title><style>{_STYLE}</style>
<h1>Answers of {day}</h1>
<p class="soft">{escape(report.timezone)}; stream read up to {escape(report.watermark)}; {state}</p>
{_verdict(report.verdict)}
{_headline(report)}
<h2>Hits by rank</h2>{columns(report.total.hits_by_rank, [str(rank + 1) for rank in range(20)])}
<h2>By hour</h2>{_hours(report.by_hour)}{_groups("hour", report.by_hour)}
<h2>By release</h2>{bars(_release_bars(report.by_release))}
{_groups("release", report.by_release)}{"".join(map(_equal_hours, report.equal_hours))}
<h2>By source of the list</h2>{_groups("source", report.by_source)}
<h2>By segment</h2>{_groups("segment", report.by_segment)}
<h2>All figures of the day</h2>{_day_table(report)}
<h2>Notes</h2><ul>{"".join(f"<li>{escape(note)}</li>" for note in report.notes)}</ul>
</html>
"""


def _verdict(verdict: DayVerdict) -> str:
    order = ("red", "unknown", "green")
    checks = sorted(verdict.checks, key=lambda check: order.index(check.state))
    counts = {state: sum(check.state == state for check in checks) for state in order}
    words = {"red": "Red: something needs a look", "unknown": "Not known yet", "green": "Green: nothing to do"}
    summary = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return (
        f'<div class="verdict {verdict.state}"><p><b class="{verdict.state}">{words[verdict.state]}</b> '
        f'<span class="soft">({summary})</span></p><ul class="checks">{"".join(map(_check, checks))}</ul></div>'
    )


def _check(check: DayCheck) -> str:
    value, limit = (
        percent(figure) if check.unit == "share" else number(figure, ",.0f", check.unit)
        for figure in (check.value, check.limit)
    )
    return (
        f'<li><b class="{check.state}">{check.state}</b> {escape(check.name.replace("_", " "))}: {value} '
        f'<span class="soft">(limit {limit})</span><br><small>{escape(check.why)}</small></li>'
    )


def _headline(report: DayReport) -> str:
    total = report.total
    rows = [Bar("shown lists", total.hit_rate, "bar"), Bar("popular list", total.baseline.hit_rate, "other")]
    uplift = percent_interval(total.uplift, "points")
    return (
        f"<p><strong>{percent(total.hit_rate.mean)}</strong> of {total.answers.closed:,} answers were hits within "
        f"{report.window_hours:g} hours. Uplift over the popular list: {uplift}.</p>{bars(rows)}"
    )


def _hours(hours: Sequence[GroupFigures]) -> str:
    names = [str(hour.name).partition(":")[0] for hour in hours]
    rates, popular = [hour.hit_rate for hour in hours], [hour.baseline.hit_rate for hour in hours]
    return (
        f'<p class="soft">Hit rate with its 95 % interval; dashes: the popular list.</p>'
        f'{rates_by_name(names, rates, popular)}<p class="soft">Requests.</p>'
        f"{columns([hour.answers.requests for hour in hours], names)}"
    )


def _release_bars(releases: Sequence[GroupFigures]) -> list[Bar]:
    rows = []
    for release in releases:
        rows.append(Bar(release.name or _NO_RELEASE, release.hit_rate, "bar"))
        rows.append(Bar("its popular list", release.baseline.hit_rate, "other"))
    return rows


def _groups(kind: str, groups: Sequence[GroupFigures]) -> str:
    """The main figures with a row a group, and all figures with a column a group."""
    rows = [
        (
            group.name or _NO_RELEASE,
            percent_interval(group.hit_rate, "%"),
            percent_interval(group.uplift, ""),
            f"{group.answers.closed:,}",
            percent(group.availability),
            number(group.latency_ms.p99, unit="ms"),
            percent(group.sources.personalised),
            percent(group.shown.coverage),
        )
        for group in groups
    ]
    by_group = [dict(group_rows(group)) for group in groups]
    labels = dict.fromkeys(label for cells in by_group for label in cells)
    matrix = [(label, *(cells.get(label, "0") for cells in by_group)) for label in labels]
    names = [row[0] for row in rows]
    main = _table((kind, *_HEAD), rows)
    if kind == "hour":  # plots show the main figures
        main = f"<details><summary>Main figures by hour</summary>{main}</details>"
    return f"{main}<details><summary>All figures by {kind}</summary>{_table(('', *names), matrix)}</details>"


def _equal_hours(pair: EqualHours) -> str:
    earlier, later = escape(pair.earlier), escape(pair.later)
    if not pair.comparable:
        return f"<p>{later} and {earlier} are <b>not comparable</b>: there is no hour with answers of both.</p>"
    rates = f"{percent(pair.later_hit_rate)} and {percent(pair.earlier_hit_rate)}"
    return (
        f"<p>{later} against {earlier} at equal hours ({escape(', '.join(pair.hours))}): {rates} of "
        f"{pair.later_answers:,} and {pair.earlier_answers:,} answers, difference "
        f"{percent_interval(pair.difference, 'points')}; difference of the uplifts "
        f"{percent_interval(pair.uplift_difference, 'points')}.</p>"
    )


def _day_table(report: DayReport) -> str:
    rows = [row for name, figure in FIGURES.items() for row in figure.rows(getattr(report, name))]
    return _table(("", "all"), [*group_rows(report.total), *rows])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    return f'<div class="scroll"><table>{"".join(f"<tr>{line}</tr>" for line in lines)}</table></div>'
