"""A linear system is refused by its condition alone: the matrices here are made with one that is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import lapack

from batch.errors import BatchError
from batch.models import conditioning, make
from batch.models.conditioning import LEAST_RCOND, cholesky
from batch.settings import BatchSettings
from tests.batch.models.test_models import planted

pytestmark = pytest.mark.blas


def alike(size: int, exponent: int) -> tuple[np.ndarray, float]:
    """A matrix of ones but for 2^-exponent more on its diagonal, and its reciprocal condition in the 1-norm."""
    more = 2.0**-exponent
    matrix = np.ones((size, size), np.float32)
    matrix[np.diag_indices(size)] += np.float32(more)
    # the inverse is (I - J / (n + more)) / more, J all ones
    inverse_norm = (1 - 1 / (size + more) + (size - 1) / (size + more)) / more
    return matrix, 1 / ((size + more) * inverse_norm)


def well_conditioned(seed: int, size: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    watched = (rng.random((3 * size, size)) < 0.3).astype(np.float32)
    return watched.T @ watched + 5 * np.eye(size, dtype=np.float32)


@given(st.integers(2, 40), st.integers(1, 23))
def test_a_matrix_is_refused_if_its_reciprocal_condition_is_too_small(size: int, exponent: int) -> None:
    matrix, rcond = alike(size, exponent)
    if rcond > 2 * LEAST_RCOND:
        assert np.isfinite(cholesky(matrix)).all()
    elif rcond < LEAST_RCOND / 2:
        with pytest.raises(np.linalg.LinAlgError):
            cholesky(matrix)


def test_a_matrix_that_lapack_factorises_without_a_word_is_refused() -> None:
    """Its factor is 1, 1 and the root of 2^-20, all but exactly, in whatever order a kernel sums."""
    matrix, rcond = alike(2, 20)
    assert np.finfo(np.float32).eps < rcond < LEAST_RCOND
    _, failed_row = lapack.spotrf(matrix, lower=1)
    assert failed_row == 0
    with pytest.raises(np.linalg.LinAlgError, match=r"reciprocal condition [0-9.e-]+ is below 1\.2e-06"):
        cholesky(matrix)


@given(st.integers(0, 999), st.integers(1, 60), st.integers(0, 30))
def test_rows_of_very_different_size_do_no_harm(seed: int, size: int, spread: int) -> None:
    """The factor is LAPACK's of the same matrix, to the last bit."""
    scale = np.ldexp(np.float32(1), np.random.default_rng(seed).integers(-spread, spread + 1, size))
    graded = well_conditioned(seed, size) * scale * scale[:, None]
    plain, failed_row = lapack.spotrf(graded, lower=1)
    assert failed_row == 0
    assert np.array_equal(cholesky(graded), plain)


@given(st.integers(0, 999), st.integers(1, 60))
def test_the_factor_is_of_the_matrix(seed: int, size: int) -> None:
    matrix = well_conditioned(seed, size)
    factor = cholesky(matrix.copy())
    assert np.array_equal(factor, np.tril(factor))
    assert factor @ factor.T == pytest.approx(matrix, rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("name", ["ease", "order"])
def test_the_linear_models_name_their_penalty(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both, where a condition is never good enough: what `order` regresses on is never as bad as the limit itself."""
    monkeypatch.setattr(conditioning, "LEAST_RCOND", 1.5)
    with pytest.raises(BatchError, match=rf"watched too much alike .* raise \[batch\] {name}_penalty"):
        make(name, BatchSettings(factors=4), {}).fit(planted())
