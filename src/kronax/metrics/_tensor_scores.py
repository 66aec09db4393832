"""Scores of predicted against measured profiles, as arrays whose last axis is that of the genes."""

import numpy as np
from scipy.stats import rankdata

from kronax._data import named, objects
from kronax.solvers.tensor.folds import pooled_correlation


def deg_auc(truth: np.ndarray, predicted: np.ndarray, *, top: float = 0.01) -> float:
    """Score how well predicted profiles identify differentially expressed genes.

    In every measured profile, the genes with the largest absolute values are called differentially expressed. A gene's
    score is the rank of its absolute value within the predicted profile. The area under the ROC curve is computed over
    the genes of all profiles together: ½ is chance, 1 is perfect.

    Parameters
    ----------
    truth
        Measured profiles, an array of any shape whose last axis is that of the genes, as from
        :func:`kronax.get.array`. NaN where not measured.
    predicted
        Predicted profiles, of the same shape. NaN where there is no prediction. Names, as those of :func:`kronax.get.array` or of a
        table, are brought to the order of those of `truth`.
    top
        Share of a profile's genes that are called differentially expressed, at least one gene. Ties with the last of
        them count too, unless its value is 0.

    Returns
    -------
    The area under the curve; NaN if no gene is called differentially expressed, or all are.

    Raises
    ------
    TypeError
        If an argument is not an array.
    ValueError
        If the shapes or some of the names differ, or `top` is not between 0 and 1.

    References
    ----------
    :cite:t:`Hodos2018`, section 3.4.

    Examples
    --------
    >>> import kronax as kx
    >>> truth = [[0.1, -3.0, 0.2, 0.0], [2.0, 0.3, -0.1, 0.2]]
    >>> predicted = [[0.0, 1.0, -0.5, 0.2], [0.1, -0.9, 0.0, 0.3]]
    >>> round(kx.metrics.deg_auc(truth, predicted, top=0.25), 3)
    0.667
    """
    from sklearn.metrics import roc_auc_score

    label, score = deg_labels(truth, predicted, top=top)
    return float(roc_auc_score(label, score)) if 0 < label.sum() < len(label) else float("nan")


def deg_labels(truth: np.ndarray, predicted: np.ndarray, *, top: float) -> tuple[np.ndarray, np.ndarray]:
    """Return, for every gene of every profile, whether it is differentially expressed, and the predicted score of that.

    Both are flat and leave out what either array misses. The score is the rank within the profile divided by the number
    of its genes, ties at their mean.
    """
    truth, predicted = _pair(truth, predicted)
    require_top(top, "top")
    both = ~(np.isnan(truth) | np.isnan(predicted))
    truth, predicted, both = (x.reshape(-1, x.shape[-1]) for x in (truth, predicted, both))
    size = np.where(both, np.abs(truth), -np.inf)
    n_genes = both.sum(axis=1)
    n_top = np.maximum(np.rint(top * n_genes).astype(int), 1)
    last = np.take_along_axis(np.sort(size, axis=1)[:, ::-1], n_top[:, None] - 1, axis=1)
    label = (size >= last) & (size > 0)
    # what is not compared ranks behind all others, and so does not change their ranks
    rank = rankdata(np.where(both, np.abs(predicted), np.inf), axis=1) / np.maximum(n_genes, 1)[:, None]
    return label[both], rank[both]


def require_top(top: float, name: str) -> None:
    """Require a share of the genes, neither none nor all."""
    if not 0 < top < 1:
        msg = f"`{name}` must lie between 0 and 1, found {top!r}."
        raise ValueError(msg)


def calibration_slope(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Compute the slope of the regression of measured on predicted values.

    At 1, a prediction that is larger by 1 means that the measured value is larger by 1 on average. Above 1, predicted
    effects are too small; below 1, too large.

    Parameters
    ----------
    truth
        Measured values, an array of any shape, as from :func:`kronax.get.array`. NaN where not measured.
    predicted
        Predicted values, of the same shape. NaN where there is no prediction. Names are brought to the order of those of `truth`.

    Returns
    -------
    The least-squares slope (with an intercept) over all values together; NaN if all predictions are equal.

    Raises
    ------
    TypeError
        If an argument is not an array.
    ValueError
        If the shapes or some of the names differ.

    References
    ----------
    The regression of outcomes on forecasts: :cite:t:`Mincer1969`.

    Examples
    --------
    >>> import kronax as kx
    >>> kx.metrics.calibration_slope([1.0, 3.0, 5.0], [0.0, 1.0, 2.0])
    2.0
    """
    t, p = _compared(truth, predicted)
    p = p - p.mean() if p.size else p
    square = float(p @ p)
    return float(t @ p) / square if square > 0 else float("nan")


def variance_ratio(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Divide the variance of predictions by that of measured values: near 0 if predictions shrink to the mean."""
    t, p = _compared(truth, predicted)
    variance = t.var() if t.size else 0.0
    return float(p.var() / variance) if variance > 0 else float("nan")


def mean_absolute_error(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Average ``|truth − predicted|``."""
    t, p = _compared(truth, predicted)
    return float(np.abs(t - p).mean()) if t.size else float("nan")


def mean_squared_error(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Average ``(truth − predicted)²``."""
    t, p = _compared(truth, predicted)
    return float(np.square(t - p).mean()) if t.size else float("nan")


def row_correlations(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Correlate every row of one matrix with the same row of another; NaN where undefined."""
    return np.array([pooled_correlation(t, p) for t, p in zip(truth, predicted, strict=True)])


def grouped_correlations(truth: np.ndarray, predicted: np.ndarray, group: np.ndarray, n_groups: int) -> np.ndarray:
    """Correlate all entries of the rows of every group; NaN where undefined."""
    members = _members(group, n_groups)
    return np.array([pooled_correlation(truth[rows], predicted[rows]) for rows in members])


def grouped_specificity(profiles: np.ndarray, group: np.ndarray, n_groups: int) -> np.ndarray:
    """Take the mean cosine distance between the rows of every group; NaN where there is no pair."""
    return np.array([mean_cosine_distance(profiles[rows]) for rows in _members(group, n_groups)])


def _members(group: np.ndarray, n_groups: int) -> list[np.ndarray]:
    order = np.argsort(group, kind="stable")
    return np.split(order, np.searchsorted(group[order], np.arange(1, n_groups)))


def mean_cosine_distance(profiles: np.ndarray) -> float:
    """Average the cosine distance of all pairs of profiles ``(n, G)``: from 0 (all alike) to 2.

    Over the genes that both profiles of a pair have. Pairs with a zero profile are left out; NaN if none is left.
    """
    has = ~np.isnan(profiles)
    x = np.where(has, profiles, 0.0).astype(np.float64)
    length = np.sqrt((x * x) @ has.T.astype(np.float64))  # of row i over the genes of row j
    scale = length * length.T
    cosine = np.divide(x @ x.T, scale, out=np.full(scale.shape, np.nan), where=scale > 0)
    pairs = 1.0 - cosine[np.triu_indices(len(x), 1)]
    return float(np.nanmean(pairs)) if (~np.isnan(pairs)).any() else float("nan")


def _pair(truth: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    axes = "with genes on the last axis"
    predicted = named.in_order(predicted, truth)
    truth, predicted = objects.array(truth, "truth", axes), objects.array(predicted, "predicted", axes)
    if truth.shape != predicted.shape:
        msg = f"Measured and predicted values must have the same shape, found {truth.shape} and {predicted.shape}."
        raise ValueError(msg)
    return truth, predicted


def _compared(truth: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the entries that neither array misses, flat."""
    truth, predicted = _pair(truth, predicted)
    both = ~(np.isnan(truth) | np.isnan(predicted))
    return truth[both], predicted[both]
