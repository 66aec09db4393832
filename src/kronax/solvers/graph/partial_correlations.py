"""From a precision matrix to a graph: of the largest positive partial correlations, or of the largest entries of any sign."""

import numpy as np
from scipy import sparse

from kronax.solvers.gaussian.precision import LowRank, Partial, Precision, Sparse, Whole, diagonal, entries, factors
from kronax.solvers.graph.graph import SMALLEST_CORRELATION, Graph, assembled, of_pairs, to_csr
from kronax.solvers.graph.search import largest_entries, most_similar

_SMALLEST_DISTANCE = 1e-8  # of two equal variables: distances in a graph are positive


def partial_correlation_graph(precision: Precision, shift: float, n_neighbors: int, *, progress: bool = False) -> Graph:
    """Connect the variables with the largest positive partial correlations.

    In a Kronecker sum only ``Φ + t`` is determined, so a partial correlation includes the other axis' mean diagonal:
    ``ρ_jl = −Φ_jl / √((Φ_jj + ψ̄)(Φ_ll + ψ̄))``. The weight is ``ρ``, the distance ``√(2 − 2ρ)``.

    Parameters
    ----------
    precision
        ``Φ``.
    shift
        ``ψ̄``, mean diagonal of the other axis' precision.
    n_neighbors
        Neighbours of every variable, itself not counted; fewer than there are variables.
    """
    return _of_weights(_largest_entries(precision, np.sqrt(diagonal(precision) + shift), -1.0, n_neighbors, progress))


def absolute_graph(precision: Precision, shift: float, n_neighbors: int, *, progress: bool = False) -> Graph:
    """Connect the variables with the largest ``|Φ_jl|``, whatever their signs, as the paper does.

    The weight is ``|Φ_jl| / max_j (Φ_jj + ψ̄)``, which is below 1 since ``Φ + ψ̄I`` is positive definite; ``√(2 − 2w)`` the
    distance. Parameters as in :func:`partial_correlation_graph`.
    """
    size = np.full(len(precision), np.sqrt(diagonal(precision).max() + shift))
    negative, positive = (_largest_entries(precision, size, sign, n_neighbors, progress) for sign in (-1.0, 1.0))
    return _of_weights(_strongest(negative + positive, n_neighbors))


def graph_of_pairs(
    precision: LowRank | Partial | Whole, shift: float, pairs: tuple[np.ndarray, np.ndarray], *, absolute: bool
) -> Graph:
    """Connect given pairs ``j < l`` whose partial correlation is positive, or all by ``|Φ_jl|``; weights as above."""
    rows, cols = pairs
    found, size = entries(precision, rows, cols), diagonal(precision) + shift
    scale = size.max() if absolute else np.sqrt(size[rows] * size[cols])
    weights = (np.abs(found) if absolute else np.maximum(-found, 0.0)) / scale
    weights = of_pairs(rows, cols, weights, len(precision))
    weights.eliminate_zeros()
    return _of_weights(weights)


def _largest_entries(
    precision: Precision, size: np.ndarray, sign: float, n_neighbors: int, progress: bool
) -> sparse.csr_array:
    """Find the largest positive ``sign · Φ_jl / (size_j size_l)`` of every row beside the diagonal, except rounding."""
    if isinstance(precision, Sparse):
        return _strongest(sparse.csr_array(sign * precision.matrix / size[:, None] / size), n_neighbors)
    if isinstance(precision, Whole):
        found, neighbours = largest_entries(sign * precision.matrix / size[:, None] / size, n_neighbors)
        return to_csr(neighbours, np.where(found < _smallest(precision.matrix), 0.0, found))
    vectors, weights = factors(precision)
    scaled = vectors / size[:, None]
    found, neighbours = most_similar(scaled * (sign * weights), scaled, n_neighbors, progress=progress)
    return to_csr(neighbours, np.where(found < _smallest(vectors), 0.0, found))


def _of_weights(weights: sparse.csr_array) -> Graph:
    """Connect two variables if either is a neighbour of the other; weights are at most 1, like correlations."""
    weights = weights.maximum(weights.T)
    distances = weights.copy()
    distances.data = np.sqrt(np.maximum(2.0 - 2.0 * weights.data, _SMALLEST_DISTANCE**2))
    return assembled(weights, distances)


def _smallest(vectors: np.ndarray) -> float:
    """Return the weight below which there is only rounding; many vectors are in single precision."""
    return max(SMALLEST_CORRELATION, 4.0 * float(np.finfo(vectors.dtype).eps))


def _strongest(scores: sparse.csr_array, k: int) -> sparse.csr_array:
    """Keep the ``k`` largest positive entries of every row beside the diagonal."""
    scores = scores.tocoo()
    eligible = (scores.data > 0) & (scores.row != scores.col)
    row, col, values = scores.row[eligible], scores.col[eligible], scores.data[eligible]
    order = np.lexsort((-values, row))  # by row, within it from the largest on
    rank = np.arange(len(order)) - np.searchsorted(row[order], row[order])
    kept = order[rank < k]
    return sparse.csr_array((values[kept], (row[kept], col[kept])), shape=scores.shape)
