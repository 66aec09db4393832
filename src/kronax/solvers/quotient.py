"""The quotient: what is left of a matrix when row and column scales are taken away.

With ``L = log|X|`` on the pattern of the non-zero entries, multiplicative noise adds ``log r_i + log c_j`` to ``L``.
The least-squares two-way fit ``α_i + β_j`` on the pattern takes up exactly such terms, so that

    ``Y = sign(X)·exp(L − α_i − β_j)``                                                                          (1)

is the same for ``X`` and for every ``diag(r) X diag(c)``. A single pass of row and column means is so only where there
are no zeros.
"""

from dataclasses import dataclass

import jax
import numpy as np
from jax.scipy.sparse.linalg import cg
from scipy import sparse

from kronax.solvers.blocks import Blocks, col_sums, from_csr, row_sums

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
    with jax.enable_x64(True):
        logs = from_csr(sparse.csr_array((np.log(np.abs(matrix.data)), matrix.indices, matrix.indptr), matrix.shape))
        alpha, beta = map(np.asarray, _two_way_fit(logs, *counts))
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    log_abs = np.log(np.abs(matrix.data)) - alpha[rows] - beta[matrix.indices]
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


@jax.jit
def _two_way_fit(logs: Blocks, row_counts: jax.Array, col_counts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Minimise ``Σ (L_ij − α_i − β_j)²`` over the pattern: ``α`` eliminated, conjugate gradients for ``β``."""

    def row_means(values):
        return row_sums(logs.with_values(values)) / row_counts

    def schur(beta):  # (diag(n_j) − Bᵀ diag(1/p_i) B) β, B the pattern
        return col_counts * beta - col_sums(logs.with_values(row_means(beta[logs.cols])[logs.rows]))

    right = col_sums(logs.with_values(logs.values - row_means(logs.values)[logs.rows]))
    beta, _ = cg(schur, right, tol=_RESIDUAL, maxiter=10_000, M=lambda residual: residual / col_counts)
    return row_means(logs.values - beta[logs.cols]), beta
