"""DNPP: a profile predicted from those of similar treatments in the same context."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import sparse

from kronax.solvers import checks
from kronax.solvers.device import each_on_all_cores, on_all_cores, one_thread_each
from kronax.solvers.status import CLOSED_FORM
from kronax.solvers.tensor.completion import (
    Completion,
    Fallback,
    equivariant,
    measured_fibers,
    per_fiber,
    require_values,
)
from kronax.solvers.tensor.means import first_of, means
from kronax.solvers.tensor.method import Options

_MIN_GENES = 2  # shared by two profiles, for a correlation
_CONSTANT = 1e-12  # spread of a profile, of its largest value, below which it is rounding


@dataclass(frozen=True)
class DnppOptions(Options):
    """Options of ``"dnpp"``: the weighted mean of the most similar treatments in the context.

    Attributes
    ----------
    n_neighbors
        Maximum number of treatments averaged for a prediction. Only those with a positive similarity count.

    References
    ----------
    :cite:t:`Hodos2018`, section 2.3.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=50)
    >>> kx.tl.complete_tensor(mdata, method="dnpp", options=kx.tl.DnppOptions(n_neighbors=5))
    >>> int(mdata.uns["completion"]["params"]["options"]["n_neighbors"])
    5
    """

    n_neighbors: int = 10

    def __post_init__(self) -> None:
        checks.integer(self.n_neighbors, "options.n_neighbors", low=1)


def similarities(values: np.ndarray) -> np.ndarray:
    """Average, over contexts, the correlation of two treatments' profiles (Hodos et al. 2018, Eq. 1).

    Pearson correlations over the genes that both profiles have. A context counts if both have at least two genes there and
    neither is constant.

    Parameters
    ----------
    values
        ``(D, C, G)``, NaN where missing.

    Returns
    -------
    ``S``, (D, D), NaN where no context counts.
    """
    fibers = measured_fibers(values)
    return _of_entries(values) if fibers is None else _of_fibers(values, fibers)


def _of_fibers(values: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Average products of standardised profiles; ``measured`` is ``(D, C)``."""
    n = len(values)
    total, varies = np.zeros((n, n)), np.zeros(measured.shape, np.float32)

    def products(c: int) -> tuple[np.ndarray, np.ndarray]:
        rows = np.flatnonzero(measured[:, c])
        unit = _standardised(values[rows, c])
        varies[rows, c] = unit.any(axis=1)
        return rows, unit @ unit.T

    with one_thread_each():
        for rows, product in each_on_all_cores(products, range(values.shape[1])):
            total[np.ix_(rows, rows)] += product
    return _ratio(total, varies @ varies.T)


def _of_entries(values: np.ndarray) -> np.ndarray:
    """Average correlations over the genes that two profiles share."""
    n, measured = len(values), ~np.isnan(values)
    total, count = np.zeros((n, n)), np.zeros((n, n), np.int32)
    for c in range(values.shape[1]):
        rows = np.flatnonzero(measured[:, c].any(axis=1))
        r = _pairwise_correlations(values[rows, c].astype(np.float64))
        block = np.ix_(rows, rows)
        total[block] += np.where(np.isnan(r), 0.0, r)
        count[block] += ~np.isnan(r)
    return _ratio(total, count)


def _ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _standardised(profiles: np.ndarray) -> np.ndarray:
    """Centre the rows of a matrix without gaps and scale them to length 1; zeros for those that are constant."""
    centred = profiles.astype(np.float64)
    mean = centred.mean(axis=1)
    centred -= mean[:, None]
    square = np.einsum("ij,ij->i", centred, centred)
    of_profile = square + mean**2 * profiles.shape[1]
    varies = square > 1e-24 * of_profile  # less is rounding error
    centred *= np.divide(1.0, np.sqrt(square), out=np.zeros_like(square), where=varies)[:, None]
    return centred


def _pairwise_correlations(profiles: np.ndarray) -> np.ndarray:
    """Correlate all pairs of rows of a matrix with gaps, over the entries that both have; NaN where undefined."""
    has = ~np.isnan(profiles)
    x = np.where(has, profiles, 0.0)
    size = np.abs(x).max(initial=0.0)
    x = (
        x - np.divide(x.sum(1), has.sum(1), where=has.any(1), out=np.zeros(len(x)))[:, None] * has
    )  # against cancellation
    has = has.astype(np.float64)
    n = has @ has.T
    enough = n >= _MIN_GENES
    n = np.maximum(n, 1.0)
    sums, squares = x @ has.T, (x * x) @ has.T  # of row i over the entries shared with row j
    covariance = x @ x.T - sums * sums.T / n
    variance = squares - sums**2 / n
    varies = variance > (1e-12 * size) ** 2 * n
    defined = enough & varies & varies.T
    scale = np.sqrt(np.where(defined, variance * variance.T, 1.0))
    return np.where(defined, np.clip(covariance / scale, -1.0, 1.0), np.nan)


@equivariant
def dnpp(values: np.ndarray, options: DnppOptions = DnppOptions(), *, progress: bool = False) -> Completion:
    """Predict a profile from the most similar treatments measured in the context (Hodos et al. 2018, section 2.3).

    For a missing ``(d, c)``, the ``K`` treatments measured in ``c`` with the largest similarity ``S > 0`` to ``d``
    are averaged with weights ∝ ``S``. Where single entries are missing, every gene has its own neighbours, those
    measured in that gene, and similarities are taken over the genes that two profiles share. Without a positive
    neighbour: the context's mean, the treatment's mean, the gene's mean, the overall mean, whichever exists first.

    Parameters
    ----------
    values
        ``(D, C, G)``, NaN where missing.
    options
        The number of neighbours.
    progress
        Ignored: there is little to wait for.
    """
    measured = measured_fibers(values)
    require_values(~np.isnan(values) if measured is None else measured)
    similarity = _of_entries(values) if measured is None else _of_fibers(values, measured)
    np.fill_diagonal(similarity, 0.0)
    similarity = np.where(similarity > 0, similarity, 0.0)  # negative and undefined ones are no neighbours
    ranking = similarity.astype(np.float32)  # ranks as well, in less time
    completed = np.empty_like(values)

    def average(c: int) -> np.ndarray:
        here, profiles = completed[:, c], values[:, c]
        gaps = _gaps(profiles) if measured is None else [(measured[:, c], slice(None))]
        alone = [_average(here, profiles, *gap, similarity, ranking, options.n_neighbors) for gap in gaps]
        return np.unique(np.concatenate(alone))

    alone = on_all_cores(average, range(values.shape[1]))
    fallback = _stand_in(completed, values, alone)
    return Completion(values=completed, fallback=fallback, status=CLOSED_FORM, doubts=_doubts(values))


def _doubts(values: np.ndarray) -> tuple[str, ...]:
    """Return a doubt that counts the constant measured profiles, of two genes or more, if there are any."""
    present = values[~np.isnan(values).all(axis=2)]
    low, high = np.nanmin(present, axis=1), np.nanmax(present, axis=1)
    enough = (~np.isnan(present)).sum(axis=1) >= _MIN_GENES
    n_constant = int((enough & (high - low <= _CONSTANT * np.maximum(abs(low), abs(high)))).sum())
    if not n_constant:
        return ()
    return (
        f"{n_constant} measured profiles are constant: their correlations are undefined, so they are no neighbours.",
    )


def _gaps(profiles: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray | slice]]:
    """Return every pattern of gaps among the rows of ``(D, G)``, True where measured, and the columns that have it."""
    patterns, group = np.unique(~np.isnan(profiles), axis=1, return_inverse=True)
    for number, pattern in enumerate(patterns.T):
        yield pattern, np.flatnonzero(group.ravel() == number)


def _average(
    completed: np.ndarray,
    profiles: np.ndarray,
    measured: np.ndarray,
    genes: np.ndarray | slice,
    similarity: np.ndarray,
    ranking: np.ndarray,
    k: int,
) -> np.ndarray:
    """Write one context's profiles ``(D, G)``, measured and averaged, for genes of which the same rows are measured.

    Neighbours are chosen by ``ranking`` and weighted by their similarity. Returns the rows without any, which are NaN.
    """
    missing, candidates = np.flatnonzero(~measured), np.flatnonzero(measured)
    known = profiles[_block(candidates, genes)]
    completed[_block(candidates, genes)] = known
    row, column = _largest(ranking[candidates][:, missing].T, k)  # symmetric, and quicker to gather this way
    weight = similarity[missing[row], candidates[column]]
    total = np.bincount(row, weight, len(missing))
    average = sparse.csr_array((weight / total[row], (row, column)), (len(missing), len(candidates)), known.dtype)
    completed[_block(missing, genes)] = average @ known
    alone = missing[total == 0]
    completed[_block(alone, genes)] = np.nan
    return alone


def _block(rows: np.ndarray, columns: np.ndarray | slice) -> tuple:
    """Index rows by columns."""
    return (rows, columns) if isinstance(columns, slice) else np.ix_(rows, columns)


def _largest(ranking: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return row and column of every row's ``k`` largest entries, or of all positive ones if there are fewer."""
    n = ranking.shape[1]
    chosen = ranking > 0
    if k < n:
        chosen &= ranking >= np.partition(ranking, n - k, axis=1)[:, n - k, None]
        tied = np.flatnonzero(chosen.sum(axis=1) > k)  # with the last one
        best = np.argpartition(ranking[tied], n - k, axis=1)[:, n - k :]
        chosen[tied] = False
        chosen[tied[:, None], best] = True
    return np.divmod(np.flatnonzero(chosen), n)


def _stand_in(completed: np.ndarray, values: np.ndarray, alone: list[np.ndarray]) -> np.ndarray:
    """Replace NaN in the given rows of every context by means; return the codes of fibers."""
    fallback = np.zeros(values.shape[:2], np.int8)
    everywhere = cache(lambda: means(values))  # a context's own mean is mostly enough, and takes less time
    for c in np.flatnonzero([len(rows) for rows in alone]):
        rows = alone[c]
        here, known = completed[rows, c], ~np.isnan(values[:, c])
        own = _ratio(np.where(known, values[:, c], 0.0).sum(axis=0, dtype=np.float64), known.sum(axis=0))
        choices, genes = [(own, Fallback.CONTEXT_MEAN)], ~np.isnan(own)
        if not genes.all():
            m = everywhere()
            choices.append((m.treatment[rows, 0], Fallback.TREATMENT_MEAN))
            choices.append((m.gene[0, 0], Fallback.GENE_MEAN))
            choices.append((m.overall, Fallback.OVERALL_MEAN))
            genes = ~np.isnan(m.gene[0, 0])
        stand_in, code = first_of(here.shape, *choices)
        gone = np.isnan(here)
        completed[rows, c] = np.where(gone, stand_in, here)
        fallback[rows, c] = per_fiber(np.where(gone, code, Fallback.NONE), ~known[rows], genes)
    return fallback
