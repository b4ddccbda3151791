"""The lock files, parsed."""

from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Pin:
    """One entry of a lock file: a version of a package and the hashes of its files."""

    name: NormalizedName
    version: Version
    marker: str
    """The environments where it is installed; empty for all."""
    hashes: frozenset[str]


def pins(lock: Path) -> list[Pin]:
    """All entries of a lock file. Raises `ValueError` for one that does not pin a single version."""
    lines = lock.read_text("utf-8").replace("\\\n", " ").splitlines()
    return [_pin(line) for line in lines if line.strip() and not line.startswith("#")]


def _pin(line: str) -> Pin:
    text, *hashes = line.split("--hash=")
    requirement = Requirement(text)
    (specifier,) = requirement.specifier
    if specifier.operator != "==":
        raise ValueError(f"{text.strip()} is no pin")
    version, marker = Version(specifier.version), str(requirement.marker or "")
    return Pin(canonicalize_name(requirement.name), version, marker, frozenset(map(str.strip, hashes)))


def pins_of_this_python(lock: Path) -> dict[NormalizedName, Version]:
    """The versions that a lock file installs on this interpreter and platform."""
    applicable = [pin for pin in pins(lock) if not pin.marker or Requirement(f"x ; {pin.marker}").marker.evaluate()]  # type: ignore[union-attr]
    versions = {pin.name: pin.version for pin in applicable}
    if len(versions) != len(applicable):
        raise ValueError(f"{lock.name} names a package twice for one Python")
    return versions
