"""The precision of the variables as graphs use it, and as it is tested.

What errors of the samples' scales add is taken away (Eq. 13), and where there is little structure a ridge is tested
(:mod:`kronax.solvers.gaussian.breadth`). With groups of samples, all of that is done to the deviations from the means of groups, whose
precision is ``K``. With ``BᵀB`` the covariance between groups, all samples together have the precision

    ``(K⁻¹ + BᵀB)⁻¹ = K − KBᵀ(I + BKBᵀ)⁻¹BK``,                                                                        (20)

and the estimate is the sum of both. ``K`` does not know what differs between groups, which is evidence too: all there is where samples are noise within
groups. The second one lacks the directions between groups, in which variables have most of their variance, and with them the dependence that they hide.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from kronax.solvers import checks
from kronax.solvers.gaussian import breadth, m_step
from kronax.solvers.gaussian.precision import LowRank, Partial, Precision, diagonal, held
from kronax.solvers.gaussian.scale_errors import N_TERMS, without_scale_errors
from kronax.solvers.gaussian.side import Side
from kronax.solvers.gaussian.spectral import Spectrum
from kronax.solvers.gaussian.vectors import Held
from kronax.solvers.gaussian.within import Within
from kronax.solvers.medmagma import em


def estimates(precision: Precision, part: em.Structure) -> tuple[Precision, Precision, np.ndarray]:
    """Return a precision and the one to test, often the same, and directions that all variables share, (k, p)."""
    margins, scaled = part.margins, isinstance(part, em.Fit)
    if not isinstance(precision, Partial):
        found = held(precision)
        return found, found, np.stack([margins.along, margins.level])
    along = margins.along[None] if scaled else np.stack([margins.along, margins.level])
    found, to_test = _both(precision, part.spectrum, margins.mean if scaled else None)
    own_test = to_test is not found
    found = held(found)
    return found, held(to_test) if own_test else found, along


def _both(precision: Partial, spectrum: Spectrum, means: np.ndarray | None) -> tuple[Partial, Partial]:
    """Return both, of groups if there are any; without ``means``, samples have no scales."""
    within = spectrum.within
    if within is None:
        return _with_test(precision, spectrum.of_cols(), _cleaning(means, spectrum.units))
    found, to_test = _with_test(m_step.alone(within.side), within.side, _cleaning(means, within.units))
    total = _with_groups(found, within)
    return total, total if to_test is found else _with_groups(to_test, within)


def _with_groups(precision: Partial, within: Within) -> Partial:
    """Return ``2K − KBᵀ(I + BKBᵀ)⁻¹BK``, the sum of both: ``K`` is the inverse of a sum over the samples, as are eigenvalues."""
    inverse, b = precision.inverse, within.between * np.sqrt(within.side.n_samples)
    vectors = inverse.vectors.array()
    kb = inverse.base * b.T + vectors @ (inverse.weights[:, None] * (vectors.T @ b.T))
    values, turned = np.linalg.eigh(np.eye(len(b)) + b @ kb)
    both = np.column_stack([vectors, kb @ turned])
    return Partial(LowRank(2.0 * inverse.base, Held(both), np.append(2.0 * inverse.weights, -1.0 / values)))


Cleaning = Callable[[Partial], Partial]


def _with_test(precision: Partial, side: Side, cleaned: Cleaning | None) -> tuple[Partial, Partial]:
    """Return the estimate from some samples and the one to test."""
    n_terms = N_TERMS if cleaned else 0
    cleaned = cleaned or (lambda estimate: estimate)
    found = cleaned(precision)
    if breadth.is_broad(found.inverse, side.n_samples, n_terms):
        return found, found
    return found, cleaned(breadth.ridge(side))


def _cleaning(means: np.ndarray | None, units: np.ndarray | None) -> Cleaning | None:
    if means is None:
        return None
    return partial(_without_scale_errors, means=means, units=np.ones_like(means) if units is None else units)


def _without_scale_errors(precision: Partial, means: np.ndarray, units: np.ndarray) -> Partial:
    size = diagonal(precision.inverse)
    checks.finite(np.where(size > 0, size, np.nan))
    return Partial(without_scale_errors(precision.inverse, means, units))
