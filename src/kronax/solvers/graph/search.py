"""For every row of a matrix, the rows of another that have the largest products with it: exactly.

Scores are made in single precision, a block of rows at a time, and of the best of them the exact ones decide.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tqdm.auto import tqdm

from kronax.solvers import device
from kronax.solvers.device import block_size, to_device, to_host

_SCORES = 2**21  # numbers held at a time by every thread, 8 MiB in float32, ...
_FEWEST = 16  # ... but at least the scores of so many rows, lest products are slow
_ON_DEVICE = 2**23  # numbers held at a time on an accelerator without much memory
_SPARE = 10  # candidates beyond the neighbours asked for: what float32 may misplace


def most_similar(left: np.ndarray, right: np.ndarray, k: int, *, progress: bool) -> tuple[np.ndarray, np.ndarray]:
    """Find, for every row ``i``, the ``k`` largest products ``left_i·right_j``, ``j ≠ i``: values, descending, and indices."""
    find = _on_host if device.platform() == "cpu" else _on_device
    return find(left, right, k, progress)


def largest_entries(matrix: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the ``k`` largest entries of every row of a square matrix, its diagonal left out: values, descending, and columns."""
    n = len(matrix)
    group = group_size(n, k)
    scores = np.empty((n, n + -n % group), matrix.dtype)
    scores[:, :n] = matrix
    columns = largest(_closed(scores, np.arange(n), n), k, group)
    return _descending(np.take_along_axis(scores, columns, axis=1), columns, k)


def most_similar_to(some: np.ndarray, left: np.ndarray, right: np.ndarray, k: int) -> np.ndarray:
    """Find the indices of :func:`most_similar` for some rows."""
    return _on_host(left, right, k, False, some)[1]


def in_blocks(block: Callable[[int], object], starts: range, *, progress: bool) -> None:
    """Call a function with the start of every block, on all cores, with a progress bar if it takes long.

    What it finds does not depend on the number of threads if every block writes to its own place.
    """
    if not starts:
        return
    with device.one_thread_each():
        ends = device.each_on_all_cores(block, starts)
        if progress and len(starts) > 1:
            ends = tqdm(ends, desc="nearest neighbours", total=len(starts), unit="block", delay=2, leave=False)
        for _ in ends:
            pass


def rows_at_a_time(n: int, fewest: int = _FEWEST) -> int:
    """Return of how many rows a thread should hold the scores with ``n`` others."""
    return max(fewest, _SCORES // n)


def group_size(n: int, k: int) -> int:
    """Return how many columns to look at together when the ``k`` largest of ``n`` are wanted: about this makes least work."""
    return max(1, int(0.5 * np.sqrt(n / k)))


def largest(scores: np.ndarray, k: int, group: int) -> np.ndarray:
    """Find the columns of the ``k`` largest scores of every row, in any order; ``group`` divides the number of columns.

    They lie in the ``k`` groups with the largest maxima.
    """
    n_rows, n = scores.shape
    stride = n // group
    starts = n * np.arange(n_rows)[:, None]
    best = _partitioned(scores.reshape(n_rows, group, stride).max(axis=1), k) + starts
    columns = (best[:, None, :] + stride * np.arange(group)[:, None]).reshape(n_rows, -1)
    place = _partitioned(scores.ravel().take(columns), k)
    return np.take_along_axis(columns, place, axis=1) - starts


def _partitioned(scores: np.ndarray, k: int) -> np.ndarray:
    n = scores.shape[1]
    return np.argpartition(scores, n - k, axis=1)[:, n - k :]


def _on_host(
    left: np.ndarray, right: np.ndarray, k: int, progress: bool, some: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    some = np.arange(len(right)) if some is None else some
    values, indices = np.empty((len(some), k)), np.empty((len(some), k), np.int64)
    rank = _ranking(left, right, k)
    size = rows_at_a_time(len(right))

    def block(start: int) -> None:
        here = slice(start, start + size)
        values[here], indices[here] = rank(some[here])

    in_blocks(block, range(0, len(some), size), progress=progress)
    return values, indices


Ranking = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def _ranking(left: np.ndarray, right: np.ndarray, k: int) -> Ranking:
    """Return the function that finds the neighbours of some rows: values, descending, and indices."""
    n, width = right.shape
    n_candidates = min(k + _SPARE, n - 1)

    def exact(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        group = group_size(n, k)
        scores = _products(left[rows], right, rows, -n % group)
        columns = largest(scores, k, group)
        return _descending(np.take_along_axis(scores, columns, axis=1), columns, k)

    if n_candidates * width >= n:  # to gather the candidates' rows would take longer than to multiply with all
        return exact
    coarse_left, coarse_right = left.astype(np.float32), right.astype(np.float32)
    group = group_size(n, n_candidates)
    # what a sum of `width` products in float32 may be off by
    rounding = (width + 2) * np.finfo(np.float32).eps / 2 * np.linalg.norm(right, axis=1).max()

    def in_two_steps(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores = _products(coarse_left[rows], coarse_right, rows, -n % group)
        columns = largest(scores, n_candidates, group)
        others = np.take_along_axis(scores, columns, axis=1).min(axis=1)  # no other row scores higher
        found = np.matmul(right[columns], left[rows, :, None])[:, :, 0]
        values, indices = _descending(found, columns, k)
        doubtful = values[:, -1] < others + rounding * np.linalg.norm(left[rows], axis=1)
        if n_candidates < n - 1 and doubtful.any():
            values[doubtful], indices[doubtful] = exact(rows[doubtful])
        return values, indices

    return in_two_steps


def _products(left: np.ndarray, right: np.ndarray, rows: np.ndarray, padding: int) -> np.ndarray:
    """Multiply some rows with all; −∞ with themselves and in so many columns beyond."""
    n = len(right)
    scores = np.empty((len(rows), n + padding), left.dtype)
    np.matmul(left, right.T, out=scores[:, :n])
    return _closed(scores, rows, n)


def _closed(scores: np.ndarray, rows: np.ndarray, n: int) -> np.ndarray:
    """Give −∞ to the scores of rows with themselves and to all beyond the ``n``-th."""
    scores[np.arange(len(rows)), rows] = -np.inf
    scores[:, n:] = -np.inf
    return scores


def _descending(values: np.ndarray, indices: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(-values, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(values, order, axis=1), np.take_along_axis(indices, order, axis=1)


def _on_device(left: np.ndarray, right: np.ndarray, k: int, progress: bool) -> tuple[np.ndarray, np.ndarray]:
    n = len(right)
    n_candidates = min(k + _SPARE, n - 1)
    group = max(1, int(np.sqrt(n / n_candidates)))
    n_groups = max(n_candidates, -(-n // group))
    block = max(1, min(n, block_size(_ON_DEVICE) // (n_groups * group)))
    starts = [min(start, n - block) for start in range(0, n, block)]  # the last block reaches back
    values, indices = np.empty((n, k)), np.empty((n, k), np.int64)
    disable = not progress or len(starts) == 1
    with jax.enable_x64(True):
        coarse = to_device(np.pad(right.astype(np.float32), ((0, n_groups * group - n), (0, 0))))
        right = to_device(right)
        for start in tqdm(starts, desc="nearest neighbours", unit="block", delay=2, leave=False, disable=disable):
            rows = to_device(left[start : start + block])
            scores, groups = _best_groups(rows, coarse, start, n=n, count=n_candidates, group=group)
            found = _best_of_groups(rows, right, scores, groups, k=k, n_candidates=n_candidates, group=group)
            values[start : start + block], indices[start : start + block] = map(to_host, found)
    return values, indices


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
