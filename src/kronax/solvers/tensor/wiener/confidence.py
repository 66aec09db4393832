"""The expected cosine between a prediction of ``kronecker`` and its measurement."""

from collections.abc import Callable

import numpy as np
from scipy.optimize import isotonic_regression

from kronax.solvers.tensor.connection import FEWEST, blocks_of, held_out_links, linking_treatments
from kronax.solvers.tensor.wiener.coordinates import Task
from kronax.solvers.tensor.wiener.held_out import Folds, HeldOut, folds_across, folds_of_contexts
from kronax.solvers.tensor.wiener.kernels import Prior
from kronax.solvers.tensor.wiener.kriging import Kriging
from kronax.solvers.tensor.wiener.options import KroneckerOptions

_TOL, _SWEEPS = 1e-3, 100  # accurate enough for a confidence
_GROUPS, _LEAST_GROUP = 10, 20  # of held-out fibers: groups at most, and fibers in each at least
_CAUTION = 1.0  # standard errors: few treatments bridge blocks


Cosines = Callable[[np.ndarray], np.ndarray]  # from relative sizes to expected cosines


def expected_cosines(task: Task, within: Cosines, prior: Prior, options: KroneckerOptions) -> Cosines:
    """Return the function from relative sizes ``(D, C)`` to expected cosines, NaN where these are unknown.

    They are what held-out fibers reached, ``within``; across blocks of contexts, what fibers held out across blocks reached. Fibers linked by
    fewer than three treatments have none, unless enough held-out fibers are linked by as few.
    """
    measured = ~np.isnan(task.values)
    some = measured.any(axis=2)
    blocks, links = blocks_of(some), linking_treatments(measured)
    known = (links >= FEWEST) | ((held_out_links(some) < FEWEST).sum() >= _LEAST_GROUP)
    beyond = folds_across(task, blocks, options) if (blocks.across & known).any() else Folds(task, [])
    across = calibration(beyond, prior, options, _CAUTION)
    known &= ~blocks.across | bool(beyond.held)

    def expected(size: np.ndarray) -> np.ndarray:
        return np.where(known, np.where(blocks.across, across(size), within(size)), np.nan)

    return expected


def calibration(folds: Folds, prior: Prior, options: KroneckerOptions, caution: float = 0.0) -> Cosines:
    """Return the function from a prediction's relative size to its expected cosine with a measurement.

    With the true kernels, both would be the same. As kernels are learnt from the data, the function is what held-out fibers
    reached: means over groups of them, less ``caution`` standard errors, made ascending and interpolated linearly.
    """
    tol, max_iter = max(options.tol, _TOL), min(options.max_iter, _SWEEPS)
    parts = list(folds.each(sizes_and_cosines, prior, tol, max_iter))
    size, cosine, treatment = (np.concatenate([*(part[i] for part in parts), []]) for i in range(3))
    if np.isnan(cosine).all():
        return lambda relative_size: np.minimum(relative_size, 1.0)
    return reached(size, cosine, treatment, caution)


def sizes_and_cosines(found: HeldOut) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the relative sizes of held-out fibers, the cosines reached, and the fibers' treatments."""
    gaps, x = found.missing, found.filled
    size = relative_size(np.where(gaps, np.nan, x), ~gaps, x)
    return size[found.mask], _cosines(found.truth, found.predicted), np.nonzero(found.mask)[0]


def reached(
    size: np.ndarray, cosine: np.ndarray, treatment: np.ndarray, caution: float = 0.0
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the ascending function from sizes to the mean cosines of held-out fibers, less ``caution`` standard errors.

    Fibers with an undefined cosine do not count; with no others, nothing is known: NaN.
    """
    size, cosine, treatment = (part[~np.isnan(cosine)] for part in (size, cosine, treatment))
    if len(size) == 0:
        return lambda relative_size: np.full_like(relative_size, np.nan)
    groups = np.array_split(np.argsort(size, kind="stable"), np.clip(len(size) // _LEAST_GROUP, 1, _GROUPS))
    knots = [size[group].mean() for group in groups]
    level = [cosine[group].mean() - caution * _standard_error(cosine[group], treatment[group]) for group in groups]
    level = isotonic_regression(level).x
    return lambda relative_size: np.where(  # NaN where nothing is missing
        np.isnan(relative_size), np.nan, np.clip(np.interp(relative_size, knots, level), 0.0, 1.0)
    )


def expected_of_new_contexts(task: Task, prior: Prior, options: KroneckerOptions) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from relative sizes to what was reached in contexts held out whole, predicted by what links them."""
    folds = folds_of_contexts(task, options)
    if not folds.held:
        return lambda size: np.full_like(size, np.nan)
    return calibration(folds, prior, options)


def expected_of_new_treatments(
    values: np.ndarray, z: np.ndarray, kriging: Kriging
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from relative sizes to what was reached for treatments left out whole.

    Parameters
    ----------
    values
        ``(D, C, r)``, NaN where missing.
    z
        The completed tensor.
    kriging
        By which treatments are predicted.
    """
    o = kriging.known
    truth, predicted = values[o], kriging.left_out(z)
    some = ~np.isnan(truth).all(axis=2)
    size = np.sqrt(np.square(predicted).mean(axis=2) / _square_of_contexts(truth, ~np.isnan(truth)))
    return reached(size[some], _cosines(truth[some], predicted[some]), np.nonzero(some)[0])


def _standard_error(cosine: np.ndarray, treatment: np.ndarray) -> float:
    """Compute the standard error of a mean over fibers; the fibers of one treatment count as one observation."""
    number = np.unique(treatment, return_inverse=True)[1]
    total = np.bincount(number, cosine - cosine.mean())
    return float(np.sqrt(len(total) / max(len(total) - 1, 1) * np.square(total).sum()) / len(cosine))


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
    expected = _relative(square, known, 1)[:, None] * _square_of_contexts(values, measured)
    size = np.divide(_squares(completed, ~measured), gaps, out=np.full(gaps.shape, np.nan), where=gaps > 0)
    ratio = np.divide(size, expected, out=np.zeros_like(size), where=expected > 0)
    return np.where(gaps > 0, np.sqrt(ratio), np.nan)


def _square_of_contexts(values: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Return the mean square that is expected in a context, ``(C,)``: that of its kernel."""
    known, square = measured.sum(axis=2), _squares(values, measured)
    n = known.sum(axis=0) / values.shape[2]
    return square.sum() / known.sum() * _relative(square, known, 0) ** (n / (n + 1.0))


def _relative(square: np.ndarray, known: np.ndarray, axis: int) -> np.ndarray:
    """Divide the mean square of a treatment or context by that of all."""
    overall, count = square.sum() / known.sum(), known.sum(axis=axis)
    mean = np.divide(square.sum(axis=axis), count, out=np.full(count.shape, overall), where=count > 0)
    return mean / overall if overall > 0 else np.ones_like(mean)


def _squares(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Sum the squares of some of a fiber's entries, ``(D, C)``; treatment by treatment, to save memory."""
    return np.array([np.square(v, dtype=np.float64).sum(axis=1, where=w) for v, w in zip(values, where, strict=True)])
