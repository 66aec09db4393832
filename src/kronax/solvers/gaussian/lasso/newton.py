"""The Kronecker-sum Gaussian with exactly sparse precision matrices.

    ``min F = tr(S₁Ψ) + tr(S₂Φ) − log det(Ψ ⊕ Φ) + Σ_ik R_ik |Ψ_ik| + Σ_jl C_jl |Φ_jl|``,   ``Ψ ⊕ Φ ≻ 0``,      (5)

with penalties ``R ≥ 0`` (n, n) and ``C ≥ 0`` (p, p) that leave the diagonals alone: TeraLasso (Greenewald, Zhou and Hero,
JRSS B 2019) with one strength per entry. With ``Ψ = U diag(λ) Uᵀ``, ``Φ = V diag(μ) Vᵀ`` and ``K_ij = 1/(λ_i + μ_j)``,

- gradient: ``S₁ − U diag(K1) Uᵀ`` and ``S₂ − V diag(Kᵀ1) Vᵀ``;
- Hessian times ``(D, E)``, in the eigenbases ``D̃ = UᵀDU``, ``Ẽ = VᵀEV``: ``(KKᵀ)∘D̃ + diag((K∘K) diag Ẽ)`` and the same with
  the axes exchanged.

Once two eigenproblems are solved, the Hessian costs only matrix products. Proximal Newton steps, each the minimum of the
quadratic model with the penalty unchanged, need few eigenproblems. If a sample has strong directions, the steps are short and
many far from the solution; :mod:`kronax.solvers.gaussian.lasso.splitting` leads close to it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tqdm.auto import tqdm

from kronax.solvers.device import eigh_each, eigvalsh, to_device, to_host
from kronax.solvers.gaussian import kronecker_sum
from kronax.solvers.gaussian.lasso import splitting
from kronax.solvers.status import Status

_EDGE = 1e-6  # the least eigenvalue of Ψ ⊕ Φ that Newton's method starts from, as a share of their mean
_SHORTEST_STEP = 1e-10
_SUFFICIENT = 1e-4  # share of the decrease that the slope promises
_CYCLES = 30
_CG_STEPS = 20
_CROWDED = 0.2  # share of non-zero entries from which the Hessian's inverse on all of them preconditions better
_CG_GOAL = 1e-4  # of the squared norm of what the solve is for
_ROUNDING = 1e-13  # of the objective

Pair = tuple[Array, Array]  # something of the rows (n, n) and of the columns (p, p)


@dataclass(frozen=True)
class KroneckerLasso:
    """The solution of Eq. 5 with equal mean diagonals, and how the solve ended.

    Attributes
    ----------
    rows, cols
        ``Ψ`` (n, n) and ``Φ`` (p, p), symmetric, exactly sparse.
    status
        With ``F`` at the start and after every iteration. Converged if the residual fell below the tolerance. The residual is
        the largest entry of the smallest subgradient of ``F``, relative to the mean diagonal of ``S₁`` for ``Ψ`` and of
        ``S₂`` for ``Φ``; it is zero at the solution only.
    """

    rows: np.ndarray
    cols: np.ndarray
    status: Status


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["theta", "values", "vectors", "objective"],
    meta_fields=[],
)
@dataclass(frozen=True)
class _Point:
    """``(Ψ, Φ)``, their eigenvalues and eigenvectors, and ``F``."""

    theta: Pair
    values: Pair
    vectors: Pair
    objective: Array


@partial(jax.tree_util.register_dataclass, data_fields=["gradient", "curvature", "residual"], meta_fields=[])
@dataclass(frozen=True)
class _Slope:
    """Gradient and (nearly) the Hessian's diagonal of the smooth part of Eq. 5, and the residual."""

    gradient: Pair
    curvature: Pair
    residual: Array


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["theta", "curved", "length", "residual"],
    meta_fields=[],
)
@dataclass(frozen=True)
class _Model:
    """Where the minimisation of the quadratic model stands: ``θ``, ``H(θ − θ₀)``, last proximal step, residual."""

    theta: Pair
    curved: Pair
    length: Array
    residual: Array


def fit(
    s1: np.ndarray,
    s2: np.ndarray,
    penalties: tuple[np.ndarray, np.ndarray],
    *,
    start: tuple[np.ndarray, np.ndarray] | None = None,
    tol: float = 1e-5,
    max_iter: int = 200,
    progress: str | None = None,
) -> KroneckerLasso:
    """Solve Eq. 5.

    Parameters
    ----------
    s1, s2
        ``S₁`` (n, n) and ``S₂`` (p, p), symmetric, positive diagonals, the same trace.
    penalties
        ``R`` and ``C``, symmetric, zero diagonals; see :func:`penalty`.
    start
        ``Ψ`` and ``Φ`` to start from; if None, the solution among diagonal matrices.
    tol
        Residual to stop at.
    max_iter
        Steps to stop after.
    progress
        Name of the bar that long work shows; None for no bar.
    """
    bar = tqdm(desc=progress, unit=" step", delay=2, leave=False, disable=progress is None)
    with jax.enable_x64(True), bar:
        s, penalties = (tuple(to_device(side, np.float64) for side in pair) for pair in ((s1, s2), penalties))
        problem = s, penalties
        point = _point(start or _diagonal(s1, s2), problem)
        slope = _slope(point, problem)
        trace, n_iter = [float(point.objective)], 0
        while slope.residual > tol and n_iter < max_iter:
            direction, promised = _newton_direction(point, slope, problem, 0.1 * tol)
            new = _descend(point, direction, promised, problem)
            if new is None:
                break
            last, point, slope = slope.residual, new, _slope(new, problem)
            trace.append(float(point.objective))
            n_iter += 1
            bar.set_postfix(residual=f"{float(slope.residual):.1e}", goal=f"{tol:.0e}", refresh=False)
            bar.update()
            # nothing promised and nothing gained: only rounding is left
            if -promised < _ROUNDING * abs(point.objective) and slope.residual > 0.5 * last:
                break
        rows, cols = (to_host(side).copy() for side in point.theta)
        residual = float(to_host(slope.residual))
    t = 0.5 * (np.trace(cols) / len(cols) - np.trace(rows) / len(rows))  # Ψ + t and Φ − t are one model
    rows[np.diag_indices_from(rows)] += t
    cols[np.diag_indices_from(cols)] -= t
    reason = (
        f"Newton's iteration stopped at a residual of {residual:.2g} after {n_iter} steps, with a goal of {tol:.2g}"
    )
    return KroneckerLasso(rows, cols, Status(residual <= tol, reason, n_iter, np.array(trace)))


def solve(
    s1: np.ndarray,
    s2: np.ndarray,
    strengths: tuple[float, float],
    *,
    start: tuple[np.ndarray, np.ndarray] | None = None,
    progress: bool = False,
) -> KroneckerLasso:
    """Solve Eq. 5 for strengths on the scale of correlations.

    Splitting gets close to the solution from any start, such as ``Ψ`` and ``Φ`` of a similar problem; Newton's method ends there.
    """
    r = penalties(s1, s2, strengths)
    name = "l1 penalty" if progress else None
    near = splitting.split(s1, s2, r, start or _diagonal(s1, s2), progress=name)
    return fit(s1, s2, r, start=_inside(*near), progress=name)


def penalties(s1: np.ndarray, s2: np.ndarray, strength: float | tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return ``R`` and ``C`` of Eq. 5 for a strength on the scale of correlations.

    ``R_ik = ρ √(S₁_ii S₁_kk)``, and likewise for ``C``. Two rows get no edge if the other entries account for their correlation
    ``S₁_ik/√(S₁_ii S₁_kk)`` to within ``ρ``, whatever their variances. If all rows and columns of ``Z`` have a mean square of
    1, the penalties are ``ρp`` and ``ρn``.

    Parameters
    ----------
    s1, s2
        ``S₁`` (n, n) and ``S₂`` (p, p).
    strength
        ``ρ``, or one for the rows and one for the columns.
    """
    both = strength if isinstance(strength, tuple) else (strength, strength)
    return tuple(
        rho * np.sqrt(np.outer(np.diag(s), np.diag(s))) * (1.0 - np.eye(len(s)))
        for s, rho in zip((s1, s2), both, strict=True)
    )


def universal_strengths(n: int, p: int) -> tuple[float, float]:
    """Return strengths that noise seldom exceeds: ``√(2 log n / p)`` for the rows and ``√(2 log p / n)`` for the columns.

    Correlations of independent rows over ``p`` entries have a standard deviation of ``1/√p``; of the ``n`` of a row, on average
    less than one exceeds the universal threshold (Donoho and Johnstone, Biometrika 1994). At most 1, which makes the estimate
    diagonal.
    """
    return tuple(float(min(1.0, np.sqrt(2.0 * np.log(a) / b))) for a, b in ((n, p), (p, n)))


def _diagonal(s1: np.ndarray, s2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the solution among diagonal matrices: Eq. 3 with the diagonals as spectra."""
    solved = kronecker_sum.fit(np.diag(s1).copy(), np.diag(s2).copy(), np.ones(len(s1)), np.ones(len(s2)))
    return np.diag(solved.lam), np.diag(solved.mu)


def _inside(rows: np.ndarray, cols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pair itself or, outside the domain of Eq. 5, one with larger diagonals."""
    least = [to_host(eigvalsh(matrix))[0] for matrix in (rows, cols)]
    mean = np.trace(rows) / len(rows) + np.trace(cols) / len(cols)
    short = max(_EDGE * mean - sum(least), 0.0)
    return rows + short * np.eye(len(rows)), cols


def _point(theta: tuple, problem) -> _Point:
    solved = eigh_each(theta)
    values, vectors = (tuple(map(to_device, both)) for both in zip(*solved, strict=True))
    theta = tuple(map(to_device, theta))
    return _Point(theta, values, vectors, _objective(theta, values, problem))


@jax.jit
def _objective(theta: Pair, values: Pair, problem) -> Array:
    """Evaluate Eq. 5; ``inf`` outside its domain."""
    s, penalties = problem
    total = values[0][:, None] + values[1]
    inside = jnp.min(total) > 0
    logs = jnp.log(jnp.where(inside, total, 1.0)).sum()
    smooth = sum(jnp.vdot(a, x) for a, x in zip(s, theta, strict=True)) - logs
    return jnp.where(inside, smooth + _l1(theta, penalties), jnp.inf)


def _l1(theta: Pair, penalties: Pair) -> Array:
    return sum(jnp.vdot(r, jnp.abs(x)) for r, x in zip(penalties, theta, strict=True))


@jax.jit
def _slope(point: _Point, problem) -> _Slope:
    """Return the derivatives of the smooth part of Eq. 5, and the residual."""
    s, _ = problem
    k = 1.0 / (point.values[0][:, None] + point.values[1])
    products, sums = (k @ k.T, k.T @ k), (k.sum(1), k.sum(0))
    gradient = tuple(a - (u * w) @ u.T for a, u, w in zip(s, point.vectors, sums, strict=True))
    curvature = tuple((u**2) @ w @ (u**2).T for u, w in zip(point.vectors, products, strict=True))
    return _Slope(gradient, curvature, _residual(point.theta, gradient, problem))


def _residual(theta: Pair, gradient: Pair, problem) -> Array:
    """Return the largest entry of the smallest subgradient, relative to ``√(S_ii S_kk)``."""
    s, penalties = problem
    parts = []
    for x, g, r, a in zip(theta, gradient, penalties, s, strict=True):
        size = jnp.sqrt(jnp.diag(a))
        parts.append(jnp.max(jnp.abs(_least_subgradient(x, g, r)) / (size[:, None] * size)))
    return jnp.maximum(*parts)


def _least_subgradient(x: Array, gradient: Array, penalty: Array) -> Array:
    at_zero = jnp.sign(gradient) * jnp.maximum(jnp.abs(gradient) - penalty, 0.0)
    return jnp.where(x == 0, at_zero, gradient + penalty * jnp.sign(x))


def _descend(point: _Point, direction: Pair, promised: Array, problem) -> _Point | None:
    """Step along a direction, shortened until ``F`` decreases by a share of what the direction promised."""
    length, rounding = 1.0, _ROUNDING * abs(float(point.objective))
    while length > _SHORTEST_STEP:
        new = _point(tuple(x + length * d for x, d in zip(point.theta, direction, strict=True)), problem)
        if new.objective <= point.objective + _SUFFICIENT * length * promised + rounding:
            return new
        length /= 2
    return None


def _newton_direction(point: _Point, slope: _Slope, problem, least_residual: float) -> tuple[Pair, Array]:
    """Minimise the quadratic model of ``F`` plus the penalty; return also the promised change of ``F``, negative.

    The model is treated as ``F`` would be: proximal gradient steps find the support, conjugate gradients move the entries
    on it. Every cycle of the two is a call, so that an interrupt need not wait for all of them.
    """
    state = _Model(point.theta, tuple(map(jnp.zeros_like, point.theta)), jnp.asarray(1.0), slope.residual)
    goal = max(float(slope.residual) * min(0.1, float(slope.residual)), least_residual)
    n_cycles = 0
    while float(state.residual) > goal and n_cycles < _CYCLES:
        state = _cycle(state, point, slope, problem)
        n_cycles += 1
    return _promise(state.theta, point, slope, problem)


@jax.jit
def _promise(reached: Pair, point: _Point, slope: _Slope, problem) -> tuple[Pair, Array]:
    """Return the direction to the model's minimum, and the change of ``F`` to first order."""
    _, penalties = problem
    direction = _plus(reached, -1.0, point.theta)
    promised = _dot(slope.gradient, direction) + _l1(reached, penalties) - _l1(point.theta, penalties)
    return tuple(0.5 * (d + d.T) for d in direction), promised


@jax.jit
def _cycle(state: _Model, point: _Point, slope: _Slope, problem) -> _Model:
    """Take a proximal gradient step on the quadratic model, and minimise it on the support.

    Its products with the Hessian ``H`` cost matrix products alone.
    """
    _, penalties = problem
    times_h, over_h = _hessian(point)

    def model_gradient(state: _Model) -> Pair:
        return _plus(slope.gradient, 1.0, state.curved)

    def moved(state: _Model, step: Pair, curved: Pair) -> _Model:
        return replace(state, theta=_plus(state.theta, 1.0, step), curved=_plus(state.curved, 1.0, curved))

    def proximal(state: _Model) -> _Model:
        gradient = model_gradient(state)

        def trial(length):
            step = _soft_threshold(state.theta, gradient, slope.curvature, length, penalties)
            return length, step, times_h(step)

        def too_long(search):
            length, step, curved = search
            return _dot(step, curved) > _dot(step, _times(slope.curvature, step)) / length

        length, step, curved = jax.lax.while_loop(
            too_long, lambda search: trial(search[0] / 2), trial(jnp.minimum(1.0, 2.0 * state.length))
        )
        return replace(moved(state, step, curved), length=length)

    def on_support(state: _Model) -> _Model:
        gradient = model_gradient(state)
        free = tuple((x != 0) | (r == 0) for x, r in zip(state.theta, penalties, strict=True))
        signs = tuple(map(jnp.sign, state.theta))
        downhill = tuple(
            jnp.where(f, -g - r * sign, 0.0) for f, g, r, sign in zip(free, gradient, penalties, signs, strict=True)
        )
        crowded = sum(jnp.count_nonzero(f) for f in free) > int(_CROWDED * sum(f.size for f in free))

        def precondition(x: Pair) -> Pair:
            return jax.lax.cond(crowded, lambda y: _masked(free, over_h(y)), lambda y: _over(y, slope.curvature), x)

        direction = _conjugate_gradients(lambda x: _masked(free, times_h(x)), precondition, downhill)

        def trial(length):
            reached = _plus(state.theta, length, direction)
            reached = tuple(
                jnp.where((r > 0) & (sign * y <= 0), 0.0, y)
                for r, sign, y in zip(penalties, signs, reached, strict=True)
            )
            step = _plus(reached, -1.0, state.theta)
            curved = times_h(step)
            change = _l1(reached, penalties) - _l1(state.theta, penalties)
            return length, step, curved, _dot(gradient, step) + 0.5 * _dot(step, curved) + change

        length, step, curved, change = jax.lax.while_loop(
            lambda search: (search[3] > 0) & (search[0] > 0.1),
            lambda search: trial(search[0] / 2),
            trial(jnp.ones_like(state.length)),
        )
        keep = (change < 0).astype(change.dtype)
        return moved(state, _scaled(keep, step), _scaled(keep, curved))

    state = on_support(proximal(state))
    return replace(state, residual=_residual(state.theta, model_gradient(state), problem))


def _hessian(point: _Point) -> tuple[Callable[[Pair], Pair], Callable[[Pair], Pair]]:
    """Return the products with the Hessian of the smooth part of Eq. 5, and with its inverse as if the axes were uncoupled."""
    u, v = point.vectors
    k = 1.0 / (point.values[0][:, None] + point.values[1])
    square, of_rows, of_cols = k**2, k @ k.T, k.T @ k

    def times(d: Pair) -> Pair:
        rows, cols = u.T @ d[0] @ u, v.T @ d[1] @ v
        on_rows = of_rows * rows + jnp.diag(square @ jnp.diag(cols))
        on_cols = of_cols * cols + jnp.diag(jnp.diag(rows) @ square)
        return u @ on_rows @ u.T, v @ on_cols @ v.T

    def over(d: Pair) -> Pair:
        return u @ ((u.T @ d[0] @ u) / of_rows) @ u.T, v @ ((v.T @ d[1] @ v) / of_cols) @ v.T

    return times, over


def _soft_threshold(theta: Pair, gradient: Pair, curvature: Pair, length: Array, penalties: Pair) -> Pair:
    """Return the proximal gradient step in the metric of the curvature."""
    moves = []
    for x, g, h, r in zip(theta, gradient, curvature, penalties, strict=True):
        y = x - length * g / h
        moves.append(jnp.sign(y) * jnp.maximum(jnp.abs(y) - length * r / h, 0.0) - x)
    return tuple(moves)


def _conjugate_gradients(times_h: Callable, precondition: Callable, right: Pair) -> Pair:
    """Solve ``H d = right`` loosely."""

    def step(state):
        solution, rest, search, rho, n_iter = state
        curved = times_h(search)
        alpha = rho / _dot(search, curved)
        solution, rest = _plus(solution, alpha, search), _plus(rest, -alpha, curved)
        scaled = precondition(rest)
        new_rho = _dot(rest, scaled)
        return solution, rest, _plus(scaled, new_rho / rho, search), new_rho, n_iter + 1

    first = precondition(right)
    rho = _dot(right, first)
    start = tuple(map(jnp.zeros_like, right)), right, first, rho, 0
    solution, *_ = jax.lax.while_loop(lambda state: (state[3] > _CG_GOAL * rho) & (state[4] < _CG_STEPS), step, start)
    return solution


def _dot(x: Pair, y: Pair) -> Array:
    return sum(jnp.vdot(a, b) for a, b in zip(x, y, strict=True))


def _plus(x: Pair, scale: float | Array, y: Pair) -> Pair:
    return tuple(a + scale * b for a, b in zip(x, y, strict=True))


def _times(x: Pair, y: Pair) -> Pair:
    return tuple(a * b for a, b in zip(x, y, strict=True))


def _over(x: Pair, y: Pair) -> Pair:
    return tuple(a / b for a, b in zip(x, y, strict=True))


def _masked(free: Pair, x: Pair) -> Pair:
    return tuple(jnp.where(f, a, 0.0) for f, a in zip(free, x, strict=True))


def _scaled(scale: Array, x: Pair) -> Pair:
    return tuple(scale * a for a in x)
