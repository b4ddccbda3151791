"""What the docs name is there, and what is there is in the docs: links, files, commands, gate rules, routes."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from batch.gate.rules import RULES
from server import openapi, operator_openapi
from tests.locks import ROOT

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
        for below, command in group.commands.items():
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
