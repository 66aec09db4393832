"""The two baselines: means over what was measured of the treatment and of the context."""

from dataclasses import dataclass

import numpy as np

from kronax.solvers import checks
from kronax.solvers.status import CLOSED_FORM
from kronax.solvers.tensor.completion import Completion, Fallback, measured_fibers, merged, per_fiber, require_values
from kronax.solvers.tensor.connection import unlinked
from kronax.solvers.tensor.method import Options

_PRIOR = 5.0  # treatments


@dataclass(frozen=True)
class Mean1dOptions(Options):
    """Options of ``"mean_1d"``, which has none.

    References
    ----------
    :cite:t:`Hodos2018`, section 2.5.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=50)
    >>> kx.tl.complete_tensor(mdata, method="mean_1d", options=kx.tl.Mean1dOptions())
    >>> mdata.uns["completion"]["reason"]
    'computed in closed form'
    """


@dataclass(frozen=True)
class Mean2dOptions(Options):
    """Options of ``"mean_2d"``: the weighted average of the treatment's and the context's mean.

    Attributes
    ----------
    context_weight
        Weight of the context's mean, in [0, 1]; the treatment's mean has the rest.

    References
    ----------
    :cite:t:`Hodos2018`, section 2.5.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=50)
    >>> kx.tl.complete_tensor(mdata, method="mean_2d", options=kx.tl.Mean2dOptions(context_weight=0.3))
    >>> float(mdata.uns["completion"]["params"]["options"]["context_weight"])
    0.3
    """

    context_weight: float = 0.5

    def __post_init__(self) -> None:
        checks.share(self.context_weight, "options.context_weight")


@dataclass(frozen=True)
class Means:
    """Means of the measured entries, NaN where there are none; ``overall`` always exists.

    ``treatment`` is (D, 1, G), ``context`` (1, C, G), ``gene`` (1, 1, G).
    """

    treatment: np.ndarray
    context: np.ndarray
    gene: np.ndarray
    overall: float


def means(values: np.ndarray) -> Means:
    """Take the means over every margin of a tensor ``(D, C, G)``, NaN where missing."""
    fibers = measured_fibers(values)
    if fibers is not None:
        require_values(fibers)
        return _means_of_fibers(values, fibers)
    measured = ~np.isnan(values)
    filled = np.where(measured, values, 0.0)

    def mean(*axes: int) -> np.ndarray:
        total = filled.sum(axis=axes, keepdims=True, dtype=np.float64)
        return _mean(total, measured.sum(axis=axes, keepdims=True))

    return Means(mean(1), mean(0), mean(0, 1), float(filled.sum(dtype=np.float64) / measured.sum()))


def _means_of_fibers(values: np.ndarray, measured: np.ndarray) -> Means:
    """Take the means if fibers are measured whole or not at all, so that most of a tensor need not be read."""
    of_treatment = np.array([x[has].sum(axis=0, dtype=np.float64) for x, has in zip(values, measured, strict=True)])
    of_context = np.array([values[has, c].sum(axis=0, dtype=np.float64) for c, has in enumerate(measured.T)])
    gene = of_context.sum(axis=0) / measured.sum()
    treatment = _mean(of_treatment, measured.sum(axis=1)[:, None])
    context = _mean(of_context, measured.sum(axis=0)[:, None])
    return Means(treatment[:, None], context[None], gene[None, None], float(gene.mean()))


def _mean(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def first_of(shape: tuple[int, ...], *choices: tuple[np.ndarray | float, Fallback]) -> tuple[np.ndarray, np.ndarray]:
    """Take, for every entry, the first choice that is not NaN; return also its code."""
    (choice, fallback), *others = choices
    predicted = np.array(np.broadcast_to(choice, shape), np.float64)
    code = np.full(shape, fallback, np.int8)
    without = np.isnan(predicted)
    for choice, fallback in others:
        if not without.any():
            break
        np.copyto(predicted, choice, where=without)
        code[without] = fallback
        without &= np.isnan(predicted)
    return predicted, code


def mean_1d(values: np.ndarray, options: Mean1dOptions = Mean1dOptions(), *, progress: bool = False) -> Completion:
    """Predict the mean over the contexts in which the treatment was measured (Hodos et al. 2018, section 2.5).

    Every gene has its own mean, so missing fibers and single missing entries are one case. Where the treatment has no
    value of the gene: the context's mean, the gene's mean, the overall mean, whichever exists first. A context that no
    measurement links with the treatment gets the same mean, and is flagged.

    Parameters
    ----------
    values
        ``(D, C, G)``, NaN where missing.
    options
        None to choose from.
    progress
        Not looked at: there is nothing to wait for.
    """
    m = means(values)
    predicted, code = first_of(
        values.shape,
        (m.treatment, Fallback.NONE),
        (m.context, Fallback.CONTEXT_MEAN),
        (m.gene, Fallback.GENE_MEAN),
        (m.overall, Fallback.OVERALL_MEAN),
    )
    return closed_form(values, predicted, code)


def mean_2d(values: np.ndarray, options: Mean2dOptions = Mean2dOptions(), *, progress: bool = False) -> Completion:
    """Predict ``λ·(mean in the context) + (1 − λ)·(mean of the treatment)`` (Hodos et al. 2018, Eq. 2).

    Every gene has its own means, so missing fibers and single missing entries are one case. Where only one of the
    means exists it stands alone; where neither does, the gene's mean, then the overall mean. Where no measurement links
    treatment and context both means exist, and the fiber is flagged.

    Parameters
    ----------
    values
        ``(D, C, G)``, NaN where missing.
    options
        The weight ``λ``.
    progress
        Not looked at: there is nothing to wait for.
    """
    return closed_form(values, *two_means(values, options.context_weight))


def two_means(values: np.ndarray, context_weight: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Return the predictions of ``mean_2d`` for every entry, measured or not, and their codes."""
    m = means(values)
    both = context_weight * m.context + (1.0 - context_weight) * m.treatment  # Eq. 2 of the source
    return first_of(
        values.shape,
        (both, Fallback.NONE),
        (m.treatment, Fallback.TREATMENT_MEAN),
        (m.context, Fallback.CONTEXT_MEAN),
        (m.gene, Fallback.GENE_MEAN),
        (m.overall, Fallback.OVERALL_MEAN),
    )


def cautious_means(values: np.ndarray) -> np.ndarray:
    """Return ``mean_2d`` for every entry, its context's mean drawn to that of all contexts as if by five more treatments.

    A solver that starts here need not first forget the one profile that a context may have. NaN stay where neither treatment nor
    gene have a value.
    """
    m = means(values)
    n = (~np.isnan(values)).sum(axis=0, keepdims=True)
    context = (n * np.where(n > 0, m.context, 0.0) + _PRIOR * m.gene) / (n + _PRIOR)
    predicted = 0.5 * (context + m.treatment)
    return np.where(np.isnan(predicted), np.where(np.isnan(context), m.overall, context), predicted)


def closed_form(values: np.ndarray, predicted: np.ndarray, code: np.ndarray) -> Completion:
    """Put predictions and their codes ``(D, C, G)`` into the gaps."""
    missing = np.isnan(values)
    code = np.where((code == Fallback.NONE) & unlinked(~missing), Fallback.UNLINKED, code)
    fallback = per_fiber(code, missing, ~missing.all(axis=(0, 1)))
    return Completion(values=merged(values, predicted), fallback=fallback, status=CLOSED_FORM)
