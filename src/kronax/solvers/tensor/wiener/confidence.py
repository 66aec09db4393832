"""The cosine of a prediction of ``kronecker`` with its measurement that is to be expected."""

from collections.abc import Callable

import numpy as np
from scipy.optimize import isotonic_regression

from kronax.solvers.tensor.wiener.held_out import Folds
from kronax.solvers.tensor.wiener.kernels import Prior
from kronax.solvers.tensor.wiener.options import KroneckerOptions

_TOL, _SWEEPS = 1e-3, 100  # near enough for a confidence
_GROUPS, _LEAST_GROUP = 10, 20  # of held-out fibers: groups at most, and fibers in each at least


def calibration(folds: Folds, prior: Prior, options: KroneckerOptions) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from a prediction's relative size to the cosine that it is expected to have with a measurement.

    Were the kernels the true ones, both would be the same. As they are learnt from the data, the function is what held-out
    fibers reached, made ascending: means over groups of them, straight lines in between.
    """
    sizes, cosines = [], []
    tol, max_iter = max(options.tol, _TOL), min(options.max_iter, _SWEEPS)
    for mask, missing, x in folds.predictions(prior, tol, max_iter):
        sizes.append(relative_size(np.where(missing, np.nan, x), ~missing, x)[mask])
        cosines.append(_cosines(folds.task.values[mask], x[mask]))
    size, cosine = (np.concatenate([*part, []]) for part in (sizes, cosines))
    size, cosine = size[~np.isnan(cosine)], cosine[~np.isnan(cosine)]
    if len(size) == 0:
        return lambda relative_size: np.minimum(relative_size, 1.0)
    groups = np.array_split(np.argsort(size, kind="stable"), np.clip(len(size) // _LEAST_GROUP, 1, _GROUPS))
    knots = [size[group].mean() for group in groups]
    level = isotonic_regression([cosine[group].mean() for group in groups]).x
    return lambda relative_size: np.where(  # NaN where nothing is missing
        np.isnan(relative_size), np.nan, np.clip(np.interp(relative_size, knots, level), 0.0, 1.0)
    )


def _cosines(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the cosine between rows over the entries that were measured; NaN where undefined."""
    has = ~np.isnan(truth)
    t, p = (np.where(has, x, 0.0).astype(np.float64) for x in (truth, predicted))
    length = np.linalg.norm(t, axis=1) * np.linalg.norm(p, axis=1)
    return np.divide((t * p).sum(axis=1), length, out=np.full(len(t), np.nan), where=length > 0)


def relative_size(values: np.ndarray, measured: np.ndarray, completed: np.ndarray) -> np.ndarray:
    """Relate the size of a prediction to that expected of a measured fiber of its treatment and context.

    The size of a context is that of its kernel (Eq. 3): where little is known of it, predictions are not of its own size.
    """
    known, gaps = measured.sum(axis=2), (~measured).sum(axis=2)
    square = _squares(values, measured)
    overall = square.sum() / known.sum()

    def relative(axis: int) -> np.ndarray:  # the mean square of a treatment or context
        count = known.sum(axis=axis)
        mean = np.divide(square.sum(axis=axis), count, out=np.full(count.shape, overall), where=count > 0)
        return mean / overall if overall > 0 else np.ones_like(mean)

    n = known.sum(axis=0) / values.shape[2]
    expected = overall * relative(1)[:, None] * relative(0) ** (n / (n + 1.0))
    size = np.divide(_squares(completed, ~measured), gaps, out=np.full(gaps.shape, np.nan), where=gaps > 0)
    ratio = np.divide(size, expected, out=np.zeros_like(size), where=expected > 0)
    return np.where(gaps > 0, np.sqrt(ratio), np.nan)


def _squares(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Sum the squares of some of a fiber's entries, ``(D, C)``; treatment by treatment, to save memory."""
    return np.array([np.square(v, dtype=np.float64).sum(axis=1, where=w) for v, w in zip(values, where, strict=True)])
