"""The quotient: a matrix without its row and column scales.

With ``L = log|X|`` on the pattern of the non-zero entries, multiplicative noise adds ``log r_i + log c_j`` to ``L``.
The least-squares two-way fit ``α_i + β_j`` on the pattern takes up exactly such terms, so that

    ``Y = sign(X)·exp(L − α_i − β_j)``                                                                          (1)

is the same for ``X`` and for every ``diag(r) X diag(c)``. Removing row and column means once would do only without
zeros.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, cg

_STEPS = 10_000
_RESIDUAL = 1e-14  # of the normal equations, relative: keeps the quotient invariant to about 1e-13


@dataclass(frozen=True)
class Quotient:
    """The scale-free representation of an ``n × m`` matrix.

    Attributes
    ----------
    matrix
        ``Y`` of Eq. 1: CSR, float64, the pattern of ``X``.
    log_rows, log_cols
        ``α`` (n,) and ``β`` (m,), natural logarithms. Over the non-zero entries of each connected block of the
        pattern, ``β`` averages to 0.
    dispersion
        Root mean square of ``log|Y|`` over the pattern.
    residual
        Largest mean of ``log|Y|`` over a row or column; 0 for an exact fit.
    """

    matrix: sparse.csr_array
    log_rows: np.ndarray
    log_cols: np.ndarray
    dispersion: float
    residual: float


def quotient(matrix: sparse.csr_array) -> Quotient:
    """Remove the row and column scales of a matrix that has a non-zero entry in every row and column.

    Parameters
    ----------
    matrix
        ``X``, CSR, float64, no stored zeros.
    """
    counts = pattern_counts(matrix)
    logs = np.log(np.abs(matrix.data))
    alpha, beta = _two_way_fit(matrix, logs, *counts)
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    log_abs = logs - alpha[rows] - beta[matrix.indices]
    values = np.copysign(np.exp(log_abs), matrix.data)
    means = np.bincount(rows, log_abs) / counts[0], np.bincount(matrix.indices, log_abs) / counts[1]
    return Quotient(
        matrix=sparse.csr_array((values, matrix.indices, matrix.indptr), matrix.shape),
        log_rows=alpha,
        log_cols=beta,
        dispersion=float(np.sqrt(np.mean(log_abs**2))),
        residual=float(max(np.abs(mean).max() for mean in means)),
    )


def pattern_counts(matrix: sparse.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Count the stored entries of every row, ``p_i``, and of every column, ``n_j``, as float64."""
    rows = np.diff(matrix.indptr).astype(np.float64)
    cols = np.bincount(matrix.indices, minlength=matrix.shape[1]).astype(np.float64)
    return rows, cols


def _two_way_fit(
    matrix: sparse.csr_array, logs: np.ndarray, row_counts: np.ndarray, col_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Minimise ``Σ (L_ij − α_i − β_j)²`` over the pattern: ``α`` eliminated, conjugate gradients for ``β``."""
    values, pattern = (
        sparse.csr_array((data, matrix.indices, matrix.indptr), matrix.shape) for data in (logs, np.ones_like(logs))
    )

    def times_schur(beta):  # (diag(n_j) − Bᵀ diag(1/p_i) B) β, B the pattern
        return col_counts * beta - pattern.T @ (pattern @ beta / row_counts)

    row_means = values.sum(1) / row_counts
    beta, _ = cg(
        LinearOperator((len(col_counts),) * 2, times_schur, dtype=float),
        values.sum(0) - pattern.T @ row_means,
        rtol=_RESIDUAL,
        maxiter=_STEPS,
        M=LinearOperator((len(col_counts),) * 2, lambda residual: residual / col_counts, dtype=float),
    )
    return row_means - pattern @ beta / row_counts, beta
