"""Spectra of a noise-free matrix ``Z``, tall: ``n × m``, ``n ≥ m``. Only ``m × m`` eigenproblems are solved."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import DTypeLike

from kronax.solvers.device import Matrix, beside, eigh_all, leading_and_whole, leading_eigh, to_host
from kronax.solvers.gaussian import rank_one
from kronax.solvers.gaussian.shrinkage import noise_level, shrink_singular_values
from kronax.solvers.gaussian.vectors import Held, Projected, Vectors
from kronax.solvers.rows.noise_free import NoiseFree

# eigenvalues below this share of the largest count as zero; the second for blocks that are multiplied in float32
_ROUNDING, _ROUNDING_SINGLE = 1e-12, 1e-8


@dataclass(frozen=True)
class Spectrum:
    """``Z``, or its deviations from its means: ``U diag(√e) Vᵀ``.

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
    """

    rows: Vectors
    cols: Vectors
    eigenvalues: np.ndarray
    dims: tuple[int, int]
    beyond: tuple[np.ndarray, np.ndarray | None] | None = None

    def transposed(self) -> "Spectrum":
        """Return the spectrum of ``Zᵀ``."""
        return Spectrum(self.cols, self.rows, self.eigenvalues, self.dims[::-1], self.beyond and self.beyond[::-1])


@dataclass(frozen=True)
class Leading:
    """The directions of ``Z`` above the noise, at most ``n_comps`` of them, at least two.

    Attributes
    ----------
    rows, cols, eigenvalues
        ``U`` (n, k), ``V`` (m, k) and ``e`` (k,), in descending order.
    shrunk
        Singular values after optimal shrinkage, (k,): ``U diag(shrunk) Vᵀ`` is the denoised ``Z``.
    noise
        Standard deviation of the noise.
    rank
        How many directions rise above the noise, all counted.
    """

    rows: np.ndarray
    cols: np.ndarray
    eigenvalues: np.ndarray
    shrunk: np.ndarray
    noise: float
    rank: int


def decompose(z: NoiseFree, *, center: int | None, n_comps: int, whole: bool = True) -> tuple[Leading, Spectrum | None]:
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
    """
    square, energies, sums = z.moments()
    rounding = rounding_of(z.rows.dtype)
    if not whole:
        return _leading(z, *leading_eigh(square, n_comps), n_comps, rounding), None
    n, m = z.shape
    mean = sums / n if center == 0 else np.zeros(m)
    centred = _centred(n, square, mean, center)
    variances = energies - n * mean**2 if center == 0 else to_host(centred.diagonal())
    still = without_variance(variances, energies, n * np.finfo(np.float64).eps)
    if still.any():
        kept = beside(np.where(still, 0.0, 1.0), centred)
        centred = centred * kept * kept[:, None]
    if center == 1:
        lead, (values, vectors) = leading_and_whole(square, n_comps, centred)
    else:
        ((values, vectors),) = eigh_all([centred])
        lead = (
            (values, vectors) if center is None else rank_one.leading_with(values, vectors, np.sqrt(n) * mean, n_comps)
        )
    return _leading(z, *lead, n_comps, rounding), _spectrum(z, mean, values, vectors, still, center, rounding)


def _leading(z: NoiseFree, values: np.ndarray, vectors: np.ndarray, n_comps: int, rounding: float) -> Leading:
    """Return the leading directions; ``values`` are all eigenvalues, ``vectors`` at least the leading eigenvectors."""
    values = values[values > rounding * values[0]]
    noise = noise_level(values, z.shape)
    singular = np.sqrt(values)
    shrunk = shrink_singular_values(singular, noise, z.shape)
    rank = int((shrunk > 0).sum())
    if rank < 2:  # hardly any structure: two unshrunk directions still give every row a place
        shrunk = singular
    k = min(max(rank, 2), n_comps, len(values))
    rows = z.products(vectors[:, :k] / singular[:k], np.zeros(k))
    return Leading(rows, vectors[:, :k], values[:k], shrunk[:k], noise, rank)


def _spectrum(
    z: NoiseFree,
    mean: np.ndarray,
    values: np.ndarray,
    cols: np.ndarray,
    still: np.ndarray,
    center: int | None,
    rounding: float,
) -> Spectrum:
    n, m = z.shape
    dims = (n - (center == 0), m - (center == 1))
    if values.sum() <= rounding * n * m:
        msg = "Nothing varies: but for their scales, all rows are alike. A precision matrix needs deviations from the mean."
        raise ValueError(msg)
    kept = min(*dims, int((values > rounding * values[0]).sum()))
    values, cols = values[:kept], cols[:, :kept]
    if center == 1:  # rounding aside, they are orthogonal to it
        cols = cols - cols.mean(0)
    cols = np.where(still[:, None], 0.0, cols)  # a column without variance has none along any direction
    scaled = cols / np.sqrt(values)
    return Spectrum(Projected(z, scaled, mean @ scaled, partial(_rows_vary, mean, center)), Held(cols), values, dims)


def _rows_vary(mean: np.ndarray, center: int | None, z: NoiseFree) -> np.ndarray:
    """Mark the rows that deviate from the means."""
    m = len(mean)
    energies, sums, along = z.deviations(mean).T
    variances = energies - 2.0 * along + mean @ mean if center != 1 else energies - sums**2 / m
    return ~without_variance(variances, energies, m * np.finfo(np.float64).eps)


def rounding_of(dtype: DTypeLike) -> float:
    """Return the share of the largest eigenvalue below which others count as zero, if blocks are multiplied in this type."""
    return _ROUNDING if dtype == np.float64 else _ROUNDING_SINGLE


def without_variance(centred: np.ndarray, squares: np.ndarray, rounding: float) -> np.ndarray:
    """Mark the rows or columns of which only rounding is left once means are subtracted.

    ``centred`` and ``squares`` are sums of squares after and before subtraction; a sum of ``n`` products is accurate to
    ``n`` units in the last place.
    """
    return centred <= rounding * squares


def _centred(n: int, square: Matrix, mean: np.ndarray, center: int | None) -> Matrix:
    """Compute the Gram matrix of the deviations from means."""
    if center == 0:  # Σ_i (z_i − μ)(z_i − μ)ᵀ = ZᵀZ − nμμᵀ
        mean = beside(mean, square)
        return square - n * (mean[:, None] * mean)
    if center == 1:  # J ZᵀZ J, J = I − 11ᵀ/m
        means = square.mean(0)
        return square - means - (means - means.mean())[:, None]
    return square
