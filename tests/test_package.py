"""Marquee as a package: the wheel contains all files of the rooms, and runs without a checkout."""

import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

import stream
from stream.settings import ROOMS

ROOT = Path(__file__).parents[1]
_BUILT_FROM = ["pyproject.toml", "README.md", "supervisord.conf", *ROOMS]


def _run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the checkout, since setuptools leaves a `build/` folder beside it."""
    source, wheels = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    for name in _BUILT_FROM:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
        else:
            shutil.copyfile(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    _run(*pip, "--wheel-dir", wheels, source, cwd=wheels)
    (path,) = wheels.glob("marquee-*.whl")
    return path


@dataclass(frozen=True)
class Installed:
    """A fresh environment with the wheel, and a folder that is not a checkout."""

    python: Path
    packages: Path
    folder: Path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel in an environment of its own, with the libraries of this environment but not its editable Marquee.

    A folder that a `.pth` file puts on the path does not have its own `.pth` files read, and such a file is what makes
    the checkout importable.
    """
    home = tmp_path_factory.mktemp("installed")
    _run(sys.executable, "-m", "venv", "--without-pip", home / "venv", cwd=home)
    python = home / "venv" / "bin" / "python"
    packages = Path(_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip())
    libraries = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "libraries.pth").write_text("".join(f"{path}\n" for path in sorted(libraries)))
    install = ["install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    _run(sys.executable, "-m", "pip", "--python", python, *install, cwd=home)
    folder = home / "elsewhere"
    folder.mkdir()
    return Installed(python, packages, folder)


def test_the_wheel_holds_every_module_and_every_data_file_of_the_rooms(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert archive.read("loadtest/supervisord.conf") == (ROOT / "supervisord.conf").read_bytes()
    files = (path for room in ROOMS for path in (ROOT / room).rglob("*") if path.is_file())
    assert packed == {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}


def test_no_index_takes_the_package() -> None:
    """Other distributions own the names of our rooms; indexes refuse classifiers that begin with Private."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert "Private :: Do Not Upload" in project["classifiers"]


@pytest.mark.parametrize("room", ROOMS)
def test_the_front_door_of_a_room_opens_from_another_folder(installed: Installed, room: str) -> None:
    program = f"import {room}; print({room}.__file__)"
    assert _run(installed.python, "-c", program, cwd=installed.folder).startswith(f"{installed.packages}/{room}/")
    assert "Usage: " in _run(installed.python, "-m", room, "--help", cwd=installed.folder)
    assert (
        _run(installed.python, "-m", room, "--version", cwd=installed.folder)
        == f"marquee, version {stream.__version__}\n"
    )


def test_reports_are_held_to_the_schema_that_is_installed(installed: Installed) -> None:
    program = """
from quality.errors import ReportError
from quality.telemetry.report_schema import validate_report
try:
    validate_report({})
except ReportError as error:
    print(error)
"""
    assert "is a required property" in _run(installed.python, "-c", program, cwd=installed.folder)


def test_the_simulated_world_keeps_its_files_in_the_working_folder(installed: Installed) -> None:
    program = "import loadtest.demo.processes as stack; print(stack.ROOT, stack._SUPERVISORD_CONF)"
    root, configuration = _run(installed.python, "-c", program, cwd=installed.folder).split()
    assert Path(root) == installed.folder
    assert Path(configuration) == installed.packages / "loadtest" / "supervisord.conf"


def test_installed_within_a_repository_of_somebody_else_its_commit_is_not_taken_for_ours(installed: Installed) -> None:
    git = ["git", "-c", "user.name=n", "-c", "user.email=e@example.org", "-C", str(installed.packages.parents[2])]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "theirs"], check=True)
    program = """
import orjson, os
os.environ.pop("MARQUEE_COMMIT", None)
from batch.releases.publish import versions
from loadtest.bench.result import commit
print(orjson.dumps([versions().commit, commit()]).decode())
"""
    assert orjson.loads(_run(installed.python, "-c", program, cwd=installed.folder)) == [None, "unknown"]
