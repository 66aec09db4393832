"""Passes over the noise-free matrix ``Z``, which is never held.

With ``Y`` in blocks of rows and a factor ``c_j`` for every column,

    ``z_ij = y_ij √(r_i c_j)``,  ``r_i = p_i / Σ_j y_ij² c_j``,                                                     (1)

``p_i`` the number of non-zero entries. A row's factor follows from the row alone, so ``c`` is all that blocks have to share,
and the mean of ``z²`` over the non-zero entries is 1. Other factors of the rows can be given.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike
from scipy import sparse

from kronax.solvers.device import Matrix, symmetric, to_host
from kronax.solvers.rows.block import Block, like
from kronax.solvers.rows.groups import Groups
from kronax.solvers.rows.rows import Arrays, InMemory, Rows

_ENTRIES = 2**18  # of rows gathered at a time


class Factors(NamedTuple):
    """``c``, (m,), and ``r``, (n,), or None: then ``r`` is that of Eq. 1. Without ``c``, ``Z`` is ``Y`` itself.

    ``units``, (m,): what the columns of ``Z`` are multiplied by in addition, or None.
    """

    cols: np.ndarray | None = None
    rows: np.ndarray | None = None
    units: np.ndarray | None = None


class Margins(NamedTuple):
    """What single columns, or rows, of ``Z`` are like, zeros counted; 0 where nothing varies.

    Attributes
    ----------
    skewness
        Skewness.
    mean, deviation
        Mean and standard deviation.
    along
        Correlation with the number of non-zero entries of the rows (or columns) that they run through.
    counts
        Number of non-zero entries.
    """

    skewness: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    along: np.ndarray
    counts: np.ndarray

    @property
    def level(self) -> np.ndarray:
        """Return the mean in standard deviations, 0 where nothing varies."""
        return np.divide(self.mean, self.deviation, out=np.zeros_like(self.mean), where=self.deviation > 0)


@dataclass(frozen=True)
class NoiseFree:
    """``Z``, from ``Y``, (n, m), and factors; ``progress``: whether a long pass shows a bar."""

    rows: Rows
    factors: Factors = Factors()
    progress: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns."""
        return self.rows.shape

    def moments(self) -> tuple[Matrix, np.ndarray, np.ndarray]:
        """Compute ``ZᵀZ``, (m, m), and, free of the rounding of float32, ``Σ_i z_ij²`` and ``Σ_i z_ij``, (m,).

        The first is left where it was computed.
        """
        found = self.rows.sums(_moments, self.factors, title="second moments", progress=self.progress)
        square, energies, sums = found
        return symmetric(square), to_host(energies), to_host(sums)

    def row_factors(self) -> np.ndarray:
        """Compute ``r``, (n,)."""
        return self.rows.each(_row_factors, self.factors)

    def row_counts(self) -> np.ndarray:
        """Return the numbers of entries of the rows, (n,)."""
        return self.rows.each(_row_counts)

    def products(self, right: np.ndarray, offset: np.ndarray, dtype: DTypeLike = np.float64) -> np.ndarray:
        """Compute ``Z·right − 1·offsetᵀ``, (n, k)."""
        return self.rows.each(
            _products, self.factors, right, offset, dtype, title="coordinates", progress=self.progress
        )

    def coordinates(self, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute ``Z·right``, (n, k), and ``Σ_j z_ij²`` of every row, (n,)."""
        ones, none = np.ones(self.shape[1]), np.zeros(right.shape[1])
        found = self.rows.each(
            _coordinates, self.factors, right, none, ones, title="coordinates", progress=self.progress
        )
        return found[:, :-1], found[:, -1]

    def deviations(self, mean: np.ndarray) -> np.ndarray:
        """Compute ``Σ_j z_ij²``, ``Σ_j z_ij`` and ``Σ_j z_ij μ_j`` of every row, (n, 3)."""
        return self.rows.each(_deviations, self.factors, np.ones(self.shape[1]), mean)

    def sums_of(self, groups: Groups, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Add the rows of every group, (groups, m), or, with ``axis`` 1, the columns of every group, (n, groups), and their squares."""
        if axis == 0:
            sums, squares = self.rows.sums(_sums_of_rows, self.factors, groups.codes, groups.n)
            return to_host(sums), to_host(squares)
        found = self.rows.each(_sums_of_cols, self.factors, np.eye(groups.n)[groups.codes])
        return found[:, : groups.n], found[:, groups.n :]

    def margins(self, axis: int) -> Margins:
        """Compute what every column (``axis`` 0) or row (1) is like."""
        if axis == 0:
            *sums, squares = self.rows.sums(_col_powers, self.factors, title="margins", progress=self.progress)
        else:
            counts = self.rows.col_counts
            sums, squares = self.rows.each(_row_powers, self.factors, counts).T, counts @ counts
        first, second, third, product = (np.asarray(total) / self.shape[axis] for total in sums)
        mean_count, squares = self.rows.n_entries / self.shape[axis], np.asarray(squares) / self.shape[axis]
        rounding = self.shape[axis] * np.finfo(np.float64).eps
        size = _deviation(second, first, rounding)
        size_of_counts = _deviation(squares, np.full_like(squares, mean_count), rounding)
        along = (product - first * mean_count) / (size * size_of_counts)
        moment = third - 3 * first * second + 2 * first**3
        shape = (np.where(np.isfinite(size), found, 0.0) for found in (moment / size**3, first, size, along))
        return Margins(*shape, counts=self.row_counts() if axis else self.rows.col_counts)

    def held(self) -> sparse.csr_array:
        """Return ``Z``, which shares its pattern with ``Y``; for rows in memory."""
        if not isinstance(self.rows, InMemory):
            msg = "Z can be held only where Y is in memory."
            raise TypeError(msg)
        blocks = list(self.rows.results(_scaled, self.factors))
        return like(self.rows.matrix, np.concatenate([block.matrix.data for block in blocks]))

    def forms(
        self,
        inner: np.ndarray,
        linear: np.ndarray,
        constant: float,
        pairs: tuple[np.ndarray, np.ndarray],
        dtype: DTypeLike = np.float64,
    ) -> Arrays:
        """Compute ``z_iᵀ Q z_k − qᵀ(z_i + z_k) + q₀`` for ``k = i``, (n,), and for some pairs of rows.

        Parameters
        ----------
        inner, linear, constant
            ``Q`` (m, m), symmetric, ``q`` (m,) and ``q₀``.
        pairs
            ``i`` and ``k`` of the pairs.
        dtype
            Of the products.
        """
        held = self.held()
        z = InMemory(like(held, held.data.astype(dtype, copy=False)), dtype)
        order = np.argsort(pairs[0], kind="stable")
        edges = pairs[0][order], pairs[1][order]
        found = z.results(_forms, z, inner.astype(dtype, copy=False), linear, constant, edges)
        squares, products = (np.concatenate(parts) for parts in zip(*found, strict=True))
        in_order = np.empty(len(order))
        in_order[order] = products
        return squares, in_order


def col_energies(block: Block, cols: np.ndarray) -> Arrays:
    """Compute ``Σ_i r_i y_ij²``, with ``r`` of Eq. 1."""
    return (block.col_energies(_row_factors(block, Factors(cols))),)


def _row_factors(block: Block, factors: Factors) -> np.ndarray:
    """Compute ``r`` of Eq. 1, or look it up."""
    if factors.rows is not None:
        return factors.rows[block.rows]
    return block.ones if factors.cols is None else block.counts / block.row_energies(factors.cols)


def _row_counts(block: Block) -> np.ndarray:
    return block.counts


def _scaled(block: Block, factors: Factors) -> Block:
    """Return a block of ``Z``."""
    if factors.cols is None:
        return block
    cols = factors.cols if factors.units is None else factors.cols * factors.units**2
    return block.scaled(_row_factors(block, factors), cols)


def _moments(block: Block, factors: Factors) -> Arrays:
    """Compute ``ZᵀZ``, and sums of the columns."""
    z = _scaled(block, factors)
    return z.gram(), z.col_energies(block.ones), z.transposed_times(block.ones)


def _products(block: Block, factors: Factors, right: np.ndarray, offset: np.ndarray, dtype: DTypeLike) -> np.ndarray:
    return _scaled(block, factors).products(right, offset, dtype)


def _coordinates(block: Block, factors: Factors, right: np.ndarray, none: np.ndarray, ones: np.ndarray) -> np.ndarray:
    z = _scaled(block, factors)
    energies, products = z.row_energies(ones), z.products(right, none, np.float64)
    return energies.__array_namespace__().concat([products, energies[:, None]], axis=1)


def _deviation(squares: np.ndarray, means: np.ndarray, rounding: float) -> np.ndarray:
    """Compute standard deviations, infinite where nothing varies: where so small a share of the squares is left."""
    variance = squares - means**2
    return np.sqrt(np.where(variance > rounding * squares, variance, np.inf))


def _col_powers(block: Block, factors: Factors) -> Arrays:
    """Compute ``Σ_i z_ij``, ``Σ_i z_ij²``, ``Σ_i z_ij³``, ``Σ_i z_ij p_i`` and ``Σ_i p_i²``."""
    z, counts = _scaled(block, factors), block.counts
    sums = (power.T @ block.ones for power in _powers(z))
    return *sums, z.transposed_times(counts), np.atleast_1d(counts @ counts)


def _row_powers(block: Block, factors: Factors, counts: np.ndarray) -> np.ndarray:
    """Compute ``Σ_j z_ij``, ``Σ_j z_ij²``, ``Σ_j z_ij³`` and ``Σ_j z_ij n_j``."""
    z = _scaled(block, factors)
    return np.stack([*(power.sum(axis=1) for power in _powers(z)), z.times(counts)], axis=1)


def _powers(z: Block) -> Iterator[sparse.csr_array]:
    """Yield the first three powers of the entries, one after the other."""
    return (z.with_values(z.matrix.data**power) for power in (1, 2, 3))


def _deviations(block: Block, factors: Factors, ones: np.ndarray, mean: np.ndarray) -> np.ndarray:
    z = _scaled(block, factors)
    energies, sums, along = z.row_energies(ones), z.times(ones), z.times(mean)
    return energies.__array_namespace__().stack([energies, sums, along], axis=1)  # NumPy's or JAX's


def _sums_of_rows(block: Block, factors: Factors, codes: np.ndarray, n_groups: int) -> Arrays:
    z, codes = _scaled(block, factors), codes[block.rows]
    return z.sums_of(codes, n_groups), z.squared().sums_of(codes, n_groups)


def _sums_of_cols(block: Block, factors: Factors, groups: np.ndarray) -> np.ndarray:
    z = _scaled(block, factors)
    sums, squares = z.times(groups), z.squared().times(groups)
    return sums.__array_namespace__().concat([sums, squares], axis=1)  # NumPy's or JAX's


def _forms(
    block: Block,
    z: InMemory,
    inner: np.ndarray,
    linear: np.ndarray,
    constant: float,
    edges: tuple[np.ndarray, np.ndarray],
) -> Arrays:
    here = edges[0] - block.start
    size = max(1, _ENTRIES // int(1 + block.counts.mean()))
    own = constant - block.times(linear)  # q₀ − qᵀz_i
    squares, products = [], [np.zeros(0)]
    for rows, part in block.dense_parts():
        halves = part @ inner - linear.astype(inner.dtype)  # Qz_i − q
        squares.append((halves * part).sum(axis=1) + own[rows])
        for start in range(*np.searchsorted(here, [rows.start, rows.stop]), size):
            some = slice(start, min(start + size, np.searchsorted(here, rows.stop)))
            at = here[some] - rows.start
            products.append(_products_with(halves, at, z.some(edges[1][some]).matrix) + own[rows][at])
    return np.concatenate(squares), np.concatenate(products)


def _products_with(halves: np.ndarray, at: np.ndarray, rows: sparse.csr_array) -> np.ndarray:
    """Multiply row ``at`` of ``halves`` with a row of ``Z``, none of which is empty, for every pair."""
    places = np.repeat(at * halves.shape[1], np.diff(rows.indptr)) + rows.indices
    return np.add.reduceat(halves.ravel().take(places) * rows.data, rows.indptr[:-1]).astype(np.float64)
