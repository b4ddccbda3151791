"""The contract of reports: bytes as they have always been, the schema as the type, the table of figures."""

import re
from pathlib import Path
from typing import get_type_hints

import msgspec
import orjson
import pytest

from quality.errors import ReportError
from quality.telemetry.day_report import FIGURES, DayReport, read_report
from quality.telemetry.report_schema import report_schema, validate_report
from stream.zone import day_number
from tests.quality.telemetry.known_day import DAY, KnownDay, report_after

OLD_FILES = Path(__file__).parent / "old_files"
"""The known day's reports as the code before `DayReport` wrote them, with intervals by bootstrap."""
ABOUT_THE_REPORT = {
    "revision",
    "revision_reason",
    "layout",
    "day",
    "timezone",
    "final",
    "window_hours",
    "watermark",
    "notes",
}


def old_fields(document: dict[str, object]) -> bytes:
    """The file of a report without the fields that were added since."""
    old = {name: document[name] for name in orjson.loads((OLD_FILES / "final.json").read_bytes())}
    return orjson.dumps(old, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def without_ends(file: bytes) -> bytes:
    """A report without the low and high ends of its intervals, otherwise byte for byte."""
    return re.sub(rb'"(low|high)": [-\d.e]+', rb'"\1": _', file)


@pytest.mark.parametrize(("hours", "name"), [(1000, "final.json"), (27.5, "provisional.json")])
def test_the_file_is_byte_for_byte_what_it_was_but_for_intervals(known: KnownDay, hours: float, name: str) -> None:
    known.reports.write(report_after(known, hours))
    written = orjson.loads(known.reports.path(day_number(DAY)).read_bytes())
    assert without_ends(old_fields(written)) == without_ends((OLD_FILES / name).read_bytes())
    assert b'"low": _' in without_ends(old_fields(written))


@pytest.mark.parametrize("name", ["final.json", "provisional.json"])
def test_an_old_file_is_read_whole(name: str) -> None:
    report = read_report(OLD_FILES / name)
    assert old_fields(msgspec.to_builtins(report)) == (OLD_FILES / name).read_bytes()
    validate_report(orjson.loads((OLD_FILES / name).read_bytes()))


def test_a_newer_report_is_read_without_its_new_fields(tmp_path: Path) -> None:
    document = orjson.loads((OLD_FILES / "final.json").read_bytes())
    newer = {**document, "new": 1, "answers": {**document["answers"], "new": 2}}
    (tmp_path / "newer.json").write_bytes(orjson.dumps(newer))
    assert read_report(tmp_path / "newer.json") == read_report(OLD_FILES / "final.json")
    assert read_report(tmp_path / "none.json") is None


def test_the_schema_file_is_made_from_the_type() -> None:
    path = Path(__file__).parents[3] / "quality" / "telemetry" / "report-schema.json"
    assert orjson.loads(path.read_bytes()) == report_schema(), "run: python -m quality.telemetry.report_schema"


def test_the_schema_describes_every_figure() -> None:
    schema = report_schema()
    parts = {name: schema["properties"][name] for name in FIGURES}
    described = {name for name, part in parts.items() if "description" in part or "$ref" in part}
    assert described == set(FIGURES)


@pytest.mark.parametrize(
    "change",
    [{"surprise": 1}, {"hits": -1}, {"hits_by_rank": [1]}, {"watermark": "yesterday"}, {"layout": 2}],
    ids=lambda change: next(iter(change)),
)
def test_the_schema_refuses_what_is_not_a_report(known: KnownDay, change: dict[str, object]) -> None:
    document = msgspec.to_builtins(report_after(known))
    validate_report(document)
    with pytest.raises(ReportError):
        validate_report(document | change)
    del document["notes"]
    with pytest.raises(ReportError, match="notes"):
        validate_report(document)


def test_a_field_is_a_figure_or_says_something_about_the_report() -> None:
    assert set(DayReport.__struct_fields__) == ABOUT_THE_REPORT | set(FIGURES)
    assert not ABOUT_THE_REPORT & set(FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_has_the_type_that_its_function_returns(name: str) -> None:
    field, returned = get_type_hints(DayReport)[name], get_type_hints(FIGURES[name].compute)["return"]
    assert field in (returned, returned | None)  # None: for reports older than the figure
