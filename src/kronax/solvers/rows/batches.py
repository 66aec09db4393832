"""Rows that come from several batches: passes that keep the batches apart, and factors of a column within a batch.

Side by side, with columns of its own for every batch, the rows make a matrix of blocks. Whatever is found of its columns is
found for every column and batch, by the same passes.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy import sparse

from kronax.solvers.rows.block import Block, of_entries
from kronax.solvers.rows.chunked import Chunked, OfBatches
from kronax.solvers.rows.groups import Groups
from kronax.solvers.rows.rows import Arrays, InMemory, Rows


def counts(rows: Rows, batches: Groups) -> np.ndarray:
    """Count the non-zero entries of every column within every batch, (batches, m)."""
    m = rows.shape[1]
    (found,) = rows.sums(_counts, batches.codes, batches.n)
    return np.asarray(found).reshape(batches.n, m)


def _counts(block: Block, codes: np.ndarray, n_batches: int) -> Arrays:
    m = block.matrix.shape[1]
    at = of_entries(codes[block.rows], block.matrix) * m + block.matrix.indices
    return (np.bincount(at, minlength=n_batches * m).astype(np.float64),)


def apart(rows: Rows, batches: Groups, n_in_batches: np.ndarray) -> Rows:
    """Return the rows with columns of their own for every batch: those in which it has an entry, batch after batch.

    ``n_in_batches`` are the numbers of :func:`counts`.
    """
    there = n_in_batches > 0
    places = np.where(there, np.cumsum(there).reshape(there.shape) - 1, -1)
    move = OfBatches(batches.codes, places=places, width=int(there.sum()))
    if isinstance(rows, Chunked):
        return rows.prepared(replace(rows.preparation, of_batches=move), col_counts=n_in_batches[there])
    return InMemory(move(rows.matrix))


def taken(rows: Rows, chosen: np.ndarray) -> sparse.csr_array:
    """Return some rows, whose numbers ascend, in memory."""
    if isinstance(rows, InMemory):
        return rows.matrix if len(chosen) == rows.shape[0] else rows.matrix[chosen]
    return sparse.csr_array(sparse.vstack(list(rows.results(_taken, chosen)), format="csr"))


def _taken(block: Block, chosen: np.ndarray) -> sparse.csr_array:
    first, last = np.searchsorted(chosen, [block.rows.start, block.rows.stop])
    return block.matrix[chosen[first:last] - block.start]


def spread_evenly(batches: Groups, most: int) -> np.ndarray:
    """Choose so many rows at most, evenly spread over every batch; small batches have a larger share, up to all of theirs."""
    sizes = batches.sizes
    if sizes.sum() <= most:
        return np.arange(len(batches.codes))
    quota = _quota(sizes, most)
    order = np.argsort(batches.codes, kind="stable")
    chosen = [
        part[np.arange(min(quota, len(part))) * len(part) // min(quota, len(part))]
        for part in np.split(order, np.cumsum(sizes)[:-1])
        if len(part)
    ]
    return np.sort(np.concatenate(chosen))


def _quota(sizes: np.ndarray, most: int) -> int:
    """Return the largest number such that so many rows of every batch, or all that it has, are not too many; at least 1."""
    fits: Callable[[int], bool] = lambda quota: np.minimum(sizes, quota).sum() <= most
    low, high = 1, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
