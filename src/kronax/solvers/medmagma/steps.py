"""Steps of expectation maximisation: an E-step, which finds ``Z``, and an M-step, which fits ``Ψ`` and ``Φ`` to it.

The E-step sees the leading directions of the last ``Z``, damped, and not the whole last estimate: see
:mod:`kronax.solvers.gaussian.m_step`.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from kronax.solvers.blocks import Blocks, from_csr
from kronax.solvers.device import to_host
from kronax.solvers.gaussian import m_step
from kronax.solvers.gaussian.spectral import Clustering, Leading, Spectrum, decompose
from kronax.solvers.rows.groups import Groups
from kronax.solvers.rows.noise_free import Factors, NoiseFree
from kronax.solvers.rows.on_devices import spread
from kronax.solvers.rows.rows import InMemory, Rows
from kronax.solvers.scales import fiber
from kronax.solvers.scales.laplace import Laplace, Moments
from kronax.solvers.scales.quotient import pattern_counts
from kronax.solvers.status import CLOSED_FORM, Status

FIBER_TOLERANCE = 1e-9  # of row and column sums: what is aimed at ...
FIBER_TOLERANCE_OF_CHUNKS = 1e-7  # ... where every pass reads the whole matrix anew ...
FIBER_ACCEPTED = 1e-6  # ... and what will do


@dataclass(frozen=True)
class Step:
    """One step of EM.

    Attributes
    ----------
    mode
        Where the E-step put ``Z``.
    moments
        Its second moments beyond the mode, or None.
    lead, found
        Directions and spectrum of ``Z``; no spectrum where the directions are all that is wanted.
    estimate
        What the M-step made of the spectrum.
    status
        Whether E-step and M-step reached their goals; the objective is that after the step, per entry of ``Z``.
    """

    mode: fiber.Mode
    moments: Moments | None
    lead: Leading
    found: Spectrum | None
    estimate: m_step.Estimate | None
    status: Status


class Steps:
    """One tall matrix and the steps of EM on it, of which only the first can do without the matrix in memory.

    ``center`` is the axis along which ``m`` is constant; ``variables`` that of the columns of ``X``, if each is to have the same variance in
    the spectrum, and ``groups`` those of their samples, or what finds them; ``whole`` is False if directions above the noise are all that is wanted.
    """

    def __init__(
        self,
        rows: Rows,
        n_comps: int,
        center: int | None,
        penalty: m_step.Penalty,
        laplace: Laplace | None = None,
        *,
        variables: int | None = None,
        groups: Groups | Clustering | None = None,
        whole: bool = True,
        progress: bool,
    ) -> None:
        self.n_comps, self.center, self.penalty = n_comps, center, penalty
        self.variables, self.groups = variables, groups
        self.laplace, self.whole, self.progress = laplace, whole or bool(laplace), progress
        self.rows = spread(rows)
        self.n_entries = float(rows.n_entries)  # and the sum of the squares of Z, the mean of which is 1

    @cached_property
    def y(self) -> Blocks:
        """``Y`` for Newton's method."""
        with jax.enable_x64(True):
            return from_csr(self.rows.matrix)

    @cached_property
    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of entries of every row and column."""
        return pattern_counts(self.rows.matrix)

    def first(self) -> Step:
        """Take the step from ``Ω = I``."""
        omega = fiber.identity(*self.rows.shape)
        in_memory = isinstance(self.rows, InMemory)
        tolerance = FIBER_TOLERANCE if in_memory else FIBER_TOLERANCE_OF_CHUNKS
        mode = fiber.sinkhorn(self.rows, tolerance, progress=self.progress)
        if float(mode.residual) > tolerance and in_memory:
            # a loosely connected pattern, which Newton's method can handle
            return self._from(self._newton(omega, mode), omega)
        return self._from(mode, omega, scaled=True)

    def after(self, step: Step) -> Step:
        """Take the step from what the one before found."""
        omega = self._seen(step)
        return self._from(self._newton(omega, step.mode), omega, step.estimate)

    def without_noise(self) -> Step:
        """Take the matrix itself for ``Z``."""
        n, m = self.rows.shape
        return self._from(fiber.Mode(jnp.zeros(n), jnp.zeros(m), jnp.asarray(0.0), jnp.asarray(0)), None)

    def distance(self, old: Step, new: Step) -> float:
        """Return the root mean square change of ``log|Z|``."""
        return float(fiber.distance(self.y, old.mode, new.mode, self.n_entries))

    def doubt(self, old: Step, new: Step, change: float, last_change: float) -> str:
        """Return why a step cannot be trusted, in words; empty if it can.

        The steps of a converging fixed-point iteration get shorter. Where one is longer than the step before it, the feedback
        between ``Z`` and ``Ω`` has taken over.
        """
        if change < last_change:
            return ""
        return f"it changed log|Z| by {change:.2g}, more than the {last_change:.2g} of the step before it"

    def final(self, step: Step) -> Step:
        """Return a step with ``Z`` in the unit in which its mean square is 1."""
        return step

    def _seen(self, step: Step) -> fiber.Omega:
        """Return the part of the last step's ``Ω`` that the E-step sees."""
        return m_step.spiked(step.lead, self.n_entries, self.n_comps)

    def _newton(self, omega: fiber.Omega, start: fiber.Mode) -> fiber.Mode:
        return fiber.newton(self.y, omega, *map(jnp.asarray, self.counts), start.a, start.b, FIBER_TOLERANCE)

    def _from(
        self,
        mode: fiber.Mode,
        omega: fiber.Omega | None,
        last: m_step.Estimate | None = None,
        *,
        scaled: bool = False,
    ) -> Step:
        """Take the M-step from a mode for ``Ω``; ``scaled`` if its row factors follow from the others, as for ``Ω = I``."""
        residual = float(mode.residual)
        off = f"row and column sums are off their targets by {residual:.2g}" if residual > FIBER_ACCEPTED else ""
        moments = self.laplace(self._dense(mode), *fiber.precisions(omega)) if self.laplace and not off else None
        if self.laplace and self.laplace.required and not (off or moments):
            off = "Z is no strict mode, around which second moments could be taken"
        mode, lead, found = self._decomposed(mode, moments, scaled)
        estimate = m_step.estimate(found, self.penalty, last, progress=self.progress) if found else None
        status = estimate.status if estimate else replace(CLOSED_FORM, objective=np.array([np.nan]))
        if moments:
            curvature = 0.5 * moments.log_det / np.prod(self.rows.shape)  # Eq. 7
            status = replace(status, objective=status.objective + curvature)
        if off:
            status = replace(status, converged=False, reason=off)
        return Step(mode, moments, lead, found, estimate, status)

    def _decomposed(
        self, mode: fiber.Mode, moments: Moments | None, scaled: bool
    ) -> tuple[fiber.Mode, Leading, Spectrum | None]:
        """Move a mode to where the mean square of ``Z`` is 1, and decompose ``Z``."""
        if scaled:
            z = NoiseFree(self.rows, Factors(np.exp(2.0 * to_host(mode.b))), self.progress)
        else:
            mode = self._of_unit_size(mode)
            z = self._noise_free(mode)
        options = {"n_comps": self.n_comps, "whole": self.whole, "variables": self.variables, "groups": self.groups}
        lead, found = decompose(z, center=self.center, **options)
        return mode, lead, replace(found, beyond=self._beyond(mode, moments)) if moments else found

    def _beyond(self, mode: fiber.Mode, moments: Moments) -> tuple[np.ndarray, np.ndarray]:
        """Return what the second moments add to those of the mode, in the unit in which the mean square is 1."""
        z = self._dense(mode)
        return tuple(
            self.n_entries * (found / np.trace(found) - square / np.trace(square))
            for found, square in ((moments.rows, z @ z.T), (moments.cols, z.T @ z))
        )

    def _of_unit_size(self, mode: fiber.Mode) -> fiber.Mode:
        """Move a mode along the overall scale, which the model does not determine, until the mean of ``z²`` is 1."""
        energy = self._noise_free(mode).deviations(np.zeros(self.rows.shape[1]))[:, 0].sum()
        return replace(mode, a=mode.a - 0.5 * np.log(energy / self.n_entries))

    def _noise_free(self, mode: fiber.Mode) -> NoiseFree:
        rows, cols = (np.exp(2.0 * to_host(side)) for side in (mode.a, mode.b))
        return NoiseFree(self.rows, Factors(cols, rows), self.progress)

    def _dense(self, mode: fiber.Mode) -> np.ndarray:
        return self._noise_free(mode).held().toarray()
