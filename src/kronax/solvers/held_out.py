"""Nonlinear shrinkage by cross-validation: the variance that data held out show along the eigenvectors of the others.

For eigenvectors ``u_i`` of a sample covariance matrix the best eigenvalues are ``u_iᵀ Σ u_i``. Data that had no part in
finding ``u_i`` estimate them without bias; isotonic regression keeps their order (Bartz, arXiv:1611.00798, 2016; Lam,
Annals of Statistics 2016). Where a matrix is nearly square, its spectrum reaches down to zero, and the closed form of
quadratic-inverse shrinkage loses its footing there, just where a precision matrix lives; this does not.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from kronax.solvers.linalg import eigh_all

_ROUNDING = 1e-12  # eigenvalues below this share of the largest count as zero
_LEAST = 1e-6  # of the mean eigenvalue: the least that any direction is given


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
    splits = [(axis, *split) for axis in axes for split in _splits(axis)]
    found = {id(axis): np.zeros(axis.dim) for axis in axes}
    for (axis, _, energy, total), solved in zip(splits, eigh_all([matrix for _, matrix, *_ in splits]), strict=True):
        positive = solved[0] > _ROUNDING * solved[0][0]
        values, vectors = (part[..., positive][..., : axis.dim] for part in solved)
        found[id(axis)] += _spread_over_null(energy(values, vectors), total, axis.dim)
    return [_monotone(found[id(axis)], axis.kept) for axis in axes]


def _splits(axis: Samples) -> Iterator[tuple[np.ndarray, Callable, float]]:
    """For every fold give a Gram matrix of the others, and what makes held-out energies of its spectrum; and their total.

    With ``T`` the other samples and ``H`` those held out, ``u_i`` is an eigenvector of ``TᵀT`` or, where the samples are
    fewer than the coordinates, ``Tᵀw_i/√t_i`` from one of ``TTᵀ``. The energy along it is ``‖Hu_i‖²``.
    """
    samples = axis.coordinates
    n_trained = len(samples) - np.bincount(axis.fold).min()
    if n_trained < samples.shape[1]:
        gram = samples @ samples.T
        for test in (axis.fold == fold for fold in np.unique(axis.fold)):
            cross = gram[np.ix_(~test, test)]
            yield (
                gram[np.ix_(~test, ~test)],
                lambda t, w, cross=cross: ((w.T @ cross) ** 2).sum(1) / t,
                float(np.diagonal(gram)[test].sum()),
            )
    else:
        gram = samples.T @ samples
        for held in (samples[axis.fold == fold] for fold in np.unique(axis.fold)):
            part = held.T @ held
            yield gram - part, lambda _, u, held=held: ((held @ u) ** 2).sum(0), float(np.trace(part))


def _spread_over_null(energy: np.ndarray, total: float, dim: int) -> np.ndarray:
    """Share what is left of the total equally among the directions that the other folds did not show."""
    n_null = dim - len(energy)
    left = max(total - energy.sum(), 0.0) / n_null if n_null else 0.0
    return np.append(energy, np.full(n_null, left))


def _monotone(found: np.ndarray, kept: int) -> np.ndarray:
    """Make the eigenvalues non-increasing and positive, those beyond ``kept`` one group."""
    weights = np.ones(min(kept + 1, len(found)))
    values = found[: len(weights)].copy()
    if kept < len(found):
        values[kept], weights[kept] = found[kept:].mean(), len(found) - kept
    values = isotonic_regression(values, weights=weights, increasing=False).x
    return np.maximum(values, _LEAST * found.mean())
