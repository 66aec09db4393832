"""Variables within groups of samples, such as types of cells: their second moments, and a precision that has both sides of the groups.

What two variables share because both differ between groups is not dependence within them. With ``μ_g`` the means of group ``g``, of ``n_g`` samples,
the deviations from the means of their own groups have

    ``Σ_g Σ_{i ∈ g} (z_i − μ_g)(z_i − μ_g)ᵀ = Σ_i z_i z_iᵀ − Σ_g n_g μ_g μ_gᵀ``                                       (19)

and ``n − G`` degrees of freedom, ``G`` the number of groups. Let ``P`` be the inverse of these second moments, shrunken, in units ``s`` in which variables have equal
variance within groups, ``ē`` their mean eigenvalue, and ``b_g = √n_g (μ_g − μ)`` the rows of ``B``. If variables did not depend on each other within groups, the second
moments of the deviations from the mean of all samples would have the inverse ``P₀ = (ēI + BᵀB)⁻¹``. The precision is the sum of both, times their degrees of
freedom; what is known within groups counts twice:

    ``diag(1/s) [2(n − G) P + (n − 1) P₀] diag(1/s)``.                                                                (20)
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np

from kronax.solvers.device import LARGE, SINGLE, Matrix, beside, eigh_all, eigh_in_single, to_host
from kronax.solvers.gaussian.precision import LowRank, is_whole
from kronax.solvers.gaussian.side import (
    Gram,
    Side,
    factors_of,
    n_above_rounding,
    scaled,
    size_of_rounding,
    units_of,
    without_variance,
)
from kronax.solvers.gaussian.vectors import Held, Joined, Projected
from kronax.solvers.rows.groups import Groups
from kronax.solvers.rows.noise_free import NoiseFree

_TIMES = 2  # that what is known within groups counts: measured
_NOISE_SINGLE = 4e-6  # share of the largest eigenvalue below which others are rounding then, which was up to a quarter
_ROUNDING = 1e-9  # share of the largest singular value of B below which others are zero


class NothingVariesError(ValueError):
    """Within groups, there is nothing to look at."""

    def __init__(self) -> None:
        super().__init__(
            "Nothing varies within groups: but for their scales, all rows of a group are alike. Partial correlations within groups need "
            "deviations from their means."
        )


@dataclass(frozen=True)
class Within:
    """Second moments of deviations from the means of groups, every variable with equal variance.

    Attributes
    ----------
    solve
        Returns the variables, with ``n − G`` samples; that takes an eigenproblem.
    units
        What their deviations were divided by, (p,); the standard deviation in all samples where nothing varies within groups.
    between
        ``B`` in these units, (groups, p).
    spreads
        ``√(n_g/n) v_gj/v̄_j``, (p, groups): variances in every group beside those of all, of Eq. 24.
    n
        Number of samples.
    gram
        The second moments themselves, of few variables; None of many, where samples are fewer, and where all may be rounding.
    named
        Whether the groups are known, or were found.
    """

    solve: Callable[[], Side]
    units: np.ndarray
    between: np.ndarray
    spreads: np.ndarray
    n: int
    gram: Gram | None = None
    named: bool = True

    @cached_property
    def side(self) -> Side:
        """The variables, with ``n − G`` samples."""
        return self.solve()

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of samples and variables."""
        return self.n, len(self.units)

    @property
    def across(self) -> LowRank:
        """``P₀``."""
        mean = self.side.trace / self.side.dim
        _, sizes, directions = np.linalg.svd(self.between, full_matrices=False)
        kept = max(1, int((sizes > _ROUNDING * sizes[0]).sum()))
        directions = np.where(self.between.any(axis=0), directions[:kept], 0.0)  # not rounding
        return LowRank(1.0 / mean, Held(directions.T), 1.0 / (mean + sizes[:kept] ** 2) - 1.0 / mean)

    def summed(self, inside: LowRank, across: LowRank) -> LowRank:
        """Return the precision of Eq. 20, up to ``diag(1/s)``, from ``P`` and ``P₀``."""
        times, times_across = _TIMES * self.side.n_samples, self.shape[0] - 1
        return LowRank(
            times * inside.base + times_across * across.base,
            Joined(inside.vectors, across.vectors),
            np.append(times * inside.weights, times_across * across.weights),
        )


def columns_within(
    z: NoiseFree, groups: Groups, square: Matrix, energies: np.ndarray, rounding: float, independent: float = 1.0
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
    """
    n, m = z.shape
    sums, squares = z.sums_of(groups, 0)
    means = sums / np.sqrt(groups.sizes)[:, None]
    variances, n_samples = energies - (means**2).sum(axis=0), n - groups.n
    still = _still(variances, energies, n)
    to_unit, units = units_of(variances / n_samples, still, z.rows.col_counts)
    between, units = _between(sums, groups, units, still, energies)
    means = beside(means, square)
    square, of_all = scaled(square - means.T @ means, to_unit), energies @ to_unit**2

    def solve() -> Side:
        values, cols, kept = _solved(square, of_all, rounding, n_samples)
        cols = np.where(still[:, None], cols.dtype.type(0), cols[:, :kept])
        return Side(Held(cols), values[:kept], m, n_samples, independent=independent)

    found = partial(Within, units=units, between=between, spreads=_spreads(squares.T, sums.T, groups), n=n)
    if is_whole(m):
        gram = Gram(to_host(square), m, n_samples, independent, size_of_rounding(of_all))
        if gram.trace > m * gram.rounding:  # and so is the largest eigenvalue
            return found(solve, gram=gram)
    side = solve()
    return found(lambda: side)


def _solved(square: Matrix, squares: float, rounding: float, n_samples: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return eigenvalues and eigenvectors, and how many are more than rounding, given the sum of squares before means were subtracted."""
    if SINGLE <= len(square) < LARGE:
        (values, cols), rounding = eigh_in_single(square), _NOISE_SINGLE
    else:
        ((values, cols),) = eigh_all([square])
    return values, cols, _kept(values, squares, rounding, n_samples)


def rows_within(z: NoiseFree, groups: Groups, rounding: float) -> Within:
    """Return those of the rows, of which columns are samples, in two passes; parameters as above."""
    n, m = z.shape
    energies, (sums, squares) = _energies(z), z.sums_of(groups, 1)
    variances = energies - (sums**2 / groups.sizes).sum(axis=1)
    still, n_samples = _still(variances, energies, m), m - groups.n
    to_unit, units = units_of(variances / n_samples, still, z.row_counts())
    between, units = _between(sums.T, groups, units, still, energies)
    spreads = _spreads(squares, sums, groups)
    z = replace(z, factors=factors_of(z)._replace(rows=z.row_factors() * to_unit**2))
    ((values, cols),) = eigh_all([_centred(z.moments()[0], groups)])
    kept = _kept(values, energies @ to_unit**2, rounding, n_samples)
    to_rows = cols[:, :kept] / np.sqrt(values[:kept])
    to_rows -= _means(to_rows, groups)  # rounding aside, there are none
    rows = Projected(z, to_rows, np.zeros(kept), _not_zero)
    side = Side(rows, values[:kept], n, n_samples)
    return Within(lambda: side, units, between, spreads, m)


def _between(
    sums: np.ndarray, groups: Groups, units: np.ndarray, still: np.ndarray, energies: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``B`` and its units, given the sums of the groups, (groups, p), and of all squares; 0 where only rounding is left."""
    n, roots = groups.sizes.sum(), np.sqrt(groups.sizes)[:, None]
    between = sums / roots - roots * (sums.sum(axis=0) / n)
    squares = (between**2).sum(axis=0)
    constant = still & without_variance(squares, energies, n * np.finfo(np.float64).eps)
    between[:, constant] = 0.0
    units = np.where(still & ~constant, np.sqrt(squares / (n - 1)), units)
    return between / units, units


def _spreads(squares: np.ndarray, sums: np.ndarray, groups: Groups) -> np.ndarray:
    """Return the variances in every group beside those of all, (p, groups), given the sums of the groups; 1 of what does not vary."""
    variances = np.maximum(squares - sums**2 / groups.sizes, 0.0) / groups.sizes
    shares = groups.sizes / groups.sizes.sum()
    pooled = variances @ shares
    relative = np.divide(variances, pooled[:, None], out=np.ones_like(variances), where=pooled[:, None] > 0)
    return relative * np.sqrt(shares)


def _still(variances: np.ndarray, energies: np.ndarray, n: int) -> np.ndarray:
    """Mark the variables that do not vary within groups; some must."""
    still = without_variance(variances, energies, n * np.finfo(np.float64).eps)
    if still.all():
        raise NothingVariesError
    return still


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


def _not_zero(z: NoiseFree) -> np.ndarray:
    return _energies(z) > 0
