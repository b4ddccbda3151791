"""The comparison of two releases for people: a table of three columns, and sentences."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import click
import numpy as np

from batch.evaluation.comparison import MadeOf, ReadDays, ReleaseComparison, StartedLater
from quality.metrics.intervals import Interval, interval_text
from quality.metrics.ranking import METRICS, NDCG
from stream.zone import Zone

if TYPE_CHECKING:
    from rich.table import Table

_WIDTH = 160
"""Characters of a table that is not printed to a terminal."""


def print_comparison(comparison: ReleaseComparison, clock: Zone) -> None:
    """Print the table and the sentences."""
    from rich.console import Console

    console = Console()
    console.width = console.width if console.is_terminal else _WIDTH
    console.print(comparison_table(comparison, clock))
    for sentence in sentences(comparison, clock):
        click.echo(sentence)


def comparison_table(comparison: ReleaseComparison, clock: Zone) -> "Table":
    """The comparison as a table of three columns."""
    from rich.table import Table

    table = Table("", *comparison.releases)
    for label, cells in _made_of_rows(comparison.made, clock):
        table.add_row(label, *cells)
    for kind, differing in (("settings", comparison.settings), ("versions", comparison.versions)):
        for name, values in differing.items():
            table.add_row(f"{kind}: {name}", *map(str, values))
    table.add_section()
    sides = comparison.figures
    for metric in METRICS:
        table.add_row(f"{metric.name} (95 %)", *(interval_text(side.intervals[metric.name]) for side in sides))
    numbers = {
        "coverage": [side.coverage for side in sides],
        "novelty_bits": [side.novelty_bits for side in sides],
        "personal": [side.personal for side in sides],
    }
    for name, shares in numbers.items():
        table.add_row(name, *("–" if share is None else f"{share:.3f}" for share in shares))
    return table


def sentences(comparison: ReleaseComparison, clock: Zone) -> list[str]:
    """How alike the two are, and which ranks better."""
    hours = "the same hours" if comparison.same_hours else "different hours: they do not compare"
    return [f"The figures are of {hours}.", *_list_sentences(comparison), _later_sentence(comparison.later, clock)]


def _list_sentences(comparison: ReleaseComparison) -> list[str]:
    lists = comparison.lists
    if not lists.users:
        return ["They have no user in common."]
    said = [
        f"Lists of {lists.users:,} users of both: {lists.overlap:.1%} of the movies in common,"
        f" {lists.unchanged:.1%} of the lists unchanged."
    ]
    for verb, changes in (("gained", lists.gained), ("lost", lists.lost)):
        movies = ", ".join(f"{movie} {change:+,}" for movie, change in changes.items())
        said.append(f"Movies that {verb} most places: {movies or 'none'}.")
    return said


def _later_sentence(later: StartedLater, clock: Zone) -> str:
    since = _clock_time(later.since_ms, clock)
    if later.mean is None or later.low is None or later.high is None:
        return f"Which ranks better what came after {since} cannot be said: {later.reason}."
    verdict = "no difference beyond noise"
    if later.low > 0 or later.high < 0:
        verdict = f"the {'second' if later.mean > 0 else 'first'} ranks better"
    return (
        f"On what {later.users:,} users who were shown no list began after {since}, {NDCG.title} of the second is"
        f" {interval_text(Interval(later.mean, later.low, later.high), '+.4f')}: {verdict}."
    )


def _made_of_rows(made: tuple[MadeOf, MadeOf], clock: Zone) -> list[tuple[str, list[str]]]:
    return [
        ("model", [str(side.model) for side in made]),
        ("chosen by", [str(side.chosen_by) for side in made]),
        ("parameters", [_lines(side.parameters) for side in made]),
        ("stream read until", [_clock_time(side.stream_time_ms, clock) for side in made]),
        ("days", [_days_text(side.days) for side in made]),
        ("offsets", [_lines(side.offsets) for side in made]),
        ("counts", [_lines(side.counts) for side in made]),
        ("personal lists", [f"{side.personal_lists:,}" for side in made]),
    ]


def _days_text(days: ReadDays) -> str:
    return f"{days.count}: {days.first} to {days.last}" if days.count else "none"


def _lines(values: Mapping[str, object]) -> str:
    """Names and values, one a line."""
    return "\n".join(
        f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}" for name, value in values.items()
    )


def _clock_time(time_ms: int, clock: Zone) -> str:
    return str(np.datetime64(clock.to_local(int(time_ms)), "ms"))[:16].replace("T", " ")
