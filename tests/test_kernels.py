"""BLAS kernels: the numerical tests never pass under another kernel than the requested one, and models agree."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import kernels

SOME = ["-k", "test_a_matrix_that_lapack_factorises_without_a_word_is_refused"]


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> str:
    """The default kernel of this processor, as the only known one."""
    [name] = kernels.kernels_in_use()
    monkeypatch.setattr(kernels, "KERNELS", {name: "fpu" if "fpu" in kernels.processor_flags() else "fp"})
    return name


@pytest.fixture
def other(only: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same, as if this machine used another one; nearly every machine can run its own kernel alone."""
    monkeypatch.setattr(kernels, "kernels_in_use", lambda: ["Astrolabe"])
    return only


def test_a_kernel_that_is_asked_for_and_not_in_use_ends_the_run() -> None:
    command = [sys.executable, "-m", "pytest", "tests/batch/models/test_conditioning.py", "--blas-kernel=Nonsense"]
    done = subprocess.run(
        command, cwd=kernels.ROOT, env=kernels.environ("Nonsense"), capture_output=True, text=True, check=False
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "Nonsense was requested" in done.stderr


def test_the_kernel_that_all_tests_use_is_not_tested_again(only: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert kernels.main(SOME) == 0
    said = capfd.readouterr().out
    assert f"kernel {only}: that of this machine" in said
    assert "passed" not in said


def test_a_kernel_runs_where_its_tests_pass(other: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert kernels.main(SOME) == 0
    said = capfd.readouterr().out
    assert f"kernel {other}: testing" in said
    assert "1 passed" in said
    assert f"kernels tested: {other}; failed: none" in said


def test_a_kernel_fails_where_no_test_runs(other: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert kernels.main(["-k", "no test has this name"]) == 1
    assert f"failed: {other}" in capfd.readouterr().out


def test_a_kernel_that_cannot_run_is_named_and_no_run_is_without_any(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], other: str
) -> None:
    [flag] = kernels.KERNELS.values()
    monkeypatch.setattr(kernels, "KERNELS", {"Nonsense": flag, "Abacus": "beads"})
    assert kernels.main(SOME) == 1
    said = capsys.readouterr().out
    assert f"kernel Nonsense: SKIPPED: the installed OpenBLAS does not offer it, and takes {other}" in said
    assert "kernel Abacus: SKIPPED: this processor has no beads" in said
    assert "kernels tested: none" in said


FIT = """
import sys
import numpy as np
from batch.models import make
from tests.batch.models.test_models_order import SETTINGS, USERS, chain, split
from tests.kernels import kernels_in_use
[kernel] = kernels_in_use()
data, _ = split(chain(1))
scores = {}
for name in ("als", "ease", "order"):
    model = make(name, SETTINGS, {})
    model.fit(data)
    scores[name] = model.score(data, np.arange(USERS))
np.savez(sys.argv[1] + "/" + kernel, **scores)
"""


def test_models_of_one_kernel_are_those_of_another_but_for_the_last_digits(tmp_path: Path) -> None:
    """As docs/nights.md states."""
    able = [kernel for kernel, reason in kernels.runnable().items() if not reason]
    if len(able) < 2:
        pytest.skip(f"one kernel runs here, and no other to compare it with: {able}")
    for kernel in able:
        command = [sys.executable, "-c", FIT, str(tmp_path)]
        subprocess.run(command, cwd=kernels.ROOT, env=kernels.environ(kernel), check=True)
    first, *others = (np.load(tmp_path / f"{kernel}.npz") for kernel in able)
    for other in others:
        for name, most in (("ease", 1e-5), ("order", 1e-5), ("als", 0.05)):
            apart = np.abs(first[name] - other[name]).max() / np.abs(first[name]).max()
            assert apart < most, name
