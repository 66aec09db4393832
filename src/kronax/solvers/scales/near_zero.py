"""Values that stand for zeros: so small beside the others of their row and column that they matter only in logarithms.

Estimated and corrected counts have values such as 1e-6 where counts have zeros. They are negligible in ``Z``, but make most of
the dispersion of ``log|Y|``, and so would choose the power ``γ`` for all others. What counts as small must not depend on the
scales of rows and columns. It is therefore measured by the energy ``z²`` after scaling, when the energy of every row and column
equals the number of its non-zero entries.
"""

import numpy as np
from scipy import sparse

from kronax.solvers.rows.noise_free import Factors, NoiseFree
from kronax.solvers.rows.rows import InMemory
from kronax.solvers.scales.quotient import pattern_counts, quotient
from kronax.solvers.scales.sinkhorn import scale

GAUSSIAN_DISPERSION = 0.5  # of log|Y|: the most for which Z is treated as Gaussian as it is
_FEWEST = 20  # rows and columns; among fewer, one value can have nearly all the energy of its row
_LOUD = 2.0 * GAUSSIAN_DISPERSION  # up to this dispersion the power is ½ or more, and no such values are looked for
_FAINT = 1e-3  # the smallest values that together have this share of the energy are examined ...
_NOTHING = 1e-4  # ... and those with this share are left out: ordinary small counts lie in between
_MATERIAL = 1.75  # least factor by which the power grows without them; in broad distributions it is up to 1.4
_OVERWHELMING = 4.0  # from this factor on, the test need not be passed again at the others' power
_SETTLED = 0.98
_SWEEPS_TOLERANCE = 1e-6


def power_for(dispersion: float) -> float:
    """Return the largest ``γ ≤ 1`` that brings the dispersion of ``log|Y|^γ`` down to ½."""
    return min(1.0, GAUSSIAN_DISPERSION / max(dispersion, GAUSSIAN_DISPERSION))


def stand_for_zero(y: sparse.csr_array, dispersion: float) -> np.ndarray:
    """Mark the entries of a quotient that stand for zeros and would decide the power; no row or column has only such.

    The smallest ``z²``, which together make less than a thousandth of the energy, are left out, and the others choose the
    power. If it is much larger, and the same entries are still small at that power, they stand for zeros. In a broad
    distribution they are no longer small at the power that it calls for.

    Parameters
    ----------
    y
        ``Y`` of Eq. 1.
    dispersion
        Root mean square of ``log|Y|``.
    """
    none = np.zeros(y.nnz, bool)
    if dispersion <= _LOUD or min(y.shape) < _FEWEST:
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
    """Mark the smallest entries of ``|Y|^γ``, scaled, whose squares together make less than a share of the sum."""
    powered = sparse.csr_array((np.abs(y.data) ** power, y.indices, y.indptr), y.shape)
    rows = InMemory(powered)
    cols = scale(rows, _SWEEPS_TOLERANCE).cols
    squares = NoiseFree(rows, Factors(cols)).held().data ** 2
    order = np.argsort(squares)
    faint = np.zeros(y.nnz, bool)
    faint[order[np.cumsum(squares[order]) < share * squares.sum()]] = True
    return faint & (squares < 0.5)  # every row and column has one of at least 1
