"""The estimate in which edges are tested: one to which many directions add, unless it has structure to show.

Partial correlations of variables without dependence are normal if many directions add to them. Of data with little structure, such as
those of few samples, shrinkage may take nearly all directions for noise. The few others, which may be chance, then carry the whole
estimate: angles among few directions, which are not normal and differ from sample to sample. With ``d`` the deviations of the eigenvalues
of the precision ``C⁻¹`` from their mean ``k``,

    ``r = (Σ_i d_i²)² / Σ_i d_i⁴``,                                                                                   (16)

directions count, and its partial correlations have about the root mean square ``√(Σ_i d_i²)/(pk)``. Where ``r`` is small and these are
much smaller than the correlations that chance gives ``n`` samples, ``1/√n``, a ridge is tested in place of the shrunken estimate, to which
all directions of the samples add. Along an eigenvector of ``C`` with eigenvalue ``e``, its precision is

    ``1/(e + ē)``.                                                                                                   (17)

Where few directions count but correlations are large, they are structure: groups of variables, say, that hardly vary along one direction each.
"""

import numpy as np

from kronax.solvers.gaussian.m_step import of_columns
from kronax.solvers.gaussian.precision import LowRank, Partial
from kronax.solvers.gaussian.spectral import Spectrum

# An angle among r directions has an excess kurtosis of −6/(r + 2): p-values are then off by .003 at most.
_FEWEST = 50.0
_SMALL = 0.1  # times 1/√n


def broad(precision: Partial, found: Spectrum) -> Partial:
    """Return the precision of the columns whose entries are tested: the estimate itself, or a ridge's in its place.

    Parameters
    ----------
    precision
        The shrunken estimate.
    found
        Spectrum of the matrix from which it was found, without what second moments add beyond the mode.
    """
    n, p = found.dims
    if n_directions(precision.inverse) >= _FEWEST or _size(precision.inverse) >= _SMALL * n**-0.5:
        return precision
    values = np.append(found.eigenvalues, 0.0)  # along directions that no sample has
    return of_columns(found, 1.0 / (values + found.eigenvalues.sum() / p))


def n_directions(precision: LowRank) -> float:
    """Compute ``r`` of Eq. 16, 0 if all eigenvalues are equal."""
    fourth = _power(precision, 4)
    return float(_power(precision, 2) ** 2 / fourth) if fourth > 0 else 0.0


def _size(precision: LowRank) -> float:
    """Compute the root mean square of the partial correlations, about."""
    return float(np.sqrt(_power(precision, 2)) / len(precision))


def _power(precision: LowRank, power: int) -> float:
    """Compute ``Σ (d/k)^power``, in no unit, so that none overflows; the vectors are taken for orthonormal."""
    p, weights = len(precision), precision.weights
    extra = weights.sum() / p
    mean = precision.base + extra
    return (((weights - extra) / mean) ** power).sum() + (p - len(weights)) * (extra / mean) ** power
