"""Runs the numerical tests under every other BLAS kernel that this processor can run: `make test-kernels`.

OpenBLAS has a kernel for each family of processors and uses that of the machine; OPENBLAS_CORETYPE selects another.
Kernels add up in different orders, so results differ in their last bits, and a test or a refusal that depends on them
passes on one machine and fails on another. The numerical tests have the marker `blas`.

The kernel that this machine uses by itself is left out: `make test` runs the same tests under it. A kernel whose
instructions the processor lacks, or that the installed OpenBLAS does not contain, is skipped with a message. The run
fails if a test fails, or if no kernel can run.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
KERNELS = {"SkylakeX": "avx512f", "Zen": "avx2", "Haswell": "avx2", "Sandybridge": "avx", "ARMV8": "asimd"}
"""By OpenBLAS's name of a kernel: the flag of /proc/cpuinfo that it needs."""
PROGRAM = "from tests.kernels import kernels_in_use; print(*kernels_in_use())"


def kernels_in_use() -> list[str]:
    """The kernels in use in this process, of NumPy's and of SciPy's OpenBLAS, without repetition."""
    import scipy.linalg  # noqa: F401 - SciPy has an OpenBLAS of its own
    import threadpoolctl

    pools = threadpoolctl.threadpool_info()
    return sorted({str(pool["architecture"]) for pool in pools if pool["user_api"] == "blas"})


def environ(kernel: str) -> dict[str, str]:
    """The environment of a process that should use a kernel; OpenBLAS silently uses another if it must."""
    return {**os.environ, "OPENBLAS_CORETYPE": kernel}


def why_not(kernel: str, flags: set[str]) -> str:
    """Why a kernel cannot run on a processor with these flags; empty if it can."""
    if KERNELS[kernel] not in flags:
        return f"this processor has no {KERNELS[kernel]}"
    command = [sys.executable, "-c", PROGRAM]
    asked = subprocess.run(command, cwd=ROOT, env=environ(kernel), capture_output=True, text=True, check=True)
    in_use = asked.stdout.split()
    return "" if in_use == [kernel] else f"the installed OpenBLAS does not offer it, and takes {' and '.join(in_use)}"


def processor_flags() -> set[str]:
    """The instruction sets of this processor."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    return {word for line in lines if line.startswith(("flags", "Features")) for word in line.split()}


def runnable() -> dict[str, str]:
    """By kernel: why it cannot run here; empty if it can."""
    flags = processor_flags()
    return {kernel: why_not(kernel, flags) for kernel in KERNELS}


def numerical_files() -> list[str]:
    """The test files that use the marker; collecting all files would take longer than many of these tests."""
    return [str(path) for path in sorted(TESTS.rglob("test_*.py")) if "pytest.mark.blas" in path.read_text("utf-8")]


def main(arguments: list[str]) -> int:
    """Test under one kernel after the other; the arguments are passed to pytest."""
    own, failed, ran = kernels_in_use(), [], []
    for kernel, reason in runnable().items():
        if [kernel] == own:
            print(f"kernel {kernel}: that of this machine, which `make test` tests", flush=True)
            continue
        if reason:
            print(f"kernel {kernel}: SKIPPED: {reason}", flush=True)
            continue
        print(f"kernel {kernel}: testing", flush=True)
        ran.append(kernel)
        command = [sys.executable, "-m", "pytest", "-q", "-m", "blas", f"--blas-kernel={kernel}", *numerical_files()]
        if subprocess.run([*command, *arguments], cwd=ROOT, env=environ(kernel), check=False).returncode:
            failed.append(kernel)
    print(f"kernels tested: {', '.join(ran) or 'none'}; failed: {', '.join(failed) or 'none'}", flush=True)
    return 1 if failed or not (ran or set(own) & set(KERNELS)) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
