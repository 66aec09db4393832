"""From an embedding to a graph: the affinity of rows, and the weights of UMAP."""

import jax
import numpy as np

from kronax.solvers.graph.graph import SMALLEST_CORRELATION, Graph, assembled, to_csr
from kronax.solvers.graph.search import most_similar

_WIDTH = 16  # embeddings are padded to a multiple of it, so that those of different ranks share compiled code
_BISECTIONS = 64
_SMALLEST_WIDTH, _LARGEST_WIDTH = 1e-3, 1e3  # of the kernel, relative to the mean distance to the neighbours
_SMALLEST_DISTANCE = 1e-8  # of two equal rows: distances in a graph are positive


def affinity_graph(embedding: np.ndarray, n_neighbors: int, *, progress: bool = False) -> Graph:
    """Connect the rows of an embedding whose directions are closest.

    The affinity of two rows is their cosine. Of every row, the ``n_neighbors`` largest positive ones are kept, except
    those that may be rounding. The distances between rows of unit length become weights by a kernel, whose width is set
    for every row such that its weights add up to ``log2(n_neighbors)``. An edge counts if either end has it,
    ``w + w' − ww'`` (the fuzzy simplicial set of McInnes et al. 2018, section 3.1). Weights are thus comparable across
    dense and thin regions.

    Parameters
    ----------
    embedding
        ``(n, k)``. A row of zeros has no neighbours.
    n_neighbors
        Neighbours of every row, itself not counted; fewer than ``n``.
    """
    length = np.linalg.norm(embedding, axis=1, keepdims=True)
    rows = np.divide(embedding, length, out=np.zeros_like(embedding), where=length > 0)
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % _WIDTH)))
    with jax.enable_x64(True):
        affinity, neighbours = most_similar(rows, rows, n_neighbors, progress=progress)
    distance, weight = _fuzzy_weights(rows, neighbours, affinity > SMALLEST_CORRELATION)
    one_sided = to_csr(neighbours, weight)
    other_side = one_sided.T.tocsr()
    union = one_sided + other_side - one_sided * other_side
    length = to_csr(neighbours, np.where(weight > 0, distance, 0.0))
    return assembled(union, length.maximum(length.T))


def _fuzzy_weights(rows: np.ndarray, neighbours: np.ndarray, connected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn the distances to the neighbours into weights in (0, 1]; 0 where not connected."""
    distance = np.stack([np.linalg.norm(rows - rows[other], axis=1) for other in neighbours.T], axis=1)
    distance = np.maximum(distance, _SMALLEST_DISTANCE)
    nearest = np.min(distance, axis=1, keepdims=True, where=connected, initial=np.inf)
    beyond = np.maximum(distance - nearest, 0.0, out=np.full_like(distance, np.inf), where=connected)
    weights = np.empty_like(beyond)

    def at(width: np.ndarray) -> np.ndarray:
        np.divide(beyond, -width[:, None], out=weights)
        return np.exp(weights, out=weights)

    scale = distance.mean(1)
    low, high = _SMALLEST_WIDTH * scale, _LARGEST_WIDTH * scale
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        small = at(middle).sum(1) < np.log2(neighbours.shape[1])
        low, high = np.where(small, middle, low), np.where(small, high, middle)
    return distance, at(0.5 * (low + high))
