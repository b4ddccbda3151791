"""Setup of all tests: hypothesis ignores slow machines, slow files run first, and a requested BLAS kernel is in use.

Coverage is that of examples and whole processes. Measuring doubles the time of random tests, and what they cover by
chance today they may not cover tomorrow: hypothesis's tests, and those with the marker `seeds`.
"""

import os
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings

from tests.kernels import kernels_in_use

settings.register_profile(
    "any machine",
    settings(),  # the chosen profile: hypothesis has one of its own for CI
    deadline=None,
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.too_slow],
)
settings.load_profile("any machine")

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
"""Threads of implicit that wait for each other sleep. By default they spin, and keep the processor from those of other
tests, and even from the one that they wait for. OpenMP reads this when it is loaded; child processes inherit it.
"""

_SLOW = (
    "batch/models/", "batch/nights/", "integration/", "loadtest/", "quality/telemetry_reference/", "server/",
    "test_setup.py",
)  # fmt: skip
"""Where the files are that take longest: whole processes, nights, models and worlds. They run first, so that processes
of xdist end at about the same time: many short files are left to fill the last minute.
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--blas-kernel", help="fail unless OpenBLAS uses this kernel, see tests/kernels.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than processors: a test also waits, for a disk or for what another process does at its time."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_configure(config: pytest.Config) -> None:
    """Check the BLAS kernel, in each process of xdist as well."""
    kernel = config.getoption("--blas-kernel")
    if kernel and kernels_in_use() != [kernel]:
        raise pytest.UsageError(
            f"--blas-kernel: {kernel} was requested, but {' and '.join(kernels_in_use())} is in use"
        )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the slow files to the front; otherwise the order stays the random one."""
    items.sort(key=lambda item: not item.path.relative_to(Path(__file__).parent).as_posix().startswith(_SLOW))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Measure no coverage while a random test runs.

    The marker `no_cover` would not do: within a process of xdist two coverages run, that of pytest-cov and that of a
    subprocess, and when one pauses, the other goes on.
    """
    if not (is_hypothesis_test(getattr(item, "obj", None)) or item.get_closest_marker("seeds")):
        return (yield)
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)
