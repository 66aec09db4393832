"""The precision of the variables as graphs use it, and those that are tested.

What errors of the samples' scales add is taken away (Eq. 13), and where there is little structure a ridge is tested
(:mod:`kronax.solvers.gaussian.breadth`). With groups of samples, the estimate is the sum of a precision within groups and one across them
(:mod:`kronax.solvers.gaussian.within`). What differs between groups is evidence, and all there is where samples are noise within groups; but it hides
dependence, since the directions between groups have most of the variance, of which a precision has hardly anything.

The test is that of the estimate without groups. With groups, that of a ridge within them, to which all directions add, is another, and both have to be passed: a few groups are
high or low by chance together, which the former takes for dependence; and variables that vary in one group alone are seen there alone, by fewer samples
than the latter was found from.
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
from kronax.solvers.medmagma import em


class Estimates(NamedTuple):
    """Precisions of the variables.

    Attributes
    ----------
    shown
        The estimate.
    joining
        The one whose largest entries make the graph, and by which they count: of all samples, unless groups were named.
    to_test
        Those to test.
    along
        Directions that all variables share, (k, p).
    spreads
        Of the groups within which the last one is tested, or None: Eq. 24.
    """

    shown: Precision
    joining: Precision
    to_test: list[Precision]
    along: np.ndarray
    spreads: np.ndarray | None = None

    def of_tested(self) -> "Estimates":
        """Return the same for a graph of the pairs that pass the tests: edges count by what was tested, unless groups were named."""
        if self.joining is self.shown and len(self.to_test) > 1:
            return self
        joining = self.to_test[0]
        return self._replace(joining=joining, shown=joining if self.shown is self.joining else self.shown)


def estimates(precision: Precision, part: em.Structure) -> Estimates:
    """Return what graphs and tests use of a precision; what more is shown than they use is looked at once, and not held."""
    margins, scaled = part.margins, isinstance(part, em.Fit)
    if not isinstance(precision, Partial):
        found = held(precision)
        return Estimates(found, found, [found], np.stack([margins.along, margins.level]))
    along = margins.along[None] if scaled else np.stack([margins.along, margins.level])
    found, joining, to_test = _both(precision, part.spectrum, margins.mean if scaled else None)
    used = {id(estimate): estimate for estimate in (joining, *to_test)}
    kept = {key: held(estimate) for key, estimate in used.items()}
    return Estimates(
        shown=kept.get(id(found), found),
        joining=kept[id(joining)],
        to_test=[kept[id(estimate)] for estimate in to_test],
        along=along,
        spreads=part.spectrum.within and part.spectrum.within.spreads,
    )


def _both(precision: Partial, spectrum: Spectrum, means: np.ndarray | None) -> tuple[Partial, Partial, list[Partial]]:
    """Return the estimate, the one for the graph, and those to test; without ``means``, samples have no scales."""
    within, cleaned = spectrum.within, _Cleaning(means, spectrum.units)
    found = cleaned(precision)
    to_test = _tested(found, spectrum.of_cols(), cleaned)
    if within is None:
        return found, found, [to_test]
    cleaned = _Cleaning(means, within.units)
    inside, across = cleaned(m_step.alone(within.side)), cleaned(Partial(within.across))
    both = Partial(within.summed(inside.inverse, across.inverse))
    ridge = cleaned(breadth.ridge(within.side, breadth.linear_ridge(within.side)))
    return both, both if within.named else found, [to_test, ridge]


def _tested(found: Partial, side: Side, cleaned: "_Cleaning") -> Partial:
    """Return the estimate to test, given that of all samples."""
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
