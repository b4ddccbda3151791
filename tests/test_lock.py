"""The lock files are complete and exact and installed without a resolver, so they install the same on any day."""

import os
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

from tests.locks import ROOT, pins, pins_of_this_python

TEST, RUN, BENCH = (ROOT / f"requirements{room}.lock" for room in ("", "-run", "-bench"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
LOCKS = pytest.mark.parametrize("lock", [TEST, RUN, BENCH], ids=lambda lock: lock.name)


def required_by(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    """The requirements of a package with extras: of Marquee from pyproject.toml, of others from their metadata."""
    if name == "marquee":
        tables = PYPROJECT["project"]["optional-dependencies"]
        texts = [*PYPROJECT["project"]["dependencies"], *(text for extra in extras for text in tables[extra])]
    else:
        texts = metadata.requires(name) or []
    for requirement in map(Requirement, texts):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""}):
            yield requirement


def closure(extra: str) -> Iterator[tuple[NormalizedName, Requirement]]:
    """All direct and indirect requirements of an extra of Marquee, by package."""
    waiting = [Requirement(f"marquee[{extra}]")]
    seen: set[tuple[NormalizedName, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if name != "marquee":
            yield name, requirement
        if (name, extras) not in seen:
            seen.add((name, extras))
            waiting += required_by(name, extras)


@pytest.mark.parametrize(("lock", "extra"), [(TEST, "test"), (RUN, "run")], ids=["test", "run"])
def test_a_lock_is_complete_and_holds_nothing_else(lock: Path, extra: str) -> None:
    """--no-deps installs only packages that the lock file names, so it must name every requirement."""
    locked, needed = pins_of_this_python(lock), [*closure(extra)]
    assert {name for name, _ in needed} == set(locked)
    unmet = [str(need) for name, need in needed if not need.specifier.contains(locked[name], prereleases=True)]
    assert not unmet


def test_the_installed_packages_are_the_locked_ones() -> None:
    installed = {canonicalize_name(each.name): Version(each.version) for each in metadata.distributions()}
    locked = pins_of_this_python(TEST)
    assert {name: installed.get(name) for name in locked} == locked


@LOCKS
def test_every_file_is_known_by_its_hash_and_no_index_by_its_name(lock: Path) -> None:
    assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for pin in pins(lock) for digest in pin.hashes)
    assert all(pin.hashes for pin in pins(lock))
    assert "://" not in lock.read_text("utf-8")


def test_the_image_has_the_tested_packages() -> None:
    assert set(pins(RUN)) <= set(pins(TEST))


def test_the_benchmarks_have_the_tested_packages() -> None:
    """The lock file of the benchmarks, installed over the other one, must not change its packages."""
    tested = {pin.name for pin in pins(TEST)}
    assert {pin for pin in pins(BENCH) if pin.name in tested} <= set(pins(TEST))


def test_marquee_is_built_with_the_locked_setuptools() -> None:
    assert PYPROJECT["build-system"]["requires"] == [
        f"setuptools=={pins_of_this_python(TEST)[canonicalize_name('setuptools')]}"
    ]


def commands_of_make() -> str:
    """The commands by which `make setup` and `make bench` install packages, with variables replaced."""
    environ = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}}
    command = ["make", "--dry-run", "--always-make", ".venv/.bench-ready"]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True).stdout


def pip_commands(script: str) -> list[list[str]]:
    """The arguments of pip in the commands of a shell script that install, build or fetch packages."""
    steps = re.split(r"&&|\|\||[;|\n]", script.replace("\\\n", " "))
    words = [step.removeprefix("RUN ").split() for step in steps if re.search(r"\bpip3?\b", step)]
    after_pip = [
        line[index + 1 :] for line in words for index, word in enumerate(line) if re.fullmatch(r"(.*/)?pip3?", word)
    ]
    return [line for line in after_pip if {"install", "wheel", "download"} & set(line)]


def script_of(name: str) -> str:
    """The shell commands of a file, without comments."""
    script = commands_of_make() if name == "Makefile" else (ROOT / name).read_text("utf-8")
    return re.sub(r"^#.*\n", "", script, flags=re.MULTILINE)


@pytest.mark.parametrize(("name", "least"), [("Makefile", 5), ("Dockerfile", 3), (".ci/run", 0)])
def test_nothing_is_installed_that_the_lock_does_not_name(name: str, least: int) -> None:
    commands = pip_commands(script_of(name))
    assert len(commands) >= least
    for command in commands:
        text = shlex.join(command)
        assert "--no-deps" in command, f"pip resolves: {text}"
        if "-r" in command:
            assert {"--require-hashes", "--only-binary"} <= set(command), f"pip takes any file: {text}"
        if not {"--only-binary", "--no-index"} & set(command) or "--no-binary" in command:
            assert "--no-build-isolation" in command, f"pip fetches what it builds with by name: {text}"


def test_annoy_is_built_with_the_same_flags_everywhere() -> None:
    written = [
        re.findall(r"(?:ANNOY_FLAGS :|ANNOY_COMPILER_ARGS)=\s*(-\S+)", (ROOT / name).read_text())
        for name in ("Makefile", "Dockerfile")
    ]
    (makefile,), (dockerfile,) = written
    assert makefile == dockerfile
    assert "-march" not in makefile


def test_images_are_named_by_full_versions() -> None:
    """A tag such as 3.11 means another Python some months later."""
    (base,) = re.findall(r"^ARG BASE=(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    images = [base, *re.findall(r"^ +image: (.+:.+)$", (ROOT / "compose.yaml").read_text(), re.MULTILINE)]
    assert len(images) == 2
    assert all(re.fullmatch(r"[a-z/]+:\d+\.\d+\.\d+(-[a-z-]+)?(@sha256:[0-9a-f]{64})?", image) for image in images), (
        images
    )
