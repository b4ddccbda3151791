"""Decides by the condition number alone whether single precision can solve a linear system.

If a system is nearly singular, the last bits of the sums decide whether LAPACK's factorisation fails. They depend
on the BLAS kernel, and so on the processor: one machine refuses, another returns noise. The condition does not depend
on them. A system is refused if its reciprocal condition is below `LEAST_RCOND`.

The condition is that of the system with its rows and columns scaled to a diagonal near 1: the error of a Cholesky
solution follows the condition of the scaled matrix, while rows of very different size do no harm (Demmel 1989; Higham,
Accuracy and Stability of Numerical Algorithms, 2nd ed., SIAM 2002, theorems 10.6 and 10.7).
"""

import numpy as np
from scipy.linalg import lapack

LEAST_RCOND = 10 * float(np.finfo(np.float32).eps)
"""1.2e-6. The relative error of a solution is about the unit roundoff times the condition (Higham 2002, section 7.1):
one decimal digit is right at this limit, none below the machine epsilon, where LAPACK's own `sposvx` gives up.

So far above the epsilon, rounding moves an estimate by a few per cent, and kernels agree on it. Matrices of simulated
services with 1,500 to 8,192 movies have 6e-5 to 6e-3 with the penalties that a night tries, and 2e-5 with next to no
penalty.
"""


def cholesky(gram: np.ndarray) -> np.ndarray:
    """Cholesky factor L of a symmetric matrix: float32 [d, d], Fortran order, zeros above its diagonal.

    `gram` (float32 [d, d], C order, its diagonal positive) is overwritten. Raises `LinAlgError` if it is not
    positive definite, or its reciprocal condition in the 1-norm, estimated as in LAPACK's `spocon` (Higham 2002,
    section 15.3), is below `LEAST_RCOND` once it is scaled.
    """
    # powers of two round nothing (LAPACK's `spoequb`), so the factor is the unscaled matrix's to the last bit
    scale = np.ldexp(np.float32(1), -(np.frexp(np.diag(gram))[1] // 2))
    gram *= scale
    gram *= scale[:, None]
    norm = lapack.slange("1", gram.T)  # type: ignore[call-arg] # the stubs know one argument only
    factor: np.ndarray
    factor, failed_row = lapack.spotrf(gram.T, lower=1, overwrite_a=1)
    if failed_row:
        raise np.linalg.LinAlgError(f"not positive definite from row {failed_row} on")
    rcond, _ = lapack.spocon(factor, norm, uplo="L")
    if not rcond >= LEAST_RCOND:  # NaN is refused as well
        raise np.linalg.LinAlgError(f"reciprocal condition {rcond:.1e} is below {LEAST_RCOND:.1e}")
    factor /= scale[:, None]
    return factor
