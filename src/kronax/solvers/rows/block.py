"""Consecutive rows of a sparse matrix on the host, and what passes over the matrix do with them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import DTypeLike
from scipy import sparse

PIECE = 2**16  # entries at a time, where arrays for all would take memory: half a MiB, which caches hold
_DENSE = 2**21  # entries of a part when it is dense, at most: 16 MiB in float64


@dataclass(frozen=True)
class Block:
    """Some rows of ``Y``.

    Attributes
    ----------
    matrix
        CSR, float64, a non-zero entry in every row.
    start
        Number of its first row.
    dtype
        Of the block when it is dense: ``float32`` where products of float64 would take most of the time.
    """

    matrix: sparse.csr_array
    start: int = 0
    dtype: DTypeLike = np.float64

    @property
    def counts(self) -> np.ndarray:
        """Number of stored entries of every row."""
        return np.diff(self.matrix.indptr).astype(np.float64)

    @property
    def rows(self) -> slice:
        """Which rows of ``Y`` these are."""
        return slice(self.start, self.start + self.matrix.shape[0])

    @property
    def ones(self) -> np.ndarray:
        """A 1 for every row."""
        return np.ones(self.matrix.shape[0])

    def row_energies(self, weights: np.ndarray) -> np.ndarray:
        """Compute ``Σ_j y_ij² w_j`` of every row."""
        return self._squares() @ weights

    def col_energies(self, weights: np.ndarray) -> np.ndarray:
        """Compute ``Σ_i w_i y_ij²`` of every column."""
        return self._squares().T @ weights

    def times(self, right: np.ndarray) -> np.ndarray:
        """Compute ``Σ_j y_ij r_j`` of every row."""
        return self.matrix @ right

    def transposed_times(self, left: np.ndarray) -> np.ndarray:
        """Compute ``Σ_i l_i y_ij`` of every column."""
        return self.matrix.T @ left

    def sums_of(self, codes: np.ndarray, n_groups: int) -> np.ndarray:
        """Add the rows of every group, (groups, m); ``codes`` are the groups of the rows."""
        m = self.matrix.shape[1]
        at = of_entries(codes, self.matrix) * m + self.matrix.indices
        return np.bincount(at, self.matrix.data, minlength=n_groups * m).reshape(n_groups, m)

    def scaled(self, left: np.ndarray, right: np.ndarray) -> "Block":
        """Return the block with the entries ``y_ij √(l_i r_j)``."""
        values = of_entries(np.sqrt(left), self.matrix)
        values *= self.matrix.data
        of_cols = np.sqrt(right)
        for start in range(0, len(values), PIECE):
            values[start : start + PIECE] *= of_cols[self.matrix.indices[start : start + PIECE]]
        return replace(self, matrix=self.with_values(values))

    def squared(self) -> "Block":
        """Return the block with the squares of its entries."""
        return replace(self, matrix=self._squares())

    def gram(self) -> np.ndarray:
        """Compute ``YᵀY``, (m, m)."""
        m = self.matrix.shape[1]
        total, memory = None, None
        # of a matrix with itself, NumPy computes half and mirrors it, and beside other threads, which SciPy keeps waiting
        for _, part in self.dense_parts(m // 2):
            if total is None:
                total = part.T @ part
            else:
                memory = np.matmul(part.T, part, out=memory)
                total += memory
        return np.zeros((m, m), self.dtype) if total is None else total  # a chunk may have no rows

    def products(self, right: np.ndarray, offset: np.ndarray, dtype: DTypeLike) -> np.ndarray:
        """Compute ``Y·right − 1·offsetᵀ``."""
        right = right.astype(self.dtype, copy=False)
        found = np.empty((self.matrix.shape[0], right.shape[1]), dtype)
        for rows, part in self.dense_parts():
            found[rows] = part @ right - offset
        return found

    def dense_parts(self, fewest: int = 1) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield parts of the block as arrays, of so many rows or more, and their rows; every part takes the memory of the one before.

        Fresh memory for each would take longer to get than most of what is done with it.
        """
        n, m = self.matrix.shape
        size = max(1, min(n, max(_DENSE // m, fewest)))
        memory = np.empty((size, m), self.dtype)
        for start in range(0, n, size):
            rows = slice(start, min(start + size, n))
            part = memory[: rows.stop - start]
            rows_of(self.matrix, rows).astype(self.dtype, copy=False).toarray(out=part)
            yield rows, part

    def _squares(self) -> sparse.csr_array:
        return self.with_values(self.matrix.data**2)

    def with_values(self, values: np.ndarray) -> sparse.csr_array:
        """Return a matrix of the same pattern."""
        return like(self.matrix, values)


def rows_of(matrix: sparse.csr_array, rows: slice) -> sparse.csr_array:
    """Return consecutive rows of a CSR matrix, of whose data and indices they are views."""
    indptr = matrix.indptr[rows.start : rows.stop + 1]
    own = slice(indptr[0], indptr[-1])
    return _of_parts(matrix.data[own], matrix.indices[own], indptr - indptr[0], matrix.shape[1])


def like(
    matrix: sparse.csr_array, values: np.ndarray, indices: np.ndarray | None = None, width: int | None = None
) -> sparse.csr_array:
    """Return a CSR matrix of the same pattern with other values, without a copy of the pattern.

    ``indices`` are other columns, among ``width``.
    """
    indices = matrix.indices if indices is None else indices
    return _of_parts(values, indices, matrix.indptr, width or matrix.shape[1])


def of_entries(of_rows: np.ndarray, matrix: sparse.csr_array) -> np.ndarray:
    """Repeat the value of every row for each of its entries."""
    return np.repeat(of_rows, np.diff(matrix.indptr))


def divided(matrix: sparse.csr_array, codes: np.ndarray, logs: np.ndarray) -> sparse.csr_array:
    """Return ``x_ij exp(−δ_bj)``, ``b`` the batch of row ``i``, in ``codes``, and ``δ``, ``logs``, (batches, m)."""
    return like(matrix, matrix.data * np.exp(-logs)[of_entries(codes, matrix), matrix.indices])


def _of_parts(data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, m: int) -> sparse.csr_array:
    """Return the CSR matrix with these parts; SciPy's constructor would copy views of arrays more than twice as long."""
    matrix = sparse.csr_array((len(indptr) - 1, m), dtype=data.dtype)
    matrix.data, matrix.indices, matrix.indptr = data, indices, indptr
    return matrix
