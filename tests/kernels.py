"""Run the numerical tests under every BLAS kernel that this processor can run: `make test-kernels`.

OpenBLAS has a kernel for each family of processors and takes the one of the machine; OPENBLAS_CORETYPE names another.
Kernels add up in different orders, so results differ in their last bits, and a test or a refusal that hangs on those
passes on one machine and fails on the next. These are the tests with the marker `blas`.

A kernel that the processor lacks the instructions for, or that the installed OpenBLAS was built without, is skipped and
named. The run fails where a test does, and where no kernel is left to run.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
KERNELS = {"SkylakeX": "avx512f", "Zen": "avx2", "Haswell": "avx2", "Sandybridge": "avx", "ARMV8": "asimd"}
"""By kernel, as OpenBLAS calls it: the flag of /proc/cpuinfo without which it cannot run."""
PROGRAM = "from tests.kernels import kernels_in_use; print(*kernels_in_use())"


def kernels_in_use() -> list[str]:
    """The kernels that this process runs: that of NumPy's OpenBLAS and that of SciPy's, without repetition."""
    import scipy.linalg  # noqa: F401 - it brings an OpenBLAS of its own, beside NumPy's
    import threadpoolctl

    pools = threadpoolctl.threadpool_info()
    return sorted({str(pool["architecture"]) for pool in pools if pool["user_api"] == "blas"})


def environ(kernel: str) -> dict[str, str]:
    """The environment of a process that is to run a kernel; OpenBLAS says nothing where it takes another."""
    return {**os.environ, "OPENBLAS_CORETYPE": kernel}


def why_not(kernel: str, flags: set[str]) -> str:
    """Why a kernel cannot run, with these flags of the processor; empty where it can."""
    if KERNELS[kernel] not in flags:
        return f"this processor has no {KERNELS[kernel]}"
    command = [sys.executable, "-c", PROGRAM]
    asked = subprocess.run(command, cwd=ROOT, env=environ(kernel), capture_output=True, text=True, check=True)
    in_use = asked.stdout.split()
    return "" if in_use == [kernel] else f"the installed OpenBLAS does not offer it, and takes {' and '.join(in_use)}"


def processor_flags() -> set[str]:
    """The instructions that the processor says it has."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    return {word for line in lines if line.startswith(("flags", "Features")) for word in line.split()}


def runnable() -> dict[str, str]:
    """Every kernel, and why it cannot run here; empty where it can."""
    flags = processor_flags()
    return {kernel: why_not(kernel, flags) for kernel in KERNELS}


def numerical_files() -> list[str]:
    """The test files that use the marker; to collect all others as well takes longer than many of these tests."""
    return [str(path) for path in sorted(TESTS.rglob("test_*.py")) if "pytest.mark.blas" in path.read_text("utf-8")]


def main(arguments: list[str]) -> int:
    """Test kernel by kernel; arguments are handed on to pytest."""
    failed, ran = [], []
    for kernel, reason in runnable().items():
        if reason:
            print(f"kernel {kernel}: SKIPPED: {reason}", flush=True)
            continue
        print(f"kernel {kernel}: testing", flush=True)
        ran.append(kernel)
        command = [sys.executable, "-m", "pytest", "-q", "-m", "blas", f"--blas-kernel={kernel}", *numerical_files()]
        if subprocess.run([*command, *arguments], cwd=ROOT, env=environ(kernel), check=False).returncode:
            failed.append(kernel)
    print(f"kernels tested: {', '.join(ran) or 'none'}; failed: {', '.join(failed) or 'none'}", flush=True)
    return 1 if failed or not ran else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
