"""Setup of all tests: hypothesis ignores slow machines, and a requested BLAS kernel must be in use."""

import pytest
from hypothesis import HealthCheck, settings

from tests.kernels import kernels_in_use

settings.register_profile(
    "any machine",
    settings(),  # the chosen profile: hypothesis has one of its own for CI
    deadline=None,
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.too_slow],
)
settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--blas-kernel", help="fail unless OpenBLAS uses this kernel, see tests/kernels.py")


def pytest_configure(config: pytest.Config) -> None:
    """Check the BLAS kernel, in each process of xdist as well."""
    kernel = config.getoption("--blas-kernel")
    if kernel and kernels_in_use() != [kernel]:
        raise pytest.UsageError(
            f"--blas-kernel: {kernel} was requested, but {' and '.join(kernels_in_use())} is in use"
        )
