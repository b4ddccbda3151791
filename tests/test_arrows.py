"""The arrows between the rooms: imports run one way, and a worker of the server stays light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "stream": set[str](),
    "quality": {"stream"},
    "server": {"stream"},
    "batch": {"quality", "stream", "server"},
    "loadtest": {"batch", "server", "quality", "stream"},
}
"""By room: the rooms that it may know. Of the server, `batch` may know what reads releases and `hidden.txt`."""
HEAVY = {"pandas", "pyarrow", "implicit", "scipy", "aiokafka", "cerberus", "batch", "quality", "loadtest"}
ROOMS = list(MAY_IMPORT)


def imports(path: Path) -> Iterator[str]:
    """Modules that a file imports anywhere in it, `a.b` for `from a import b` as well as for `import a.b`."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported(room: str) -> dict[str, set[str]]:
    return {path.name: set(imports(path)) for path in (ROOT / room).rglob("*.py")}


def test_every_package_is_a_room() -> None:
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_one_way(room: str) -> None:
    found = imported(room)
    assert found
    for name, modules in found.items():
        rooms = {module.partition(".")[0] for module in modules} & set(ROOMS)
        assert rooms <= MAY_IMPORT[room] | {room}, f"{room}/{name}"


def test_of_the_server_the_night_knows_what_reads_its_files_only() -> None:
    for name, modules in imported("batch").items():
        known = {".".join(module.split(".")[:2]) for module in modules if module.split(".")[0] == "server"}
        assert known <= {"server.release", "server.hidden", "server.good_releases", "server.errors"}, name


def loaded_by(module: str) -> set[str]:
    """The top-level modules of a fresh process after an import."""
    program = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    told = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(told.stdout.split())


def test_a_worker_loads_nothing_heavy() -> None:
    loaded = loaded_by("server.__main__")
    assert {"server", "stream", "sanic", "annoy"} <= loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("room", ROOMS)
def test_importing_a_room_itself_loads_no_other_and_nothing_heavy(room: str) -> None:
    assert not loaded_by(room) & ((HEAVY | set(ROOMS)) - {room})
