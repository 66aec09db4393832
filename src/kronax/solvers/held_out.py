"""Nonlinear shrinkage by cross-validation: the variance that data held out show along the eigenvectors of the others.

For eigenvectors ``u_i`` of a sample covariance matrix the best eigenvalues are ``u_iᵀ Σ u_i``. Data that had no part in
finding ``u_i`` estimate them without bias; isotonic regression keeps their order (Bartz, arXiv:1611.00798, 2016; Lam,
Annals of Statistics 2016). Where a matrix is nearly square, its spectrum reaches down to zero, and the closed form of
quadratic-inverse shrinkage loses its footing there, just where a precision matrix lives; this does not.

All that is needed are Gram matrices of the short side, ``G = ZᵀZ`` for a tall ``Z``.
"""

import numpy as np
from scipy.optimize import isotonic_regression

from kronax.solvers.linalg import eigh_all

_ROUNDING = 1e-12  # eigenvalues below this share of the largest count as zero
_LEAST = 1e-6  # of the mean eigenvalue: the least that any direction is given


def folds(key: np.ndarray, n_folds: int) -> np.ndarray:
    """Deal items out to folds in the order of a key, so that the folds do not depend on how the items are arranged."""
    fold = np.empty(len(key), np.int32)
    fold[np.argsort(key, kind="stable")] = np.arange(len(key)) % n_folds
    return fold


def row_eigenvalues(gram: np.ndarray, fold_of_col: np.ndarray, dim: int, kept: int) -> np.ndarray:
    """Estimate the eigenvalues of ``ZZᵀ``, the columns of ``Z`` being the samples.

    Parameters
    ----------
    gram
        ``ZᵀZ``, (m, m).
    fold_of_col
        Fold of every column, (m,).
    dim
        Degrees of freedom of the rows.
    kept
        Number of positive eigenvalues of ``ZZᵀ``.

    Returns
    -------
    ``kept`` eigenvalues, in descending order, and one more for each of the ``dim − kept`` others, if there are any.
    """
    found = np.zeros(dim)
    tests = [fold_of_col == fold for fold in np.unique(fold_of_col)]
    for test, (values, vectors) in zip(tests, eigh_all([gram[np.ix_(~test, ~test)] for test in tests]), strict=True):
        positive = values > _ROUNDING * values[0]
        values, vectors = values[positive][:dim], vectors[:, positive][:, :dim]
        # U = Z W/√t has the energy ‖Uᵀ Z_test‖² of each held-out column
        energy = ((vectors.T @ gram[np.ix_(~test, test)]) ** 2).sum(1) / values
        found += _spread_over_null(energy, float(np.trace(gram[np.ix_(test, test)])), dim)
    return _monotone(found, kept)


def col_eigenvalues(gram: np.ndarray, gram_of_fold: np.ndarray, dim: int, kept: int) -> np.ndarray:
    """Estimate the eigenvalues of ``ZᵀZ``, the rows of ``Z`` being the samples.

    Parameters
    ----------
    gram
        ``ZᵀZ``, (m, m).
    gram_of_fold
        ``Z_kᵀ Z_k`` of the rows of every fold, (n_folds, m, m).
    dim
        Degrees of freedom of the columns.
    kept
        Number of positive eigenvalues of ``ZᵀZ``.

    Returns
    -------
    As :func:`row_eigenvalues`.
    """
    found = np.zeros(dim)
    for test, (values, vectors) in zip(gram_of_fold, eigh_all([gram - test for test in gram_of_fold]), strict=True):
        vectors = vectors[:, values > _ROUNDING * values[0]][:, :dim]
        energy = np.einsum("ji,jk,ki->i", vectors, test, vectors, optimize=True)
        found += _spread_over_null(energy, float(np.trace(test)), dim)
    return _monotone(found, kept)


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
