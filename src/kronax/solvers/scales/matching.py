"""Factors of columns that differ between batches, from rows that match across batches.

In row ``i`` of batch ``b``, column ``j`` has the factor ``c_j exp(δ_bj)``. Of all rows of two batches, the means would tell ``δ`` if
the batches held the same kinds of rows. Rows that match do: two rows of different batches, each among the nearest of the other
among the rows of all other batches (Haghverdi et al., Nat. Biotechnol. 2018). Over all pairs of a row of ``b`` and one of another batch,

    ``ρ_bj = log Σ |z_ij| − log Σ |z_kj|``,                                                                        (1)

zeros included, is what is still to be taken from ``γδ_bj``, relative to the other batches; it is 0 where the columns of ``Z`` have
the same means in rows that match. Its variance follows from the deviations of single rows: to ``ρ_bj``, row ``i`` contributes
``Σ_k (|z_ij| / A_bj − |z_kj| / R_bj)`` over its partners ``k``, with ``A`` and ``R`` the sums of Eq. 1; and likewise every ``k``.

An estimate ``δ̂`` of error ``s`` is pooled with the 0 of a common factor, ``δ = δ̂ τ² / (τ² + s²)``, ``τ_b²`` the variance of ``δ`` over
the columns of a batch (empirical Bayes): with many entries it is ``δ̂``; with few, or without a difference between batches, 0.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse

from kronax.solvers.graph.graph import SMALLEST_CORRELATION
from kronax.solvers.graph.search import group_size, in_blocks, largest, rows_at_a_time
from kronax.solvers.rows.groups import Groups

NEIGHBOURS = 15
_DENSE = 2**21  # numbers in a block of rows
_PRIOR = 10.0  # entries that the spread common to all columns counts as, beside those of a column
_STEPS, _TOLERANCE = 500, 1e-6  # of the variance of δ


class Difference(NamedTuple):
    """What distinguishes every batch from the others, in rows that match.

    Attributes
    ----------
    logs, variances
        ``ρ`` of Eq. 1, (batches, m), and its variance; 0 and infinity where there is nothing to compare.
    matched
        Share of the rows of every batch that match a row of another one.
    """

    logs: np.ndarray
    variances: np.ndarray
    matched: np.ndarray


def matches(embedding: np.ndarray, batches: Groups) -> sparse.csr_array:
    """Find the rows that match: an (n, n) matrix, symmetric, of ones.

    Nearest are those with the largest positive cosine.
    """
    n = len(embedding)
    length = np.linalg.norm(embedding, axis=1, keepdims=True)
    unit = np.divide(embedding, length, out=np.zeros_like(embedding), where=length > 0).astype(np.float32)
    near = [np.zeros((2, 0), np.int64)]
    for batch in range(batches.n):
        here, there = np.flatnonzero(batches.codes == batch), np.flatnonzero(batches.codes != batch)
        k = min(NEIGHBOURS, len(there))
        if len(here) and k:
            near.append(_nearest(unit, here, there, k))
    row, col = np.concatenate(near, axis=1)
    directed = sparse.csr_array((np.ones(len(row)), (row, col)), (n, n))
    return sparse.csr_array(directed.multiply(directed.T))


def _nearest(unit: np.ndarray, here: np.ndarray, there: np.ndarray, k: int) -> np.ndarray:
    """Return pairs of the rows ``here`` and the ``k`` nearest of the rows ``there``, (2, pairs)."""
    group = group_size(len(there), k)
    targets = np.zeros((len(there) + -len(there) % group, unit.shape[1]), np.float32)
    targets[: len(there)] = unit[there]
    size, found = rows_at_a_time(len(targets)), np.empty((len(here), k), np.int64)
    positive = np.empty((len(here), k), bool)

    def block(start: int) -> None:
        rows = slice(start, start + size)
        scores = unit[here[rows]] @ targets.T
        scores[:, len(there) :] = -np.inf
        found[rows] = largest(scores, k, group)
        positive[rows] = np.take_along_axis(scores, found[rows], axis=1) > SMALLEST_CORRELATION

    in_blocks(block, range(0, len(here), size), progress=False)
    return np.stack([np.repeat(here, k), there[np.where(positive, found, 0).ravel()]])[:, positive.ravel()]


def difference(sizes: sparse.csr_array, pairs: sparse.csr_array, batches: Groups) -> Difference:
    """Compare the rows that match.

    Parameters
    ----------
    sizes
        ``|Z|``, (n, m).
    pairs
        Which rows match, as in :func:`matches`.
    """
    m = sizes.shape[1]
    logs, variances = np.zeros((batches.n, m)), np.full((batches.n, m), np.inf)
    matched = np.zeros(batches.n)
    for batch in range(batches.n):
        rows = np.flatnonzero(batches.codes == batch)
        of_batch = sparse.csr_array(pairs[rows])
        mine = np.flatnonzero(np.diff(of_batch.indptr))
        if not len(mine):
            continue
        matched[batch] = len(mine) / len(rows)
        partners = np.unique(of_batch.indices)
        between = sparse.csr_array(of_batch[mine][:, partners])
        logs[batch], variances[batch] = _compared(sizes[rows[mine]], sizes[partners], between)
    return Difference(logs, variances, matched)


def _compared(own: sparse.csr_array, other: sparse.csr_array, pairs: sparse.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Compute ``ρ`` and its variance for two sets of rows, every one of which is in a pair."""
    degrees, other_degrees = pairs.sum(axis=1), pairs.sum(axis=0)
    a, r = own.T @ degrees, other.T @ other_degrees
    there = (a > 0) & (r > 0)
    a, r = np.where(there, a, 1.0), np.where(there, r, 1.0)
    entries = 1.0 / sum(1.0 / np.maximum(1, _entries(side)) for side in (own, other))  # as many as tell the difference
    weights = np.where(there, entries, 0.0)
    logs = np.where(there, np.log(a) - np.log(r), 0.0)
    if weights.any():
        logs = np.where(there, logs - np.average(logs, weights=weights), 0.0)
    spread = _deviations(own, degrees, a, pairs, other, r)
    spread += _deviations(other, other_degrees, r, sparse.csr_array(pairs.T), own, a)
    spread *= entries
    if np.isfinite(spread).all() and weights.any():
        usual = np.average(spread, weights=weights)
        spread = (entries * spread + _PRIOR * usual) / (entries + _PRIOR)
    return logs, np.where(there, spread / entries, np.inf)


def _entries(side: sparse.csr_array) -> np.ndarray:
    return np.bincount(side.indices, minlength=side.shape[1])


def _deviations(
    own: sparse.csr_array,
    degrees: np.ndarray,
    a: np.ndarray,
    pairs: sparse.csr_array,
    other: sparse.csr_array,
    r: np.ndarray,
) -> np.ndarray:
    """Sum the squares of what single rows contribute to ``ρ``; infinity for a single row, which tells no deviation."""
    n, m = own.shape
    if n < 2:
        return np.full(m, np.inf)
    total = np.zeros(m)
    size = max(1, _DENSE // m)
    for start in range(0, n, size):
        rows = slice(start, start + size)
        mine = own[rows].toarray() * (degrees[rows, None] / a)
        theirs = sparse.csr_array(pairs[rows] @ other).toarray() / r
        total += np.square(mine - theirs).sum(axis=0)
    return total * (n / (n - 1.0))


def variance(estimates: np.ndarray, errors: np.ndarray) -> float:
    """Find ``τ²``, at which estimates with these variances of their errors, Gaussian around 0, are most likely; 0 or more."""
    there = np.isfinite(errors)
    squares, errors = estimates[there] ** 2, errors[there]
    if not len(squares):
        return 0.0
    found = float(squares.mean())
    for _ in range(_STEPS):
        weights = 1.0 / np.square(found + errors + np.finfo(float).tiny)
        new = max(0.0, float(np.average(squares - errors, weights=weights)))
        if abs(new - found) <= _TOLERANCE * found:
            return new
        found = new
    return found


def pooled(estimates: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pool estimates, (batches, m), with 0; return them and ``τ``, (batches,)."""
    spread = np.array([variance(*of_batch) for of_batch in zip(estimates, errors, strict=True)])
    share = np.divide(spread[:, None], spread[:, None] + errors, out=np.zeros_like(errors), where=np.isfinite(errors))
    return estimates * np.nan_to_num(share), np.sqrt(spread)
