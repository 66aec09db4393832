"""The precision matrix of one axis: a diagonal and a low-rank part, or exactly sparse."""

from dataclasses import dataclass, replace

import jax
import numpy as np
from scipy import sparse

from kronax.solvers.device import to_device, to_host

_SMALL = 1024  # rows up to which the whole matrix is computed faster than some of its entries
_CHUNK = 2**22  # numbers gathered at a time


@dataclass(frozen=True)
class LowRank:
    """``diag(base) + U diag(w) Uᵀ``, symmetric.

    Attributes
    ----------
    base
        One number, or one for every row.
    vectors
        ``U``, (n, r).
    weights
        ``w``, (r,).
    """

    base: float | np.ndarray
    vectors: np.ndarray
    weights: np.ndarray

    def __len__(self) -> int:
        return len(self.vectors)


@dataclass(frozen=True)
class Sparse:
    """A symmetric matrix, most of whose entries are exactly zero.

    Attributes
    ----------
    matrix
        CSR, (n, n). The whole diagonal is stored; elsewhere there are no stored zeros.
    """

    matrix: sparse.csr_array

    def __len__(self) -> int:
        return self.matrix.shape[0]


Precision = LowRank | Sparse


def diagonal(precision: Precision) -> np.ndarray:
    """Return the diagonal, (n,), float64."""
    if isinstance(precision, Sparse):
        return precision.matrix.diagonal()
    size = max(1, _CHUNK // max(1, precision.vectors.shape[1]))
    blocks = (precision.vectors[start : start + size] for start in range(0, len(precision), size))
    return precision.base + np.concatenate([block.astype(np.float64) ** 2 @ precision.weights for block in blocks])


def mean_diagonal(precision: Precision) -> float:
    """Compute the mean of the diagonal."""
    return float(diagonal(precision).mean())


def shifted(precision: Precision, t: float) -> Precision:
    """Return ``Ψ + tI``."""
    if isinstance(precision, Sparse):
        return Sparse(sparse.csr_array(precision.matrix + t * sparse.eye_array(len(precision), format="csr")))
    return replace(precision, base=precision.base + t)


def dense(precision: Precision) -> np.ndarray:
    """Return the whole matrix, (n, n), exactly symmetric."""
    if isinstance(precision, Sparse):
        return precision.matrix.toarray()
    vectors = precision.vectors.astype(np.float64)
    matrix = (vectors * precision.weights) @ vectors.T
    matrix += precision.base * np.eye(len(matrix))
    return 0.5 * (matrix + matrix.T)


def complete(precision: Precision) -> sparse.csr_array:
    """Return all entries that are not zero, CSR."""
    return precision.matrix if isinstance(precision, Sparse) else sparse.csr_array(dense(precision))


def entries(precision: Precision, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Return the entries at pairs ``rows ≠ cols``, float64."""
    if isinstance(precision, Sparse):
        return np.asarray(precision.matrix[rows, cols]).ravel() if len(rows) else np.zeros(0)
    if len(precision) <= _SMALL:
        return ((precision.vectors * precision.weights) @ precision.vectors.T)[rows, cols]
    size = max(1, _CHUNK // precision.vectors.shape[1])
    pad = (0, -len(rows) % size)
    chunks = zip(*(np.pad(side, pad).reshape(-1, size) for side in (rows, cols)), strict=True)
    with jax.enable_x64(True):
        vectors = to_device(precision.vectors)
        weights = to_device(precision.weights, vectors.dtype)
        found = [to_host(_chunk_of_entries(vectors, weights, *map(to_device, chunk))) for chunk in chunks]
    return np.concatenate([np.zeros(0), *found])[: len(rows)]


@jax.jit
def _chunk_of_entries(vectors, weights, rows, cols):
    return ((vectors[rows] * weights) * vectors[cols]).sum(1)
