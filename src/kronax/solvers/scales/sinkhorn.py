"""Matrix scaling: factors of rows and columns after which every row and column has the energy that it should have.

With ``r_i`` as in Eq. 1 of :mod:`kronax.solvers.rows.noise_free`, the energy of column ``j`` is ``c_j g_j(c)``, ``g_j = Σ_i r_i y_ij²``, and wanted
is ``n_j``, the number of its non-zero entries. Sinkhorn's iteration ``c_j ← n_j / g_j(c)`` needs one pass over the rows for each
step. Anderson's acceleration (Walker and Ni, SIAM J. Numer. Anal. 2011) extrapolates from its last steps, in ``log c``.
"""

from typing import NamedTuple

import numpy as np

from kronax.solvers.device import to_host
from kronax.solvers.rows.noise_free import col_energies
from kronax.solvers.rows.rows import Rows

_PASSES = 300
_MEMORY = 5
_LARGEST = 600.0  # logarithm of a factor: beyond, products with values are no numbers


class Scaling(NamedTuple):
    """Where the iteration ended.

    Attributes
    ----------
    cols
        ``c``, (m,).
    residual
        Largest relative deviation of a column's energy from ``n_j``; those of the rows are met.
    n_passes
        Over the rows.
    """

    cols: np.ndarray
    residual: float
    n_passes: int


def scale(rows: Rows, tol: float, *, progress: bool = False) -> Scaling:
    """Find ``c``.

    Parameters
    ----------
    rows
        ``Y``, (n, m), a non-zero entry in every row and column.
    tol
        Residual that will do.
    progress
        Whether a long pass shows a bar.
    """
    log_c = np.zeros(rows.shape[1])
    best, best_step, residual, n_passes = log_c, np.zeros_like(log_c), np.inf, 0
    history = _History()
    while n_passes < _PASSES:
        cols = np.exp(np.clip(log_c, -_LARGEST, _LARGEST))
        (sums,) = rows.sums(col_energies, cols, title=f"scales, pass {n_passes + 1}", progress=progress)
        n_passes += 1
        energies = cols * to_host(sums) / rows.col_counts
        found = float(np.abs(energies - 1.0).max())
        with np.errstate(divide="ignore"):  # of an extrapolation that is dropped
            step = -np.log(energies)  # Sinkhorn's
        if found > residual and len(history):  # extrapolated too far: go on from the best, with the plain step
            log_c, history = best + best_step, _History()
            continue
        best, best_step, residual = log_c, step, found
        if residual <= tol:
            break
        log_c = history.extrapolated(log_c, step)
    return Scaling(np.exp(best), residual, n_passes)


class _History:
    """The last iterates and steps, and Anderson's combination of them."""

    def __init__(self) -> None:
        self.points: list[np.ndarray] = []
        self.steps: list[np.ndarray] = []

    def __len__(self) -> int:
        return max(0, len(self.points) - 1)

    def extrapolated(self, point: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Return ``x + f − (ΔX + ΔF)γ``, with ``γ`` such that ``‖f − ΔFγ‖`` is smallest."""
        self.points, self.steps = [*self.points, point][-_MEMORY - 1 :], [*self.steps, step][-_MEMORY - 1 :]
        if len(self.points) < 2:
            return point + step
        points, steps = np.diff(self.points, axis=0).T, np.diff(self.steps, axis=0).T
        weights = np.linalg.lstsq(steps, step, rcond=1e-10)[0]
        return point + step - (points + steps) @ weights
