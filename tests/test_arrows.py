"""The arrows between the rooms, and between the floors of a room: imports run one way, and a worker stays light.

Nothing has the name of something else either, so that what is looked for by its name is found at once.
"""

import ast
import subprocess
import sys
from collections.abc import Collection, Iterator
from graphlib import TopologicalSorter
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
FLOORS = {
    "quality.metrics": set[str](),
    "quality.lines": set[str](),
    "quality.alerts": set[str](),
    "quality.telemetry": {"quality.alerts", "quality.lines", "quality.metrics"},
    "batch.history": set[str](),
    "batch.collecting": set[str](),
    "batch.gate": {"batch.models"},
    "batch.models": {"batch.history"},
    "batch.movielens": {"batch.history"},
    "batch.releases": {"batch.history", "batch.models"},
    "batch.evaluation": {"batch.history", "batch.models", "batch.releases"},
    "batch.nights": {
        "batch.collecting",
        "batch.evaluation",
        "batch.gate",
        "batch.history",
        "batch.models",
        "batch.releases",
    },
    "batch.tidying": {"batch.history", "batch.nights", "batch.releases"},
    "loadtest.simulation": set[str](),
    "loadtest.demo": {"loadtest.simulation"},
    "loadtest.bench": {"loadtest.demo", "loadtest.simulation"},
}
"""By floor: the floors of its own room that it may know, besides the modules that lie in the room itself."""
SAME_IN_EVERY_ROOM = {"__init__", "__main__", "conftest", "settings", "errors"}
HEAVY = {"pandas", "pyarrow", "implicit", "scipy", "aiokafka", "cerberus", "batch", "quality", "loadtest"}
ROOMS = list(MAY_IMPORT)


def imports(path: Path) -> Iterator[str]:
    """Modules that a file imports anywhere, `a.b` for `from a import b` as well as for `import a.b`."""
    return imports_of(ast.parse(path.read_text("utf-8")), path)


def imports_of(tree: ast.Module, path: Path) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules() -> dict[str, Path]:
    """The file of every module of all rooms."""
    paths = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def needed(path: Path, known: Collection[str]) -> set[str]:
    """The modules among `known` that a file imports when it runs, anywhere in it."""
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    named = imports_of(tree, path)  # `a.b` is a module, or a name in the module `a`
    return {module if module in known else module.rpartition(".")[0] for module in named} & set(known)


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


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_between_floors_run_one_way(floor: str) -> None:
    known = modules()
    own = {module: path for module, path in known.items() if f"{module}.".startswith(f"{floor}.")}
    assert own
    for module, path in own.items():
        floors = {other for other in FLOORS for one in needed(path, known) if f"{one}.".startswith(f"{other}.")}
        of_its_room = {other for other in floors if other.partition(".")[0] == floor.partition(".")[0]}
        assert of_its_room <= FLOORS[floor] | {floor}, module


def test_every_folder_of_a_room_is_a_floor() -> None:
    folders = {".".join(path.parent.relative_to(ROOT).parts[:2]) for path in modules().values()}
    assert {folder for folder in folders if "." in folder} == set(FLOORS)


def test_no_imports_run_in_a_circle() -> None:
    known = modules()
    graph = {module: needed(path, known) - {module} for module, path in known.items()}
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError with the cycle


def test_no_two_modules_and_no_two_classes_have_the_same_name() -> None:
    names: dict[str, set[str]] = {}
    for path in [*modules().values(), *(ROOT / "tests").rglob("*.py")]:
        if path.stem not in SAME_IN_EVERY_ROOM:
            names.setdefault(f"module {path.stem}", set()).add(str(path))
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                names.setdefault(f"class {node.name}", set()).add(f"{path}:{node.lineno}")
    assert not {name: places for name, places in names.items() if len(places) > 1}


def test_batch_imports_only_the_readers_of_files_from_the_server() -> None:
    for name, modules in imported("batch").items():
        known = {".".join(module.split(".")[:2]) for module in modules if module.split(".")[0] == "server"}
        allowed = ("release", "manifest", "hidden", "good_releases", "errors")
        assert known <= {f"server.{module}" for module in allowed}, name


def loaded_by(module: str) -> set[str]:
    """The top-level modules in a fresh process after an import."""
    program = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    output = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(output.stdout.split())


def test_a_worker_loads_nothing_heavy() -> None:
    loaded = loaded_by("server.__main__")
    assert {"server", "stream", "sanic", "annoy"} <= loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("batch.__main__", HEAVY - {"batch", "quality"}),
        ("batch.collecting.collector", {"implicit", "scipy", "pandas", "loadtest"}),
        ("batch.nights.schedule", {"implicit", "scipy", "pandas", "aiokafka", "loadtest"}),
    ],
)
def test_a_command_loads_only_what_it_needs(module: str, never: set[str]) -> None:
    assert not loaded_by(module) & never


@pytest.mark.parametrize("room", ROOMS)
def test_importing_a_room_itself_loads_no_other_and_nothing_heavy(room: str) -> None:
    assert not loaded_by(room) & ((HEAVY | set(ROOMS)) - {room})
