"""The quotient: a matrix without its row and column scales.

With ``L = log|X|`` on the pattern of the non-zero entries, multiplicative noise adds ``log r_i + log c_j`` to ``L``.
The least-squares two-way fit ``α_i + β_j`` on the pattern takes up exactly such terms, so that

    ``Y = sign(X)·exp(L − α_i − β_j)``                                                                          (1)

is the same for ``X`` and for every ``diag(r) X diag(c)``. Removing row and column means once would do only without
zeros.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, cg

from kronax.solvers.rows.block import PIECE, Block, divided, like, of_entries
from kronax.solvers.rows.chunked import Chunk, csr
from kronax.solvers.rows.rows import Arrays, InMemory, Rows

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
        Largest mean of ``log|Y|`` over a column; 0 for an exact fit. Over a row, it is 0 in any case.
    """

    matrix: sparse.csr_array
    log_rows: np.ndarray
    log_cols: np.ndarray
    dispersion: float
    residual: float


class Scales(NamedTuple):
    """``α``, (n,), ``β``, (m,), and the ``dispersion`` and ``residual`` of :class:`Quotient`."""

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
    values = np.abs(matrix.data).astype(np.float64, copy=False)
    np.log(values, out=values)
    found = _two_way_fit(InMemory(like(matrix, values)), _identity)
    values -= of_entries(found.log_rows, matrix)
    for start in range(0, matrix.nnz, PIECE):
        part, signed, cols = (array[start : start + PIECE] for array in (values, matrix.data, matrix.indices))
        part -= found.log_cols[cols]
        np.copysign(np.exp(part), signed, out=part)
    return Quotient(like(matrix, values), *found)


def scales(rows: Rows, *, progress: bool = False) -> Scales:
    """Find the scales of rows that are read anew in every pass."""
    return _two_way_fit(rows, _logs, progress=progress)


def pattern_counts(matrix: sparse.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Count the stored entries of every row, ``p_i``, and of every column, ``n_j``, as float64."""
    rows = np.diff(matrix.indptr).astype(np.float64)
    cols = np.bincount(matrix.indices, minlength=matrix.shape[1]).astype(np.float64)
    return rows, cols


def _two_way_fit(rows: Rows, logs_of: Callable[[Block], np.ndarray], *, progress: bool = False) -> Scales:
    """Minimise ``Σ (L_ij − α_i − β_j)²`` over the pattern: ``α`` eliminated, conjugate gradients for ``β``, each step a pass.

    ``logs_of`` returns ``L`` of a block.
    """
    counts, shape = rows.col_counts, (len(rows.col_counts),) * 2

    def times_schur(beta):  # (diag(n_j) − Bᵀ diag(1/p_i) B) β, B the pattern
        return counts * beta - rows.sums(_spread, beta, title="scales", progress=progress)[0]

    right, sizes = rows.sums(_col_deviations, logs_of, title="scales", progress=progress)
    beta, _ = cg(
        LinearOperator(shape, times_schur, dtype=float),
        right,
        rtol=_RESIDUAL,
        atol=float(np.finfo(np.float64).eps * np.linalg.norm(sizes)),  # less is rounding
        maxiter=_STEPS,
        M=LinearOperator(shape, lambda residual: residual / counts, dtype=float),
    )
    alpha = rows.each(_row_means, logs_of, beta)
    off, squares = rows.sums(_left_over, logs_of, beta)
    return Scales(alpha, beta, float(np.sqrt(squares[0] / rows.n_entries)), float(np.abs(off / counts).max()))


def _identity(block: Block) -> np.ndarray:
    return block.matrix.data


def _logs(block: Block) -> np.ndarray:
    return np.log(np.abs(block.matrix.data))


def _row_means(block: Block, logs_of: Callable[[Block], np.ndarray], beta: np.ndarray) -> np.ndarray:
    """Compute ``α_i``, the mean of ``L_ij − β_j`` over a row."""
    ones = np.ones(block.matrix.shape[1])
    logs, pattern = block.with_values(logs_of(block)), block.with_values(np.ones(block.matrix.nnz))
    return (logs @ ones - pattern @ beta) / block.counts


def _spread(block: Block, beta: np.ndarray) -> Arrays:
    """Compute ``Bᵀ diag(1/p_i) B β``."""
    pattern = block.with_values(np.ones(block.matrix.nnz))
    return (pattern.T @ (pattern @ beta / block.counts),)


def _col_deviations(block: Block, logs_of: Callable[[Block], np.ndarray]) -> Arrays:
    """Compute ``Σ_i (L_ij − α_i)``, ``α_i`` the mean of a row, and ``Σ_i |L_ij|`` of every column."""
    rest = _rest(block, logs_of, np.zeros(block.matrix.shape[1]))
    sizes = block.with_values(np.abs(logs_of(block)))
    return rest.T @ block.ones, sizes.T @ block.ones


def _left_over(block: Block, logs_of: Callable[[Block], np.ndarray], beta: np.ndarray) -> Arrays:
    """Compute ``Σ_i (L_ij − α_i − β_j)`` of every column, and the sum of all squares."""
    rest = _rest(block, logs_of, beta)
    return rest.T @ block.ones, np.array([np.vdot(rest.data, rest.data)])


def _rest(block: Block, logs_of: Callable[[Block], np.ndarray], beta: np.ndarray) -> sparse.csr_array:
    alpha = np.repeat(_row_means(block, logs_of, beta), np.diff(block.matrix.indptr))
    return block.with_values(logs_of(block) - alpha - beta[block.matrix.indices])


def of_rows(
    chunk: Chunk, codes: np.ndarray, cols: np.ndarray | None, beta: np.ndarray, n_cols: int
) -> sparse.csr_matrix:
    """Return the quotient of some rows, given ``β``: a row's own scale follows from the row.

    Parameters
    ----------
    chunk, codes
        The rows, and the batch of each.
    cols
        The columns that ``β`` belongs to, of ``n_cols`` in all; None for all.
    beta
        ``β`` of every batch, (batches, m).
    """
    matrix = csr(chunk)
    whole = np.zeros((len(beta), n_cols))
    whole[:, slice(None) if cols is None else cols] = beta
    block = Block(divided(matrix, codes.ravel(), whole))
    with np.errstate(invalid="ignore"):  # of empty rows
        rest = _rest(block, _logs, np.zeros(n_cols))
    return sparse.csr_matrix(like(matrix, np.copysign(np.exp(rest.data), matrix.data)))
