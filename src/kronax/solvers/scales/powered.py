"""A matrix without its scales, to the power at which it is Gaussian.

Of a matrix with many rows, a sample of them tells the power, and where the columns' factors lie. They need not be exact: matrix
scaling follows, which no factor of a row or column changes.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from kronax.solvers.rows.block import like
from kronax.solvers.rows.chunked import Chunked
from kronax.solvers.rows.rows import InMemory, Rows
from kronax.solvers.scales.near_zero import power_for, stand_for_zero, without
from kronax.solvers.scales.quotient import Quotient, pattern_counts, quotient

SAMPLE = 20_000  # rows, at most


@dataclass(frozen=True)
class Tails:
    """How heavy the tails of values are without their scales, and the power at which they are Gaussian.

    Attributes
    ----------
    power
        ``γ``.
    dispersion
        Root mean square of ``log|Y|`` over the non-zero values of the rows looked at.
    n_near_zero
        How many values were taken for zeros.
    n_sampled
        How many rows were looked at.
    """

    power: float
    dispersion: float
    n_near_zero: int
    n_sampled: int


@dataclass(frozen=True)
class Powered:
    """``sign(X)|X|^γ``, nearly without scales: ``|X| = exp(log_rows_i + log_cols_j)·|rows|^(1/γ)``.

    Attributes
    ----------
    rows
        The pattern is that of ``X`` but for values that stand for zeros.
    log_rows, log_cols
        Logarithms of factors taken out, (n,) and (m,).
    tails
        ``γ``, and how it was found.
    """

    rows: Rows
    log_rows: np.ndarray
    log_cols: np.ndarray
    tails: Tails


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
        log_rows, log_cols = np.zeros(matrix.shape[0]), _of_all(free, seen, matrix.shape[1])
        rest = like(matrix, matrix.data * np.exp(-log_cols)[matrix.indices])
    values = np.copysign(np.abs(rest.data) ** power, rest.data)
    return Powered(
        rows=InMemory(like(rest, values)),
        log_rows=log_rows,
        log_cols=log_cols,
        tails=Tails(power, free.dispersion, n_near_zero=int(near_zero.sum()), n_sampled=some.shape[0]),
    )


def powered_chunks(rows: Chunked, some: sparse.csr_array, power: float | None, *, signed: bool) -> Powered:
    """Do the same to rows that are read anew in every pass.

    Parameters
    ----------
    rows
        ``X``, without empty rows and columns.
    some
        Some of its rows.
    power
        ``γ``, or None.
    signed
        Whether ``X`` has negative values.
    """
    seen = np.flatnonzero(pattern_counts(some)[1])
    free = quotient(some if len(seen) == some.shape[1] else some[:, seen])
    if power is None and not signed and (near_zero := stand_for_zero(free.matrix, free.dispersion)).any():
        msg = (
            f"{near_zero.mean():.0%} of the non-zero values are so small beside the others of their cell and gene that they stand for "
            "zeros, and would decide the power for all. Set them to 0, in counts those below 0.5, or pass `power=`."
        )
        raise ValueError(msg)
    if power is None:
        power = 1.0 if signed else power_for(free.dispersion)
    log_cols = _of_all(free, seen, rows.shape[1])
    return Powered(
        rows=rows.prepared(replace(rows.preparation, sizes=np.exp(log_cols), power=power)),
        log_rows=np.zeros(rows.shape[0]),
        log_cols=log_cols,
        tails=Tails(power, free.dispersion, n_near_zero=0, n_sampled=some.shape[0]),
    )


def _of_all(free: Quotient, seen: np.ndarray, m: int) -> np.ndarray:
    """Return factors of all columns, of the size of the values; those that a sample did not see get their mean.

    Scaling sets them right, but needs squares that are numbers.
    """
    size = free.log_rows.mean()
    full = np.full(m, size)
    full[seen] += free.log_cols
    return full
