"""A matrix without its scales, to the power at which it is Gaussian.

Of a matrix with many rows, a sample of them tells the power, and where the columns' factors lie. They need not be exact: matrix
scaling follows, which no factor of a row or column changes.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from kronax.solvers.rows.block import like
from kronax.solvers.scales.near_zero import power_for, stand_for_zero, without
from kronax.solvers.scales.quotient import Quotient, pattern_counts, quotient

SAMPLE = 20_000  # rows, at most


@dataclass(frozen=True)
class Powered:
    """``sign(X)|X|^γ``, nearly without scales: ``|X| = exp(log_rows_i + log_cols_j)·|matrix|^(1/γ)``.

    Attributes
    ----------
    matrix
        CSR, float64, the pattern of ``X`` but for values that stand for zeros.
    log_rows, log_cols
        Logarithms of factors taken out, (n,) and (m,).
    power
        ``γ``.
    dispersion
        Root mean square of ``log|Y|``, in the rows looked at.
    n_near_zero
        How many values were taken for zeros.
    n_sampled
        How many rows were looked at.
    """

    matrix: sparse.csr_array
    log_rows: np.ndarray
    log_cols: np.ndarray
    power: float
    dispersion: float
    n_near_zero: int
    n_sampled: int


def powered(matrix: sparse.csr_array, power: float | None, sample: int = SAMPLE) -> Powered:
    """Take the scales away and choose the power, if none is given: 1 where there are negative values, which a Gaussian has.

    Parameters
    ----------
    matrix
        ``X``, CSR, float64, no stored zeros, a non-zero entry in every row and column.
    power
        ``γ``, or None for the largest one up to 1 that brings the dispersion of ``log|Y|^γ`` down to ½. Values that stand
        for zeros, and would decide it, are then taken for zeros.
    sample
        Most rows to look at.
    """
    chooses = power is None and not (matrix.data < 0).any()
    some = matrix[:: -(-matrix.shape[0] // sample)] if matrix.shape[0] > sample else matrix
    seen = np.flatnonzero(pattern_counts(some)[1])
    free = quotient(some if some is matrix else some[:, seen])
    near_zero = stand_for_zero(free.matrix, free.dispersion) if chooses else np.zeros(0, bool)
    if near_zero.any() and some is not matrix:  # rare, and every one of them has to be found
        return powered(matrix, power, sample=matrix.shape[0])
    if near_zero.any():
        free = quotient(without(matrix, near_zero))
    if power is None:
        power = power_for(free.dispersion) if chooses else 1.0
    if some is matrix:
        rest, log_rows, log_cols = free.matrix, free.log_rows, free.log_cols
    else:
        rest, log_rows, log_cols = _from_sample(matrix, free, seen)
    values = np.copysign(np.abs(rest.data) ** power, rest.data)
    return Powered(
        matrix=like(rest, values),
        log_rows=log_rows,
        log_cols=log_cols,
        power=power,
        dispersion=free.dispersion,
        n_near_zero=int(near_zero.sum()),
        n_sampled=some.shape[0],
    )


def _from_sample(
    matrix: sparse.csr_array, free: Quotient, seen: np.ndarray
) -> tuple[sparse.csr_array, np.ndarray, np.ndarray]:
    """Divide columns by the factors that a sample of rows has, and then rows by the mean of their absolute values."""
    log_cols = np.zeros(matrix.shape[1])
    log_cols[seen] = free.log_cols
    values = matrix.data * np.exp(-log_cols)[matrix.indices]
    counts = np.diff(matrix.indptr)
    means = np.add.reduceat(np.abs(values), matrix.indptr[:-1]) / counts
    values /= np.repeat(means, counts)
    return like(matrix, values), np.log(means), log_cols
