"""Sealed releases with random bytes in them: refused or read, but a worker never crashes on them."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.sample_releases import seal, write_release

OPEN_RELEASES = """
import sys
from pathlib import Path
from server.answers import Answers
from server.errors import BadRelease
from server.release import Release
for folder in sys.argv[1:]:
    try:
        Answers(Release.open(Path(folder))).self_test()
    except BadRelease:
        pass
    except BaseException as fault:
        print(folder, repr(fault))
"""


def unexpected_errors(folders: list[Path]) -> str:
    """Open releases in a process of its own: every error but `BadRelease`, one a line."""
    command = [sys.executable, "-c", OPEN_RELEASES, *map(str, folders)]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stderr) == (0, "")
    return process.stdout


@settings(deadline=None, max_examples=2)
@given(seed=st.integers(0, 1000))
def test_an_index_of_noise_is_refused_and_never_a_crash(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rng, releases, folders = np.random.default_rng(seed), tmp_path_factory.mktemp("noise"), list[Path]()
    for number in range(8):
        folder = write_release(releases, f"noise-{number}")
        size = (folder / "items.ann").stat().st_size
        (folder / "items.ann").write_bytes(rng.bytes(size))
        seal(folder)
        folders.append(folder)
    assert unexpected_errors(folders) == ""


@pytest.mark.parametrize("seed", [1, 2])
def test_an_array_with_a_garbled_head_is_refused_or_read(rendered: Path, tmp_path: Path, seed: int) -> None:
    rng, folders = np.random.default_rng(seed), list[Path]()
    odd = np.array([10, 32, 39, 40, 41, 48, 57, 123, 125])
    for name in ["users", "lists", "fallbacks", "segments", "items", "answers"] * 10:
        folder = tmp_path / f"{name}-{len(folders)}"
        shutil.copytree(rendered, folder)
        content = bytearray((folder / f"{name}.npy").read_bytes())
        for position in rng.integers(0, 128, rng.integers(1, 4)).tolist():
            content[position] = int(rng.choice(odd)) if rng.random() < 0.8 else int(rng.integers(0, 256))
        (folder / f"{name}.npy").write_bytes(content)
        seal(folder)
        folders.append(folder)
    assert unexpected_errors(folders) == ""
