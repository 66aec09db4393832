"""For every row of a matrix, the rows of another that have the largest products with it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tqdm.auto import tqdm

from kronax.solvers.device import block_size, to_device, to_host

_SMALL = 1024  # rows up to which all products are made at once, sooner than a search is compiled
_SCORES = 2**23  # numbers held at a time: 64 MiB in float64
_SPARE = 10  # candidates beyond the neighbours asked for: what float32 may misplace


def most_similar(left: np.ndarray, right: np.ndarray, k: int, *, progress: bool) -> tuple[np.ndarray, np.ndarray]:
    """Find, for every row ``i``, the ``k`` largest products ``left_i·right_j``, ``j ≠ i``: values and indices, (n, k)."""
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
