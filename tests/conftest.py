"""What holds for all tests: hypothesis finds faults, not slow machines; and a BLAS kernel that is asked for is used."""

import pytest
from hypothesis import HealthCheck, settings

from tests.kernels import kernels_in_use

settings.register_profile(
    "any machine",
    settings(),  # the profile that was chosen: hypothesis has one of its own for CI
    deadline=None,
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.too_slow],
)
settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--blas-kernel", help="the kernel that OpenBLAS must run in this process, see tests/kernels.py")


def pytest_configure(config: pytest.Config) -> None:
    """Checked in the process that runs the tests, also in each of xdist's."""
    kernel = config.getoption("--blas-kernel")
    if kernel and kernels_in_use() != [kernel]:
        raise pytest.UsageError(f"--blas-kernel: {kernel} was asked for, {' and '.join(kernels_in_use())} is in use")
