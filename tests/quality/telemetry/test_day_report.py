"""The contract of reports: files of both layouts, the schema as the type, the table of figures."""

from pathlib import Path
from typing import get_type_hints

import msgspec
import orjson
import pytest

from quality.errors import ReportError
from quality.telemetry.day_report import FIGURES, DayReport, encode_report, read_head, read_report
from quality.telemetry.group_figures import GROUP_FIGURES, GroupFigures
from quality.telemetry.report_schema import report_schema, validate_report
from stream.zone import day_number
from tests.quality.telemetry.known_day import DAY, KnownDay, report_after

OLD_FILES = Path(__file__).parent / "old_files"
"""The known day's reports in layout 1."""
ABOUT_THE_REPORT = {
    "layout", "day", "timezone", "final", "revision", "revision_reason", "window_hours", "watermark", "notes"
}  # fmt: skip
TABLES = [(DayReport, name) for name in FIGURES] + [(GroupFigures, name) for name in GROUP_FIGURES]


def test_a_report_of_layout_1_is_named_as_such_and_a_final_one_is_kept(known: KnownDay) -> None:
    reports, day = known.reports, day_number(DAY)
    path = reports.path(day)
    path.parent.mkdir()
    path.write_bytes((OLD_FILES / "final.json").read_bytes())
    with pytest.raises(ReportError, match="has layout 1, of an older version; this one reads 2"):
        read_report(path)
    reports.write(report_after(known))
    assert path.read_bytes() == (OLD_FILES / "final.json").read_bytes()
    assert (reports.is_final(day), reports.written(day)) == (True, None)
    path.write_bytes((OLD_FILES / "provisional.json").read_bytes())
    assert reports.is_final(day) is False
    reports.write(report_after(known))
    assert read_report(path) == reports.written(day) == report_after(known)


def test_a_final_report_of_layout_1_is_only_replaced_by_a_revision(known: KnownDay) -> None:
    path = known.reports.path(day_number(DAY))
    path.parent.mkdir()
    path.write_bytes((OLD_FILES / "final.json").read_bytes())
    path.with_suffix(".html").write_bytes(b"a page")
    assert known.reports.revise(report_after(known), "layout 2") == read_report(path)
    assert path.with_suffix(".revision-0.json").read_bytes() == (OLD_FILES / "final.json").read_bytes()


def test_a_report_of_a_layout_to_come_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "new.json").write_bytes(b'{"layout": 3, "day": "2026-02-10", "final": true}')
    with pytest.raises(ReportError, match=r"cannot read .*layout"):
        read_head(tmp_path / "new.json")


def test_a_newer_report_is_read_without_its_new_fields(known: KnownDay, tmp_path: Path) -> None:
    report = report_after(known)
    document = msgspec.to_builtins(report)
    newer = {**document, "new": 1, "total": {**document["total"], "new": 2}}
    (tmp_path / "newer.json").write_bytes(orjson.dumps(newer))
    assert read_report(tmp_path / "newer.json") == report
    assert read_report(tmp_path / "none.json") is None


def test_a_report_of_the_layout_from_before_costs_and_minors_is_read(known: KnownDay, tmp_path: Path) -> None:
    report = report_after(known)
    document = msgspec.to_builtins(report)
    for group in (document["total"], *document["by_release"]):
        del group["licence_costs"], group["adult_listed"]
    (tmp_path / "older.json").write_bytes(orjson.dumps(document))
    older = read_report(tmp_path / "older.json")
    assert older is not None
    assert (older.total.licence_costs, older.total.adult_listed) == (None, None)
    assert older.by_hour == report.by_hour
    validate_report(orjson.loads((tmp_path / "older.json").read_bytes()))


@pytest.mark.parametrize("change", [{"timezone": ""}, {"window_hours": float("nan")}, {"day": "2026-2-10"}], ids=repr)
def test_a_report_with_a_value_that_its_field_may_not_have_is_not_written(
    known: KnownDay, change: dict[str, object]
) -> None:
    report = msgspec.structs.replace(report_after(known), **change)
    with pytest.raises(ReportError, match="is not as it must be"):
        encode_report(report)


def test_a_report_in_its_file_is_what_the_schema_describes(known: KnownDay) -> None:
    validate_report(orjson.loads(encode_report(report_after(known))))


def test_the_schema_file_is_made_from_the_type() -> None:
    path = Path(__file__).parents[3] / "quality" / "telemetry" / "report-schema.json"
    assert orjson.loads(path.read_bytes()) == report_schema(), "run: python -m quality.telemetry.report_schema"


def test_the_schema_describes_every_figure() -> None:
    schema = report_schema()
    parts = {name: schema["properties"][name] for name in FIGURES}
    parts |= {name: schema["$defs"]["GroupFigures"]["properties"][name] for name in GROUP_FIGURES}
    described = {name for name, part in parts.items() if "description" in part or "$ref" in part}
    assert described == set(parts)


@pytest.mark.parametrize(
    "change",
    [{"surprise": 1}, {"total": {}}, {"by_hour": [1]}, {"watermark": "yesterday"}, {"layout": 1}],
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


@pytest.mark.parametrize(
    "change",
    [{"hits": -1}, {"hits_by_rank": [1]}, {"availability": 1.01}, {"name": ""}, {"surprise": 1}],
    ids=lambda change: next(iter(change)),
)
def test_the_schema_refuses_what_are_not_figures(known: KnownDay, change: dict[str, object]) -> None:
    document = msgspec.to_builtins(report_after(known))
    with pytest.raises(ReportError):
        validate_report({**document, "total": document["total"] | change})


def test_a_field_is_a_figure_or_says_something_about_the_report() -> None:
    assert set(DayReport.__struct_fields__) == ABOUT_THE_REPORT | set(FIGURES)
    assert not ABOUT_THE_REPORT & set(FIGURES)
    assert set(GroupFigures.__struct_fields__) == {"name"} | set(GROUP_FIGURES)


@pytest.mark.parametrize(("struct", "name"), TABLES)
def test_a_figure_has_the_type_that_its_function_returns(struct: type[msgspec.Struct], name: str) -> None:
    figures = FIGURES if struct is DayReport else GROUP_FIGURES
    returned = get_type_hints(figures[name].compute)["return"]
    default = struct.__struct_fields__.index(name) - len(struct.__struct_fields__) + len(struct.__struct_defaults__)
    is_new = default >= 0 and struct.__struct_defaults__[default] is None  # older reports lack it
    assert get_type_hints(struct)[name] == (returned | None if is_new else returned)
