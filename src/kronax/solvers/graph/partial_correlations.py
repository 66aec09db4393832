"""From a precision matrix to the graph of the largest positive partial correlations."""

import jax
import numpy as np
from scipy import sparse

from kronax.solvers.gaussian.precision import Precision, Sparse, diagonal
from kronax.solvers.graph.graph import SMALLEST_CORRELATION, Graph, assembled, to_csr
from kronax.solvers.graph.search import most_similar

_SMALLEST_DISTANCE = 1e-8  # of two variables that are one: distances in a graph are positive


def partial_correlation_graph(precision: Precision, shift: float, n_neighbors: int, *, progress: bool = False) -> Graph:
    """Connect the variables with the largest positive partial correlations.

    In a Kronecker sum only ``Φ + t`` is determined, so a partial correlation takes the other axis' mean diagonal
    along: ``ρ_jl = −Φ_jl / √((Φ_jj + ψ̄)(Φ_ll + ψ̄))``. It is the weight; ``√(2 − 2ρ)`` the distance.

    Parameters
    ----------
    precision
        ``Φ``.
    shift
        ``ψ̄``, mean diagonal of the other axis' precision.
    n_neighbors
        Neighbours of every variable, itself not counted; fewer than there are variables.
    """
    size = np.sqrt(diagonal(precision) + shift)
    if isinstance(precision, Sparse):
        weights = _strongest(sparse.csr_array(-precision.matrix / size[:, None] / size), n_neighbors)
    else:
        scaled = precision.vectors / size[:, None]
        with jax.enable_x64(True):
            rho, neighbours = most_similar(scaled * -precision.weights, scaled, n_neighbors, progress=progress)
        weights = to_csr(neighbours, np.maximum(rho, 0.0))
    weights.data[weights.data < _smallest(precision)] = 0.0
    weights = weights.maximum(weights.T)
    weights.eliminate_zeros()
    distances = weights.copy()
    distances.data = np.sqrt(np.maximum(2.0 - 2.0 * weights.data, _SMALLEST_DISTANCE**2))
    return assembled(weights, distances)


def _smallest(precision: Precision) -> float:
    """Return the partial correlation below which rounding is all there is; a large ``U`` is in single precision."""
    dtype = np.float64 if isinstance(precision, Sparse) else precision.vectors.dtype
    return max(SMALLEST_CORRELATION, 4.0 * float(np.finfo(dtype).eps))


def _strongest(scores: sparse.csr_array, k: int) -> sparse.csr_array:
    """Keep the ``k`` largest positive entries of every row beside the diagonal."""
    scores = scores.tocoo()
    eligible = (scores.data > 0) & (scores.row != scores.col)
    row, col, values = scores.row[eligible], scores.col[eligible], scores.data[eligible]
    order = np.lexsort((-values, row))  # by row, within it from the largest on
    rank = np.arange(len(order)) - np.searchsorted(row[order], row[order])
    kept = order[rank < k]
    return sparse.csr_array((values[kept], (row[kept], col[kept])), shape=scores.shape)
