r"""What unknown scales of the samples leave in the precision of the variables, and a precision without it.

All variables of a sample share its scale, which is found from the sample itself. Let ``m`` be the means of the variables and ``K``
the inverse of their covariance, ``t_j² = K_jj``.

- An error ``ε`` of the scale moves the variables of the sample by ``εm``, on average, and adds ``var(ε) m mᵀ`` to the covariance.
  That takes a multiple of ``(Km)(Km)ᵀ`` from ``K``, where ``(Km)_j = t_j² m_j`` for variables that depend little on each other.
- The scale gives the sample the sum of squares that it should have. Deviations ``d`` from the means then have ``mᵀd = 0``, to first
  order, whatever the variables do: along ``m`` variance is missing, and ``K`` has a multiple of ``m mᵀ`` too much.

The data do not tell how much there is of either, so partial correlations ``ρ_jl = −K_jl/(t_j t_l)`` are made as small as these terms can
make them: ``b`` is fitted to ``ρ_jl ≈ Σ_k b_k h_kj h_kl/(t_j t_l)`` by least squares. The precision is then

    ``K′ = K + Σ_k b_k h_k h_kᵀ + λI``,   ``h_1j = t_j² m_j``,  ``h_2 = m``,                                             (13)

with the least ``λ ≥ 0`` that keeps it positive definite: along no direction is its precision below half of the least of ``K``.
"""

from dataclasses import replace

import numpy as np
from scipy import optimize

from kronax.solvers.gaussian.precision import LowRank, diagonal
from kronax.solvers.gaussian.vectors import Held

_LARGE, _ROUNDS = 3.0, 3  # standard deviations that larger residuals count as, and rounds of the fit
MEDIAN_SIZE = 0.6745  # of a standard normal variable, absolute
_VARIABLES = 512  # whose pairs are fitted, at most: then the error of b is below a hundredth of the spread of ρ
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
    still = inverse.vectors.still
    m = np.where(still, 0.0, means)
    h = np.stack([t**2 * m, m], axis=1)
    vary = np.flatnonzero(~still)
    some = vary[:: -(-len(vary) // _VARIABLES)]
    i, j = np.triu_indices(len(some), k=1)
    u, g = (side[some] / t[some, None] for side in (vectors, h))
    b = slopes(-((u * weights) @ u.T)[i, j], (g[i] * g[j]).T)
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
    size = np.linalg.norm(products, axis=1)  # differs by many orders of magnitude where variables hardly vary
    size[size == 0] = 1.0
    products = products / size[:, None]
    found, inverse = np.zeros(len(products)), np.linalg.pinv(products @ products.T)
    for _ in range(_ROUNDS if products.size else 0):
        residuals = values - found @ products
        most = _LARGE * np.median(np.abs(residuals)) / MEDIAN_SIZE
        found = found + inverse @ (products @ np.clip(residuals, -most, most))
    return found / size


def _ridge(inverse: LowRank, h: np.ndarray, b: np.ndarray) -> float:
    """Return the ``λ`` of Eq. 13.

    With it, ``I + R⁻¹ h diag(b) hᵀ R⁻¹`` has the smallest eigenvalue 0, where ``R² = K + (λ − μ)I`` and ``μ`` is the precision that ``K′``
    has along every direction, at least.
    """
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
