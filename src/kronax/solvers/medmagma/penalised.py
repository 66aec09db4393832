"""Steps of EM that have one objective: the likelihood with a ridge that stays as it is.

The E-step sees the whole last estimate, undamped, and the geometric mean of ``|Z|`` stays that of the first step, as the paper
has it: if the size of ``Z`` were free, so would be that of ``Ω``, and the ridge would go to nothing. Each step then decreases

    ``⟨Z, Ω·Z⟩ + log det H − log det Ω + ρ‖Ω‖²``.                                                               (9)

With Laplace's moments Eq. 9 approximates the negative logarithm of the marginal likelihood, with the ridge. The M-step minimises
the last two terms together with the tangent of the others. Were these concave in ``Ω``, as the likelihood is that they
approximate, Eq. 9 would be below its tangent and fall. They are not quite: steps may go too far, and back and forth for ever. The
tangent is exact, however, and so Eq. 9 falls at the beginning of the way from ``Ω`` to what the M-step finds: a step goes as far
along it as keeps half of what the tangent promises (Armijo's rule). At the mode alone there is no ``log det H``, and Eq. 9 is the negative logarithm of the joint likelihood: E-step and
M-step each minimise one part. For every ``ρ > 0`` Eq. 9 has a minimum: ``⟨Z, Ω·Z⟩`` is positive for the smallest ``Z``, by the
inequality of the arithmetic and the geometric mean, and the last two terms go to infinity where an eigenvalue of ``Ω`` goes to
zero or infinity.
"""

from dataclasses import dataclass, replace

import numpy as np

from kronax.solvers.device import eigh_all, eigvalsh, to_host
from kronax.solvers.gaussian import m_step
from kronax.solvers.gaussian.precision import LowRank, Precision, dense
from kronax.solvers.gaussian.spectral import Leading, Spectrum, decompose
from kronax.solvers.gaussian.vectors import Held
from kronax.solvers.medmagma.steps import Step, Steps
from kronax.solvers.rows.rows import Rows
from kronax.solvers.scales import fiber
from kronax.solvers.scales.laplace import Laplace, Moments
from kronax.solvers.status import Status

_ROUNDING = 1e-9  # of the objective
_SHARES = 0.5 ** np.arange(6)  # of the way to what the M-step found


@dataclass(frozen=True)
class _Step(Step):
    """A step, the ``Ω`` that its E-step saw, and how much of the way to it was gone; the objective is Eq. 9 at this ``Ω``.

    Without second moments, and in the first step, it is the value of the M-step, a bound from above on Eq. 9 at the ``Ω`` found.
    """

    seen: m_step.Estimate | None = None
    share: float = 1.0


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
        variables: None = None,
        groups: None = None,
        whole: bool = True,
        progress: bool,
    ) -> None:
        variance = rows.n_entries / np.prod(rows.shape)  # mean one of the first Z
        super().__init__(
            rows, n_comps, center, replace(penalty, unit=variance**2), laplace, whole=whole, progress=progress
        )
        self.log_mean = 0.0

    def after(self, step: _Step) -> _Step:
        """Take the step from what the M-step found or, where that is too far, from part of the way there."""
        for share in _SHARES:
            new = replace(super().after(replace(step, estimate=_between(step, share))), share=share)
            if step.seen is None or self._keeps_its_promise(step, new):
                break
        return new

    def distance(self, old: _Step, new: _Step) -> float:
        """Return the root mean square change of ``log|Z|``, that of the whole way if only part of it was gone."""
        return super().distance(old, new) / new.share

    def doubt(self, old: Step, new: Step, change: float, last_change: float) -> str:
        """Return why a step cannot be trusted: the objective rose, even after a short part of the way."""
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
        return replace(step, mode=mode, lead=lead, found=found, estimate=step.seen or step.estimate)

    def _seen(self, step: Step) -> fiber.Omega:
        return m_step.whole(step.estimate)

    def _from(
        self,
        mode: fiber.Mode,
        omega: fiber.Omega | None,
        last: m_step.Estimate | None = None,
        *,
        scaled: bool = False,
    ) -> _Step:
        rows, cols = self.counts
        log_mean = float(rows @ to_host(mode.a) + cols @ to_host(mode.b)) / self.n_entries
        if last is None:
            self.log_mean = log_mean
        step = super()._from(replace(mode, a=mode.a - (log_mean - self.log_mean)), omega, last, scaled=scaled)
        if step.moments is None:
            return _Step(**vars(step))
        z = self._dense(step.mode)
        if last is None:  # tr E[ZZᵀ] − ‖Z‖² for Ω = I, by which ⟨Z, Ω·Z⟩ is below the second moments for any Ω
            below = 0.5 * (np.trace(step.moments.rows) - np.vdot(z, z)) / z.size
            return _Step(**vars(replace(step, status=_with_objective(step, step.status.objective[-1] - below))))
        energy = _energy(z @ z.T, z.T @ z, last) + step.moments.log_det
        return _Step(**vars(replace(step, status=_with_objective(step, self._level(energy, last)))), seen=last)

    def _level(self, energy: float, omega: m_step.Estimate) -> float:
        """Evaluate Eq. 9, half, per entry, from its first two terms and ``Ω``."""
        total = np.add.outer(*(to_host(eigvalsh(dense(side))) for side in (omega.rows, omega.cols[0])))
        ridge = self.penalty.strength * self.penalty.unit * np.vdot(total, total)
        return float(0.5 * (energy - np.log(total).sum() + ridge) / total.size)

    def _keeps_its_promise(self, step: _Step, new: _Step) -> bool:
        """Return whether Eq. 9 fell by half of what the tangent promised, at least."""
        moments = step.moments.rows, step.moments.cols
        here, there = (self._level(_energy(*moments, omega), omega) for omega in (step.seen, step.estimate))
        fall = float(step.status.objective[-1] - new.status.objective[-1])
        return new.status.converged and fall > 0.5 * new.share * (here - there) - _ROUNDING

    def _decomposed(
        self, mode: fiber.Mode, moments: Moments | None, scaled: bool
    ) -> tuple[fiber.Mode, Leading, Spectrum]:
        lead, found = decompose(self._noise_free(mode), center=self.center, n_comps=self.n_comps)
        if moments:
            dense = self._dense(mode)
            found = replace(found, beyond=(moments.rows - dense @ dense.T, moments.cols - dense.T @ dense))
        return mode, lead, found


def _with_objective(step: Step, objective: float) -> Status:
    return replace(step.status, objective=np.array([objective]))


def _energy(rows: np.ndarray, cols: np.ndarray, omega: m_step.Estimate) -> float:
    """Compute ``tr(SΨ) + tr(TΦ)`` for second moments of rows and columns, which is ``⟨Z, Ω·Z⟩`` for those of ``Z``."""
    return float(np.vdot(rows, dense(omega.rows)) + np.vdot(cols, dense(omega.cols[0])))


def _between(step: _Step, share: float) -> m_step.Estimate:
    """Return the ``Ω`` so far on the way from what the E-step saw to what the M-step found."""
    if share == 1.0:
        return step.estimate
    pairs = (step.seen.rows, step.estimate.rows), (step.seen.cols[0], step.estimate.cols[0])
    rows, cols = (_mixed(one, other, share) for one, other in pairs)
    return step.estimate._replace(rows=rows, cols=[cols])


def _mixed(one: Precision, other: Precision, share: float) -> LowRank:
    ((values, vectors),) = eigh_all([(1.0 - share) * dense(one) + share * dense(other)])
    return LowRank(0.0, Held(vectors), values)
