"""DNPP: a profile predicted from those of similar treatments in the same context."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from kronax.solvers.completion import Completion, Fallback, require_values, whole_fibers
from kronax.solvers.linalg import on_all_cores
from kronax.solvers.means import first_of, in_closed_form, means

_MIN_GENES = 2  # shared by two profiles, for a correlation


@dataclass(frozen=True)
class DnppOptions:
    """Options of ``dnpp``.

    Attributes
    ----------
    n_neighbors
        ``K``, the most neighbours that a prediction averages.
    """

    n_neighbors: int = 10


def similarities(values: np.ndarray) -> np.ndarray:
    """Average, over contexts, the correlation of two treatments' profiles (Hodos et al. 2018, Eq. 1).

    Pearson correlations over the genes that both profiles have; contexts count in which both have two genes at least
    and neither is constant.

    Parameters
    ----------
    values
        ``(D, C, G)``, NaN where missing.

    Returns
    -------
    ``S``, (D, D), NaN where no context counts.
    """
    return _similarities(values, ~np.isnan(values))


def _similarities(values: np.ndarray, measured: np.ndarray) -> np.ndarray:
    return _of_whole_fibers(values, measured[:, :, 0]) if whole_fibers(measured) else _of_entries(values, measured)


def _of_whole_fibers(values: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Average products of standardised profiles; ``measured`` is ``(D, C)``."""
    n = len(values)
    total, counts = np.zeros((n, n)), np.zeros(measured.shape)
    for c in range(values.shape[1]):
        rows = np.flatnonzero(measured[:, c])
        unit = _standardised(values[rows, c].astype(np.float64))
        total[np.ix_(rows, rows)] += unit @ unit.T
        counts[rows, c] = unit.any(axis=1)
    return _ratio(total, counts @ counts.T)


def _of_entries(values: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Average correlations over the genes that two profiles share."""
    n = len(values)
    total, count = np.zeros((n, n)), np.zeros((n, n), np.int32)
    for c in range(values.shape[1]):
        rows = np.flatnonzero(measured[:, c].any(axis=1))
        r = _pairwise_correlations(values[rows, c].astype(np.float64))
        block = np.ix_(rows, rows)
        total[block] += np.where(np.isnan(r), 0.0, r)
        count[block] += ~np.isnan(r)
    return _ratio(total, count)


def _ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _standardised(profiles: np.ndarray) -> np.ndarray:
    """Centre the rows of a matrix without gaps and scale them to length 1; zeros for those that are constant."""
    if profiles.shape[1] < _MIN_GENES:
        return np.zeros_like(profiles)
    centred = profiles - profiles.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    varies = length > _rounding(profiles)
    return np.divide(centred, length, out=np.zeros_like(centred), where=varies)


def _pairwise_correlations(profiles: np.ndarray) -> np.ndarray:
    """Correlate the rows of a matrix with gaps, every pair over the entries that both have; NaN where undefined."""
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


def _rounding(profiles: np.ndarray) -> np.ndarray:
    """Give the length below which a centred profile is rounding error."""
    return 1e-12 * np.abs(profiles).max(axis=1, keepdims=True, initial=0.0) * np.sqrt(profiles.shape[1])


def dnpp(values: np.ndarray, options: DnppOptions = DnppOptions()) -> Completion:
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
    """
    measured = ~np.isnan(values)
    require_values(measured)
    similarity = _similarities(values, measured)
    del measured
    np.fill_diagonal(similarity, 0.0)
    similarity = np.where(similarity > 0, similarity, 0.0)  # negative and undefined ones are no neighbours
    completed, fallback = np.empty_like(values), np.zeros(values.shape[:2], np.int8)

    ranking = similarity.astype(np.float32)  # ranks as well, in less time

    def average(c: int) -> bool:
        here, profiles = completed[:, c], values[:, c]
        here[:] = profiles
        _average_in_context(here, profiles, similarity, ranking, options.n_neighbors)
        alone = np.isnan(here)
        rows = np.flatnonzero(alone.any(axis=1))
        if len(rows):
            known = ~np.isnan(profiles)
            mean = _ratio(np.where(known, profiles, 0.0).sum(axis=0, dtype=np.float64), known.sum(axis=0))
            here[rows] = np.where(alone[rows], mean, here[rows])
            fallback[rows, c] = Fallback.CONTEXT_MEAN * (alone[rows] & ~np.isnan(mean)).any(axis=1)
        return bool(np.isnan(here[rows]).any())

    if any(on_all_cores(average, range(values.shape[1]))):
        _stand_in(completed, fallback, values)
    return in_closed_form(completed, fallback)


def _stand_in(completed: np.ndarray, fallback: np.ndarray, values: np.ndarray) -> None:
    """Put means over all contexts where even the context's own does not exist."""
    m, alone = means(values), np.isnan(completed)
    stand_in, code = first_of(
        values.shape,
        (m.treatment, Fallback.TREATMENT_MEAN),
        (m.gene, Fallback.GENE_MEAN),
        (m.overall, Fallback.OVERALL_MEAN),
    )
    np.copyto(completed, stand_in, where=alone, casting="same_kind")
    np.maximum(fallback, np.where(alone, code, 0).max(axis=2), out=fallback)


def _average_in_context(
    completed: np.ndarray, profiles: np.ndarray, similarity: np.ndarray, ranking: np.ndarray, k: int
) -> None:
    """Write the neighbours' averages over the missing entries of one context ``(D, G)``; NaN without a neighbour.

    Neighbours are chosen by ``ranking``, and count by their similarity.
    """
    for pattern, genes in _genes_by_gaps(~np.isnan(profiles)):
        missing, candidates = np.flatnonzero(~pattern), np.flatnonzero(pattern)
        if not len(missing) or not len(candidates):
            continue
        shape = len(missing), len(candidates)
        if k < len(candidates):
            best = np.argpartition(ranking[np.ix_(missing, candidates)], len(candidates) - k, axis=1)[:, -k:]
        else:
            best = np.broadcast_to(np.arange(len(candidates)), shape)
        weight = similarity[missing[:, None], candidates[best]]
        total = weight.sum(axis=1, keepdims=True)
        weight = np.divide(weight, total, out=np.full(weight.shape, np.nan), where=total > 0)
        rows = np.repeat(np.arange(len(missing)), best.shape[1])
        average = sparse.csr_array((weight.ravel(), (rows, best.ravel())), shape=shape, dtype=profiles.dtype)
        if isinstance(genes, slice):
            completed[missing] = average @ profiles[candidates]
        else:
            completed[np.ix_(missing, genes)] = average @ profiles[np.ix_(candidates, genes)]


def _genes_by_gaps(measured: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray | slice]]:
    """Give every pattern of gaps among the rows of ``(D, G)``, and the columns that have it: a slice if all do."""
    if (measured == measured[:, :1]).all():
        yield measured[:, 0], slice(None)
        return
    patterns, group = np.unique(measured, axis=1, return_inverse=True)
    for number, pattern in enumerate(patterns.T):
        yield pattern, np.flatnonzero(group.ravel() == number)
