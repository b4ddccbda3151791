"""An index of a few small packages, among them a stand-in for setuptools: what pip does with it takes no network.

Each package is there at 1.0, which a lock of theirs pins, and at 2.0, which came out since. Of Annoy 1.0 there is also
a wheel that was added later and that the lock does not know.
"""

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

_WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_BUILD_BACKEND = """
import os, sys, zipfile
from pathlib import Path

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name, version = Path("NAME").read_text().split()
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"BUILT = {VERSION!r}, {os.environ.get('ANNOY_COMPILER_ARGS')!r}",
        f"{info}/METADATA": f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n",
        f"{info}/WHEEL": WHEEL,
    }
    path = Path(wheel_directory) / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{file},,\\n" for file in [*files, f"{info}/RECORD"]))
    return path.name

build_editable = build_wheel
__legacy__ = sys.modules[__name__]  # what builds a project that has a setup.py alone
"""


def sha256(path: Path) -> str:
    """The hash of a file as a lock writes it."""
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def add_wheel(folder: Path, name: str, version: str, files: dict[str, str], headers: str = "") -> Path:
    """A wheel of some text files; `headers` are lines of its metadata."""
    info, path = f"{name}-{version}.dist-info", folder / f"{name}-{version}-py3-none-any.whl"
    metadata = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{headers}",
        f"{info}/WHEEL": _WHEEL,
    }
    whole = {**files, **metadata}
    record = "".join(f"{file},,\n" for file in [*whole, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in {**whole, f"{info}/RECORD": record}.items():
            wheel.writestr(file, text)
    return path


def _add_sdist(folder: Path, name: str, version: str) -> Path:
    """A source distribution as Annoy's is: a setup.py and no pyproject.toml."""
    path, base = folder / f"{name}-{version}.tar.gz", f"{name}-{version}"
    files = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "setup.py": "raise SystemExit('the build backend builds this, not setup.py')\n",
        "NAME": f"{name} {version}",
    }
    with tarfile.open(path, "w:gz") as archive:
        for file, text in files.items():
            entry = tarfile.TarInfo(f"{base}/{file}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


def _add_release(folder: Path, version: str) -> dict[str, Path]:
    """One version of every package, by name."""
    backend = f"VERSION, WHEEL = {version!r}, {_WHEEL!r}\n{_BUILD_BACKEND}"
    setuptools = {"setuptools/__init__.py": "", "setuptools/build_meta.py": backend}
    return {
        "setuptools": add_wheel(folder, "setuptools", version, setuptools),
        "annoy": _add_sdist(folder, "annoy", version),
        "coverage": add_wheel(folder, "coverage", version, {"coverage.py": ""}, "Provides-Extra: toml\n"),
        "pytest_cov": add_wheel(
            folder, "pytest_cov", version, {"pytest_cov.py": ""}, "Requires-Dist: coverage[toml]>=1.0\n"
        ),
    }


def make_index(folder: Path) -> str:
    """Fill a folder that `--find-links` can name; returns a lock of all packages at 1.0."""
    folder.mkdir()
    locked = _add_release(folder, "1.0")
    lock = "".join(f"{name}==1.0 \\\n    --hash={sha256(path)}\n" for name, path in locked.items())
    _add_release(folder, "2.0")
    add_wheel(folder, "annoy", "1.0", {"annoy.py": "BUILT = 'elsewhere', 'for another CPU'\n"})
    return lock
