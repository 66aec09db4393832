"""MED-MAGMA: graphs of rows and columns behind unknown row and column scales, by expectation maximisation.

The model of an ``n × p`` matrix is

    ``x_ij = r_i · sign(z_ij)|z_ij|^(1/γ) · c_j``,   ``vec(Z − 1mᵀ) ~ N(0, (Ψ ⊕ Φ)⁻¹)``.                          (4)

The E-step puts ``Z`` at the mode of the fiber over the quotient of ``X`` (Eqs. 1 and 2) and, where it is worth it, adds the
second moments around the mode (Eq. 6); the M-step fits ``Ψ`` and ``Φ`` to what was found (Eq. 3).
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse
from tqdm.auto import tqdm

from kronax.solvers.blocks import from_csr, gram, to_dense
from kronax.solvers.gaussian import m_step
from kronax.solvers.gaussian.precision import Precision
from kronax.solvers.gaussian.spectral import Leading, Spectrum, decompose
from kronax.solvers.scales import fiber
from kronax.solvers.scales import laplace as laplace_moments
from kronax.solvers.scales.near_zero import as_good_as_zero, power_for, without
from kronax.solvers.scales.quotient import pattern_counts, quotient

_WORTHWHILE = 0.01  # a relative change of the second moments
_SMALL = 1000  # rows and columns: their Hessian is inverted
_FIBER_TOLERANCE = 1e-9  # of row and column sums: what is aimed at ...
_FIBER_ACCEPTED = 1e-6  # ... and what will do


@dataclass(frozen=True)
class Axis:
    """What was learnt about the rows, or the columns.

    Attributes
    ----------
    embedding
        Coordinates in the denoised ``Z``, (n, k).
    precision
        ``Ψ`` (or ``Φ``). Both have the same mean diagonal.
    """

    embedding: np.ndarray
    precision: Precision


@dataclass(frozen=True, kw_only=True)
class Structure:
    """The structure of both axes of a ``Z``, and how it was found.

    Attributes
    ----------
    rows, cols
        The two axes.
    spectrum
        Of ``Z``, or of its deviations from the columns' means.
    noise, rank
        Standard deviation of the noise in ``Z``, and the number of directions above it.
    strength
        Of the penalty, rows before columns if there are two; NaN for shrinkage.
    objective
        Negative log-likelihood per entry of ``Z``, up to a constant, at every step of EM.
    n_iter
        Step of EM whose ``Z`` was kept.
    converged, reason
        Whether every solve reached its goal, and in words why EM ended.
    """

    rows: Axis
    cols: Axis
    spectrum: Spectrum
    noise: float
    rank: int
    strength: tuple[float, ...]
    objective: np.ndarray
    n_iter: int
    converged: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class Fit(Structure):
    """The structure behind unknown scales.

    Attributes
    ----------
    log_rows, log_cols
        Logarithms of ``r``, (n,), and ``c``, (p,); the latter average to 0.
    power
        ``γ`` of Eq. 4.
    dispersion
        Root mean square of ``log|Y|`` over the non-zero entries of ``X``.
    n_near_zero
        How many of these were as good as zeros, and left out.
    """

    log_rows: np.ndarray
    log_cols: np.ndarray
    power: float
    dispersion: float
    n_near_zero: int


@dataclass(frozen=True)
class _Step:
    """One step of EM: where its E-step put ``Z``, the directions and spectrum found there, and what the M-step made of it."""

    mode: fiber.Mode
    lead: Leading
    found: Spectrum
    estimate: m_step.Estimate
    converged: bool


class _Run(NamedTuple):
    """Where EM ended: the last step to be trusted, its number, the objectives of all, and why."""

    step: _Step
    n_iter: int
    objective: list[float]
    converged: bool
    reason: str


def fit(
    matrix: sparse.csr_array,
    *,
    power: float | None = None,
    center: bool = True,
    penalty: m_step.Penalty = m_step.Penalty(),
    laplace: bool | None = False,
    n_comps: int = 50,
    max_iter: int = 1,
    tol: float = 1e-3,
    progress: bool = False,
) -> Fit:
    """Fit the model of Eq. 4.

    Parameters
    ----------
    matrix
        ``X``: CSR, float64, no stored zeros, a non-zero entry in every row and column, at least 2 × 2.
    power
        ``γ``. If None: 1 where ``X`` has negative values, which a Gaussian ``Z`` has; otherwise the largest ``γ ≤ 1``
        that brings the dispersion of ``log|Y|^γ`` down to ½, because a Gaussian cannot have the tails beyond. Entries that
        are as good as zeros, and would decide it, are then taken for zeros.
    center
        Whether the location ``m`` is estimated, or 0.
    penalty
        How precisions are kept from following the noise.
    laplace
        Whether the E-step goes beyond its mode. If None, where :func:`worth_laplace` tells so.
    n_comps
        Most directions of the embedding, and most spikes of ``Ω`` in the E-step.
    max_iter
        Steps of EM. The first is matrix scaling and one M-step.
    tol
        EM ends when a step changes ``log|Z|`` by less than this, root mean square.
    progress
        Whether long work shows a progress bar.
    """
    free, n_near_zero = quotient(matrix), 0
    if power is None:
        signed = bool((matrix.data < 0).any())
        near_zero = np.zeros(matrix.nnz, bool) if signed else as_good_as_zero(free.matrix, free.dispersion)
        if n_near_zero := int(near_zero.sum()):
            free = quotient(without(matrix, near_zero))
        power = 1.0 if signed else power_for(free.dispersion)
    transposed = matrix.shape[0] < matrix.shape[1]
    tall = _tall(free.matrix, power, transposed)
    axis, penalty = int(transposed) if center else None, _oriented(penalty, transposed)
    problem = _Problem(tall, n_comps, axis, penalty, laplace=laplace, progress=progress)
    with jax.enable_x64(True):
        run = _iterate(problem, max_iter, tol, progress)
    a, b = np.asarray(run.step.mode.a), np.asarray(run.step.mode.b)
    if transposed:
        a, b = b, a
    # |X| = exp(α + β)·|Y| and |Z| = |Y|^γ·exp(a + b), so log r = α − a/γ and log c = β − b/γ
    log_rows, log_cols = free.log_rows - a / power, free.log_cols - b / power
    shift = log_cols.mean()
    return Fit(
        log_rows=log_rows + shift,
        log_cols=log_cols - shift,
        power=power,
        dispersion=free.dispersion,
        n_near_zero=n_near_zero,
        **_structure(run, transposed),
    )


def fit_without_noise(
    matrix: sparse.csr_array,
    *,
    center: bool = True,
    penalty: m_step.Penalty = m_step.Penalty(),
    n_comps: int = 50,
    progress: bool = False,
) -> Structure:
    """Fit Eq. 3 to the matrix itself, its scale apart: the model of GmGM (Andrew et al., AISTATS 2024), regularised.

    Parameters as in :func:`fit`.
    """
    transposed = matrix.shape[0] < matrix.shape[1]
    tall = _tall(matrix, 1.0, transposed)
    axis, penalty = int(transposed) if center else None, _oriented(penalty, transposed)
    problem = _Problem(tall, n_comps, axis, penalty, laplace=False, progress=progress)
    with jax.enable_x64(True):
        step = problem.without_noise()
    reason = "there is no noise to take away" if step.converged else _short_of_goal(step)
    return Structure(**_structure(_Run(step, 1, [step.estimate.objective], step.converged, reason), transposed))


def _structure(run: "_Run", transposed: bool) -> dict[str, Any]:
    """Give the fields of :class:`Structure`, rows and columns in the order of the matrix."""
    lead, found, estimate = run.step.lead, run.step.found, run.step.estimate
    rows = Axis(lead.rows * lead.shrunk, estimate.rows)
    cols = Axis(lead.cols * lead.shrunk, estimate.cols[0])
    return {
        "rows": cols if transposed else rows,
        "cols": rows if transposed else cols,
        "spectrum": found.transposed() if transposed else found,
        "noise": lead.noise,
        "rank": lead.rank,
        "strength": estimate.strength[::-1] if transposed else estimate.strength,
        "objective": np.array(run.objective),
        "n_iter": run.n_iter,
        "converged": run.converged,
        "reason": run.reason,
    }


def worth_laplace(n: int, p: int, n_entries: int) -> bool:
    """Tell whether second moments beyond the mode change more than 1%, cost little, and can be told from the entries.

    They are of the order of ``1/n + 1/p``, and good to a few per cent where there are at least twice as many entries as
    there are scales.
    """
    return 1.0 / n + 1.0 / p > _WORTHWHILE and n + p <= _SMALL and n_entries >= 2 * (n + p)


def _oriented(penalty: m_step.Penalty, transposed: bool) -> m_step.Penalty:
    """Put the strengths of a penalty in the order of rows and columns."""
    if transposed and isinstance(penalty.strength, tuple):
        return replace(penalty, strength=penalty.strength[::-1])
    return penalty


def bytes_needed(n: int, p: int, n_entries: int, *, complete: bool) -> int:
    """Estimate the peak memory of a fit and its graphs, in bytes, beyond the input; the factors are measured ones."""
    large, small = max(n, p), min(n, p)
    entries = 120 * n_entries  # the matrix in blocks, its copies, and what one sweep holds
    square = 8 * small**2 * (25 if large < m_step.NEARLY_SQUARE * small else 10)  # Gram matrices, eigenvectors, Newton
    vectors = 2 * 8 * large * small
    graphs = 140 * (n**2 + p**2) if complete else 0
    return entries + square + vectors + graphs + 2**29


def _tall(y: sparse.csr_array, power: float, transposed: bool) -> sparse.csr_array:
    """Give ``sign(Y)|Y|^γ`` with at least as many rows as columns."""
    y = sparse.csr_array((np.copysign(np.abs(y.data) ** power, y.data), y.indices, y.indptr), y.shape)
    return y.T.tocsr() if transposed else y


class _Problem:
    """One tall matrix and the steps of EM on it; ``center`` is the axis along which ``m`` is constant."""

    def __init__(
        self,
        matrix: sparse.csr_array,
        n_comps: int,
        center: int | None,
        penalty: m_step.Penalty,
        *,
        laplace: bool | None,
        progress: bool,
    ) -> None:
        self.n_comps, self.center, self.penalty = n_comps, center, penalty
        self.laplace, self.progress = laplace, progress
        self.goes_beyond = laplace or laplace is None and worth_laplace(*matrix.shape, matrix.nnz)
        self.n_entries = float(matrix.nnz)  # and the sum of the squares of Z, the mean of which is 1
        self.matrix, self.counts = matrix, pattern_counts(matrix)
        with jax.enable_x64(True):
            self.y = from_csr(matrix)

    def first(self) -> _Step:
        """Take the step from ``Ω = I``."""
        omega = fiber.identity(*self.y.shape)
        mode = fiber.sinkhorn(self.matrix, *self.counts, _FIBER_TOLERANCE)
        if (
            float(mode.residual) > _FIBER_TOLERANCE
        ):  # a pattern that hangs together loosely: Newton's method does not mind
            mode = self._newton(omega, mode)
        return self._from(mode, omega)

    def after(self, step: _Step) -> _Step:
        """Take the step from what the one before found."""
        omega = m_step.spiked(step.lead, self.n_entries, self.n_comps)
        return self._from(self._newton(omega, step.mode), omega, step.estimate)

    def without_noise(self) -> _Step:
        """Take the matrix itself for ``Z``."""
        n, m = self.y.shape
        return self._from(fiber.Mode(jnp.zeros(n), jnp.zeros(m), jnp.asarray(0.0), jnp.asarray(0)), None)

    def _newton(self, omega: fiber.Omega, start: fiber.Mode) -> fiber.Mode:
        return fiber.newton(self.y, omega, *map(jnp.asarray, self.counts), start.a, start.b, _FIBER_TOLERANCE)

    def _from(self, mode: fiber.Mode, omega: fiber.Omega | None, last: m_step.Estimate | None = None) -> _Step:
        beyond = self._beyond(mode, omega) if self.goes_beyond else None
        mode, z = fiber.of_unit_size(self.y, mode, self.n_entries)
        lead, found = decompose(z, gram(z), center=self.center, n_comps=self.n_comps)
        found = replace(found, beyond=beyond)
        estimate = m_step.estimate(found, self.penalty, last, progress=self.progress)
        converged = not estimate.shortfall and float(mode.residual) <= _FIBER_ACCEPTED
        return _Step(mode, lead, found, estimate, converged)

    def _beyond(self, mode: fiber.Mode, omega: fiber.Omega) -> tuple[np.ndarray, np.ndarray] | None:
        """Give what Laplace's second moments add to those of the mode, in the unit in which the mean square is 1.

        None where the mode is not strict, unless moments were asked for.
        """
        z = to_dense(fiber.at(self.y, mode.a, mode.b))
        try:
            moments = laplace_moments.moments(z, *fiber.precisions(omega))
        except ValueError:
            if self.laplace:
                raise
            return None
        return tuple(
            self.n_entries * (found / np.trace(found) - square / np.trace(square))
            for found, square in ((moments.rows, z @ z.T), (moments.cols, z.T @ z))
        )

    def distance(self, old: _Step, new: _Step) -> float:
        """Give the root mean square change of ``log|Z|``."""
        return float(fiber.distance(self.y, old.mode, new.mode, self.n_entries))


def _iterate(problem: _Problem, max_iter: int, tol: float, progress: bool) -> _Run:
    """Take steps of EM until they change nothing, or cannot be trusted.

    The steps of a fixed-point iteration that converges get shorter. One longer than the step before it is where the
    feedback between ``Z`` and ``Ω`` has taken over: it is dropped.
    """
    step = problem.first()
    objective, last_change = [step.estimate.objective], np.inf
    if max_iter == 1:
        reason = "the one step asked for was taken"
        return _Run(step, 1, objective, step.converged, reason if step.converged else _short_of_goal(step))
    for n_iter in tqdm(range(2, max_iter + 1), desc="EM", unit="step", delay=2, leave=False, disable=not progress):
        new = problem.after(step)
        objective.append(new.estimate.objective)
        change = problem.distance(step, new)
        if not new.converged:
            return _Run(step, n_iter - 1, objective, False, f"step {n_iter} was dropped: {_short_of_goal(new)}")
        if not change < last_change:
            reason = f"it changed log|Z| by {change:.2g}, more than the {last_change:.2g} of the step before it"
            return _Run(step, n_iter - 1, objective, False, f"step {n_iter} was dropped: {reason}")
        step, last_change = new, change
        if change < tol:
            reason = f"log|Z| changed by {change:.2g}, less than tol={tol:g}"
            return _Run(step, n_iter, objective, True, reason)
    reason = f"log|Z| still changed by {change:.2g}, tol={tol:g}, in the last of max_iter={max_iter} steps; allow more"
    return _Run(step, max_iter, objective, False, reason)


def _short_of_goal(step: _Step) -> str:
    return (
        f"row and column sums are off their targets by {float(step.mode.residual):.2g}"
        if float(step.mode.residual) > _FIBER_ACCEPTED
        else step.estimate.shortfall
    )
