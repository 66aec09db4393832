from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scipy.special import ndtri, owens_t
from scipy.stats import rankdata

from kronax._data import objects
from kronax._data.matrix import read_matrix, real_matrix
from kronax._data.stored_graph import AXES, Axis
from kronax.metrics._read import Matrix
from kronax.solvers import checks

QUANTILES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_PAIRS = 256  # at a time, so that little memory is needed


def tail_dependence(
    data: AnnData | Matrix,
    *,
    layer: str | None = None,
    axis: Axis = "var",
    quantiles: Sequence[float] = QUANTILES,
    n_pairs: int | None = 1000,
    random_state: int = 0,
) -> pd.DataFrame:
    r"""Compare how often extremes occur together with what a Gaussian copula predicts.

    For two variables with ranks scaled to :math:`u, v \in (0, 1)`, the dependence at a quantile :math:`q` is the
    probability that one exceeds it, given that the other does: :math:`χ(q) = P(u > q \mid v > q)` in the upper tail,
    and :math:`P(u < 1 - q \mid v < 1 - q)` in the lower one. As :math:`q \to 1`, it goes to 0 for a Gaussian copula of
    any correlation below 1, while an elliptical distribution with heavier tails has a positive limit. For every pair,
    the empirical value is compared with that of the Gaussian copula with the same rank correlation. If it is larger,
    extremes occur together more often than a Gaussian with any marginals allows.

    Run it on counts and on the layer of :func:`kronax.pp.quotient` to see how much of the dependence is due to scales
    that all genes of a cell share.

    Parameters
    ----------
    data
        AnnData object, or a matrix, cells × genes.
    layer
        Layer to read; `adata.X` if None. Only for AnnData.
    axis
        ``"var"`` for pairs of genes, whose values are compared over cells; ``"obs"`` for pairs of cells.
    quantiles
        Quantiles, from 0.5 to less than 1. Many values must lie beyond them: with n values, :math:`n(1 - q)` should be
        well above 1.
    n_pairs
        Number of pairs, drawn at random; all if None or if there are fewer.
    random_state
        Seed of the draw.

    Returns
    -------
    A table with one row per tail and quantile: ``tail`` (``"upper"`` or ``"lower"``); ``quantile``; ``empirical`` and
    ``gaussian``, both averaged over pairs; ``excess``, the mean of their difference; and ``standard_error`` of that
    mean, as if pairs were independent. Equal values share their mean rank, so the many zeros of counts are in neither
    tail. Constant variables are left out; a pair without a value beyond a quantile counts as 0.

    Raises
    ------
    KeyError
        If there is no such layer.
    TypeError
        If the matrix is not numeric and real, or not in memory.
    ValueError
        If a quantile is out of range, the matrix has masked, NaN or infinite values, or fewer than two variables vary.

    References
    ----------
    :cite:t:`Coles1999`; the question is that of :cite:t:`Andrew2026`, Fig. 1.

    Examples
    --------
    >>> import kronax as kx
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> scale = np.sqrt(3 / rng.chisquare(3, (5000, 1)))  # a multivariate t distribution, uncorrelated
    >>> table = kx.metrics.tail_dependence(scale * rng.normal(size=(5000, 4)), quantiles=[0.95])
    >>> bool((table["excess"] > 0.05).all())
    True
    """
    quantiles = checks.numbers(quantiles, "quantiles")
    if not quantiles or not all(0.5 <= q < 1 for q in quantiles):
        msg = f"`quantiles` must hold numbers from 0.5 to less than 1, at least one, found {quantiles}."
        raise ValueError(msg)
    checks.one_of(axis, AXES, "axis")
    if n_pairs is not None:
        checks.integer(n_pairs, "n_pairs", low=1)
    checks.integer(random_state, "random_state", low=0)
    variables = _variables(data, layer, axis)
    first, second = _draw_pairs(variables.shape[1], n_pairs, np.random.default_rng(random_state))
    used, places = np.unique([first, second], return_inverse=True)
    first, second = places.reshape(2, -1)
    ranks = rankdata(variables[:, used].toarray(), axis=0)
    n = len(ranks)
    correlation = 2 * np.sin(np.pi / 6 * _spearman(ranks, first, second))
    rows = []
    for tail, u in (("upper", ranks / (n + 1)), ("lower", 1 - ranks / (n + 1))):
        for q in quantiles:
            beyond = u > q
            both = _count_both(beyond, first, second)
            alone = 0.5 * (beyond.sum(axis=0)[first] + beyond.sum(axis=0)[second])
            empirical = np.divide(both, alone, out=np.zeros(len(first)), where=alone > 0)
            gaussian = gaussian_dependence(correlation, q)
            excess = empirical - gaussian
            error = excess.std(ddof=1) / np.sqrt(len(excess)) if len(excess) > 1 else np.nan
            rows.append((tail, q, empirical.mean(), gaussian.mean(), excess.mean(), error))
    return pd.DataFrame(rows, columns=["tail", "quantile", "empirical", "gaussian", "excess", "standard_error"])


def gaussian_dependence(correlation: np.ndarray, q: float) -> np.ndarray:
    """Compute ``P(u > q | v > q)`` of a Gaussian copula.

    ``P(X < h, Y < h) = Φ(h) − 2 T(h, √((1−ρ)/(1+ρ)))`` with Owen's T, and ``h = −Φ⁻¹(q)`` for the upper tail.
    """
    rho = np.clip(correlation, -1 + 1e-15, 1.0)
    return 1.0 - 2.0 * owens_t(-ndtri(q), np.sqrt((1 - rho) / (1 + rho))) / (1.0 - q)


def _variables(data: AnnData | Matrix, layer: str | None, axis: Axis) -> sparse.csc_array:
    """Return, as columns, the variables that vary."""
    if not (isinstance(data, np.ndarray) or sparse.issparse(data)):
        objects.is_anndata(data, "an AnnData object or a matrix")
        matrix, _ = read_matrix(data, layer)
    elif layer is not None:
        msg = f"`layer` is {layer!r}, but a matrix has no layers."
        raise ValueError(msg)
    else:
        matrix = real_matrix(data, "The matrix")
    columns = sparse.csc_array(matrix if axis == "var" else matrix.T)
    high, low = columns.max(axis=0).toarray().ravel(), columns.min(axis=0).toarray().ravel()
    columns = columns[:, np.flatnonzero(high > low)]
    if columns.shape[1] < 2:
        msg = f"{columns.shape[1]} variables are not constant; at least 2 are needed."
        raise ValueError(msg)
    return columns


def _draw_pairs(n: int, n_pairs: int | None, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw different pairs ``i < j`` of n."""
    total = n * (n - 1) // 2
    if n_pairs is None or n_pairs >= total:
        return np.triu_indices(n, 1)
    number = rng.choice(total, n_pairs, replace=False)  # pair (i, j) has the number j (j - 1) / 2 + i
    j = np.floor((1 + np.sqrt(1 + 8.0 * number)) / 2).astype(np.int64)
    return number - j * (j - 1) // 2, j


def _spearman(ranks: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Compute the rank correlation of every pair."""
    standard = (ranks - ranks.mean(axis=0)) / ranks.std(axis=0)
    return _by_pair(lambda i, j: np.mean(standard[:, i] * standard[:, j], axis=0), first, second)


def _count_both(beyond: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Count the observations for which both of a pair lie beyond."""
    return _by_pair(lambda i, j: np.count_nonzero(beyond[:, i] & beyond[:, j], axis=0), first, second)


def _by_pair(
    compute: Callable[[np.ndarray, np.ndarray], np.ndarray], first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """Compute something for all pairs, a few of them at a time."""
    starts = range(0, len(first), _PAIRS)
    return np.concatenate([compute(first[at : at + _PAIRS], second[at : at + _PAIRS]) for at in starts])
