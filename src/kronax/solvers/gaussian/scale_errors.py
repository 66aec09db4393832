r"""What unknown scales of the samples leave in the precision of the variables, and a precision without it.

All variables of a sample share its scale, which is found from the sample itself. Let ``m`` be the means of the variables, ``s`` the
units in which their deviations ``d`` from the means are given, such as standard deviations, and ``K`` the inverse of the covariance of ``d``,
``t_j² = K_jj``.

- An error ``ε`` of the scale moves the variables of the sample by ``εm``, on average, and adds ``var(ε) (m/s)(m/s)ᵀ`` to the covariance.
  That takes a multiple of ``K(m/s)(m/s)ᵀK`` from ``K``, where ``(K(m/s))_j = t_j² m_j/s_j`` for variables that depend little on each other.
- The scale gives the sample the sum of squares that it should have, whatever the variables do: to first order, ``wᵀd = 0`` with ``w_j = m_j s_j``.
  Along ``w`` variance is missing, and a multiple of ``Kw wᵀK`` is what ``K`` has too much.

The data do not tell how much there is of either, so partial correlations ``ρ_jl = −K_jl/(t_j t_l)`` are made as small as these terms can
make them: ``b`` is fitted to ``ρ_jl ≈ Σ_k b_k h_kj h_kl/(t_j t_l)`` by least squares. The precision is then

    ``K′ = K + Σ_k b_k h_k h_kᵀ``,   ``h_1j = t_j² m_j/s_j``,  ``h_2 = Kw``,                                             (13)

where no ``b`` takes more than 99% of the precision along any direction, so that ``K′`` is positive definite.
"""

from dataclasses import replace

import numpy as np

from kronax.solvers.gaussian.precision import LowRank, diagonal
from kronax.solvers.gaussian.vectors import Held

N_TERMS = 2  # of Eq. 13
_LARGE, _ROUNDS = 3.0, 3  # standard deviations that larger residuals count as, and rounds of the fit
MEDIAN_SIZE = 0.6745  # of a standard normal variable, absolute
_VARIABLES = 512  # whose pairs are fitted, at most: then the error of b is below a hundredth of the spread of ρ
_MOST = 0.99  # of the precision along any direction, which one term may take


def without_scale_errors(inverse: LowRank, means: np.ndarray, units: np.ndarray) -> LowRank:
    """Take from a precision what errors of the samples' scales add to it: Eq. 13.

    Parameters
    ----------
    inverse
        ``K``, whose vectors are orthonormal, but for rows that are zero: variables that do not vary.
    means, units
        ``m`` and ``s``, (p,).
    """
    vectors, weights = inverse.vectors.array(), inverse.weights
    inverse = replace(inverse, vectors=Held(vectors))
    t = np.sqrt(diagonal(inverse))
    still = inverse.vectors.still
    m, s = np.where(still, 0.0, means), np.where(still, 1.0, units)
    w = m * s
    h = np.stack([t**2 * m / s, inverse.base * w + vectors @ (weights * (w @ vectors))], axis=1)
    vary = np.flatnonzero(~still)
    some = vary[:: -(-len(vary) // _VARIABLES)]
    i, j = np.triu_indices(len(some), k=1)
    u, g = (side[some] / t[some, None] for side in (vectors, h))
    b = _bounded(slopes(-((u * weights) @ u.T)[i, j], (g[i] * g[j]).T), inverse, h, w)
    return LowRank(inverse.base, Held(np.column_stack([vectors, h.astype(vectors.dtype)])), np.append(weights, b))


def _bounded(b: np.ndarray, inverse: LowRank, h: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return the ``b`` of Eq. 13 that take no more than they may.

    ``K + bhhᵀ`` has ``1 + b hᵀK⁻¹h`` times the precision of ``K`` along ``K⁻¹h``, and no less along all other directions. With
    ``h₂ = Kw`` that is ``1 + b₂wᵀKw``, and the inverse of ``K + b₂h₂h₂ᵀ`` is ``K⁻¹ − b₂wwᵀ/(1 + b₂wᵀKw)``.
    """
    h1, h2 = h.T
    inside = h1 @ inverse.vectors.array()
    of_k = h1 @ h1 / inverse.base + inside**2 @ (1.0 / (inverse.base + inverse.weights) - 1.0 / inverse.base)
    b2, size = _at_least(b[1], w @ h2)
    return np.array([_at_least(b[0], of_k - b2 * (w @ h1) ** 2 / size)[0], b2])


def _at_least(b: float, form: float) -> tuple[float, float]:
    """Return a ``b`` for which ``1 + b·form`` is at least what has to be left, and that."""
    b = max(b, -_MOST / form) if form > 0 else b
    return b, 1.0 + b * form


def slopes(values: np.ndarray, products: np.ndarray) -> np.ndarray:
    """Fit ``b`` to the partial correlations of some pairs, (k,), by least squares in which large residuals count as less.

    Parameters
    ----------
    values
        ``ρ_jl``, (pairs,).
    products
        What is multiplied by ``b``, (k, pairs).
    """
    size = np.linalg.norm(products, axis=1)  # differs by many orders of magnitude where variables hardly vary
    size[size == 0] = 1.0
    products = products / size[:, None]
    found, inverse = np.zeros(len(products)), np.linalg.pinv(products @ products.T)
    for _ in range(_ROUNDS if products.size else 0):
        residuals = values - found @ products
        most = _LARGE * np.median(np.abs(residuals)) / MEDIAN_SIZE
        found = found + inverse @ (products @ np.clip(residuals, -most, most))
    return found / size
