"""Values that stand for zeros: so small beside the others of their row and column that only logarithms see them.

Estimated and corrected counts have values such as 1e-6 where counts have zeros. In ``Z`` they are nothing; in ``log|Y|`` they
are most of the dispersion, and so would choose the power ``γ`` for all others. What counts as small must not depend on the
scales of rows and columns: the measure is the energy ``z²`` after scaling, of which every row and column has as much as it has
non-zero entries.
"""

import numpy as np
from scipy import sparse

from kronax.solvers.scales import fiber
from kronax.solvers.scales.quotient import pattern_counts, quotient

GAUSSIAN_DISPERSION = 0.5  # of log|Y|: the most for which Z is treated as Gaussian as it is
_LOUD = 2.0 * GAUSSIAN_DISPERSION  # up to this dispersion no values are looked for: the power is ½ or more
_FAINT = 1e-3  # share of the energy that values have together which are looked at ...
_NOTHING = 1e-4  # ... and of those that are then left out: small counts of the usual kind lie in between
_MATERIAL = 1.75  # by how much the power of the others is larger, at least; in broad distributions it is up to 1.4
_OVERWHELMING = 4.0  # where it is so much larger, it need not be so at the others' power too
_SETTLED = 0.98
_SWEEPS_TOLERANCE = 1e-6


def power_for(dispersion: float) -> float:
    """Return the largest ``γ ≤ 1`` that brings the dispersion of ``log|Y|^γ`` down to ½."""
    return min(1.0, GAUSSIAN_DISPERSION / max(dispersion, GAUSSIAN_DISPERSION))


def as_good_as_zero(y: sparse.csr_array, dispersion: float) -> np.ndarray:
    """Tell which entries of a quotient are as good as zeros and would decide the power; no row or column has only such.

    The entries with the smallest ``z²`` that together make less than a thousandth of the energy are left out, and the power
    is chosen by the others. If it is much larger, and at that power the small ones are still so, they are as good as zeros. In
    a broad distribution they are not: there the small ones have a share of the energy at the power that it asks for.

    Parameters
    ----------
    y
        ``Y`` of Eq. 1.
    dispersion
        Root mean square of ``log|Y|``.
    """
    none = np.zeros(y.nnz, bool)
    if dispersion <= _LOUD:
        return none
    given, power = power_for(dispersion), 1.0
    while True:
        faint = _faint(y, power, _FAINT)
        others = without(y, faint)
        if not faint.any() or not all(counts.all() for counts in pattern_counts(others)):
            return none
        chosen = power_for(quotient(others).dispersion)
        if chosen < _MATERIAL * given:
            return none
        if chosen >= min(_SETTLED * power, _OVERWHELMING * given):
            return _faint(y, power, _NOTHING)
        power = chosen


def without(matrix: sparse.csr_array, left_out: np.ndarray) -> sparse.csr_array:
    """Return a matrix with some of its entries, given in the order in which they are stored, as zeros."""
    data = np.where(left_out, 0.0, matrix.data)
    rest = sparse.csr_array((data, matrix.indices.copy(), matrix.indptr.copy()), matrix.shape)
    rest.eliminate_zeros()
    return rest


def _faint(y: sparse.csr_array, power: float, share: float) -> np.ndarray:
    """Tell which entries of ``|Y|^γ``, scaled, have the smallest squares and together less than a share of their sum."""
    powered = sparse.csr_array((np.abs(y.data) ** power, y.indices, y.indptr), y.shape)
    row_factors, col_factors, _, _ = fiber.scaled(powered, *pattern_counts(y), _SWEEPS_TOLERANCE)
    squares = powered.data**2 * np.repeat(row_factors, np.diff(y.indptr)) * col_factors[y.indices]
    order = np.argsort(squares)
    faint = np.zeros(y.nnz, bool)
    faint[order[np.cumsum(squares[order]) < share * squares.sum()]] = True
    return faint & (squares < 0.5)  # every row and column has one of at least 1
