"""From an embedding to a graph: the affinity of rows, and the weights of UMAP."""

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy import sparse

from kronax.solvers.graph.graph import SMALLEST_CORRELATION, Graph, assembled, placed, to_csr
from kronax.solvers.graph.lists import nearest
from kronax.solvers.graph.search import in_blocks
from kronax.solvers.rows.block import rows_of

_NUMBERS = 2**19  # in a block of differences: 4 MiB
_ROWS = 2**14  # of a part of a graph
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
    length = _lengths(embedding)
    alive = np.flatnonzero(length > 0)
    weights = placed(_united(_one_sided(embedding, length, alive, n_neighbors, search)), alive, len(embedding))
    return assembled(weights, _distances(embedding, length, weights))


def _lengths(embedding: np.ndarray) -> np.ndarray:
    """Return the length of every row, without an array of all squares."""
    n, width = embedding.shape
    size = max(1, _NUMBERS // width)
    return np.concatenate([np.linalg.norm(embedding[start : start + size], axis=1) for start in range(0, n, size)])


def _one_sided(
    embedding: np.ndarray, length: np.ndarray, alive: np.ndarray, n_neighbors: int, search: Search
) -> sparse.csr_array:
    """Return the weights of the neighbours of every row that is not zero, (m, m)."""
    k = max(0, min(n_neighbors, len(alive) - 1))
    if not k:
        return sparse.csr_array((len(alive), len(alive)))
    return to_csr(*_nearest(embedding, length, alive, k, search, np.log2(max(n_neighbors, 2))))


def _nearest(
    embedding: np.ndarray, length: np.ndarray, alive: np.ndarray, k: int, search: Search, total: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the neighbours of every row that is not zero, and their weights, (m, k) each."""
    rows = embedding[alive]
    rows /= length[alive, None]
    near = search(rows, k)
    return near, _fuzzy_weights(rows, near, total)


def _fuzzy_weights(rows: np.ndarray, neighbours: np.ndarray, total: float) -> np.ndarray:
    """Return weights in (0, 1]; 0 where the cosine is not positive."""
    n, k = neighbours.shape
    weights = np.empty((n, k))
    size = max(1, _NUMBERS // (k * rows.shape[1]))

    def weigh(start: int) -> None:
        block = slice(start, start + size)
        squared = _squared(rows[neighbours[block]], rows[block, None])
        connected = 1.0 - 0.5 * squared > SMALLEST_CORRELATION
        weights[block] = _kernel(np.maximum(np.sqrt(squared), _SMALLEST_DISTANCE), connected, total)

    in_blocks(weigh, range(0, n, size), progress=False)
    return weights


def _squared(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the squared distances of rows from others; ``rows`` is overwritten."""
    rows -= others
    return np.vecdot(rows, rows)


def _united(weights: sparse.csr_array) -> sparse.csr_array:
    """Return ``w + w' − ww'``, ``w'`` from the transposed matrix: a part of the rows at a time, into one memory."""
    other_side = weights.T.tocsr()
    most = 2 * weights.nnz
    values, indices = np.empty(most), np.empty(most, weights.indices.dtype)
    indptr = np.zeros(len(weights.indptr), weights.indptr.dtype)
    for start in range(0, len(indptr) - 1, _ROWS):
        block = slice(start, min(start + _ROWS, len(indptr) - 1))
        own, other = rows_of(weights, block), rows_of(other_side, block)
        union = own + other - own * other
        first = indptr[start]
        here = slice(first, first + union.nnz)
        values[here], indices[here] = union.data, union.indices
        indptr[block.start + 1 : block.stop + 1] = first + union.indptr[1:]
    for array in (values, indices):
        array.resize(indptr[-1], refcheck=False)  # gives back what is beyond, without a copy
    return sparse.csr_array((values, indices, indptr), weights.shape)


def _distances(embedding: np.ndarray, length: np.ndarray, graph: sparse.csr_array) -> sparse.csr_array:
    """Return the distances of the rows of unit length on the edges of a graph.

    They are computed once more because to keep them, and to bring them to the edges of both sides, would take more memory than
    anything else here.
    """
    rows = np.repeat(np.arange(len(embedding), dtype=graph.indices.dtype), np.diff(graph.indptr))
    distances = np.empty(graph.nnz)
    size = max(1, _NUMBERS // embedding.shape[1])

    def unit(some: np.ndarray) -> np.ndarray:
        found = embedding[some]
        found /= length[some, None]
        return found

    def measure(start: int) -> None:
        block = slice(start, start + size)
        squared = _squared(unit(graph.indices[block]), unit(rows[block]))
        distances[block] = np.maximum(np.sqrt(squared), _SMALLEST_DISTANCE)

    in_blocks(measure, range(0, graph.nnz, size), progress=False)
    return sparse.csr_array((distances, graph.indices.copy(), graph.indptr.copy()), graph.shape)


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
