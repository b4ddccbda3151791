"""An event kind is taught once a room: this test names every table that lacks a kind, and every field without rules.

mypy names the same tables where they are typed `ByKind`, and the `match` statements that end in `assert_never`.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from quality.lines.context_checks import CHECKS
from quality.lines.schemas import field_rules
from stream.event import KINDS, ByKind, Event, Kind
from stream.grammar import LINE_FORMS
from stream.tables import ARCHIVE_SCHEMAS, COLUMN_TYPES, EVENT_SCHEMAS

ROOT = Path(__file__).parents[1]
FOLDERS = ("stream", "quality", "batch", "server", "loadtest", "tests/stream", "tests/quality")
PARTIAL = {"busy_day.py": "the synthetic history of the night benchmark has no accounts"}
"""Files with tables that leave out kinds on purpose, and why."""


def tables_by_kind(path: Path) -> Iterator[tuple[int, set[str]]]:
    """Line and keys of each dictionary in a file whose keys are kinds of events, at least two of them."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Dict):
            keys = {key.value if isinstance(key, ast.Constant) else key for key in node.keys}
            if len(keys) > 1 and keys <= set(KINDS):
                yield node.lineno, {str(key) for key in keys}


def test_every_table_by_kind_has_every_kind() -> None:
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if path.name not in PARTIAL]
    tables = {f"{path.relative_to(ROOT)}:{line}": keys for path in paths for line, keys in tables_by_kind(path)}
    assert {"stream/grammar.py", "quality/lines/context_checks.py"} <= {place.partition(":")[0] for place in tables}
    incomplete = [f"{place}: {set(KINDS) - keys}" for place, keys in sorted(tables.items()) if keys != set(KINDS)]
    assert not incomplete, "these tables lack a kind:\n" + "\n".join(incomplete)


def test_the_tables_that_mypy_checks_have_the_kinds_of_the_literal() -> None:
    assert tuple(ByKind.__annotations__) == KINDS
    assert set(LINE_FORMS) == set(CHECKS) == set(KINDS)


def test_a_table_that_lacks_a_kind_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tables.py"
    path.write_text("GOOD = {kind: 1 for kind in KINDS}\nOTHER = {'watch': 1, 'x': 2}\nBAD = {'watch': 1, 'rate': 2}\n")
    assert list(tables_by_kind(path)) == [(3, {"watch", "rate"})]


def test_every_field_of_an_event_has_a_column_type_and_rules_and_belongs_to_a_kind() -> None:
    names = {field.name for field in fields(Event)} - {"kind"}
    assert set(COLUMN_TYPES) == set(field_rules(5)) == names
    assert {name for kind in KINDS for name in LINE_FORMS[kind].fields} == names - {"time", "user"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_columns_of_a_kind_are_time_user_and_its_own_fields(kind: Kind) -> None:
    names = ["time", "user", *LINE_FORMS[kind].fields]
    assert EVENT_SCHEMAS[kind].names == names
    assert ARCHIVE_SCHEMAS[kind].names[: len(names)] == names


def test_a_prefix_is_literal_text_and_begins_no_other() -> None:
    prefixes = [LINE_FORMS[kind].prefix for kind in KINDS]
    assert all(re.escape(prefix).replace("\\ ", " ") == prefix for prefix in prefixes)
    assert [one for one in prefixes for other in prefixes if one != other and other.startswith(one)] == []


def test_the_pattern_of_a_frequent_kind_has_no_group_but_its_fields() -> None:
    for kind in KINDS:
        form = LINE_FORMS[kind]
        if form.columns is not None:
            assert set(re.compile(form.columns).groupindex) <= set(form.fields)


def test_the_documents_list_every_kind() -> None:
    assert f"events: {', '.join(KINDS)} |" in (ROOT / "docs" / "operations.md").read_text("utf-8")
