"""The estimate in which edges are tested: one to which many directions add, unless it has structure to show; within groups a ridge.

Partial correlations of variables without dependence are normal if many directions add to them. Of data with little structure, such as
those of few samples, shrinkage may take nearly all directions for noise. The few others, which may be chance, then carry the whole
estimate: angles among few directions, which are not normal and differ from sample to sample. With ``d`` the deviations of the eigenvalues
of the precision ``C⁻¹`` from their mean ``k``,

    ``r = (Σ_i d_i²)² / Σ_i d_i⁴``,                                                                                   (16)

directions count, and its partial correlations have about the root mean square ``√(Σ_i d_i²)/(pk)``. Where ``r`` is small and these are
much smaller than the correlations that chance gives ``n`` samples, ``1/√n``, a ridge is tested in place of the shrunken estimate, to which
all directions of the samples add. Along an eigenvector of ``C`` with eigenvalue ``e``, its precision is

    ``1/(e + dē)``,   ``d = 1``.                                                                                     (17)

Where few directions count but correlations are large, they are structure: groups of variables, say, that hardly vary along one direction each.
What unknown scales add to the precision (Eq. 13) is one direction, and large: it is to be taken away before directions are counted.

Within groups of samples a ridge is tested in any case, with the ``d`` of linear shrinkage: the best ``(1 − ρ)S + ρēI`` has, for ``n`` Gaussian samples of ``p``
variables (Chen et al., IEEE Transactions on Signal Processing 2010),

    ``ρ = min{1, [(n − 2)/n tr S² + (tr S)²] / [(n + 2)(tr S² − (tr S)²/p)]}``,   ``d = ρ/(1 − ρ)``.                  (23)

Where few directions have most of the variance, ``ē`` is far above the other eigenvalues, and ``d`` is small.
"""

import numpy as np

from kronax.solvers.device import inverse
from kronax.solvers.gaussian.m_step import of_side
from kronax.solvers.gaussian.precision import Inverse, LowRank, Partial
from kronax.solvers.gaussian.side import Gram, Side
from kronax.solvers.gaussian.vectors import Joined

# An angle among r directions has an excess kurtosis of −6/(r + 2): p-values are then off by .003 at most.
_FEWEST = 50.0
_SMALL = 0.3  # times 1/√n
_CLEAR = 1e6  # times the size of rounding
_MOST = 0.99  # of the identity: something is left to tell variables apart by


def is_broad(precision: LowRank, n_samples: int) -> bool:
    """Return whether a shrunken estimate can be tested: many directions add to it, or it has structure to show.

    Parameters
    ----------
    precision
        The estimate, whose vectors are orthonormal but for those that Eq. 13 has joined to them.
    n_samples
        Degrees of freedom of the samples from which it was found.
    """
    second, _ = _powers(precision)
    size = np.sqrt(max(second, 0.0)) / len(precision)  # the traces of no dependence are rounding
    return bool(size >= _SMALL * n_samples**-0.5) or n_directions(precision) >= _FEWEST


def ridge(side: Side, size: float = 1.0) -> Partial:
    """Return the precision of Eq. 17, ``d`` the size; what an E-step adds to second moments is left out."""
    values = np.append(side.eigenvalues, 0.0)  # along directions that no sample has
    return of_side(side, 1.0 / (values + size * side.trace / side.dim))


def is_clear(gram: Gram, size: float) -> bool:
    """Return whether the ridge hides what is rounding among the eigenvalues, which would else have to be left out."""
    return size * gram.trace / gram.dim > _CLEAR * gram.rounding


def whole_ridge(gram: Gram, size: float) -> Partial:
    """Return the same, all entries at once."""
    moments = gram.matrix + size * gram.trace / gram.dim * np.eye(gram.dim)
    return Partial(Inverse(inverse(moments), moments, gram.matrix.diagonal() == 0))


def linear_ridge(side: Side | Gram) -> float:
    """Return the ``d`` of Eq. 23."""
    n, p, trace, squares = max(side.independent * side.n_samples, 1.0), side.dim, side.trace, side.trace_of_square
    excess, wanted = squares - trace**2 / p, ((n - 2.0) / n * squares + trace**2) / (n + 2.0)
    share = min(wanted, _MOST * excess) / excess if excess > 0 else _MOST
    return float(share / (1.0 - share))


def n_directions(precision: LowRank) -> float:
    """Compute ``r`` of Eq. 16, 0 if all eigenvalues are equal."""
    second, fourth = _powers(precision)
    return float(second**2 / fourth) if fourth > 0 else 0.0


def _powers(precision: LowRank) -> tuple[float, float]:
    """Compute ``Σ (d/k)²`` and ``Σ (d/k)⁴``, in no unit, so that none overflows.

    They are ``tr(A + HBHᵀ)²`` and ``tr(A + HBHᵀ)⁴``: ``A`` has the orthonormal vectors ``U``, ``H`` are those of Eq. 13, joined to them, and with ``C_k = HᵀAᵏH``
    every word of the expansion is a trace of small matrices, such as ``tr(A²HBHᵀHBHᵀ) = tr(BC₀BC₂)``.
    """
    vectors, p = precision.vectors, len(precision)
    r = vectors.first.shape[1] if isinstance(vectors, Joined) else vectors.shape[1]
    weights, b = np.split(precision.weights, [r])
    if isinstance(vectors, Joined):
        h = vectors.others.array().astype(np.float64, copy=False)
        inside, all_of_h = vectors.first.array().T @ h, h.T @ h
    else:
        inside, all_of_h = np.zeros((r, 0)), np.zeros((0, 0))
    mean = precision.base + (weights.sum() + b @ np.diag(all_of_h)) / p
    a, rest, b = (precision.base + weights) / mean - 1.0, precision.base / mean - 1.0, b / mean
    outside = all_of_h - inside.T @ inside
    c0, c1, c2, c3 = (b[:, None] * ((inside.T * a**k) @ inside + rest**k * outside) for k in range(4))
    second = (a**2).sum() + (p - r) * rest**2 + 2.0 * np.trace(c1) + np.trace(c0 @ c0)
    words = 4.0 * (c3 + c0 @ c2 + c0 @ c0 @ c1) + 2.0 * c1 @ c1 + c0 @ c0 @ c0 @ c0
    return float(second), float((a**4).sum() + (p - r) * rest**4 + np.trace(words))
