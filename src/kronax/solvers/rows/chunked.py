"""Rows that are read anew in every pass, a chunk at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from kronax.solvers.device import each_on_all_cores, one_thread_each
from kronax.solvers.rows.block import PIECE, Block, divided, like, of_entries
from kronax.solvers.rows.rows import Rows, gram_dtype

Chunk = np.ndarray | sparse.spmatrix | sparse.sparray


@dataclass(frozen=True)
class OfBatches:
    """What is done with entries according to the batches of their rows: a division, or a move to columns of their own.

    Attributes
    ----------
    codes
        The batch of every row that is not empty.
    logs
        ``δ``, (batches, m): entries are divided by ``exp(δ_bj)``; None for 0.
    places
        The columns to which those of every batch are moved, (batches, m), ascending; None to leave them.
    width
        Number of columns after the move.
    """

    codes: np.ndarray
    logs: np.ndarray | None = None
    places: np.ndarray | None = None
    width: int = 0

    def of(self, rows: slice) -> "OfBatches":
        """Return what is done with some rows, without what belongs to batches that are not among them."""
        present, codes = np.unique(self.codes[rows], return_inverse=True)
        logs, places = (None if array is None else array[present] for array in (self.logs, self.places))
        return replace(self, codes=codes, logs=logs, places=places)

    def __call__(self, matrix: sparse.csr_array) -> sparse.csr_array:
        """Return the matrix with its entries divided, or moved."""
        if self.logs is not None:
            matrix = divided(matrix, self.codes, self.logs)
        if self.places is None:
            return matrix
        indices = self.places[of_entries(self.codes, matrix), matrix.indices].astype(matrix.indices.dtype)
        return like(matrix, matrix.data, indices, self.width)


@dataclass(frozen=True)
class Preparation:
    """What is done with a chunk of ``X`` before a pass: ``sign(x)(|x| / κ_j)^γ``, without empty rows and columns.

    Attributes
    ----------
    cols
        Columns that are kept; None for all.
    of_batches
        What is done with the entries of every batch; None for nothing.
    sizes
        ``κ``, (m,); None for ones.
    power
        ``γ``.
    """

    cols: np.ndarray | None = None
    of_batches: OfBatches | None = None
    sizes: np.ndarray | None = None
    power: float = 1.0

    def __call__(self, chunk: Chunk) -> sparse.csr_array:
        """Return the rows of a chunk as they enter a pass."""
        matrix = csr(chunk)
        if self.cols is not None:
            matrix = sparse.csr_array(matrix[:, self.cols])
        filled = np.diff(matrix.indptr) > 0
        matrix = matrix if filled.all() else matrix[filled]
        if (
            self.of_batches and len(self.of_batches.codes) == matrix.shape[0]
        ):  # otherwise it changed, which is found out
            matrix = self.of_batches(matrix)
        if self.sizes is not None:
            self._scale(matrix)
        return matrix

    def _scale(self, matrix: sparse.csr_array) -> None:
        """Divide by the sizes and take the power, in the memory of the matrix, which is a copy."""
        for start in range(0, matrix.nnz, PIECE):
            values, cols = (array[start : start + PIECE] for array in (matrix.data, matrix.indices))
            values /= self.sizes[cols]
            if self.power != 1.0:
                np.copysign(np.abs(values) ** self.power, values, out=values)

    def of(self, rows: slice) -> "Preparation":
        """Return what is done with a chunk that has these rows."""
        return replace(self, of_batches=self.of_batches.of(rows)) if self.of_batches else self


class Survey(NamedTuple):
    """What a chunk holds.

    Attributes
    ----------
    row_counts, col_counts
        Non-zero entries of its rows and columns.
    n_bad, n_negative
        How many values are masked, NaN or infinite, and how many negative.
    sample
        Some of its rows, none of which is empty.
    """

    row_counts: np.ndarray
    col_counts: np.ndarray
    n_bad: int
    n_negative: int
    sample: sparse.csr_array


class Chunked(Rows):
    """An ``n × m`` matrix in chunks of rows.

    Parameters
    ----------
    chunks
        Functions that read a chunk each.
    lengths, counts
        Number of rows and of non-zero entries of every chunk, once prepared. A chunk that has other numbers later has changed, or
        the file is gone: some stores then return zeros.
    col_counts
        Number of non-zero entries of every column, (m,).
    preparation
        What is done with every chunk.
    """

    def __init__(
        self,
        chunks: Sequence[Any],
        lengths: np.ndarray,
        counts: np.ndarray,
        col_counts: np.ndarray,
        preparation: Preparation = Preparation(),
    ) -> None:
        self.chunks, self.lengths, self.counts, self.preparation = chunks, lengths, counts, preparation
        self.shape = int(lengths.sum()), len(col_counts)
        self.n_entries, self.col_counts = int(counts.sum()), np.asarray(col_counts, np.float64)
        self.dtype = gram_dtype(self.shape)

    def __len__(self) -> int:
        return len(self.chunks)

    def prepared(self, preparation: Preparation, *, col_counts: np.ndarray | None = None) -> "Chunked":
        """Return the same rows, prepared otherwise; ``col_counts`` if their columns are others."""
        counts = self.col_counts if col_counts is None else col_counts
        return type(self)(self.chunks, self.lengths, self.counts, counts, preparation)

    def results(self, kernel: Callable[..., Any], *shared: Any) -> Iterator[Any]:
        """Yield what the kernel returns for every chunk, in the order of the rows."""
        with one_thread_each():
            yield from each_on_all_cores(lambda call: call(self.chunks[call.number]()), self.calls(kernel, shared))

    def calls(self, kernel: Callable[..., Any], shared: tuple[Any, ...]) -> list["Call"]:
        """Return a function of a chunk for every chunk: prepare it, then call the kernel."""
        starts = np.cumsum(self.lengths) - self.lengths
        expected = zip(starts.tolist(), self.lengths.tolist(), self.counts.tolist(), strict=True)
        return [
            Call(
                number,
                kernel,
                shared,
                self.preparation.of(slice(start, start + length)),
                start,
                length,
                count,
                self.dtype,
            )
            for number, (start, length, count) in enumerate(expected)
        ]


class Call(NamedTuple):
    """One kernel on one chunk; made of plain parts, so that it can be sent to other processes."""

    number: int
    kernel: Callable[..., Any]
    shared: tuple[Any, ...]
    preparation: Preparation
    start: int
    length: int
    count: int
    dtype: Any

    def __call__(self, chunk: Chunk) -> Any:
        """Return what the kernel returns."""
        matrix = self.preparation(chunk)
        if (matrix.shape[0], matrix.nnz) != (self.length, self.count):
            msg = (
                f"The matrix changed while it was read: chunk {self.number} had {self.count:,} non-zero values in {self.length:,} "
                f"rows, and now has {matrix.nnz:,} in {matrix.shape[0]:,}. Was its file moved or written? Nothing was written."
            )
            raise RuntimeError(msg)
        return self.kernel(Block(matrix, self.start, self.dtype), *self.shared)


def csr(chunk: Chunk) -> sparse.csr_array:
    """Return a chunk as a CSR matrix in float64, without stored zeros: a copy, for the chunk may be the user's own, in memory."""
    matrix = sparse.csr_array(chunk, dtype=np.float64, copy=True)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def survey(chunk: Chunk, first: int, stride: int) -> Survey:
    """Count what a chunk holds, and sample its rows: one in ``stride`` of those that are not empty.

    ``first`` is the number of the chunk's first row. Without empty rows, the sample is every ``stride``-th row of the matrix, however
    it is cut into chunks.
    """
    matrix = csr(chunk)
    row_counts = np.diff(matrix.indptr)
    n_masked = int(np.ma.count_masked(chunk)) if isinstance(chunk, np.ma.MaskedArray) else 0
    return Survey(
        row_counts,
        np.bincount(matrix.indices, minlength=matrix.shape[1]),
        n_masked + int((~np.isfinite(matrix.data)).sum()),
        int((matrix.data < 0).sum()),
        matrix[np.flatnonzero(row_counts)[-first % stride :: stride]],
    )
