"""`make setup` installs exactly the lock file, on any later day and with the pip of any supported Python.

The recipe of the Makefile runs as it is, in another project: one with a lock of four small packages, and an index where
a newer release of each has come out since.
"""

import ensurepip
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.locks import ROOT
from tests.small_index import make_index

BUNDLED = "of this Python"
PIPS = {
    "22.3": "1daab4b8d3b97d1d763caeb01a4640a2250a0ea899e257b1e44b9eded91e15ab",  # of Python 3.11.0
    "23.2.1": "7ccf472345f20d35bdc9d1841ff5f313260c2c33fe417f48c30ac46cccabf5be",  # of Python 3.11.7, the last old one
    "24.0": "ba0d021a166865d2265246961bec0152ff124de910c5cc39f1156ce3fa7c69dc",  # of Python 3.11.14
    "26.3": "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13",  # the newest when this was written
}
"""SHA-256 of the wheels by version. New versions are added by hand: a test must not change with the day, either."""
FIRST_FOR_3_12 = (23, 1, 2)
"""Older versions of pip do not start on Python 3.12, which never came with them."""
_LOOK = """
import importlib.metadata as metadata, annoy, marquee
names = ("setuptools", "annoy", "coverage", "pytest_cov", "marquee")
print([metadata.version(name) for name in names], annoy.BUILT, marquee.BUILT[0])
"""
_PYTHON = """#!/bin/sh
# A Python that comes with another pip, which `-m venv` puts into the environment. It is unpacked once for all
# environments: pip takes longer to install itself than all that `make setup` installs with it here.
if [ "$1 $2" != "-m venv" ]; then exec "{python}" "$@"; fi
for folder; do :; done
"{python}" "$@" --without-pip || exit 1
echo "{pip}" > "$(echo "$folder"/lib/python*/site-packages)/pip.pth"
printf '#!/bin/sh\\nexec "${{0%%/*}}/python" -m pip "$@"\\n' > "$folder/bin/pip"
chmod +x "$folder/bin/pip"
"""


@dataclass(frozen=True)
class Project:
    """A folder with our Makefile, a small lock file and an index; `environ` is that of the user."""

    folder: Path
    environ: dict[str, str]
    python: Path

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a target with this project's Python."""
        command = ["make", f"PYTHON={self.python}", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environ, capture_output=True, text=True, check=False, timeout=600
        )

    def look(self) -> str:
        """The installed versions, and by what Annoy and the project were built."""
        python = self.folder / ".venv" / "bin" / "python"
        return subprocess.run([python, "-c", _LOOK], capture_output=True, text=True, check=True).stdout.strip()


def fetch(version: str, folder: Path) -> Path:
    """The wheel of a version of pip, fetched once and kept in pytest's cache."""
    path = folder / f"pip-{version}-py3-none-any.whl"
    if path.exists():
        return path
    (folder / f"{version}.lock").write_text(f"pip=={version} --hash=sha256:{PIPS[version]}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--only-binary", ":all:", "--retries", "1", "-d", str(folder), "-r", str(folder / f"{version}.lock")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = f"pip {version} cannot be fetched, so `make setup` was NOT tried with it: {done.stderr.strip()}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def bundled() -> Path | None:
    """The wheel of pip that `-m venv` installs, if it lies beside ensurepip; some distributions keep it elsewhere."""
    return next((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"), None)


def make_project(folder: Path, pip: Path | None, pips: Path) -> Project:
    """A fresh checkout on a later day, for a Python that comes with this pip; None: with its own.

    `pips` is the folder where wheels of pip are unpacked.
    """
    checkout = folder / "checkout"
    checkout.mkdir()
    shutil.copyfile(ROOT / "Makefile", checkout / "Makefile")
    (checkout / "requirements.lock").write_text(make_index(folder / "index"))
    (checkout / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools==1.0"]\nbuild-backend = "setuptools.build_meta"\n'
    )
    (checkout / "NAME").write_text("marquee 1.0")
    (folder / "constraints.txt").write_text("coverage==2.0\n")
    ours = {name: value for name, value in os.environ.items() if not re.match(r"PIP_|MAKE|MFLAGS", name)}
    environ = ours | {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(folder / "index"),
        "PIP_CACHE_DIR": str(folder / "cache"),
        "PIP_CONSTRAINT": str(folder / "constraints.txt"),
        "PIP_NO_BINARY": ":all:",
    }
    python = Path(sys.executable)
    if pip is not None:
        if not (unpacked := pips / pip.stem).exists():
            with zipfile.ZipFile(pip) as wheel:
                wheel.extractall(unpacked)
        python = folder / "python"
        python.write_text(_PYTHON.format(python=sys.executable, pip=unpacked))
        python.chmod(0o755)
    return Project(checkout, environ, python)


def flags() -> str:
    """The flags with which the Makefile compiles Annoy."""
    (written,) = re.findall(r"^ANNOY_FLAGS := (.+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    return str(written)


def of_the_lock() -> str:
    return f"{['1.0'] * 5} {('1.0', flags())} 1.0"


@pytest.fixture(scope="module")
def pips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder for unpacked wheels of pip."""
    return tmp_path_factory.mktemp("pips")


def pips_to_try() -> list[str]:
    """The pip of this Python as it comes, and every other version."""
    own = bundled()
    return [BUNDLED, *(version for version in PIPS if own is None or not own.name.startswith(f"pip-{version}-"))]


@pytest.fixture(params=pips_to_try())
def project(request: pytest.FixtureRequest, tmp_path: Path, pips: Path) -> Project:
    version = request.param
    if version == BUNDLED:
        return make_project(tmp_path, None, pips)
    if sys.version_info >= (3, 12) and tuple(map(int, version.split("."))) < FIRST_FOR_3_12:
        pytest.skip(f"pip {version} does not start on Python 3.12 and later, which never brought it")
    return make_project(tmp_path, fetch(version, request.config.cache.mkdir("pips")), pips)


def test_setup_installs_the_lock_though_newer_releases_are_out(project: Project) -> None:
    done = project.make("setup")
    assert done.returncode == 0, done.stderr
    assert project.look() == of_the_lock()


def test_setup_ignores_caches_and_earlier_environments(tmp_path: Path, pips: Path) -> None:
    """Neither a build for another CPU in pip's cache nor packages of an older lock file matter."""
    project = make_project(tmp_path, bundled(), pips)
    assert project.make("setup", "ANNOY_FLAGS=-march=native").returncode == 0
    assert "-march=native" in project.look()
    stray = project.folder / ".venv" / "stray"
    stray.touch()
    done = project.make("--always-make", "setup")
    assert done.returncode == 0, done.stderr
    assert project.look() == of_the_lock()
    assert not stray.exists()


@pytest.mark.parametrize("option", ["--no-deps", "--no-build-isolation", "--no-cache-dir"])
def test_without_its_options_the_same_recipe_fails_or_installs_something_else(
    request: pytest.FixtureRequest, tmp_path: Path, pips: Path, option: str
) -> None:
    """The test index can fail: without any one of these options the pip of Python 3.11.7 goes wrong."""
    project = make_project(tmp_path, fetch("23.2.1", request.config.cache.mkdir("pips")), pips)
    makefile = project.folder / "Makefile"
    makefile.write_text(makefile.read_text("utf-8").replace(f" {option}", ""))
    if option == "--no-cache-dir":
        assert project.make("setup", "ANNOY_FLAGS=-march=native").returncode == 0
    done = project.make("--always-make", "setup")
    assert done.returncode != 0 or project.look() != of_the_lock()
