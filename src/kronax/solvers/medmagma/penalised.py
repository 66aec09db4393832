"""Steps of EM that have one objective: the likelihood with a ridge that stays as it is.

The E-step sees the whole last estimate, undamped, and the geometric mean of ``|Z|`` stays that of the first step, as the paper
has it: if the size of ``Z`` were free, so would be that of ``Ω``, and the ridge would go to nothing. Each step then decreases

    ``⟨Z, Ω·Z⟩ + log det H − log det Ω + ρ‖Ω‖²``.                                                               (9)

With Laplace's moments this holds up to the error of the approximation. Eq. 9 is then the negative logarithm of the marginal
likelihood, with the ridge. It is concave in ``Ω`` but for its last two terms; the M-step minimises these together with the tangent
of the rest. At the mode alone there is no ``log det H``, and Eq. 9 is the negative logarithm of the joint likelihood: E-step and
M-step each minimise one part. For every ``ρ > 0`` Eq. 9 has a minimum: ``⟨Z, Ω·Z⟩`` is positive for the smallest ``Z``, by the
inequality of the arithmetic and the geometric mean, and the last two terms go to infinity where an eigenvalue of ``Ω`` goes to
zero or infinity.
"""

from dataclasses import replace

import numpy as np

from kronax.solvers.device import to_host
from kronax.solvers.gaussian import m_step
from kronax.solvers.gaussian.spectral import Leading, Spectrum, decompose
from kronax.solvers.medmagma.steps import Step, Steps
from kronax.solvers.rows.rows import Rows
from kronax.solvers.scales import fiber
from kronax.solvers.scales.laplace import Laplace, Moments

_ROUNDING = 1e-9  # of the objective


class Penalised(Steps):
    """The steps of EM for Eq. 9."""

    def __init__(
        self,
        rows: Rows,
        n_comps: int,
        center: int | None,
        penalty: m_step.Penalty,
        laplace: Laplace | None = None,
        *,
        whole: bool = True,
        progress: bool,
    ) -> None:
        variance = rows.n_entries / np.prod(rows.shape)  # mean one of the first Z
        super().__init__(
            rows, n_comps, center, replace(penalty, unit=variance**2), laplace, whole=whole, progress=progress
        )
        self.log_mean = 0.0

    def doubt(self, old: Step, new: Step, change: float, last_change: float) -> str:
        """Return why a step cannot be trusted: the objective rose, so Laplace's approximation does not hold."""
        rise = float(new.status.objective[-1] - old.status.objective[-1])
        return f"it raised the objective by {rise:.2g}" if rise > _ROUNDING else ""

    def final(self, step: Step) -> Step:
        """Return a step with ``Z`` in the unit in which its mean square is 1."""
        mode = self._of_unit_size(step.mode)
        size = float(np.exp(step.mode.a[0] - mode.a[0]))
        lead, found = step.lead, step.found
        lead = replace(lead, eigenvalues=lead.eigenvalues / size**2, shrunk=lead.shrunk / size, noise=lead.noise / size)
        found = replace(
            found,
            eigenvalues=found.eigenvalues / size**2,
            beyond=self._beyond(mode, step.moments) if step.moments else None,
        )
        return replace(step, mode=mode, lead=lead, found=found)

    def _seen(self, step: Step) -> fiber.Omega:
        return m_step.whole(step.estimate)

    def _from(
        self,
        mode: fiber.Mode,
        omega: fiber.Omega | None,
        last: m_step.Estimate | None = None,
        *,
        scaled: bool = False,
    ) -> Step:
        rows, cols = self.counts
        log_mean = float(rows @ to_host(mode.a) + cols @ to_host(mode.b)) / self.n_entries
        if last is None:
            self.log_mean = log_mean
        return super()._from(replace(mode, a=mode.a - (log_mean - self.log_mean)), omega, last, scaled=scaled)

    def _decomposed(
        self, mode: fiber.Mode, moments: Moments | None, scaled: bool
    ) -> tuple[fiber.Mode, Leading, Spectrum]:
        lead, found = decompose(self._noise_free(mode), center=self.center, n_comps=self.n_comps)
        if moments:
            dense = self._dense(mode)
            found = replace(found, beyond=(moments.rows - dense @ dense.T, moments.cols - dense.T @ dense))
        return mode, lead, found
