"""The precision matrix of one axis: a diagonal and a low-rank part, the same scaled to partial correlations, whole, or sparse."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from kronax.solvers.gaussian.vectors import Held, Vectors

_FEW = 2048  # variables up to which the whole matrix is held: 32 MiB


@dataclass(frozen=True)
class LowRank:
    """``diag(base) + U diag(w) Uᵀ``, symmetric.

    Attributes
    ----------
    base
        One number, or one for every variable, (n,).
    vectors
        ``U``, (n, r).
    weights
        ``w``, (r,).
    """

    base: float | np.ndarray
    vectors: Vectors
    weights: np.ndarray

    def __len__(self) -> int:
        return self.vectors.shape[0]


@dataclass(frozen=True)
class Partial:
    """``ΔC⁻¹Δ − ½I``, ``Δ`` diagonal and such that the diagonal is ½: partial correlations of ``C`` with opposite sign.

    Attributes
    ----------
    inverse
        ``C⁻¹``.
    """

    inverse: "LowRank | Whole"

    def __len__(self) -> int:
        return len(self.inverse)


@dataclass(frozen=True)
class Whole:
    """A symmetric matrix that is held.

    Attributes
    ----------
    matrix
        (n, n), float64.
    """

    matrix: np.ndarray

    def __len__(self) -> int:
        return len(self.matrix)


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


@dataclass(frozen=True)
class Inverse(Whole):
    """The inverse of second moments with a ridge.

    Attributes
    ----------
    of
        What it is the inverse of, (n, n).
    still
        Marks of the variables that do not vary, (n,).
    """

    of: np.ndarray
    still: np.ndarray


Precision = LowRank | Partial | Whole | Sparse


def is_whole(n: int) -> bool:
    """Return whether the whole matrix of so many variables is held."""
    return n <= _FEW


def held(precision: LowRank | Partial) -> LowRank | Partial | Whole:
    """Return the same, made once for everything that looks at its entries: the whole matrix of few variables, or the vectors."""
    if is_whole(len(precision)):
        return Whole(dense(precision))
    if isinstance(precision, Partial):
        return Partial(held(precision.inverse))
    return replace(precision, vectors=Held(precision.vectors.array()))


def diagonal(precision: Precision) -> np.ndarray:
    """Return the diagonal, (n,), float64."""
    if isinstance(precision, Whole | Sparse):
        return precision.matrix.diagonal()
    if isinstance(precision, Partial):
        return np.full(len(precision), 0.5)
    return precision.base + precision.vectors.squares(precision.weights)


def mean_diagonal(precision: Precision) -> float:
    """Compute the mean of the diagonal."""
    return float(diagonal(precision).mean())


def shifted(precision: LowRank | Sparse, t: float) -> LowRank | Sparse:
    """Return ``Ψ + tI``."""
    if isinstance(precision, Sparse):
        return Sparse(sparse.csr_array(precision.matrix + t * sparse.eye_array(len(precision), format="csr")))
    return replace(precision, base=precision.base + t)


def dense(precision: Precision) -> np.ndarray:
    """Return the whole matrix, (n, n), exactly symmetric."""
    if isinstance(precision, Sparse):
        return precision.matrix.toarray()
    if isinstance(precision, Whole):
        return precision.matrix
    if isinstance(precision, Partial):
        inverse = precision.inverse
        return _partial(inverse.matrix.copy() if isinstance(inverse, Whole) else dense(inverse))
    matrix = precision.vectors.quadratic(precision.weights)
    np.fill_diagonal(matrix, matrix.diagonal() + precision.base)
    return matrix


def _partial(inverse: np.ndarray) -> np.ndarray:
    """Turn ``C⁻¹`` into ``ΔC⁻¹Δ − ½I`` in its own memory."""
    size = np.sqrt(inverse.diagonal())
    for own, row in zip(size, inverse, strict=True):
        row /= own * size
    np.fill_diagonal(inverse, 0.5)
    return inverse


def complete(precision: Precision) -> sparse.csr_array:
    """Return all entries that are not zero, CSR."""
    return precision.matrix if isinstance(precision, Sparse) else sparse.csr_array(dense(precision))


def factors(precision: LowRank | Partial) -> tuple[np.ndarray, np.ndarray]:
    """Return ``U``, (n, r), and ``w`` such that the entries off the diagonal are those of ``U diag(w) Uᵀ``."""
    if isinstance(precision, LowRank):
        return precision.vectors.array(), precision.weights
    inverse = precision.inverse
    vectors, weights = factors(inverse)
    size = np.sqrt(diagonal(replace(inverse, vectors=Held(vectors))))
    return vectors / size[:, None].astype(vectors.dtype), weights


def entries(precision: Precision, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Return the entries at pairs ``rows ≠ cols``, float64."""
    if isinstance(precision, Whole):
        return precision.matrix[rows, cols]
    if isinstance(precision, Sparse):
        return np.asarray(precision.matrix[rows, cols]).ravel() if len(rows) else np.zeros(0)
    if isinstance(precision, LowRank):
        return precision.vectors.forms(precision.weights, (rows, cols))[1]
    squares, found = precision.inverse.vectors.forms(precision.inverse.weights, (rows, cols))
    size = np.sqrt(precision.inverse.base + squares)
    return found / (size[rows] * size[cols])
