"""How good a release is by length of history: a table for `releases`."""

from typing import TYPE_CHECKING

import msgspec

from batch.evaluation_file import HISTORY_LENGTHS, Evaluation, FirstListLength
from quality.metrics.intervals import Interval, interval_text

if TYPE_CHECKING:
    from rich.table import Table


class LengthRow(msgspec.Struct, frozen=True):
    """How good a release is for users with a history of one length, on the test slice."""

    events: str
    """A key of `HISTORY_LENGTHS`: how many events were known before the slice."""
    users: int
    popular: Interval
    """NDCG@20 of the popular list."""
    shown: Interval
    """NDCG@20 of what the release shows."""
    against_popular: Interval
    """The difference, paired by user."""
    first_lists: FirstListLength | None = None
    """Lists by self-description and by segment, as if these users had no history; None if they were not measured."""


def length_rows(evaluation: Evaluation, model: str) -> list[LengthRow]:
    """The figures of a model on the test slice, the shortest histories first; [] if it has none by length."""
    test = evaluation.slices.test
    lengths = test.history_lengths if test else {}
    first_lists = evaluation.first_lists.test if evaluation.first_lists else None
    by_text = first_lists.lengths if first_lists else {}
    rows = []
    for name in HISTORY_LENGTHS:
        if (figures := lengths.get(name)) and {model, "popular"} <= figures.models.keys():
            shown = figures.models[model]
            popular = figures.models["popular"].ndcg
            row = LengthRow(name, figures.users, popular, shown.ndcg, shown.against_popular, by_text.get(name))
            rows.append(row)
    return rows


def length_table(release: str, model: str, rows: list[LengthRow]) -> "Table":
    """The rows as a table."""
    from rich.table import Table

    title = f"{release}: NDCG@20 (95 %) on the test slice, by events known before it"
    table = Table(title=title, title_justify="left")
    for name in ("events", "users", "popular list", model, "difference"):
        table.add_column(name, justify="right", no_wrap=True)
    has_first_lists = any(row.first_lists for row in rows)
    if has_first_lists:
        table.add_column("self-description against segment", justify="right", no_wrap=True)
    for row in rows:
        texts = [interval_text(row.popular), interval_text(row.shown), interval_text(row.against_popular, "+.4f")]
        if has_first_lists:
            texts.append(interval_text(row.first_lists.against_segment, "+.4f") if row.first_lists else "–")
        table.add_row(row.events, f"{row.users:,}", *texts)
    return table
