"""A matrix as blocks of rows, and passes over it.

A pass calls one function, the kernel, with every block. What comes back is either summed or put in a row. Where blocks begin
and in which order results are added depends on the matrix alone and not on who computes, so results are the same to the last
bit however many threads there are.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike
from scipy import sparse
from tqdm.auto import tqdm

from kronax.solvers.device import each_on_all_cores, one_thread_each
from kronax.solvers.rows.block import Block, rows_of

ROWS = 4096  # of a block, at most
_MOST_DOUBLE = 2**36  # multiplications of a Gram matrix, from which on blocks are multiplied in float32

Arrays = tuple[np.ndarray, ...]


class Rows(ABC):
    """An ``n × m`` matrix in blocks of rows.

    Attributes
    ----------
    shape
        ``n`` and ``m``.
    n_entries, col_counts
        Number of non-zero entries, of all and of every column, (m,) float64.
    dtype
        Of blocks when they are dense.
    """

    shape: tuple[int, int]
    n_entries: int
    col_counts: np.ndarray
    dtype: DTypeLike

    @abstractmethod
    def results(self, kernel: Callable[..., Any], *shared: Any) -> Iterator[Any]:
        """Yield what the kernel returns for every block, in the order of the rows; ``shared`` is passed after the block."""

    def sums(self, kernel: Callable[..., Arrays], *shared: Any, title: str = "", progress: bool = False) -> Arrays:
        """Return the sums over all blocks of the arrays that the kernel returns, left where they are added."""
        return added(map(in_float64, self._shown(self.results(kernel, *shared), title, progress)))

    def each(
        self, kernel: Callable[..., np.ndarray], *shared: Any, title: str = "", progress: bool = False
    ) -> np.ndarray:
        """Return one array with a row for every row of the matrix, from the kernel's arrays for the blocks."""
        return in_one(self._shown(self.results(kernel, *shared), title, progress), self.shape[0])

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of blocks."""

    def _shown(self, results: Iterator[Any], title: str, progress: bool) -> Iterable[Any]:
        if not (progress and title) or len(self) == 1:
            return results
        return tqdm(results, desc=title, total=len(self), unit="block", delay=2, leave=False)


def in_one(parts: Iterable[np.ndarray], n: int) -> np.ndarray:
    """Return one array, of ``n`` rows, of the arrays of consecutive rows; each is put in its place as it comes."""
    whole, start = None, 0
    for part in parts:
        if whole is None:
            whole = np.empty((n, *part.shape[1:]), part.dtype)
        whole[start : start + len(part)] = part
        start += len(part)
    return whole


def add_arrays(left: Arrays, right: Arrays) -> Arrays:
    """Add the arrays of two parts."""
    return tuple(a + b for a, b in zip(left, right, strict=True))


def added(parts: Iterable[Arrays], add: Callable[[Arrays, Arrays], Arrays] = add_arrays) -> Arrays:
    """Add arrays in float64 as the nodes of a binary tree: neighbours first, then pairs of neighbours, and so on.

    The order depends on nothing but the number of parts, rounding grows with its logarithm, and so does the memory.
    """
    waiting: list[tuple[int, Arrays]] = []  # (level, sum), levels falling
    for part in parts:
        level, total = 0, part
        while waiting and waiting[-1][0] == level:
            total = add(waiting.pop()[1], total)
            level += 1
        waiting.append((level, total))
    total = waiting.pop()[1]
    while waiting:
        total = add(waiting.pop()[1], total)
    return total


def in_float64(part: Arrays) -> Arrays:
    """Return the arrays of a part in float64."""
    return tuple(np.asarray(array, np.float64) for array in part)


def gram_dtype(shape: tuple[int, int]) -> type:
    """Return the type in which blocks are multiplied: ``float32`` where float64 would take most of the time."""
    n, m = shape
    return np.float64 if n * m * m <= _MOST_DOUBLE else np.float32


class InMemory(Rows):
    """A CSR matrix in memory; blocks are views of it, and threads share them."""

    def __init__(self, matrix: sparse.csr_array, dtype: DTypeLike | None = None, rows: int = ROWS) -> None:
        self.matrix, self.shape, self.size = matrix, matrix.shape, rows
        self.n_entries = matrix.nnz
        self.dtype = dtype or gram_dtype(matrix.shape)

    def __len__(self) -> int:
        return -(-self.shape[0] // self.size)

    @cached_property
    def col_counts(self) -> np.ndarray:
        """Number of non-zero entries of every column, (m,) float64."""
        return np.bincount(self.matrix.indices, minlength=self.shape[1]).astype(np.float64)

    def block(self, number: int) -> Block:
        """Return one of the blocks."""
        start = number * self.size
        rows = slice(start, min(start + self.size, self.shape[0]))
        return Block(rows_of(self.matrix, rows), start, self.dtype)

    def some(self, rows: np.ndarray) -> Block:
        """Return a block of any rows, in any order."""
        return Block(self.matrix[rows], -1, self.dtype)

    def results(self, kernel: Callable[..., Any], *shared: Any) -> Iterator[Any]:
        """Yield what the kernel returns for every block, in the order of the rows."""
        call = partial(_called, self, kernel, shared)
        with one_thread_each():  # the last bits of a product depend on how many threads share it
            yield from each_on_all_cores(call, range(len(self)))


def _called(rows: InMemory, kernel: Callable[..., Any], shared: tuple[Any, ...], number: int) -> Any:
    return kernel(rows.block(number), *shared)
