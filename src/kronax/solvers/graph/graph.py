"""From an embedding or a precision matrix to a sparse graph."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy import sparse
from tqdm.auto import tqdm

from kronax.solvers.device import block_size, to_device, to_host
from kronax.solvers.gaussian.precision import Precision, Sparse, diagonal, entries

_SMALL = 1024  # rows up to which all products are made at once, sooner than a search is compiled
_SCORES = 2**23  # numbers held at a time: 64 MiB in float64
_SPARE = 10  # candidates beyond the neighbours asked for: what float32 may misplace
_WIDTH = 16  # embeddings are padded to a multiple of it, so that those of different ranks share compiled code
_BISECTIONS = 64
_SMALLEST_WIDTH, _LARGEST_WIDTH = 1e-3, 1e3  # of the kernel, relative to the mean distance to the neighbours
_SMALLEST_DISTANCE = 1e-8  # what two equal rows are given: distances in a graph are positive


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


def affinity_graph(embedding: np.ndarray, n_neighbors: int, *, progress: bool = False) -> Graph:
    """Connect the rows of an embedding whose directions are closest.

    The affinity of two rows is their cosine; the ``n_neighbors`` largest positive ones of every row are kept. Their
    distances, those of the rows at unit length, become weights by a kernel whose width is set for every row such
    that its weights add up to ``log2(n_neighbors)``; an edge counts if either end sees it, ``w + w' − ww'``
    (the fuzzy simplicial set of McInnes et al. 2018, section 3.1). So weights compare across dense and thin regions.

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
        affinity, neighbours = _most_similar(rows, rows, n_neighbors, progress=progress)
    distance, weight = _fuzzy_weights(rows, neighbours, affinity > 0)
    one_sided = _to_csr(neighbours, weight)
    other_side = one_sided.T.tocsr()
    union = one_sided + other_side - one_sided * other_side
    length = _to_csr(neighbours, np.where(weight > 0, distance, 0.0))
    return _graph(union, length.maximum(length.T))


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
    return _of_weights(_largest_entries(precision, np.sqrt(diagonal(precision) + shift), -1.0, n_neighbors, progress))


def absolute_graph(precision: Precision, shift: float, n_neighbors: int, *, progress: bool = False) -> Graph:
    """Connect the variables with the largest ``|Φ_jl|``, whatever their signs, as the paper does.

    The weight is ``|Φ_jl| / max_j (Φ_jj + ψ̄)``, which is below 1 since ``Φ + ψ̄I`` is positive definite; ``√(2 − 2w)`` the
    distance. Parameters as in :func:`partial_correlation_graph`.
    """
    size = np.full(len(precision), np.sqrt(diagonal(precision).max() + shift))
    negative, positive = (_largest_entries(precision, size, sign, n_neighbors, progress) for sign in (-1.0, 1.0))
    return _of_weights(_strongest(negative + positive, n_neighbors))


def _largest_entries(
    precision: Precision, size: np.ndarray, sign: float, n_neighbors: int, progress: bool
) -> sparse.csr_array:
    """Find the largest positive ``sign · Φ_jl / (size_j size_l)`` of every row beside the diagonal."""
    if isinstance(precision, Sparse):
        return _strongest(sparse.csr_array(sign * precision.matrix / size[:, None] / size), n_neighbors)
    scaled = precision.vectors / size[:, None]
    with jax.enable_x64(True):
        found, neighbours = _most_similar(scaled * (sign * precision.weights), scaled, n_neighbors, progress=progress)
    return _to_csr(neighbours, np.maximum(found, 0.0))


def _of_weights(weights: sparse.csr_array) -> Graph:
    """Connect two variables if either is a neighbour of the other; from weights like correlations, at most 1."""
    weights = weights.maximum(weights.T)
    distances = weights.copy()
    distances.data = np.sqrt(np.maximum(2.0 - 2.0 * weights.data, _SMALLEST_DISTANCE**2))
    return _graph(weights, distances)


def on_edges(precision: Precision, graph: Graph) -> sparse.csr_array:
    """Give the signed precision on the edges of a graph and on the diagonal: CSR, exactly symmetric."""
    upper = sparse.triu(graph.connectivities, k=1, format="coo")
    rows, cols = upper.coords
    half = sparse.coo_array((entries(precision, rows, cols), (rows, cols)), upper.shape)
    full = (half + half.T + sparse.diags_array(diagonal(precision))).tocsr()
    full.sort_indices()
    return full


def _graph(connectivities: sparse.csr_array, distances: sparse.csr_array) -> Graph:
    for matrix in (connectivities, distances):
        matrix.eliminate_zeros()
        matrix.sort_indices()
    return Graph(connectivities, distances)


def _strongest(scores: sparse.csr_array, k: int) -> sparse.csr_array:
    """Keep the ``k`` largest positive entries of every row beside the diagonal."""
    scores = scores.tocoo()
    eligible = (scores.data > 0) & (scores.row != scores.col)
    row, col, values = scores.row[eligible], scores.col[eligible], scores.data[eligible]
    order = np.lexsort((-values, row))  # by row, within it from the largest on
    rank = np.arange(len(order)) - np.searchsorted(row[order], row[order])
    kept = order[rank < k]
    return sparse.csr_array((values[kept], (row[kept], col[kept])), shape=scores.shape)


def _to_csr(neighbours: np.ndarray, values: np.ndarray) -> sparse.csr_array:
    n, k = neighbours.shape
    matrix = sparse.csr_array((values.ravel(), neighbours.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n), copy=True)
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return matrix


def _most_similar(left: np.ndarray, right: np.ndarray, k: int, *, progress: bool) -> tuple[np.ndarray, np.ndarray]:
    """For every row ``i`` find the ``k`` largest products ``left_i·right_j``, ``j ≠ i``: values and indices, (n, k)."""
    n, width = right.shape
    if n <= _SMALL:
        return _largest(left @ right.T, k)
    n_candidates = min(k + _SPARE, n - 1)
    # The largest of n scores lie in the groups with the largest maxima: √(n/k) scores a group make the least work.
    group = max(1, int(np.sqrt(n / n_candidates)))
    n_groups = max(n_candidates, -(-n // group))
    block = max(1, min(n, block_size(_SCORES) // (n_groups * group)))
    coarse = to_device(np.pad(right.astype(np.float32), ((0, n_groups * group - n), (0, 0))))
    right = to_device(right)
    starts = [min(start, n - block) for start in range(0, n, block)]  # the last block reaches back
    values, indices = np.empty((n, k)), np.empty((n, k), np.int64)
    disable = not progress or len(starts) == 1
    for start in tqdm(starts, desc="nearest neighbours", unit="block", delay=2, leave=False, disable=disable):
        rows = to_device(left[start : start + block])
        scores, groups = _best_groups(rows, coarse, start, n=n, count=n_candidates, group=group)
        found = _best_of_groups(rows, right, scores, groups, k=k, n_candidates=n_candidates, group=group)
        values[start : start + block], indices[start : start + block] = map(to_host, found)
    return values, indices


def _largest(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the ``k`` largest scores of every row beside the diagonal, in descending order."""
    np.fill_diagonal(scores, -np.inf)
    candidates = np.argpartition(scores, -k, axis=1)[:, -k:]
    values = np.take_along_axis(scores, candidates, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(values, order, axis=1), np.take_along_axis(candidates, order, axis=1)


@partial(jax.jit, static_argnames=["n", "count", "group"])
def _best_groups(rows: Array, coarse: Array, start: int, *, n: int, count: int, group: int) -> tuple[Array, Array]:
    """Score a block of rows against all, in float32, and find the groups of scores with the largest maxima."""
    scores = jnp.matmul(rows.astype(jnp.float32), coarse.T, precision="highest")
    row, col = start + jnp.arange(rows.shape[0])[:, None], jnp.arange(coarse.shape[0])
    scores = jnp.where((col < n) & (col != row), scores, -jnp.inf)
    return scores, jax.lax.top_k(scores.reshape(len(rows), -1, group).max(-1), count)[1]


@partial(jax.jit, static_argnames=["k", "n_candidates", "group"])
def _best_of_groups(
    rows: Array, right: Array, scores: Array, groups: Array, *, k: int, n_candidates: int, group: int
) -> tuple[Array, Array]:
    """Pick candidates from the groups by their float32 scores and rank them by the exact ones."""
    within = jnp.take_along_axis(scores.reshape(len(rows), -1, group), groups[:, :, None], axis=1)
    _, place = jax.lax.top_k(within.reshape(len(rows), -1), n_candidates)
    candidates = jnp.take_along_axis(groups, place // group, axis=1) * group + place % group
    n, width = right.shape
    if n_candidates * width < n:
        exact = jnp.einsum("ik,ijk->ij", rows, right[candidates], precision="highest")
    else:  # to gather the candidates' rows would take longer than to multiply with all
        exact = jnp.take_along_axis(jnp.matmul(rows, right.T, precision="highest"), candidates, axis=1)
    values, order = jax.lax.top_k(exact, k)
    return values, jnp.take_along_axis(candidates, order, axis=1)


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
