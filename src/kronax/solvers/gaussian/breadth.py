"""The estimate in which edges are tested: one to which many directions add.

Partial correlations of variables without dependence are normal if many directions add to them. With far fewer samples than variables,
shrinkage may take nearly all directions for noise and give them the precision of those that no sample has, so that a few that look
larger by chance carry the whole estimate. Angles between vectors of few dimensions are not normal, and differ from sample to sample.
How many directions count is

    ``r = (Σ_i d_i²)² / Σ_i d_i⁴``,                                                                                   (16)

``d`` the deviations of the eigenvalues of the precision from their mean. If they are too few, a ridge of the mean eigenvalue is tested
in place of the shrunken estimate, which keeps all directions of the samples: the precision along an eigenvector of ``C`` with eigenvalue
``e`` is

    ``1/(e + ē)``.                                                                                                   (17)

With more samples than half of the variables the estimate itself is tested: there, chance alone does not make ``r`` small, but structure may, such
as groups that hardly vary along one direction. An estimate that is flat, without any dependence, stays as it is too.
"""

import numpy as np

from kronax.solvers.gaussian.m_step import of_columns
from kronax.solvers.gaussian.precision import LowRank, Partial
from kronax.solvers.gaussian.spectral import Spectrum

_TIMES = 2  # as many variables as directions of the samples
_FEWEST = 50.0  # directions; an angle among r of them has an excess kurtosis of −6/(r + 2)


def broad(precision: Partial, found: Spectrum) -> Partial:
    """Return the precision of the columns whose entries are tested: the estimate itself, or a ridge's in its place.

    Parameters
    ----------
    precision
        The shrunken estimate.
    found
        Spectrum of the matrix from which it was found.
    """
    dim, n_known = found.dims[1], len(found.eigenvalues)
    if dim < _TIMES * n_known or n_directions(precision.inverse) >= _FEWEST:
        return precision
    mean = found.eigenvalues.sum() / dim
    return of_columns(found, 1.0 / (np.append(found.eigenvalues, 0.0) + mean))


def n_directions(precision: LowRank) -> float:
    """Compute ``r`` of Eq. 16, in which the vectors are taken for orthonormal."""
    n, weights = len(precision), precision.weights
    mean = weights.sum() / n
    deviations, rest = weights - mean, n - len(weights)
    fourth = (deviations**4).sum() + rest * mean**4
    return float(((deviations**2).sum() + rest * mean**2) ** 2 / fourth) if fourth > 0 else np.inf
