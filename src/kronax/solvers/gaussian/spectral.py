"""Spectra of a noise-free matrix ``Z``, tall: ``n × m``, ``n ≥ m``. Only ``m × m`` eigenproblems are solved."""

from dataclasses import dataclass

import jax
import numpy as np

from kronax.solvers.blocks import Blocks, col_sums, matmul, row_sums
from kronax.solvers.device import eigh_all, to_device, to_host
from kronax.solvers.gaussian.precision import LowRank, diagonal
from kronax.solvers.gaussian.shrinkage import noise_level, shrink_singular_values

_MOST_DOUBLE = 2**24  # numbers in U: 128 MiB
_ROUNDING = 1e-12  # eigenvalues below this share of the largest count as zero


@dataclass(frozen=True)
class Spectrum:
    """``Z``, or its deviations from its means: ``U diag(√e) Vᵀ``.

    Attributes
    ----------
    rows, cols
        ``U`` (n, r) and ``V`` (m, r). A large ``U`` is in single precision.
    eigenvalues
        ``e`` (r,), positive, in descending order.
    dims
        Degrees of freedom of rows and columns.
    beyond
        ``E[ZZᵀ] − ZZᵀ`` and ``E[ZᵀZ] − ZᵀZ`` as far as known, or None.
    """

    rows: np.ndarray
    cols: np.ndarray
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


def decompose(
    z: Blocks, square: jax.Array, *, center: int | None, n_comps: int, most_double: int = _MOST_DOUBLE
) -> tuple[Leading, Spectrum]:
    """Find the directions of ``Z`` above the noise, and the spectrum of its deviations from its means.

    Parameters
    ----------
    z
        ``Z``.
    square
        ``ZᵀZ``.
    center
        The axis along which means are subtracted for the spectrum: 0, from every column its mean over the rows; 1, from
        every row its mean over the columns; None, no means. That axis loses one degree of freedom.
    n_comps
        Directions kept, at most.
    most_double
        Numbers in ``U``, beyond which it is kept in float32.
    """
    mean, square = _mean(z, center), to_host(square)
    centred = _centred(z, square, mean, center)
    still = _without_variance(np.diag(centred), np.diag(square), z.shape[0] * np.finfo(np.float64).eps)
    centred[still] = centred[:, still] = 0.0
    solved = eigh_all([square, centred] if center is not None else [square])
    return _leading(z, *solved[0], n_comps), _spectrum(z, centred, mean, *solved[-1], center, most_double)


def _leading(z: Blocks, values: np.ndarray, vectors: np.ndarray, n_comps: int) -> Leading:
    values = values[values > _ROUNDING * values[0]]
    noise = noise_level(values, z.shape)
    singular = np.sqrt(values)
    shrunk = shrink_singular_values(singular, noise, z.shape)
    rank = int((shrunk > 0).sum())
    if rank < 2:  # hardly any structure: two unshrunk directions still give every row a place
        shrunk = singular
    most = min(n_comps, len(values))
    cols = vectors[:, :most]
    rows = to_host(
        matmul(z, to_device(cols / singular[:most]), to_device(np.zeros(most)))
    )  # of one shape, whatever the rank
    k = min(max(rank, 2), most)
    return Leading(rows[:, :k], cols[:, :k], values[:k], shrunk[:k], noise, rank)


def _spectrum(
    z: Blocks,
    square: np.ndarray,
    mean: np.ndarray,
    values: np.ndarray,
    cols: np.ndarray,
    center: int | None,
    most_double: int,
) -> Spectrum:
    n, m = z.shape
    dims = (n - (center == 0), m - (center == 1))
    if np.trace(square) <= _ROUNDING * n * m:
        msg = "Nothing varies: but for their scales, all rows are alike. A precision matrix needs deviations from the mean."
        raise ValueError(msg)
    kept = min(*dims, int((values > _ROUNDING * values[0]).sum()))
    values, cols = values[:kept], cols[:, :kept]
    if center == 1:  # rounding aside, they are orthogonal to it
        cols = cols - cols.mean(0)
    cols = np.where(np.diag(square)[:, None] > 0, cols, 0.0)  # a column without variance has none along any direction
    scaled = cols / np.sqrt(values)
    dtype = np.float32 if n * kept > most_double else np.float64
    rows = to_host(matmul(z, to_device(scaled, dtype), to_device(mean @ scaled, dtype)))
    left, whole = diagonal(LowRank(0.0, rows, values)), to_host(_row_squares(z))
    still = _without_variance(left, whole, (m * float(np.finfo(dtype).eps)) ** 2)
    if still.any():
        rows = np.where(still[:, None], dtype(0.0), rows)
    return Spectrum(rows, cols, values, dims)


def _without_variance(centred: np.ndarray, squares: np.ndarray, rounding: float) -> np.ndarray:
    """Mark the rows or columns of which only rounding is left once means are subtracted.

    ``centred`` and ``squares`` are sums of squares after and before subtraction; a sum of ``n`` products is accurate to
    ``n`` units in the last place.
    """
    return centred <= rounding * squares


@jax.jit
def _row_squares(z: Blocks) -> jax.Array:
    """Sum the squares of every row."""
    return row_sums(z.with_values(z.values**2))


def _mean(z: Blocks, center: int | None) -> np.ndarray:
    """Compute the columns' means; 0 where they are not subtracted."""
    return to_host(_col_sums(z)) / z.shape[0] if center == 0 else np.zeros(z.shape[1])


_col_sums = jax.jit(col_sums)


def _centred(z: Blocks, square: np.ndarray, mean: np.ndarray, center: int | None) -> np.ndarray:
    """Compute the Gram matrix of the deviations from means."""
    if center == 0:  # Σ_i (z_i − μ)(z_i − μ)ᵀ = ZᵀZ − nμμᵀ
        return square - z.shape[0] * np.outer(mean, mean)
    if center == 1:  # J ZᵀZ J, J = I − 11ᵀ/m
        means = square.mean(0)
        return square - means - (means - means.mean())[:, None]
    return square.copy()
