"""Variables within groups of samples, such as types of cells: their second moments, and those of all samples in the same units.

What two variables share because both differ between groups is not dependence within them. With ``μ_g`` the means of group ``g``, of ``n_g`` samples,
the deviations from the means of their own groups have

    ``Σ_g Σ_{i ∈ g} (z_i − μ_g)(z_i − μ_g)ᵀ = Σ_i z_i z_iᵀ − Σ_g n_g μ_g μ_gᵀ``                                       (19)

and ``n − G`` degrees of freedom, ``G`` the number of groups. With ``b_g = √n_g (μ_g − μ)`` the rows of ``B``, in units ``s`` in which variables have equal variance
within groups, and ``T`` the second moments of deviations from the mean of all samples, these are ``T − BᵀB``. With ``f`` the function of eigenvalues that shrinks ``T`` and
inverts it, the precision has both:

    ``diag(1/s) [f(T) + f(T − BᵀB)] diag(1/s)``.                                                                      (20)

A variable that varies between groups alone has unit variance in the latter, and depends on no other there.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from kronax.solvers.device import Matrix, beside, eigh_all
from kronax.solvers.gaussian.side import Side, factors_of, n_above_rounding, scaled, units_of, without_variance
from kronax.solvers.gaussian.vectors import Held, Projected
from kronax.solvers.rows.groups import Groups
from kronax.solvers.rows.noise_free import NoiseFree


class NothingVariesError(ValueError):
    """Within groups, there is nothing to look at."""

    def __init__(self) -> None:
        super().__init__(
            "Nothing varies within groups: but for their scales, all rows of a group are alike. Partial correlations within groups need "
            "deviations from their means."
        )


@dataclass(frozen=True)
class Within:
    """Second moments of deviations from means, every variable with equal variance within groups.

    Attributes
    ----------
    whole
        The variables in all samples: ``T``.
    units
        What their deviations were divided by, (p,); the standard deviation in all samples where nothing varies within groups.
    between
        ``B``, (groups, p).
    alone
        Numbers of the variables that vary between groups alone.
    side
        The variables within groups, with ``n − G`` samples, if these were named; None if they were found.
    """

    whole: Side
    units: np.ndarray
    between: np.ndarray
    alone: np.ndarray
    side: Side | None

    @property
    def named(self) -> bool:
        """Whether the groups are known, or were found."""
        return self.side is not None


def columns_within(
    z: NoiseFree,
    groups: Groups,
    square: Matrix,
    energies: np.ndarray,
    rounding: float,
    independent: float = 1.0,
    *,
    named: bool = True,
) -> Within:
    """Return those of the columns, of which rows are samples.

    Parameters
    ----------
    z, groups
        ``Z`` and the groups of its rows.
    square, energies
        ``ZᵀZ`` and its diagonal.
    rounding
        Share of the largest eigenvalue below which others count as zero.
    independent
        Share of the samples that are worth an independent one.
    named
        Whether the groups are known.
    """
    n, m = z.shape
    sums = z.sums_of(groups, 0)
    means, mean = sums / np.sqrt(groups.sizes)[:, None], sums.sum(axis=0, keepdims=True) / np.sqrt(n)
    units = _units(sums, groups, energies - (means**2).sum(axis=0), energies, z.rows.col_counts)
    parts = [(mean, units.of_all, n - 1), (means, units.of_groups, n - groups.n)][: 1 + named]
    taken = [beside(of, square) for of, _, _ in parts]
    solved = eigh_all([scaled(square - of.T @ of, part[1]) for of, part in zip(taken, parts, strict=True)])
    sides = []
    for (values, cols), (_, to_unit, n_samples) in zip(solved, parts, strict=True):
        kept = _kept(values, energies @ to_unit**2, rounding, n_samples)
        cols = np.where(to_unit[:, None] > 0, cols[:, :kept], 0.0)
        sides.append(Side(Held(cols), values[:kept], m, n_samples, independent=independent))
    return Within(sides[0], units.sizes, units.between, units.alone, sides[1] if named else None)


def rows_within(z: NoiseFree, groups: Groups, rounding: float) -> Within:
    """Return those of the rows, of which columns are samples, in two passes; parameters as above."""
    n, m = z.shape
    energies, sums = _energies(z), z.sums_of(groups, 1)
    variances = energies - (sums**2 / groups.sizes).sum(axis=1)
    units = _units(sums.T, groups, variances, energies, z.row_counts())
    z = replace(z, factors=factors_of(z)._replace(rows=z.row_factors() * units.of_all**2))
    square, all_samples = z.moments()[0], Groups(np.zeros(m, np.int64), 1)
    solved = eigh_all([_centred(square, of) for of in (all_samples, groups)])
    sides = []
    for (values, cols), of, to_unit in zip(solved, (all_samples, groups), (units.of_all, units.of_groups), strict=True):
        kept = _kept(values, energies @ to_unit**2, rounding, m - of.n)
        to_rows = cols[:, :kept] / np.sqrt(values[:kept])
        to_rows -= _means(to_rows, of)  # rounding aside, there are none
        rows = Projected(z, to_rows, np.zeros(kept), partial(_marked, to_unit > 0))
        sides.append(Side(rows, values[:kept], n, m - of.n))
    return Within(sides[0], units.sizes, units.between, units.alone, sides[1])


class _Units(NamedTuple):
    """What brings variables to unit variance within groups.

    Attributes
    ----------
    sizes
        The units, (p,).
    of_groups, of_all
        Factors of deviations from the means of groups, and of all samples: 0 where there are none.
    between
        ``B`` in these units, (groups, p).
    alone
        Numbers of the variables that vary between groups alone.
    """

    sizes: np.ndarray
    of_groups: np.ndarray
    of_all: np.ndarray
    between: np.ndarray
    alone: np.ndarray


def _units(sums: np.ndarray, groups: Groups, variances: np.ndarray, energies: np.ndarray, counts: np.ndarray) -> _Units:
    """Find the units, and ``B``, 0 where only rounding is left.

    Parameters
    ----------
    sums
        Of every group, (groups, p).
    groups
        Of the samples.
    variances, energies
        Sums of squares within groups, and of all values, (p,).
    counts
        Entries of every variable, (p,).
    """
    n, roots = groups.sizes.sum(), np.sqrt(groups.sizes)[:, None]
    rounding = n * np.finfo(np.float64).eps
    still = without_variance(variances, energies, rounding)
    if still.all():
        raise NothingVariesError
    to_unit, units = units_of(variances / (n - groups.n), still, counts)
    between = sums / roots - roots * (sums.sum(axis=0) / n)
    squares = (between**2).sum(axis=0)
    constant = still & without_variance(squares, energies, rounding)
    between[:, constant] = 0.0
    alone, of_all = np.flatnonzero(still & ~constant), to_unit.copy()
    units[alone] = np.sqrt(squares[alone] / (n - 1))
    of_all[alone] = 1.0 / units[alone]
    return _Units(units, to_unit, of_all, between / units, alone)


def _kept(values: np.ndarray, squares: float, rounding: float, n_samples: int) -> int:
    """Count the directions that are more than rounding; there must be some."""
    kept = min(n_samples, n_above_rounding(values, squares, rounding))
    if not kept:
        raise NothingVariesError
    return kept


def _centred(square: Matrix, groups: Groups) -> Matrix:
    """Compute ``(I − P)S(I − P)``, ``P`` the projection on the means of the groups."""
    q = beside(np.eye(groups.n)[groups.codes] / np.sqrt(groups.sizes), square)
    right = square - (square @ q) @ q.T
    return right - q @ (q.T @ right)


def _means(values: np.ndarray, groups: Groups) -> np.ndarray:
    """Return the means of the groups, for every one of their rows."""
    sums = np.zeros((groups.n, values.shape[1]))
    np.add.at(sums, groups.codes, values)
    return (sums / groups.sizes[:, None])[groups.codes]


def _energies(z: NoiseFree) -> np.ndarray:
    return z.deviations(np.zeros(z.shape[1]))[:, 0]


def _marked(varies: np.ndarray, _: NoiseFree) -> np.ndarray:
    return varies
