"""Second moments of variables within groups of samples, such as types of cells.

What two variables share because both differ between groups is not dependence within them. With ``μ_g`` the means of group ``g``, of ``n_g`` samples,
the deviations from the means of their own groups have

    ``Σ_g Σ_{i ∈ g} (z_i − μ_g)(z_i − μ_g)ᵀ = Σ_i z_i z_iᵀ − Σ_g n_g μ_g μ_gᵀ``                                       (19)

and ``n − G`` degrees of freedom, ``G`` the number of groups.
"""

from dataclasses import dataclass, replace

import numpy as np

from kronax.solvers.device import Matrix, beside, eigh_all
from kronax.solvers.gaussian.side import Side, factors_of, n_above_rounding, scaled, units_of, without_variance
from kronax.solvers.gaussian.vectors import Held, Projected
from kronax.solvers.rows.groups import Groups
from kronax.solvers.rows.noise_free import NoiseFree


@dataclass(frozen=True)
class Within:
    """Second moments of deviations from the means of groups, every variable with equal variance.

    Attributes
    ----------
    side
        The variables, with ``n − G`` samples.
    units
        What their deviations were divided by, (p,); 1 where nothing varies within groups.
    """

    side: Side
    units: np.ndarray


def columns_within(z: NoiseFree, groups: Groups, square: Matrix, energies: np.ndarray, rounding: float) -> Within:
    """Return those of the columns, of which rows are samples.

    Parameters
    ----------
    z, groups
        ``Z`` and the groups of its rows.
    square, energies
        ``ZᵀZ`` and its diagonal.
    rounding
        Share of the largest eigenvalue below which others count as zero.
    """
    n, m = z.shape
    between = z.sums_of(groups, 0) / np.sqrt(groups.sizes)[:, None]
    variances, n_samples = energies - (between**2).sum(axis=0), n - groups.n
    still = _still(variances, energies, n)
    to_unit, units = units_of(variances / n_samples, still, z.rows.col_counts)
    between = beside(between, square)
    ((values, cols),) = eigh_all([scaled(square - between.T @ between, to_unit)])
    kept = min(n_samples, n_above_rounding(values, energies @ to_unit**2, rounding))
    cols = np.where(still[:, None], 0.0, cols[:, :kept])
    return Within(Side(Held(cols), values[:kept], m, n_samples), units)


def rows_within(z: NoiseFree, groups: Groups, rounding: float) -> Within:
    """Return those of the rows, of which columns are samples, in two passes; parameters as above."""
    n, m = z.shape
    energies = _energies(z)
    variances = energies - (z.sums_of(groups, 1) ** 2 / groups.sizes).sum(axis=1)
    still, n_samples = _still(variances, energies, m), m - groups.n
    to_unit, units = units_of(variances / n_samples, still, z.row_counts())
    z = replace(z, factors=factors_of(z)._replace(rows=z.row_factors() * to_unit**2))
    ((values, cols),) = eigh_all([_centred(z.moments()[0], groups)])
    kept = min(n_samples, n_above_rounding(values, energies @ to_unit**2, rounding))
    to_rows = cols[:, :kept] / np.sqrt(values[:kept])
    to_rows -= _means(to_rows, groups)  # rounding aside, there are none
    rows = Projected(z, to_rows, np.zeros(kept), _not_zero)
    return Within(Side(rows, values[:kept], n, n_samples), units)


def _still(variances: np.ndarray, energies: np.ndarray, n: int) -> np.ndarray:
    """Mark the variables that do not vary within groups; some must."""
    still = without_variance(variances, energies, n * np.finfo(np.float64).eps)
    if still.all():
        msg = (
            "Nothing varies within groups: but for their scales, all rows of a group are alike. Partial correlations within groups need "
            "deviations from their means."
        )
        raise ValueError(msg)
    return still


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
