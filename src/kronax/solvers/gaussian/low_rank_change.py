"""A function of a symmetric matrix, and of the same with a matrix of low rank added.

With ``f(A)`` known for ``A = diag(e)``, ``f(A + D) − f(A)`` has nearly low rank too if ``D = CᵀSC``, ``S`` diagonal, has low rank. It lies in the span of some
``(A + tI)⁻¹Cᵀ``, a rational Krylov space with the orthonormal basis ``Q``, and is found there by a small eigenproblem (Beckermann, Cortinovis, Kressner and
Schweitzer, SIAM J. Numer. Anal. 2021):

    ``f(A + D) ≈ f(A) + Q[f(Qᵀ(A + D)Q) − f(QᵀAQ)]Qᵀ``.                                                              (23)

Where ``Q`` has as many columns as ``A``, this is exact.
"""

from collections.abc import Callable

import numpy as np

_COLUMNS = 256  # of Q, at most, unless C has more rows


def change(
    function: Callable[[np.ndarray], np.ndarray], eigenvalues: np.ndarray, c: np.ndarray, signs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors, (r, k), and weights, (k,), whose matrix is ``f(A + D) − f(A)``.

    Parameters
    ----------
    function
        ``f``, of arrays of numbers.
    eigenvalues
        ``e``, positive, descending, (r,).
    c, signs
        ``C``, (rows, r), and the diagonal of ``S``, (rows,).
    """
    basis = _basis(eigenvalues, c)
    inside, c = (basis.T * eigenvalues) @ basis, c @ basis
    difference = _of_matrix(function, inside + (c.T * signs) @ c) - _of_matrix(function, inside)
    weights, vectors = np.linalg.eigh(difference)
    return basis @ vectors, weights


def _basis(eigenvalues: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Return ``Q``: of the whole space, if that is small."""
    size = len(eigenvalues)
    if size <= max(_COLUMNS, len(c)):
        return np.eye(size)
    shifts = np.geomspace(eigenvalues[-1], eigenvalues[0], max(1, _COLUMNS // len(c) - 1))
    blocks = [c.T, *(c.T / (eigenvalues + shift)[:, None] for shift in shifts)]
    return np.linalg.qr(
        np.hstack([block / (np.linalg.norm(block, axis=0) + np.finfo(float).tiny) for block in blocks])
    )[0]


def _of_matrix(function: Callable[[np.ndarray], np.ndarray], matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * function(values)) @ vectors.T
