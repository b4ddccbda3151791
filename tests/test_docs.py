"""The docs name everything that users can see, and nothing that does not exist.

Links, files, commands, gate rules, routes, settings, variables of the environment, metrics and files below `var/`.
"""

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from batch.gate.rules import RULES
from batch.nights import outcomes
from batch.nights.outcomes import NightMetrics
from batch.releases import publish
from quality.alerts.alert_file import Alert, AlertFile
from quality.alerts.prometheus import LedgerMetrics
from quality.settings import QualitySettings, Threshold, VerdictLimits
from quality.telemetry.stream_metrics import StreamMetrics
from quality.telemetry.stream_state import StreamState
from quality.telemetry.stream_watch import AnswerFigures
from server import openapi, operator_openapi
from server.exposition import Exposition
from server.shared_counts import SharedCounts, WorkerCounts
from stream import durable
from tests.doc_tables import code_in, rows_below, var_paths
from tests.ledger_entries import entry
from tests.locks import ROOT
from tests.room_settings import SETTINGS

DOCS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
TEXT = {path: path.read_text("utf-8") for path in DOCS}
ALL = "\n".join(TEXT.values())
CODE = "\n".join(re.findall(r"```.*?```|`[^`]+`", ALL, re.DOTALL))
"""What is set as code: in prose, `list` and `show` are words as well."""
ROOMS = ("stream", "quality", "batch", "server", "loadtest")
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")
OUR_FILE = re.compile(rf"`((?:{'|'.join(ROOMS)}|tests|docs)/[\w/.-]+\.\w+)`")


def named(pattern: re.Pattern[str]) -> list[tuple[Path, str]]:
    return [(path, match[1]) for path, text in TEXT.items() for match in pattern.finditer(text)]


def test_every_link_leads_to_a_file() -> None:
    links = named(LINK)
    assert len(links) > 40
    assert [(path.name, target) for path, target in links if not (path.parent / target).exists()] == []


def test_every_file_that_is_named_is_there() -> None:
    files = named(OUR_FILE)
    assert len(files) > 40
    assert [(path.name, target) for path, target in files if not (ROOT / target).exists()] == []


def commands(group: click.Command, name: str) -> Iterator[str]:
    yield name
    if isinstance(group, click.Group):
        context = click.Context(group)
        for below in group.list_commands(context):
            command = group.get_command(context, below)
            assert command is not None
            yield from commands(command, f"{name} {below}")


@pytest.mark.parametrize("room", ROOMS)
def test_every_command_stands_in_the_docs(room: str) -> None:
    there = list(commands(importlib.import_module(f"{room}.__main__").commands, f"python -m {room}"))
    assert len(there) > 2
    words = [name.split()[-1] for name in there[1:]]
    assert [word for word in words if not re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", CODE)] == []


@pytest.mark.parametrize("room", ROOMS)
def test_every_command_that_is_named_is_there(room: str) -> None:
    there = set(commands(importlib.import_module(f"{room}.__main__").commands, room))
    called = set(re.findall(rf"python -m ({room}(?: [a-z]+(?:-[a-z]+)*)?)(?![\w-])", ALL.replace("\n", " ")))
    assert called
    assert called <= there


def test_every_gate_rule_stands_in_the_docs_and_no_other() -> None:
    nights = TEXT[ROOT / "docs" / "nights.md"]
    rows = re.findall(r"^\| `([a-z]+(?:_[a-z]+)+)` \|", nights, re.MULTILINE)
    assert rows == [rule.__name__ for rule in RULES]


def test_every_route_stands_in_the_docs() -> None:
    paths = [*openapi.DESCRIPTION["paths"], *operator_openapi.DESCRIPTION["paths"]]
    assert len(paths) > 6
    assert [path for path in paths if path.partition("{")[0] not in ALL] == []


def toml(value: object) -> str:
    """A default as it stands in the docs: as in TOML, or `see below` for a table of its own."""
    if isinstance(value, msgspec.Struct):
        return "see below"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`" if isinstance(value, int | float) else f'`"{value}"`'


@pytest.mark.parametrize("room", ROOMS)
def test_every_setting_stands_in_the_docs_with_its_default_and_no_other(room: str) -> None:
    documented = [(cells[0], cells[1]) for cells in rows_below(f"### `[{room}]`")]
    assert documented == [(f"`{each.name}`", toml(each.default)) for each in msgspec.structs.fields(SETTINGS[room])]


def test_every_key_of_a_threshold_stands_in_the_docs_and_no_other() -> None:
    keys = [cells[0] for cells in rows_below("### `[quality.thresholds.<fate or reason>]`")]
    assert keys == [f"`{key}`" for key in Threshold.__struct_fields__]


def test_every_limit_of_the_verdict_stands_in_the_docs_with_its_default_and_no_other() -> None:
    documented = [(cells[0], cells[1]) for cells in rows_below("### `[quality.verdict]`")]
    assert documented == [(f"`{each.name}`", toml(each.default)) for each in msgspec.structs.fields(VerdictLimits)]


def test_every_setting_that_is_named_is_there() -> None:
    room = "|".join(ROOMS)
    keys = re.findall(rf"`\[({room})\] (\w+)", ALL) + re.findall(rf"MARQUEE_({room.upper()})_([A-Z_]+)", ALL)
    assert len(keys) > 10
    known = {(room, field) for room, settings in SETTINGS.items() for field in settings.__struct_fields__}
    assert {(room.lower(), key.lower()) for room, key in keys} - known == set()


def test_every_variable_of_the_environment_stands_in_the_docs_and_no_other() -> None:
    sources = [path for room in ROOMS for path in (ROOT / room).rglob("*") if path.suffix in {".py", ".conf"}]
    sources += [ROOT / name for name in ("supervisord.conf", "compose.yaml", "Dockerfile")]
    used = {name for path in sources for name in re.findall(r"MARQUEE_[A-Z]+(?:_[A-Z]+)*", path.read_text("utf-8"))}
    for path in (ROOT / "tests").rglob("*.py"):
        used |= set(re.findall(r"\bMARQUEE_TEST_[A-Z]+\b", path.read_text("utf-8")))
    of_rooms = tuple(f"MARQUEE_{room.upper()}" for room in ROOMS)
    documented = [code_in(cells[0])[0] for cells in rows_below("### Environment")]
    assert sorted(documented) == sorted(name for name in used if not name.startswith(of_rooms))


def worker_metrics(var: Path) -> str:
    folder = var / "metrics"
    counts = WorkerCounts(statuses={"200": 1}, refused={"overload": 1}, swaps={"taken": 1}, published=0.0)
    SharedCounts(folder).write(counts)
    return Exposition(folder).text().decode()


def ledger_metrics(var: Path) -> str:
    AlertFile(var).append([Alert(id="one", alert="test", text="x")])
    metrics = LedgerMetrics(var, "collect", QualitySettings())
    metrics.committed(entry())
    metrics.write()
    return (var / "metrics" / "collect.prom").read_text("utf-8")


def night_metrics(var: Path) -> str:
    durable.write_json(var / "releases" / "one" / "manifest.json", {"id": "one", "stream_time": 1})
    publish.make_current(var, "one", 2)
    outcomes.note_outcome(var, 1, 1.5, 2)
    NightMetrics(var).refresh(3)
    return (var / "metrics" / "nights.prom").read_text("utf-8")


def telemetry_metrics(var: Path) -> str:
    state = StreamState(watermark=1, unread={0: 5}, lag_ms={0: 1}, last_line_s=1.0, last_commit_s=1.0)
    figures = AnswerFigures(open_answers=1, late_lines={"late_rate": 1}, availability=1.0, hit_rate=0.1)
    StreamMetrics(var).refresh(state, figures)
    return (var / "metrics" / "telemetry.prom").read_text("utf-8")


def metrics_in(text: str) -> set[str]:
    """Metrics with their labels, as the docs name them."""
    metrics = set[str]()
    for family in text_string_to_metric_families(text):
        labels = ",".join(family.samples[0].labels) if family.type != "histogram" else ""
        name = f"{family.name}_total" if family.type == "counter" else family.name
        metrics.add(f"{name}{{{labels}}}" if labels else name)
    return metrics


METRICS = {
    "### Workers": worker_metrics,
    "### Archive and alerts": ledger_metrics,
    "### Telemetry": telemetry_metrics,
    "### Releases and nights": night_metrics,
}


@pytest.mark.parametrize("heading", METRICS)
def test_every_metric_stands_in_the_docs_with_its_labels_and_no_other(tmp_path: Path, heading: str) -> None:
    documented = [name for cells in rows_below(heading) for name in code_in(cells[0])]
    assert sorted(documented) == sorted(metrics_in(METRICS[heading](tmp_path)))


def test_every_metric_that_is_named_is_there() -> None:
    rows = [cells for heading in METRICS for cells in rows_below(heading)]
    documented = {name.partition("{")[0] for cells in rows for name in code_in(cells[0])}
    assert set(re.findall(r"\bmarquee_[a-z_]+", CODE)) == documented


FILE = re.compile(r"[\w.<>-]+\.(?:json|jsonl|parquet|npy|ann|bin|txt|csv|md|svg|sqlite|db|lock|prom|html|posted)")
NOT_BELOW_VAR = {"report-schema.json", "movies.csv", "ratings.csv", "openapi.json"}
"""In the package, in archives of MovieLens, and a route."""
COMPUTED = re.compile(r"(?:<>)+")


def texts(tree: ast.AST) -> Iterator[str]:
    """Strings of a program; what an f-string computes is `<>`."""
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [str(part.value) if isinstance(part, ast.Constant) else "<>" for part in node.values]
            yield COMPUTED.sub("<>", "".join(parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.value


def sources_of_var() -> list[Path]:
    """Modules of the rooms that write below `var/`; the trial of the gate has a `var` of its own."""
    paths = [path for room in ("stream", "quality", "batch", "server") for path in (ROOT / room).rglob("*.py")]
    return [path for path in paths if path.name != "worker_trial.py"]


def names_in_code() -> set[str]:
    """Names of files and folders in the code of the rooms, `<>` for what is computed."""
    trees = [ast.parse(path.read_text("utf-8")) for path in sources_of_var()]
    return {name for tree in trees for text in texts(tree) for name in text.split("/")}


def without_placeholders(path: str) -> str:
    """A documented path with `<>` for what differs from file to file, as `names_in_code` has it."""
    return re.sub(r"<[^>]+>", "<>", path)


def test_every_file_below_var_stands_in_the_docs() -> None:
    below_var = {name for path in var_paths() for name in without_placeholders(path).split("/")}
    of_a_release = re.findall(r"`([\w.-]+)`", (ROOT / "docs" / "architecture.md").read_text("utf-8"))
    documented = {*below_var, *of_a_release, *NOT_BELOW_VAR}
    files = {name for name in names_in_code() if FILE.fullmatch(name) and not name.startswith((".", "<>.", "-"))}
    assert len(files) > 30
    assert files - documented == set()
    for path in sources_of_var():
        of_var = re.findall(r"""(?:var|releases|folder\.parent) / "([\w.-]+)["/]""", path.read_text("utf-8"))
        assert set(of_var) - documented == set(), path


def test_every_file_below_var_that_is_documented_is_written() -> None:
    names = names_in_code()
    for path in var_paths():
        for name in filter(None, without_placeholders(path).split("/")):
            stem, suffix = Path(name).stem, Path(name).suffix
            is_suffixed = stem in {"<>", *names} and not names.isdisjoint({suffix, f"<>{suffix}"})
            assert name in {"<>", *names} or is_suffixed, path
