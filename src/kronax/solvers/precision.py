"""The precision matrix of one axis, kept as a multiple of the identity and a low-rank part."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

_SMALL = 1024  # rows up to which the whole matrix is made sooner than some of its entries
_CHUNK = 2**22  # numbers gathered at a time


@dataclass(frozen=True)
class Precision:
    """``base·I + U diag(w) Uᵀ``, symmetric.

    Attributes
    ----------
    base
        Eigenvalue of every direction outside the span of ``U``.
    vectors
        ``U``, (n, r), orthonormal columns.
    weights
        ``w``, (r,).
    """

    base: float
    vectors: np.ndarray
    weights: np.ndarray


def diagonal(precision: Precision) -> np.ndarray:
    """Give the diagonal, (n,), float64."""
    squares = np.einsum("ik,ik,k->i", precision.vectors, precision.vectors, precision.weights)
    return precision.base + squares


def mean_diagonal(precision: Precision) -> float:
    """Give the mean of the diagonal."""
    return precision.base + float(precision.weights.sum()) / len(precision.vectors)


def dense(precision: Precision) -> np.ndarray:
    """Give the whole matrix, (n, n), exactly symmetric."""
    vectors = precision.vectors.astype(np.float64)
    matrix = (vectors * precision.weights) @ vectors.T
    matrix += precision.base * np.eye(len(matrix))
    return 0.5 * (matrix + matrix.T)


def entries(precision: Precision, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Give the entries at pairs ``rows ≠ cols``, float64."""
    if len(precision.vectors) <= _SMALL:
        return dense(precision)[rows, cols]
    size = max(1, _CHUNK // precision.vectors.shape[1])
    pad = (0, -len(rows) % size)
    chunks = zip(*(np.pad(side, pad).reshape(-1, size) for side in (rows, cols)), strict=True)
    with jax.enable_x64(True):
        vectors = jnp.asarray(precision.vectors)
        weights = jnp.asarray(precision.weights, vectors.dtype)
        found = [_chunk_of_entries(vectors, weights, *chunk) for chunk in chunks]
    return np.concatenate([np.zeros(0), *found])[: len(rows)]


@jax.jit
def _chunk_of_entries(vectors, weights, rows, cols):
    return ((vectors[rows] * weights) * vectors[cols]).sum(1)
