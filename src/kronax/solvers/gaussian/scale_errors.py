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

where no ``b`` takes a precision below half of the least one of ``K``, so that ``K′`` is positive definite.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.sparse.linalg import eigsh

from kronax.solvers.gaussian.precision import Inverse, LowRank, Whole, diagonal
from kronax.solvers.gaussian.vectors import Held, Joined

_LARGE, _ROUNDS = 3.0, 3  # standard deviations that larger residuals count as, and rounds of the fit
MEDIAN_SIZE = 0.6745  # of a standard normal variable, absolute
_VARIABLES = 512  # whose pairs are fitted, at most: then the error of b is below a hundredth of the spread of ρ
_KEPT = 0.5  # of the least precision of K along any direction


def without_scale_errors(inverse: LowRank | Inverse, means: np.ndarray, units: np.ndarray) -> LowRank | Whole:
    """Take from a precision what errors of the samples' scales add to it: Eq. 13, whose terms are joined to its vectors.

    Parameters
    ----------
    inverse
        ``K``. Vectors are orthonormal, but for rows that are zero: variables that do not vary.
    means, units
        ``m`` and ``s``, (p,).
    """
    known = _of_inverse(inverse) if isinstance(inverse, Inverse) else _of_vectors(inverse)
    still = known.still
    m, s = np.where(still, 0.0, means), np.where(still, 1.0, units)
    w = m * s
    h = np.stack([known.diagonal * m / s, known.times(w)], axis=1)
    vary = np.flatnonzero(~still)
    some = vary[:: max(1, -(-len(vary) // _VARIABLES))]
    i, j = np.triu_indices(len(some), k=1)
    t = np.sqrt(known.diagonal[some, None])
    g = h[some] / t
    b = _fitted(-(known.block(some) / t / t.T)[i, j], (g[i] * g[j]).T, known, h, w)
    if isinstance(inverse, Inverse):
        return Whole(inverse.matrix + (h * b) @ h.T)
    return LowRank(inverse.base, Joined(known.vectors, Held(h)), np.append(inverse.weights, b))


class _Known(NamedTuple):
    """What is to be known of ``K``.

    Attributes
    ----------
    diagonal, still
        Its diagonal, and marks of variables that do not vary, (p,).
    least
        Its smallest eigenvalue.
    times, solved
        ``Kx`` and ``K⁻¹x`` of an ``x``, (p,).
    block
        Entries off the diagonal, between some variables.
    vectors
        Those of ``K``, in memory, if it has some.
    """

    diagonal: np.ndarray
    still: np.ndarray
    least: float
    times: Callable[[np.ndarray], np.ndarray]
    solved: Callable[[np.ndarray], np.ndarray]
    block: Callable[[np.ndarray], np.ndarray]
    vectors: Held | None = None


def _of_vectors(inverse: LowRank) -> _Known:
    base, weights, own = inverse.base, inverse.weights, Held(inverse.vectors.array())
    vectors = own.values.astype(np.float64, copy=False)
    held = replace(inverse, vectors=Held(vectors))
    along = 1.0 / (base + weights) - 1.0 / base
    return _Known(
        diagonal(held),
        held.vectors.still,
        base + min(weights.min(), 0.0),
        lambda x: base * x + vectors @ (weights * (x @ vectors)),
        lambda x: x / base + vectors @ (along * (x @ vectors)),
        lambda some: (vectors[some] * weights) @ vectors[some].T,
        own,
    )


def _of_inverse(inverse: Inverse) -> _Known:
    k, moments = inverse.matrix, inverse.of
    (largest,) = eigsh(moments, 1, which="LA", v0=np.ones(len(k)), return_eigenvectors=False)
    return _Known(
        k.diagonal(),
        inverse.still,
        1.0 / largest,
        lambda x: k @ x,
        lambda x: moments @ x,
        lambda some: k[np.ix_(some, some)],
    )


def _fitted(values: np.ndarray, products: np.ndarray, known: _Known, h: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Fit the ``b`` of Eq. 13, which take no more than they may.

    ``(K + bhhᵀ)u = (1 + b hᵀu) h`` with ``u = K⁻¹h``, and along no direction is more taken than along ``u``. For ``h₂ = Kw`` it is ``w``; the
    inverse of ``K + b₂h₂h₂ᵀ`` is ``K⁻¹ − b₂wwᵀ/(1 + b₂wᵀKw)``.
    """
    (h1, h2), least = h.T, known.least
    b1, wanted = slopes(values, products)
    b2 = _at_least(wanted, w, h2, least)
    if b2 > wanted:  # then the other term has less to make up for
        (b1,) = slopes(values - b2 * products[1], products[:1])
    u = known.solved(h1) - b2 * (w @ h1) / (1.0 + b2 * (w @ h2)) * w
    return np.array([_at_least(b1, u, h1, least), b2])


def _at_least(b: float, u: np.ndarray, h: np.ndarray, least: float) -> float:
    """Return a ``b`` that leaves a precision along ``u`` of half the least one, at least, or half of what there is."""
    form = h @ u
    return max(b, (min(_KEPT, _KEPT * least * (u @ u) / form) - 1.0) / form) if form > 0 else b


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
