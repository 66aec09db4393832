"""How strong a ridge on the Kronecker sum should be, by the likelihood of held-out data.

Under a fit, the likelihood of held-out data depends only on their variances along the fit's eigenvectors.
:func:`kronax.solvers.gaussian.shrinkage.leave_one_out` estimates these. They replace the sample's eigenvalues in Eq. 3, and the
ridge of Eq. 3′ is chosen whose fit makes Eq. 3 smallest. The overall scale ``c``, on which no result depends and which a ridge
makes too small, is set to its optimum: ``min_c c·t − N log c − log det`` with ``t = Σ m ẽ λ + Σ q f̃ μ`` and ``N = Σm·Σq`` is

    ``N + N log(t/N) − Σ_ij m_i q_j log(λ_i + μ_j)``.                                                           (8)
"""

from dataclasses import dataclass

import numpy as np
from scipy import optimize

from kronax.solvers.gaussian import kronecker_sum

_DECADES = (-8.0, 2.0)  # of ρ, in units of the squared mean variance
_ACCURACY = 0.05  # decades


@dataclass(frozen=True)
class Ridge:
    """The strength ``ρ``, the fit with it, and its Eq. 8."""

    strength: float
    solved: kronecker_sum.KroneckerSum
    risk: float


def choose(e: np.ndarray, f: np.ndarray, m: np.ndarray, q: np.ndarray, held: tuple[np.ndarray, np.ndarray]) -> Ridge:
    """Choose the ridge by held-out likelihood.

    Parameters
    ----------
    e, f, m, q
        The sample's eigenvalues, null ones included, and their multiplicities, as for :func:`kronecker_sum.fit`.
    held
        Held-out eigenvalues in the same form as ``e`` and ``f``.
    """
    unit = (float(m @ e) / float(m.sum() * q.sum())) ** 2

    def at(decade: float) -> Ridge:
        strength = unit * 10.0**decade
        solved = kronecker_sum.fit(e, f, m, q, ridge=strength)
        return Ridge(strength, solved, risk(solved, *held, m, q))

    found = optimize.minimize_scalar(
        lambda decade: at(decade).risk, bounds=_DECADES, method="bounded", options={"xatol": _ACCURACY}
    )
    return at(found.x)


def risk(solved: kronecker_sum.KroneckerSum, e: np.ndarray, f: np.ndarray, m: np.ndarray, q: np.ndarray) -> float:
    """Evaluate Eq. 8 for a fit and held-out eigenvalues."""
    size = float(m.sum() * q.sum())
    trace = float((m * e) @ solved.lam + (q * f) @ solved.mu)
    return float(size + size * np.log(trace / size) - m @ np.log(solved.lam[:, None] + solved.mu) @ q)
