"""A sparse weighted graph, and the entries of a precision matrix on its edges."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from kronax.solvers.gaussian.precision import Precision, diagonal, entries

# A correlation or cosine ``c`` whose square is less than a unit in the last place of 1. It cannot be told from an exact zero after
# rounding: ``1 − c²``, the share of the variance that it leaves unexplained, equals 1.
SMALLEST_CORRELATION = float(np.sqrt(np.finfo(np.float64).eps))


@dataclass(frozen=True)
class Graph:
    """A weighted undirected graph.

    Attributes
    ----------
    connectivities
        CSR, symmetric, non-negative, no diagonal.
    distances
        CSR with the same pattern, positive.
    """

    connectivities: sparse.csr_array
    distances: sparse.csr_array


def on_edges(precision: Precision, graph: Graph) -> sparse.csr_array:
    """Return the signed precision on the edges of a graph and on the diagonal: CSR, exactly symmetric."""
    return on_pairs(precision, sparse.triu(graph.connectivities, k=1, format="coo").coords)


def on_pairs(precision: Precision, pairs: tuple[np.ndarray, np.ndarray]) -> sparse.csr_array:
    """Return the signed precision at pairs ``j < l`` and on the diagonal: CSR, exactly symmetric."""
    rows, cols = pairs
    full = of_pairs(rows, cols, entries(precision, rows, cols), len(precision)) + sparse.diags_array(
        diagonal(precision)
    )
    full = full.tocsr()
    full.sort_indices()
    return full


def of_pairs(rows: np.ndarray, cols: np.ndarray, values: np.ndarray, n: int) -> sparse.csr_array:
    """Return a symmetric CSR matrix with these values, (n, n), at pairs ``rows < cols``."""
    half = sparse.coo_array((values, (rows, cols)), (n, n))
    full = (half + half.T).tocsr()
    full.sort_indices()
    return full


def assembled(connectivities: sparse.csr_array, distances: sparse.csr_array) -> Graph:
    """Return the graph with these weights and distances on the same edges: sorted, without stored zeros."""
    for matrix in (connectivities, distances):
        matrix.eliminate_zeros()
        matrix.sort_indices()
    return Graph(connectivities, distances)


def without_weak(graph: Graph, fold: float) -> Graph:
    """Drop the edges that are more than so many times weaker than the strongest."""
    weights, distances = graph.connectivities, graph.distances
    weak = weights.data < weights.data.max(initial=0.0) / fold
    weights.data[weak] = distances.data[weak] = 0.0
    return assembled(weights, distances)


def placed(matrix: sparse.csr_array, positions: np.ndarray, n: int) -> sparse.csr_array:
    """Put the rows and columns of a square matrix at their positions, ascending, among ``n``; the others are empty.

    If there are no others, the result has the memory of the matrix.
    """
    if len(positions) == n:
        return matrix
    counts = np.zeros(n + 1, matrix.indptr.dtype)
    counts[positions + 1] = np.diff(matrix.indptr)
    indices = positions.astype(matrix.indices.dtype)[matrix.indices]
    return sparse.csr_array((matrix.data, indices, np.cumsum(counts, dtype=counts.dtype)), shape=(n, n))


def to_csr(neighbours: np.ndarray, values: np.ndarray) -> sparse.csr_array:
    """Put the values of every row at the positions of its neighbours."""
    n, k = neighbours.shape
    # the union with the transposed matrix has up to twice as many; SciPy 1.13 has no function for it
    index = np.int32 if 2 * n * k <= np.iinfo(np.int32).max else np.int64
    parts = values.flatten(), neighbours.ravel().astype(index), np.arange(0, n * k + 1, k, dtype=index)
    matrix = sparse.csr_array(parts, shape=(n, n))
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix
