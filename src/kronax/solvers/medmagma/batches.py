"""Several batches: a factor for every column and batch, which is divided out before everything else.

The model is ``x_ij = r_i · sign(z_ij)|z_ij|^(1/γ) · c_j exp(δ_bj)``, ``b`` the batch of row ``i``. Once ``δ`` is known, what is left is one matrix
without batches. It is found in rounds: an embedding without the ``δ`` known so far shows which rows match, and these tell ``δ``
(:mod:`kronax.solvers.scales.matching`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import sparse
from tqdm.auto import tqdm

from kronax.solvers.rows.batches import apart, counts, spread_evenly, taken
from kronax.solvers.rows.block import divided
from kronax.solvers.rows.groups import Groups
from kronax.solvers.rows.rows import Rows
from kronax.solvers.scales.matching import difference, matches, pooled
from kronax.solvers.scales.quotient import scales

SAMPLE = 10_000  # rows, at most, that are matched
_ROUNDS = 10
_GROWTH = 1.01  # of the number of pairs, without which rounds end: further ones would drift along what varies within types of cells


class Seen(NamedTuple):
    """Some rows without noise: ``|Z|``, (n, m), coordinates, (n, k), and ``γ``."""

    sizes: sparse.csr_array
    embedding: np.ndarray
    power: float


@dataclass(frozen=True)
class Offsets:
    """What distinguishes the factors of the columns in every batch.

    Attributes
    ----------
    logs
        ``δ``, (batches, m), 0 where a batch has no entry in a column.
    n_entries
        Numbers of entries, (batches, m).
    spread
        ``τ``, the standard deviation of ``δ`` over the columns of every batch; with ``separate``, beyond what batches by themselves tell.
    matched
        Share of the rows of every batch that match a row of another one.
    """

    logs: np.ndarray
    n_entries: np.ndarray
    spread: np.ndarray
    matched: np.ndarray


def find(
    rows: Rows,
    batches: Groups,
    see: Callable[[sparse.csr_array], Seen],
    *,
    separate: bool,
    progress: bool = False,
) -> Offsets:
    """Find ``δ``.

    Parameters
    ----------
    rows
        ``X``.
    separate
        Whether ``δ`` is pooled with that of the quotients of every batch by itself, in place of 0. Then nothing but ``δ`` itself depends
        on factors of the columns in a batch.
    see
        Takes the noise from a matrix without empty rows, whose columns may be empty.
    """
    n_entries = counts(rows, batches)
    start = np.zeros(n_entries.shape)
    if batches.n == 1:
        return Offsets(start, n_entries, np.zeros(1), np.zeros(1))
    if separate:
        start = _apart(rows, batches, n_entries, progress)
    chosen = spread_evenly(batches, SAMPLE)
    some, of_some = taken(rows, chosen), batches.of(chosen)
    of_others = 1.0 - of_some.sizes[:, None] / len(chosen)
    beyond, spread, n_pairs = np.zeros_like(start), np.zeros(batches.n), 0
    rounds = range(_ROUNDS + 1)
    for number in tqdm(rounds, desc="matching cells", unit="round", delay=2, leave=False, disable=not progress):
        seen = see(divided(some, of_some.codes, start + beyond))
        pairs = matches(seen.embedding, of_some)
        found = difference(seen.sizes, pairs, of_some)
        last, n_pairs = n_pairs, pairs.nnz
        if n_pairs <= _GROWTH * last or number == _ROUNDS:
            break
        # ρ is relative to the others; with δ of mean 0 over all rows, a batch has the share of the others in it
        estimates = beyond + of_others * found.logs / seen.power
        beyond, spread = pooled(estimates, found.variances * np.square(of_others / seen.power))
    return Offsets(start + np.where(n_entries > 0, beyond, 0.0), n_entries, spread, found.matched)


def _apart(rows: Rows, batches: Groups, n_entries: np.ndarray, progress: bool) -> np.ndarray:
    """Return ``δ`` of the quotients of every batch by itself, (batches, m), with mean 0 over the entries of every column."""
    there = n_entries > 0
    logs = np.zeros(n_entries.shape)
    logs[there] = scales(apart(rows, batches, n_entries), progress=progress).log_cols
    return np.where(there, logs - (n_entries * logs).sum(axis=0) / np.maximum(1, n_entries.sum(axis=0)), 0.0)
