r"""What unknown scales of the samples leave in the precision of the variables, and a precision without it.

All variables of a sample share its scale, which is found from the sample itself. Let ``m`` be the means of the variables and ``K``
the inverse of their covariance, ``t_j² = K_jj``.

- An error ``ε`` of the scale moves the variables of the sample by ``εm``, on average, and adds ``var(ε) m mᵀ`` to the covariance.
  That takes a multiple of ``(Km)(Km)ᵀ`` from ``K``, where ``(Km)_j = t_j² m_j`` for variables that depend little on each other.
- The scale gives the sample the sum of squares that it should have. Deviations ``d`` from the means then have ``mᵀd = 0``, to first
  order, whatever the variables do: along ``m`` variance is missing, and ``K`` has a multiple of ``m mᵀ`` too much.

The data do not tell how much there is of either. Partial correlations become smallest, in the sense of least squares, with the
``b`` fitted to ``ρ_jl = Σ_k b_k h_kj h_kl/(t_j t_l)``, which leave

    ``K′ = K + Σ_k b_k h_k h_kᵀ + λI``,   ``h_1j = t_j² m_j``,  ``h_2 = m``,                                             (13)

and the least ``λ ≥ 0`` that keeps ``K′`` positive definite.
"""

from dataclasses import replace

import numpy as np
from scipy import optimize

from kronax.solvers.gaussian.precision import LowRank, diagonal
from kronax.solvers.gaussian.vectors import Held

_LARGE, _ROUNDS = 3.0, 3  # standard deviations that larger residuals count as, and rounds of the fit
_MEDIAN_SIZE = 0.6745  # of a standard normal variable, absolute
_PAIRS = 2**18  # of the fit, at most: then the error of b is below a hundredth of the spread of partial correlations
_LEAST = 0.5  # of the least precision of K along any direction, which K′ keeps


def without_scale_errors(inverse: LowRank, means: np.ndarray) -> LowRank:
    """Take from a precision what errors of the samples' scales add to it: Eq. 13.

    Parameters
    ----------
    inverse
        ``K``, whose vectors are orthonormal, but for rows that are zero: variables that do not vary.
    means
        ``m``, (p,).
    """
    vectors, weights = inverse.vectors.array(), inverse.weights
    inverse = replace(inverse, vectors=Held(vectors))
    t = np.sqrt(diagonal(inverse))
    m = np.where(inverse.vectors.still, 0.0, means)
    g = np.stack([t * m, m / t])
    rows = np.arange(0, len(t), -(-(len(t) ** 2) // _PAIRS))
    i, cols = np.nonzero(rows[:, None] < np.arange(len(t)))
    products = (vectors[rows] * weights) @ vectors.T / t[rows, None] / t
    b = slopes(-products[i, cols], g[:, rows[i]] * g[:, cols])
    h = (g * t).T
    return LowRank(
        inverse.base + _ridge(inverse, h, b),
        Held(np.column_stack([vectors, h.astype(vectors.dtype)])),
        np.append(weights, b),
    )


def slopes(values: np.ndarray, products: np.ndarray) -> np.ndarray:
    """Fit ``b`` to the partial correlations of some pairs, (k,), by least squares in which large residuals count as less.

    Parameters
    ----------
    values
        ``ρ_jl``, (pairs,).
    products
        What is multiplied by ``b``, (k, pairs).
    """
    found, inverse = np.zeros(len(products)), np.linalg.pinv(products @ products.T)
    for _ in range(_ROUNDS if len(products) else 0):
        residuals = values - found @ products
        most = _LARGE * np.median(np.abs(residuals)) / _MEDIAN_SIZE
        found = found + inverse @ (products @ np.clip(residuals, -most, most))
    return found


def _ridge(inverse: LowRank, h: np.ndarray, b: np.ndarray) -> float:
    """Return the ``λ`` of Eq. 13: where the smallest eigenvalue of ``I + R⁻¹ h diag(b) hᵀ R⁻¹``, ``R² = K + λI``, is 0."""
    precisions = inverse.base + np.append(inverse.weights, 0.0)
    kept = _LEAST * precisions.min()
    inside = inverse.vectors.array().T @ h
    outside = h.T @ h - inside.T @ inside

    def least(ridge: float) -> float:
        along = precisions + ridge - kept
        inner = inside.T @ (inside / along[:-1, None]) + outside / along[-1]
        return 1.0 + np.linalg.eigvals(b[:, None] * inner).real.min()

    most = -np.minimum(b, 0.0) @ (h**2).sum(axis=0)
    return 0.0 if least(0.0) >= 0 else float(optimize.brentq(least, 0.0, most))
