"""From an embedding to a graph: the affinity of rows, and the weights of UMAP."""

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy import sparse

from kronax.solvers.graph.graph import SMALLEST_CORRELATION, Graph, assembled, to_csr
from kronax.solvers.graph.lists import nearest
from kronax.solvers.graph.search import in_blocks

_NUMBERS = 2**19  # in a block of differences: 4 MiB
_STEPS = 64
_LAST_STEP = 1e-13  # relative to the kernel's width
_SMALLEST_WIDTH, _LARGEST_WIDTH = 1e-3, 1e3  # of the kernel, relative to the mean distance to the neighbours
_SMALLEST_DISTANCE = 1e-8  # of two equal rows: distances in a graph are positive
Search = Callable[[np.ndarray, int], np.ndarray]


def affinity_graph(
    embedding: np.ndarray, n_neighbors: int, *, search: Search | None = None, progress: bool = False
) -> Graph:
    """Connect the rows of an embedding whose directions are closest.

    The affinity of two rows is their cosine. Of every row, the ``n_neighbors`` largest positive ones are kept, except
    those that may be rounding. The distances between rows of unit length become weights by a kernel, whose width is set
    for every row such that its weights add up to ``log2(n_neighbors)``. An edge counts if either end has it,
    ``w + w' − ww'`` (the fuzzy simplicial set of McInnes et al. 2018, section 3.1). Weights are thus comparable across
    dense and thin regions.

    Parameters
    ----------
    embedding
        ``(n, d)``. A row of zeros has no neighbours.
    n_neighbors
        Neighbours of every row, itself not counted; fewer than ``n``.
    search
        From rows of unit length, ``(m, d)``, and a number ``k < m`` to the ``k`` nearest other rows of each, ``(m, k)``; the
        exact search if None.
    """
    search = search or partial(nearest, recall=1.0, progress=progress)
    weights, distances = _one_sided(embedding, n_neighbors, search)
    other_side = weights.T.tocsr()
    union = weights + other_side - weights * other_side
    return assembled(union, distances.maximum(distances.T))


def _one_sided(embedding: np.ndarray, n_neighbors: int, search: Search) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Return weights and distances from every row to its neighbours."""
    n, length = len(embedding), np.linalg.norm(embedding, axis=1)
    alive = np.flatnonzero(length > 0)
    rows = embedding[alive]
    rows /= length[alive, None]
    k = max(0, min(n_neighbors, len(alive) - 1))
    neighbours, weights, distances = np.zeros((n, k), np.int64), np.zeros((n, k)), np.zeros((n, k))
    if k:
        near = search(rows, k)
        neighbours[alive] = alive[near]
        distances[alive], weights[alive] = _fuzzy_weights(rows, near, np.log2(max(n_neighbors, 2)))
    return to_csr(neighbours, weights), to_csr(neighbours, np.where(weights > 0, distances, 0.0))


def _fuzzy_weights(rows: np.ndarray, neighbours: np.ndarray, total: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances to the neighbours and weights in (0, 1]; 0 where the cosine is not positive."""
    n, k = neighbours.shape
    distances, weights = np.empty((n, k)), np.empty((n, k))
    size = max(1, _NUMBERS // (k * rows.shape[1]))

    def weigh(start: int) -> None:
        block = slice(start, start + size)
        apart = rows[neighbours[block]] - rows[block, None]
        squared = np.vecdot(apart, apart)
        connected = 1.0 - 0.5 * squared > SMALLEST_CORRELATION
        distances[block] = np.maximum(np.sqrt(squared), _SMALLEST_DISTANCE)
        weights[block] = _kernel(distances[block], connected, total)

    in_blocks(weigh, range(0, n, size), progress=False)
    return distances, weights


def _kernel(distance: np.ndarray, connected: np.ndarray, total: float) -> np.ndarray:
    """Return ``exp(−u(d − d₀))``, ``d₀`` the least distance of a row, with the rate ``u`` at which they add up to the total.

    The logarithm of the sum is a convex function of ``u`` and decreases, so Newton's steps from the left stay there.
    """
    first = np.min(distance, axis=1, keepdims=True, where=connected, initial=np.inf)
    beyond = np.subtract(distance, first, out=np.full_like(distance, np.inf), where=connected)
    scale = distance.mean(axis=1)
    low, high = 1.0 / (_LARGEST_WIDTH * scale), 1.0 / (_SMALLEST_WIDTH * scale)
    rate = low.copy()  # what remains where there are too few neighbours for the total
    left = np.flatnonzero(connected.sum(axis=1) > total)
    for _ in range(_STEPS):
        at, there = rate[left], beyond[left]
        weights = np.exp(-at[:, None] * there)
        found = weights.sum(axis=1)
        slope = np.multiply(weights, there, out=np.zeros_like(there), where=connected[left]).sum(axis=1)
        step = np.divide(np.log(found / total) * found, slope, out=np.full_like(found, np.inf), where=slope > 0)
        rate[left] = np.clip(at + step, low[left], high[left])
        left = left[rate[left] - at > _LAST_STEP * at]
        if not len(left):
            break
    return np.exp(-rate[:, None] * beyond)
