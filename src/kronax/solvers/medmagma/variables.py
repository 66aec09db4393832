"""The precision of the variables as graphs use it, and the one that is tested.

What errors of the samples' scales add is taken away (Eq. 13), and where there is little structure a ridge is tested
(:mod:`kronax.solvers.gaussian.breadth`). With groups of samples, the estimate is the sum of a precision within groups and one across them
(:mod:`kronax.solvers.gaussian.within`). What differs between groups is evidence, and all there is where samples are noise within groups; but it hides
dependence, since the directions between groups have most of the variance, of which a precision has hardly anything.

The test is then that of a ridge within groups, to which all directions add: markers of one type depend on each other in all samples, however many
others are looked at, and groups that are high or low by chance together are no dependence either. Of all samples, the sign counts.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from kronax.solvers import checks
from kronax.solvers.gaussian import breadth, m_step
from kronax.solvers.gaussian.precision import Partial, Precision, diagonal, held
from kronax.solvers.gaussian.scale_errors import without_scale_errors
from kronax.solvers.gaussian.side import Side
from kronax.solvers.gaussian.spectral import Spectrum
from kronax.solvers.gaussian.within import Within
from kronax.solvers.medmagma import em


class Estimates(NamedTuple):
    """Precisions of the variables.

    Attributes
    ----------
    shown
        The estimate.
    joining
        The one whose largest entries make the graph, and by which they count: of all samples, unless groups were named.
    tested
        The one that is tested: within groups, if there are any.
    along
        Directions that all variables share, (k, p).
    spreads
        Of the groups within which it is tested, or None: Eq. 24.
    of_all
        The one to test in all samples, if there are groups, or None.
    named
        Whether there are groups that were named, of which the graph is too.
    """

    shown: Precision
    joining: Precision
    tested: Precision
    along: np.ndarray
    spreads: np.ndarray | None = None
    of_all: Precision | None = None
    named: bool = False

    def of_tested(self) -> "Estimates":
        """Return the same for a graph of the pairs that pass the test: edges count by what can be tested in all samples, unless groups were named."""
        if self.named:
            return self
        joining = self.tested if self.of_all is None else self.of_all
        return self._replace(joining=joining, shown=joining if self.shown is self.joining else self.shown)


def estimates(precision: Precision, part: em.Structure) -> Estimates:
    """Return what graphs and tests use of a precision; what more is shown than they use is looked at once, and not held."""
    margins, scaled = part.margins, isinstance(part, em.Fit)
    if not isinstance(precision, Partial):
        found = held(precision)
        return Estimates(found, found, found, np.stack([margins.along, margins.level]))
    along = margins.along[None] if scaled else np.stack([margins.along, margins.level])
    within = part.spectrum.within
    found = _of_samples(precision, part.spectrum, margins.mean if scaled else None)
    shown, *used = found
    kept = {id(estimate): held(estimate) for estimate in used if estimate is not None}
    joining, tested, of_all = (kept.get(id(estimate)) for estimate in used)
    spreads, named = (within.spreads, within.named) if within else (None, False)
    return Estimates(kept.get(id(shown), shown), joining, tested, along, spreads, of_all, named)


def _of_samples(
    precision: Partial, spectrum: Spectrum, means: np.ndarray | None
) -> tuple[Partial, Partial, Partial, Partial | None]:
    """Return the estimate, the one for the graph, the one to test, and that in all samples; without ``means``, samples have no scales."""
    within, cleaned = spectrum.within, _Cleaning(means, spectrum.units)
    found = cleaned(precision)
    of_all = _tested(found, spectrum.of_cols(), cleaned)
    if within is None:
        return found, found, of_all, None
    cleaned = _Cleaning(means, within.units)
    if not within.named and not em.groups_help(within.shape):
        return found, found, cleaned(_ridge_alone(within)), of_all
    ridge = cleaned(breadth.ridge(within.side, breadth.linear_ridge(within.side)))
    inside, across = cleaned(m_step.alone(within.side)), cleaned(Partial(within.across))
    both = Partial(within.summed(inside.inverse, across.inverse))
    return both, both if within.named else found, ridge, of_all


def _ridge_alone(within: Within) -> Partial:
    """Return the ridge within groups where nothing else needs eigenvectors."""
    if within.gram is not None:
        size = breadth.linear_ridge(within.gram)
        if breadth.is_clear(within.gram, size):
            return breadth.whole_ridge(within.gram, size)
    return breadth.ridge(within.side, breadth.linear_ridge(within.side))


def _tested(found: Partial, side: Side, cleaned: "_Cleaning") -> Partial:
    """Return the estimate to test in all samples, given theirs."""
    broad = breadth.is_broad(found.inverse, side.independent * side.n_samples)
    return found if broad else cleaned(breadth.ridge(side))


@dataclass(frozen=True)
class _Cleaning:
    """Takes away what errors of the samples' scales add; nothing without ``means``, where samples have no scales."""

    means: np.ndarray | None
    units: np.ndarray | None

    def __call__(self, precision: Partial) -> Partial:
        if self.means is None:
            return precision
        size = diagonal(precision.inverse)
        checks.finite(np.where(size > 0, size, np.nan))
        units = np.ones_like(self.means) if self.units is None else self.units
        return Partial(without_scale_errors(precision.inverse, self.means, units))
