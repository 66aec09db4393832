"""Spectra of a noise-free matrix ``Z``, tall: ``n × m``, ``n ≥ m``. Only ``m × m`` eigenproblems are solved."""

from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
from numpy.typing import DTypeLike

from kronax.solvers.device import Matrix, beside, eigh_all, leading_eigh, solved_beside, to_host
from kronax.solvers.gaussian import rank_one
from kronax.solvers.gaussian.independence import MOST, directions, independent_share
from kronax.solvers.gaussian.shrinkage import noise_edge, noise_level, shrink_singular_values
from kronax.solvers.gaussian.side import (
    Side,
    factors_of,
    n_above_rounding,
    require_variance,
    scaled,
    units_of,
    without_variance,
)
from kronax.solvers.gaussian.vectors import Held, Projected, Vectors
from kronax.solvers.gaussian.within import NothingVariesError, Within, columns_within, rows_within
from kronax.solvers.rows.groups import Groups
from kronax.solvers.rows.noise_free import NoiseFree

# eigenvalues below this share of the largest count as zero; the second for blocks that are multiplied in float32
_ROUNDING, _ROUNDING_SINGLE = 1e-12, 1e-8
_DENSE = 0.5  # share of non-zero values from which rows that are alike are not so by their zeros
Clustering = Callable[[np.ndarray, int, float], Groups | None]
_SEEN = 50  # directions, at least, that the energies of the noise leave out where they are signal
_PROFILES = 8  # times that these energies are found
_BELOW_EDGE = 0.75  # of the edge of the noise, at which weights reach zero at the lowest: measured


@dataclass(frozen=True)
class Spectrum:
    """``Z``, or its deviations from its means, in whatever unit of the variables: ``U diag(√e) Vᵀ``.

    Attributes
    ----------
    rows, cols
        ``U`` (n, r) and ``V`` (m, r).
    eigenvalues
        ``e`` (r,), positive, in descending order.
    dims
        Degrees of freedom of rows and columns.
    beyond
        ``E[ZZᵀ] − ZZᵀ`` and ``E[ZᵀZ] − ZᵀZ`` as far as known, or None.
    units
        What the deviations of the variables were divided by, 1 where nothing varies; None if they are as they are.
    within
        The variables within groups of samples, or None.
    independent
        Share of the rows that, as samples of the columns, are worth an independent one.
    """

    rows: Vectors
    cols: Vectors
    eigenvalues: np.ndarray
    dims: tuple[int, int]
    beyond: tuple[np.ndarray, np.ndarray | None] | None = None
    units: np.ndarray | None = None
    within: Within | None = None
    independent: float = 1.0

    def of_rows(self) -> Side:
        """Return the second moments of the rows."""
        return Side(self.rows, self.eigenvalues, *self.dims, self.beyond and self.beyond[0])

    def of_cols(self) -> Side:
        """Return the second moments of the columns."""
        return Side(self.cols, self.eigenvalues, *self.dims[::-1], self.beyond and self.beyond[1], self.independent)

    def transposed(self) -> "Spectrum":
        """Return the spectrum of ``Zᵀ``."""
        return replace(
            self,
            rows=self.cols,
            cols=self.rows,
            dims=self.dims[::-1],
            beyond=self.beyond and self.beyond[::-1],
        )


@dataclass(frozen=True)
class Leading:
    """The leading directions of ``Z``, as many as have a weight: at most ``n_comps`` of them, at least two.

    Attributes
    ----------
    rows, cols, eigenvalues
        ``U`` (n, k), ``V`` (m, k) and ``e`` (k,), in descending order.
    shrunk
        Singular values after shrinkage, (k,): ``U diag(shrunk) Vᵀ`` is the denoised ``Z``.
    noise
        Standard deviation of the white noise that they were shrunk for.
    rank
        How many directions are beyond the edge of the noise, all counted.
    """

    rows: np.ndarray
    cols: np.ndarray
    eigenvalues: np.ndarray
    shrunk: np.ndarray
    noise: float
    rank: int


def decompose(
    z: NoiseFree,
    *,
    center: int | None,
    n_comps: int,
    whole: bool = True,
    variables: int | None = None,
    groups: Groups | Clustering | None = None,
) -> tuple[Leading, Spectrum | None]:
    """Find the directions of ``Z`` above the noise, and the spectrum of its deviations from its means.

    Parameters
    ----------
    z
        ``Z``.
    center
        The axis along which means are subtracted for the spectrum: 0, from every column its mean over the rows; 1, from
        every row its mean over the columns; None, no means. That axis loses one degree of freedom.
    n_comps
        Directions kept, at most.
    whole
        Whether the spectrum is wanted.
    variables
        The axis, 1 for the columns, whose deviations are divided by their standard deviations for the spectrum; None to leave them as they
        are.
    groups
        Of the samples of these variables, within which they are looked at too; or what finds them, if there are any, by the samples'
        coordinates, the number of directions above the noise, and the share of samples that are worth an independent one.
    """
    moments = square, energies, sums = z.moments()
    rounding, seen = rounding_of(z.rows.dtype), max(n_comps, _SEEN)
    leading = partial(_leading, z, energies, n_comps, rounding)
    if not whole:
        return leading(*leading_eigh(square, seen)), None
    found = _deviations(z, center, *moments)
    if variables is None:
        require_variance(found.variances[~found.still].sum() > rounding * np.prod(z.shape))
    if variables is None and center != 1:
        ((values, vectors),) = eigh_all([found.square])
        added = np.sqrt(z.shape[0]) * found.mean
        lead = rank_one.leading_with(values, vectors, added, seen) if center == 0 else (values, vectors)
        return leading(*lead), _spectrum(found, values, vectors, rounding)
    if variables is not None:
        found = _with_equal_columns(found) if variables == 1 else _with_equal_rows(found)
    with solved_beside(found.square, min(found.dims)) as solved:
        spectrum = cache(lambda: _spectrum(found, *solved(), rounding))
        lead = leading(*leading_eigh(square, seen))
        if variables is None:
            return lead, spectrum()
        dense = variables == 1 and z.rows.n_entries >= _DENSE * np.prod(z.shape)
        independent = _independent_share(spectrum().rows) if dense else 1.0
        named, within = isinstance(groups, Groups), None
        if groups and not named:
            samples = lead.rows if variables == 1 else lead.cols
            groups = groups(
                samples * np.sqrt(lead.shrunk), lead.rank, independent
            )  # a type may be along weak directions
        with nullcontext() if named else suppress(NothingVariesError):
            if groups and variables == 1:
                within = columns_within(z, groups, square, energies, rounding, independent)
            elif groups:
                within = rows_within(z, groups, rounding)
        within = within and replace(within, named=named)
        return lead, replace(spectrum(), within=within, independent=independent)


def _independent_share(samples: Vectors) -> float:
    """Return which share of the samples is worth an independent one."""
    n, rank = samples.shape
    return independent_share(samples.some(directions(rank, n))) if n <= MOST else 1.0


@dataclass(frozen=True)
class _Deviations:
    """``Z`` less its means, or ``Z`` itself.

    Attributes
    ----------
    z, center
        ``Z``, and the axis along which means are subtracted.
    mean
        Means of the columns, (m,), 0 unless they are subtracted.
    square
        Gram matrix of the deviations, (m, m), with zeros in columns that do not vary.
    variances, still
        Sums of the squares of every column, (m,), and marks of those that do not vary.
    squares
        Sum of all squares before means were subtracted.
    units
        What rows or columns were divided by, if they were.
    """

    z: NoiseFree
    center: int | None
    mean: np.ndarray
    square: Matrix
    variances: np.ndarray
    still: np.ndarray
    squares: float
    units: np.ndarray | None = None

    @property
    def dims(self) -> tuple[int, int]:
        """Degrees of freedom of rows and columns."""
        n, m = self.z.shape
        return n - (self.center == 0), m - (self.center == 1)


def _deviations(
    z: NoiseFree, center: int | None, square: Matrix, energies: np.ndarray, sums: np.ndarray
) -> _Deviations:
    n, m = z.shape
    mean = sums / n if center == 0 else np.zeros(m)
    square = _centred(n, square, mean, center)
    variances = energies - n * mean**2 if center == 0 else to_host(square.diagonal())
    still = without_variance(variances, energies, n * np.finfo(np.float64).eps)
    if still.any():
        square = scaled(square, np.where(still, 0.0, 1.0))
    return _Deviations(z, center, mean, square, variances, still, energies[~still].sum())


def _with_equal_columns(found: _Deviations) -> _Deviations:
    """Divide the deviations of every column by their standard deviation."""
    n = found.z.shape[0]
    to_unit, units = units_of(found.variances / n, found.still, found.z.rows.col_counts)
    z = replace(found.z, factors=factors_of(found.z)._replace(units=to_unit))
    squares = (found.variances + n * found.mean**2) @ to_unit**2
    square = scaled(found.square, to_unit)
    return replace(found, z=z, mean=found.mean * to_unit, square=square, squares=squares, units=units)


def _with_equal_rows(found: _Deviations) -> _Deviations:
    """Divide the deviations of every row by their standard deviation, which takes a pass."""
    z, m = found.z, found.z.shape[1]
    energies, sums, _ = z.deviations(np.zeros(m)).T
    variances = energies - sums**2 / m if found.center == 1 else energies
    still = without_variance(variances, energies, m * np.finfo(np.float64).eps)
    to_unit, units = units_of(variances / m, still, z.row_counts())
    z = replace(z, factors=factors_of(z)._replace(rows=z.row_factors() * to_unit**2))
    square = _centred(z.shape[0], z.moments()[0], found.mean, found.center)
    square = scaled(square, np.where(found.still, 0.0, 1.0))
    return replace(found, z=z, square=square, squares=energies @ to_unit**2, units=units)


def _leading(
    z: NoiseFree, energies: np.ndarray, n_comps: int, rounding: float, values: np.ndarray, vectors: np.ndarray
) -> Leading:
    """Return the leading directions.

    Where some genes or cells have more noise than others, its largest singular values are far beyond those of white noise
    with the same median. Directions beyond that edge are counted. Weights reach zero below it, as some directions there
    are still more signal than noise, but not below the first direction left out, which could else change places with the last
    one kept.

    Parameters
    ----------
    z, energies
        ``Z`` and the sums of squares of its columns.
    n_comps, rounding
        Directions kept, at most, and the share of the largest eigenvalue below which others count as zero.
    values, vectors
        All eigenvalues of ``ZᵀZ``, and at least the leading eigenvectors.
    """
    values = values[values > rounding * values[0]]
    singular = np.sqrt(values)
    seen = min(max(n_comps, _SEEN), len(values), vectors.shape[1])
    cols = vectors[:, :seen]
    rows, row_energies = z.coordinates(cols / singular[:seen])
    edge = _noise_edge(singular[:seen], (rows, cols), (row_energies, energies))
    left_out = singular[n_comps] if n_comps < len(values) else 0.0
    least = max(min(left_out, edge), _BELOW_EDGE * edge)
    noise = max(noise_level(values, z.shape), least / np.sqrt(z.shape).sum())
    shrunk = shrink_singular_values(singular, noise, z.shape)
    weighted = int((shrunk > 0).sum())
    if weighted < 2:  # hardly any structure: two unshrunk directions still give every row a place
        shrunk = singular
    k = min(max(weighted, 2), n_comps, len(values))
    return Leading(rows[:, :k], cols[:, :k], values[:k], shrunk[:k], noise, int((singular > edge).sum()))


def _noise_edge(
    singular: np.ndarray, vectors: tuple[np.ndarray, np.ndarray], energies: tuple[np.ndarray, np.ndarray]
) -> float:
    """Compute the largest singular value of the noise, whose energies are what the denoised ``Z`` leaves of those of ``Z``.

    What is denoised depends on the edge in turn; from no signal at all on, it converges.
    """
    shape = tuple(len(side) for side in vectors)
    unit = np.sqrt(shape).sum()
    left = energies
    for _ in range(_PROFILES):
        edge = noise_edge(*left)
        signal = shrink_singular_values(singular, edge / unit, shape) ** 2
        left = tuple(
            np.maximum(total - np.einsum("ik,ik,k->i", side, side, signal), _ROUNDING * total)
            for side, total in zip(vectors, energies, strict=True)
        )
    return edge


def _spectrum(found: _Deviations, values: np.ndarray, cols: np.ndarray, rounding: float) -> Spectrum:
    """Return the spectrum of deviations, given the eigenvalues and eigenvectors of their Gram matrix."""
    dims = found.dims
    kept = min(*dims, n_above_rounding(values, found.squares, rounding))
    values, cols = values[:kept], cols[:, :kept]
    if found.center == 1:  # rounding aside, they are orthogonal to it
        cols = cols - cols.mean(0)
    if found.still.any():
        cols = np.where(found.still[:, None], 0.0, cols)  # a column without variance has none along any direction
    scaled = cols / np.sqrt(values)
    rows = Projected(found.z, scaled, found.mean @ scaled, partial(_rows_vary, found.mean, found.center))
    return Spectrum(rows, Held(cols), values, dims, units=found.units)


def _rows_vary(mean: np.ndarray, center: int | None, z: NoiseFree) -> np.ndarray:
    """Mark the rows that deviate from the means."""
    m = len(mean)
    energies, sums, along = z.deviations(mean).T
    variances = energies - 2.0 * along + mean @ mean if center != 1 else energies - sums**2 / m
    return ~without_variance(variances, energies, m * np.finfo(np.float64).eps)


def rounding_of(dtype: DTypeLike) -> float:
    """Return the share of the largest eigenvalue below which others count as zero, if blocks are multiplied in this type."""
    return _ROUNDING if dtype == np.float64 else _ROUNDING_SINGLE


def _centred(n: int, square: Matrix, mean: np.ndarray, center: int | None) -> Matrix:
    """Compute the Gram matrix of the deviations from means."""
    if center == 0:  # Σ_i (z_i − μ)(z_i − μ)ᵀ = ZᵀZ − nμμᵀ
        mean = beside(mean, square)
        return square - n * (mean[:, None] * mean)
    if center == 1:  # J ZᵀZ J, J = I − 11ᵀ/m
        means = square.mean(0)
        return square - means - (means - means.mean())[:, None]
    return square
