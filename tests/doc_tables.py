"""The tables of docs/operations.md, as data."""

import re

from tests.locks import ROOT

OPERATIONS = (ROOT / "docs" / "operations.md").read_text("utf-8")
_CODE = re.compile(r"`([^`]+)`")


def rows_below(heading: str) -> list[list[str]]:
    """The cells of the rows of the first table below a heading, without its head."""
    section = OPERATIONS.partition(f"{heading}\n")[2].partition("\n#")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    assert len(lines) > 2, f"docs/operations.md: no table below {heading}"
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def code_in(cell: str) -> list[str]:
    """What a cell sets as code."""
    return _CODE.findall(cell)


def var_paths() -> list[str]:
    """Every documented path below `var/`; names without a folder lie in that of the path before them."""
    paths: list[str] = []
    for cells in rows_below("## Files below `var/`"):
        folder = ""
        for path in code_in(cells[0]):
            paths.append(path if "/" in path else folder + path)
            folder = paths[-1].rpartition("/")[0] + "/" if "/" in paths[-1] else ""
    return paths


def is_documented(path: str) -> bool:
    """Whether a path below `var/` is one of those in the table; `<…>` there is any name that begins without a dot."""
    names = [re.escape(documented) for documented in var_paths()]
    patterns = [re.sub(r"<[^>]+>", r"(?!\\.)[^/]+", name) + (".+" if name.endswith("/") else "") for name in names]
    return any(re.fullmatch(pattern, path) for pattern in patterns)
