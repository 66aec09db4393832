"""Spectra of a noise-free matrix ``Z``, tall: ``n × m``, ``n ≥ m``. Only ``m × m`` eigenproblems are solved."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from kronax.solvers.blocks import Blocks, col_sums, matmul
from kronax.solvers.shrinkage import noise_level, shrink_singular_values

_SINGLE_PRECISION = 2**24  # numbers in U beyond which it is kept in float32: 128 MiB in float64
_ROUNDING = 1e-12  # eigenvalues below this share of the largest count as zero


@dataclass(frozen=True)
class Spectrum:
    """``Z = U diag(√e) Vᵀ``, the eigenvalues ``e`` in descending order; ``dims`` are the axes' degrees of freedom.

    A large ``U`` is in single precision: nothing but single entries of a precision matrix is made from it.
    """

    rows: np.ndarray
    cols: np.ndarray
    eigenvalues: np.ndarray
    dims: tuple[int, int]


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


def eigh(matrix: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """Give eigenvalues, descending, and eigenvectors of a symmetric matrix, their largest entry positive.

    On a CPU by NumPy's LAPACK, which is ten times as fast as the one that XLA calls there.
    """
    on_cpu = all(device.platform == "cpu" for device in matrix.devices())
    values, vectors = map(np.asarray, np.linalg.eigh(np.asarray(matrix)) if on_cpu else jnp.linalg.eigh(matrix))
    values, vectors = values[::-1], vectors[:, ::-1]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    return values, vectors * np.sign(largest)


def leading(z: Blocks, gram: jax.Array, n_comps: int) -> Leading:
    """Find the directions of ``Z`` above the noise.

    Parameters
    ----------
    z
        ``Z``.
    gram
        ``ZᵀZ``.
    n_comps
        Directions kept, at most.
    """
    values, vectors = eigh(gram)
    values = values[values > _ROUNDING * values[0]]
    noise = noise_level(values, z.shape)
    singular = np.sqrt(values)
    shrunk = shrink_singular_values(singular, noise, z.shape)
    rank = int((shrunk > 0).sum())
    k = min(max(rank, 2), n_comps, len(values))
    if rank < 2:  # no structure to speak of: two directions as they are still place every row
        shrunk = singular
    cols = vectors[:, :k]
    rows = np.asarray(matmul(z, cols / singular[:k], np.zeros(k)))
    return Leading(rows, cols, values[:k], shrunk[:k], noise, rank)


def spectrum(z: Blocks, gram: jax.Array, *, center: int | None) -> Spectrum:
    """Decompose ``Z``, or its deviations from its means.

    Parameters
    ----------
    z
        ``Z``.
    gram
        ``ZᵀZ``.
    center
        The axis along which means are taken away: 0, from every column its mean over the rows; 1, from every row its
        mean over the columns; None, none. That axis loses one degree of freedom.
    """
    n, m = z.shape
    dims = (n - (center == 0), m - (center == 1))
    mean, gram = _centred(z, gram, center)
    values, cols = eigh(gram)
    kept = min(*dims, int((values > _ROUNDING * values[0]).sum()))
    values, cols = values[:kept], cols[:, :kept]
    scaled = cols / np.sqrt(values)
    dtype = np.float32 if n * kept > _SINGLE_PRECISION else np.float64
    rows = np.asarray(matmul(z, scaled.astype(dtype), (np.asarray(mean) @ scaled).astype(dtype)))
    return Spectrum(rows, cols, values, dims)


@partial(jax.jit, static_argnames=["center"])
def _centred(z: Blocks, gram: jax.Array, center: int | None) -> tuple[jax.Array, jax.Array]:
    """Give the columns' means (0 where they are not taken away) and the Gram matrix of the deviations."""
    n, m = z.shape
    if center == 0:  # (Z − 1μᵀ)ᵀ(Z − 1μᵀ) = ZᵀZ − nμμᵀ
        mean = col_sums(z) / n
        return mean, gram - n * jnp.outer(mean, mean)
    mean = jnp.zeros(m, gram.dtype)
    if center == 1:  # JZᵀZJ, J = I − 11ᵀ/m
        return mean, gram - gram.mean(0) - gram.mean(1)[:, None] + gram.mean()
    return mean, gram
