"""The Kronecker-sum Gaussian that fits two covariance spectra.

``min tr(S₁Ψ) + tr(S₂Φ) − log det(Ψ ⊕ Φ)`` has the eigenvectors of ``S₁`` and ``S₂``. With their distinct eigenvalues
``e_i`` (multiplicity ``m_i``) and ``f_j`` (multiplicity ``q_j``) it is the convex problem

    ``min Σ m_i e_i λ_i + Σ q_j f_j μ_j − Σ_ij m_i q_j log(λ_i + μ_j)``,   ``λ_i + μ_j > 0``,                   (3)

whose solution fixes ``λ + t, μ − t`` up to the constant ``t``. A ridge adds

    ``ρ ‖Ψ ⊕ Φ‖² = ρ Σ_ij m_i q_j (λ_i + μ_j)²``,                                                               (3′)

which, like the likelihood, does not depend on ``t``; off the diagonals it is ``ρ(p‖Ψ‖² + n‖Φ‖²)``. With a ridge, a solution
exists even where eigenvalues are zero.

There are at most as many distinct eigenvalues as the short side of a matrix has, and Newton's method takes a few steps: the
host has solved it before a compiler would be done.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse.linalg import LinearOperator, cg

from kronax.solvers.device import one_thread_each
from kronax.solvers.status import Status

_STEPS = 200
_LARGE = 256  # eigenvalues from which a coarse problem is solved first
_LUMPS = 128
_SHORTEST_STEP = 1e-12
_ARMIJO = 1e-4
_CG_STEPS = 500
_CG_RESIDUAL = 1e-10
_ROUNDING = 1e-13


@dataclass(frozen=True)
class KroneckerSum:
    """Eigenvalues ``λ`` of ``Ψ`` and ``μ`` of ``Φ`` with equal means (so equal mean diagonals).

    ``objective`` is Eqs. 3 and 3′ at the solution; ``status`` has it at the start and after every Newton step.
    """

    lam: np.ndarray
    mu: np.ndarray
    objective: float
    status: Status


def gradient(
    lam: np.ndarray,
    mu: np.ndarray,
    e: np.ndarray,
    f: np.ndarray,
    m: np.ndarray,
    q: np.ndarray,
    ridge: float = 0.0,
    *,
    inverse: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradient of Eqs. 3 and 3′: ``m_i (e_i − Σ_j q_j K_ij)`` and ``q_j (f_j − Σ_i m_i K_ij)``.

    ``K_ij = 1/x − 2ρx`` with ``x = λ_i + μ_j``; ``inverse`` is ``1/x``, where it is known.
    """
    inverse = 1.0 / np.add.outer(lam, mu) if inverse is None else inverse
    sum_rows = lam * q.sum() + q @ mu  # Σ_j q_j x_ij
    sum_cols = mu * m.sum() + m @ lam
    return m * (e - inverse @ q + 2.0 * ridge * sum_rows), q * (f - m @ inverse + 2.0 * ridge * sum_cols)


def objective(
    lam: np.ndarray,
    mu: np.ndarray,
    e: np.ndarray,
    f: np.ndarray,
    m: np.ndarray,
    q: np.ndarray,
    ridge: float = 0.0,
    *,
    work: np.ndarray | None = None,
) -> float:
    """Evaluate Eqs. 3 and 3′; ``inf`` outside their domain. ``work`` is room for one number per pair of eigenvalues."""
    if lam.min() + mu.min() <= 0:
        return np.inf
    logs = np.add.outer(lam, mu, out=work)
    np.log(logs, out=logs)
    square = q.sum() * (m @ lam**2) + 2.0 * (m @ lam) * (q @ mu) + m.sum() * (q @ mu**2)  # Σ_ij m_i q_j (λ_i + μ_j)²
    return float((m * e) @ lam + (q * f) @ mu - m @ logs @ q + ridge * square)


def fit(
    e: np.ndarray,
    f: np.ndarray,
    m: np.ndarray,
    q: np.ndarray,
    tol: float = 1e-12,
    ridge: float = 0.0,
    *,
    start: tuple[np.ndarray, np.ndarray] | None = None,
) -> KroneckerSum:
    """Solve Eq. 3, with a ridge Eqs. 3 and 3′, by Newton's method with a backtracking line search.

    Parameters
    ----------
    e, f
        Distinct eigenvalues, positive, or with a ridge any; ``m·e`` and ``q·f`` must have the same sum.
    m, q
        Their multiplicities.
    tol
        Newton decrement to stop at: twice the decrease that the last step promised, relative to ``Σm·Σq``.
    ridge
        ``ρ ≥ 0`` of Eq. 3′.
    start
        ``λ`` and ``μ`` of a problem nearby.
    """
    with one_thread_each():  # the products are small: threads would mostly wait for each other
        return _fit(e, f, m, q, tol, ridge, start)


def _fit(
    e: np.ndarray,
    f: np.ndarray,
    m: np.ndarray,
    q: np.ndarray,
    tol: float,
    ridge: float,
    start: tuple[np.ndarray, np.ndarray] | None = None,
) -> KroneckerSum:
    spectrum = e, f, m, q, ridge
    size = float(m.sum() * q.sum())
    work = np.empty((len(e), len(f)))  # reused in every step: allocating it would cost as much as the computation
    lam, mu = _start(*spectrum, tol) if start is None else start
    value = objective(lam, mu, *spectrum, work=work)
    trace, decrement = [value], np.inf
    while decrement > tol and len(trace) <= _STEPS:
        d_lam, d_mu, slope = _newton_direction(lam, mu, *spectrum, work)
        decrement = -slope / size
        length, rounding = 1.0, _ROUNDING * abs(value)
        while length > _SHORTEST_STEP:
            trial = lam + length * d_lam, mu + length * d_mu
            trial_value = objective(*trial, *spectrum, work=work)
            if trial_value <= value + _ARMIJO * length * slope + rounding:
                break
            length /= 2
        else:  # no step decreases the objective: rounding is all that is left
            break
        (lam, mu), value = trial, trial_value
        trace.append(value)
    shift = 0.5 * float((m @ lam) / m.sum() - (q @ mu) / q.sum())
    n_iter = len(trace) - 1
    reason = (
        f"the Newton iteration stopped at a decrement of {decrement:.2g} after {n_iter} steps, with a goal of {tol:.2g}"
    )
    return KroneckerSum(lam - shift, mu + shift, value, Status(decrement <= tol, reason, n_iter, np.array(trace)))


def _start(
    e: np.ndarray, f: np.ndarray, m: np.ndarray, q: np.ndarray, ridge: float, tol: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return a point inside the domain of Eq. 3.

    For a small problem, or with a ridge: half of what each axis would be without the other. For a large one: the solution
    with neighbouring eigenvalues lumped together, interpolated, as ``λ`` is nearly linear in ``1/e`` and ``μ`` in ``1/f``.
    """
    if ridge > 0 or max(len(e), len(f)) <= _LARGE:
        return 0.5 * _alone(e / q.sum(), ridge), 0.5 * _alone(f / m.sum(), ridge)
    (e_lump, m_lump), (f_lump, q_lump) = _lumped(e, m), _lumped(f, q)
    coarse = _fit(e_lump, f_lump * (m_lump @ e_lump) / (q_lump @ f_lump), m_lump, q_lump, tol, ridge)
    return np.interp(-1 / e, -1 / e_lump, coarse.lam), np.interp(-1 / f, -1 / f_lump, coarse.mu)


def _alone(variance: np.ndarray, ridge: float) -> np.ndarray:
    """Solve ``1/x − 2ρx = variance``."""
    return 2.0 / (variance + np.sqrt(variance**2 + 8.0 * ridge))


def _lumped(values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lump nearly equal eigenvalues together; return their means, ascending, and multiplicities.

    The number of lumps is fixed; an empty one gets a negligible multiplicity.
    """
    edges = np.linspace(np.log(values.min()), np.log(values.max()), _LUMPS + 1)
    lump = np.clip(np.digitize(np.log(values), edges) - 1, 0, _LUMPS - 1)
    sizes = np.bincount(lump, counts, _LUMPS)
    centres = np.exp(0.5 * (edges[:-1] + edges[1:]))
    means = np.where(sizes > 0, np.bincount(lump, counts * values, _LUMPS) / np.maximum(sizes, 1e-300), centres)
    return means, np.maximum(sizes, 1e-9)


def _newton_direction(
    lam: np.ndarray,
    mu: np.ndarray,
    e: np.ndarray,
    f: np.ndarray,
    m: np.ndarray,
    q: np.ndarray,
    ridge: float,
    work: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the Newton direction of Eq. 3 and the objective's slope along it.

    The Hessian is ``[diag(P1) P; Pᵀ diag(Pᵀ1)]`` with ``P_ij = m_i q_j p_ij``, ``p_ij = 1/(λ_i+μ_j)² + 2ρ``. Its first block is
    eliminated; the Schur complement, whose null vector is the constant, is solved by conjugate gradients with its diagonal
    as preconditioner, which takes a few matrix-vector products because ``P`` is close to rank one.
    """
    inverse = np.add.outer(lam, mu, out=work)
    np.reciprocal(inverse, out=inverse)
    g_lam, g_mu = gradient(lam, mu, e, f, m, q, ridge, inverse=inverse)
    p = np.square(inverse, out=inverse)
    if ridge:
        p += 2.0 * ridge
    rows, cols = p @ q, q * (m @ p)  # P1 = m∘rows, Pᵀ1 = cols
    d_mu, _ = cg(
        LinearOperator((len(mu), len(mu)), lambda x: cols * x - q * ((m * (p @ (q * x)) / rows) @ p), dtype=float),
        q * ((g_lam / rows) @ p) - g_mu,
        rtol=_CG_RESIDUAL,
        atol=_ROUNDING * float(np.linalg.norm(q * f)),
        maxiter=_CG_STEPS,
        M=LinearOperator((len(mu), len(mu)), lambda x: x / cols, dtype=float),
    )
    d_lam = -(g_lam / m + p @ (q * d_mu)) / rows
    return d_lam, d_mu, float(g_lam @ d_lam + g_mu @ d_mu)
