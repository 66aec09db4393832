"""Nonlinear shrinkage by cross-validation: the variance that data held out show along the eigenvectors of the others.

For eigenvectors ``u_i`` of a sample covariance matrix the best eigenvalues are ``u_iᵀ Σ u_i``. Data that had no part in
finding ``u_i`` estimate them without bias; isotonic regression keeps their order (Bartz, arXiv:1611.00798, 2016; Lam,
Annals of Statistics 2016). Where a matrix is nearly square, its spectrum reaches down to zero, and the closed form of
quadratic-inverse shrinkage loses its footing there, just where a precision matrix lives; this does not.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.optimize import isotonic_regression

from kronax.solvers.device import eigh_of_platform, side_by_side

Solve = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
_ROUNDING = 1e-12  # eigenvalues below this share of the largest count as zero
_LEAST = 1e-6  # eigenvalues below this share of their mean are no variance


@dataclass(frozen=True)
class Samples:
    """What is known of one axis: samples of its variables.

    Attributes
    ----------
    coordinates
        ``S``: samples × coordinates of the variables' space, in any orthonormal basis that holds the samples.
    fold
        Fold of every sample.
    dim
        Degrees of freedom of the variables.
    kept
        Number of positive eigenvalues of ``SᵀS``.
    """

    coordinates: np.ndarray
    fold: np.ndarray
    dim: int
    kept: int


def folds(key: np.ndarray, n_folds: int) -> np.ndarray:
    """Deal items out to folds in the order of a key, so that the folds do not depend on how the items are arranged."""
    fold = np.empty(len(key), np.int32)
    fold[np.argsort(key, kind="stable")] = np.arange(len(key)) % n_folds
    return fold


def eigenvalues(*axes: Samples) -> list[np.ndarray]:
    """Estimate the eigenvalues of ``SᵀS`` of every axis given.

    Returns
    -------
    For every axis ``kept`` eigenvalues, in descending order, and one more for each of the ``dim − kept`` others, if there
    are any.
    """
    if not axes:
        return []
    folds = [(axis, fold) for axis in axes for fold in _folds(axis)]
    solve = eigh_of_platform()
    size = max(min(axis.coordinates.shape) for axis in axes)
    energies = side_by_side(lambda item: item[1](solve), folds, size)
    found = {id(axis): np.zeros(axis.dim) for axis in axes}
    for (axis, _), energy in zip(folds, energies, strict=True):
        found[id(axis)] += energy
    return [_monotone(found[id(axis)], axis.kept) for axis in axes]


def _folds(axis: Samples) -> Iterator[Callable[[Solve], np.ndarray]]:
    """For every fold give what finds the energies that it shows along the eigenvectors of the other folds.

    With ``T`` the other samples and ``H`` those of the fold, ``u_i`` is an eigenvector of ``TᵀT`` or, where the samples are
    fewer than the coordinates, ``Tᵀw_i/√t_i`` from one of ``TTᵀ``. The energy along it is ``‖Hu_i‖²``.
    """
    samples = axis.coordinates
    n_trained = len(samples) - np.bincount(axis.fold).min()
    tests = [axis.fold == fold for fold in np.unique(axis.fold)]
    if n_trained < samples.shape[1]:
        gram = samples @ samples.T
        yield from (partial(_by_samples, gram, test, axis.dim) for test in tests)
    else:
        gram = samples.T @ samples
        yield from (partial(_by_coordinates, gram, samples[test], axis.dim) for test in tests)


def _by_samples(gram: np.ndarray, test: np.ndarray, dim: int, solve: Solve) -> np.ndarray:
    t, w = _positive(*solve(gram[np.ix_(~test, ~test)]), dim)
    energy = ((w.T @ gram[np.ix_(~test, test)]) ** 2).sum(1) / t
    return _spread_over_null(energy, float(np.diagonal(gram)[test].sum()), dim)


def _by_coordinates(gram: np.ndarray, held: np.ndarray, dim: int, solve: Solve) -> np.ndarray:
    part = held.T @ held
    _, u = _positive(*solve(gram - part), dim)
    return _spread_over_null(((held @ u) ** 2).sum(0), float(np.trace(part)), dim)


def _positive(values: np.ndarray, vectors: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Keep the positive eigenvalues, at most ``dim``, and their vectors."""
    n_positive = min(int((values > _ROUNDING * values[0]).sum()), dim)
    return values[:n_positive], vectors[:, :n_positive]


def _spread_over_null(energy: np.ndarray, total: float, dim: int) -> np.ndarray:
    """Share what is left of the total equally among the directions that the other folds did not show."""
    n_null = dim - len(energy)
    left = max(total - energy.sum(), 0.0) / n_null if n_null else 0.0
    return np.append(energy, np.full(n_null, left))


def _monotone(found: np.ndarray, kept: int) -> np.ndarray:
    """Make the eigenvalues non-increasing and positive, those beyond ``kept`` one group.

    Directions that show no variance, as where some variables are combinations of others, get the least of the others.
    """
    weights = np.ones(min(kept + 1, len(found)))
    values = found[: len(weights)].copy()
    if kept < len(found):
        values[kept], weights[kept] = found[kept:].mean(), len(found) - kept
    values = isotonic_regression(values, weights=weights, increasing=False).x
    shown = values > _LEAST * found.mean()
    return np.where(shown, values, values[shown].min())
