"""The precision of the variables as graphs use it, and as it is tested.

What errors of the samples' scales add is taken away (Eq. 13), and where there is little structure a ridge is tested
(:mod:`kronax.solvers.gaussian.breadth`). With groups of samples, deviations from the mean and from the means of groups each have a
precision, ``K`` and ``K_W``, of variables in units ``s`` and ``s_W`` of their own, and the precision is their sum in one unit,

    ``diag(1/s) K diag(1/s) + diag(1/s_W) K_W diag(1/s_W)``.                                                          (20)

``K_W`` does not know what differs between groups. That hides dependence from ``K``: the directions between groups, in which variables have most of
their variance, are lost to it. Where groups hardly differ both are the same, and where they are noise within, ``K`` alone has structure.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from kronax.solvers import checks
from kronax.solvers.gaussian import breadth, m_step
from kronax.solvers.gaussian.precision import Partial, Precision, added, diagonal, held
from kronax.solvers.gaussian.scale_errors import N_TERMS, without_scale_errors
from kronax.solvers.gaussian.side import Side
from kronax.solvers.gaussian.spectral import Spectrum
from kronax.solvers.medmagma import em


def estimates(precision: Precision, part: em.Structure) -> tuple[Precision, Precision, np.ndarray]:
    """Return a precision and the one to test, often the same, and directions that all variables share, (k, p)."""
    margins, scaled = part.margins, isinstance(part, em.Fit)
    if not isinstance(precision, Partial):
        found = held(precision)
        return found, found, np.stack([margins.along, margins.level])
    along = margins.along[None] if scaled else np.stack([margins.along, margins.level])
    found, to_test = _in_all_samples(precision, part.spectrum, margins.mean if scaled else None)
    own_test = to_test is not found
    found = held(found)
    return found, held(to_test) if own_test else found, along


def _in_all_samples(precision: Partial, spectrum: Spectrum, means: np.ndarray | None) -> tuple[Partial, Partial]:
    """Return both, with that within groups if there are any; without ``means``, samples have no scales."""
    side, units, within = spectrum.of_cols(), spectrum.units, spectrum.within
    found, to_test = _with_test(precision, side, _cleaning(means, units))
    if within is None:
        return found, to_test
    own_found, own_to_test = _with_test(m_step.alone(within.side), within.side, _cleaning(means, within.units))
    varies = ~within.side.vectors.still
    sizes = np.sqrt(side.n_samples) / units, np.where(varies, np.sqrt(within.side.n_samples) / within.units, 0.0)

    def both(all_samples: Partial, of_groups: Partial) -> Partial:
        return Partial(added([(all_samples.inverse, sizes[0]), (of_groups.inverse, sizes[1])]))

    total = both(found, own_found)
    same = to_test is found and own_to_test is own_found
    return total, total if same else both(to_test, own_to_test)


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
