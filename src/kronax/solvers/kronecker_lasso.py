"""The Kronecker-sum Gaussian with exactly sparse precision matrices.

    ``min F = tr(S₁Ψ) + tr(S₂Φ) − log det(Ψ ⊕ Φ) + Σ_ik R_ik |Ψ_ik| + Σ_jl C_jl |Φ_jl|``,   ``Ψ ⊕ Φ ≻ 0``,      (5)

with penalties ``R ≥ 0`` (n, n) and ``C ≥ 0`` (p, p) that leave the diagonals alone: TeraLasso (Greenewald, Zhou and Hero,
JRSS B 2019) with one strength per entry. With ``Ψ = U diag(λ) Uᵀ``, ``Φ = V diag(μ) Vᵀ`` and ``K_ij = 1/(λ_i + μ_j)``,

- gradient: ``S₁ − U diag(K1) Uᵀ`` and ``S₂ − V diag(Kᵀ1) Vᵀ``;
- Hessian times ``(D, E)``, in the eigenbases ``D̃ = UᵀDU``, ``Ẽ = VᵀEV``: ``(KKᵀ)∘D̃ + diag((K∘K) diag Ẽ)`` and the same with
  the axes exchanged.

So once two eigenproblems are solved, curvature costs matrix products alone. Every iteration takes a proximal gradient
step, which finds the support, and then a Newton step among the entries that are not zero and keep their sign.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from kronax.solvers import kronecker_sum
from kronax.solvers.linalg import eigh_all

_STEPS = 200
_SHORTEST_STEP = 1e-10
_SUFFICIENT = 1e-4  # share of the decrease that the slope promises
_CG_STEPS = 60
_ROUNDING = 1e-13  # of the objective

Pair = tuple[Array, Array]  # something of the rows (n, n) and of the columns (p, p)


@dataclass(frozen=True)
class KroneckerLasso:
    """The solution of Eq. 5 with equal mean diagonals, and how it was reached.

    Attributes
    ----------
    rows, cols
        ``Ψ`` (n, n) and ``Φ`` (p, p), symmetric, exactly sparse.
    objective
        ``F`` at the start and after every iteration.
    residual
        Largest entry of the smallest subgradient of ``F``, for ``Ψ`` relative to the mean diagonal of ``S₁`` and for
        ``Φ`` to that of ``S₂``: zero at the solution, and nowhere else.
    converged
        Whether ``residual`` got below the tolerance.
    n_iter
        Iterations taken.
    """

    rows: np.ndarray
    cols: np.ndarray
    objective: np.ndarray
    residual: float
    converged: bool
    n_iter: int


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


def fit(
    s1: np.ndarray,
    s2: np.ndarray,
    penalties: tuple[np.ndarray, np.ndarray],
    *,
    start: tuple[np.ndarray, np.ndarray] | None = None,
    tol: float = 1e-5,
) -> KroneckerLasso:
    """Solve Eq. 5.

    Parameters
    ----------
    s1, s2
        ``S₁`` (n, n) and ``S₂`` (p, p), symmetric, positive diagonals, the same trace.
    penalties
        ``R`` and ``C``, symmetric, zero diagonals; see :func:`penalty`.
    start
        ``Ψ`` and ``Φ`` to start from, such as the solution for a stronger penalty. If None, the best diagonal ones.
    tol
        Residual to stop at.
    """
    with jax.enable_x64(True):
        s = jnp.asarray(s1, jnp.float64), jnp.asarray(s2, jnp.float64)
        penalties = jnp.asarray(penalties[0], jnp.float64), jnp.asarray(penalties[1], jnp.float64)
        problem = s, penalties
        point = _point(start or _diagonal(*s), problem)
        slope = _slope(point, problem)
        trace, length, n_iter = [float(point.objective)], 1.0, 0
        while slope.residual > tol and n_iter < _STEPS:
            point, length = _proximal_step(point, slope, min(1.0, 2.0 * length), problem)
            slope = _slope(point, problem)
            if slope.residual > tol:
                point = _newton_step(point, slope, problem)
                slope = _slope(point, problem)
            trace.append(float(point.objective))
            n_iter += 1
            if length == 0.0 and trace[-1] == trace[-2]:  # rounding is all that is left
                break
        rows, cols = map(np.array, point.theta)
        residual = float(slope.residual)
    t = 0.5 * (np.trace(cols) / len(cols) - np.trace(rows) / len(rows))  # Ψ + t and Φ − t are one model
    rows[np.diag_indices_from(rows)] += t
    cols[np.diag_indices_from(cols)] -= t
    return KroneckerLasso(rows, cols, np.array(trace), residual, residual <= tol, n_iter)


def _diagonal(s1: Array, s2: Array) -> tuple[np.ndarray, np.ndarray]:
    """Give the solution among diagonal matrices: Eq. 3 with the diagonals as spectra."""
    e, f = np.array(jnp.diag(s1)), np.array(jnp.diag(s2))
    solved = kronecker_sum.fit(e, f, np.ones(len(e)), np.ones(len(f)))
    return np.diag(solved.lam), np.diag(solved.mu)


def _point(theta: tuple, problem) -> _Point:
    solved = eigh_all([np.asarray(matrix) for matrix in theta])
    values = jnp.asarray(solved[0][0]), jnp.asarray(solved[1][0])
    vectors = jnp.asarray(solved[0][1]), jnp.asarray(solved[1][1])
    theta = jnp.asarray(theta[0]), jnp.asarray(theta[1])
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
    """Give the derivatives of the smooth part of Eq. 5, and the residual."""
    s, penalties = problem
    k = 1.0 / (point.values[0][:, None] + point.values[1])
    products, sums = (k @ k.T, k.T @ k), (k.sum(1), k.sum(0))
    gradient = tuple(a - (u * w) @ u.T for a, u, w in zip(s, point.vectors, sums, strict=True))
    curvature = tuple((u**2) @ w @ (u**2).T for u, w in zip(point.vectors, products, strict=True))
    parts = zip(point.theta, gradient, penalties, s, strict=True)
    rests = (jnp.max(jnp.abs(_least_subgradient(*part)) / _scale(a)) for *part, a in parts)
    return _Slope(gradient, curvature, jnp.maximum(*rests))


def _scale(s: Array) -> Array:
    size = jnp.sqrt(jnp.diag(s))
    return size[:, None] * size


def _least_subgradient(x: Array, gradient: Array, penalty: Array) -> Array:
    at_zero = jnp.sign(gradient) * jnp.maximum(jnp.abs(gradient) - penalty, 0.0)
    return jnp.where(x == 0, at_zero, gradient + penalty * jnp.sign(x))


def _proximal_step(point: _Point, slope: _Slope, length: float, problem) -> tuple[_Point, float]:
    """Take a proximal gradient step, shortened until it decreases ``F`` sufficiently."""
    while length > _SHORTEST_STEP:
        theta, size = _soft_threshold(point.theta, slope, length, problem)
        new = _point(theta, problem)
        if new.objective <= point.objective - _SUFFICIENT * size / length:
            return new, length
        length /= 2
    return point, 0.0


@jax.jit
def _soft_threshold(theta: Pair, slope: _Slope, length: float, problem) -> tuple[Pair, Array]:
    """Step along the gradient and soften, in the metric of the curvature; also the squared length of the step."""
    _, penalties = problem
    moved, size = [], 0.0
    for x, g, h, r in zip(theta, slope.gradient, slope.curvature, penalties, strict=True):
        y = x - length * g / h
        y = jnp.sign(y) * jnp.maximum(jnp.abs(y) - length * r / h, 0.0)
        y = 0.5 * (y + y.T)
        moved.append(y)
        size += jnp.sum(h * (y - x) ** 2)
    return tuple(moved), size


def _newton_step(point: _Point, slope: _Slope, problem) -> _Point:
    """Take a Newton step on the entries that are not zero; where one would change its sign, it becomes zero."""
    direction, _ = _newton_direction(point, slope, problem)
    length = 1.0
    while length > 0.1:
        theta, decrease = _within_orthant(point.theta, direction, slope.gradient, length, problem)
        new = _point(theta, problem)
        if new.objective <= point.objective + _SUFFICIENT * decrease:
            return new
        length /= 2
    return point


@jax.jit
def _within_orthant(theta: Pair, direction: Pair, gradient: Pair, length: float, problem) -> tuple[Pair, Array]:
    _, penalties = problem
    moved, slope = [], 0.0
    for x, d, g, r in zip(theta, direction, gradient, penalties, strict=True):
        y = x + length * d
        y = jnp.where((r > 0) & (x * y <= 0), 0.0, y)
        moved.append(y)
        slope += jnp.vdot(g + r * jnp.sign(x), y - x)
    return tuple(moved), slope


@jax.jit
def _newton_direction(point: _Point, slope: _Slope, problem) -> tuple[Pair, Array]:
    """Solve for the Newton direction on the free entries by conjugate gradients.

    Preconditioned with the Hessian's diagonal ``(U∘U) KKᵀ (U∘U)ᵀ``, up to the part of the transposed entry.
    """
    _, penalties = problem
    u, v = point.vectors
    k = 1.0 / (point.values[0][:, None] + point.values[1])
    w, square = (k @ k.T, k.T @ k), k**2
    free = tuple((x != 0) | (r == 0) for x, r in zip(point.theta, penalties, strict=True))

    def product(d: Pair) -> Pair:
        d1, d2 = u.T @ d[0] @ u, v.T @ d[1] @ v
        h1 = w[0] * d1 + jnp.diag(square @ jnp.diag(d2))
        h2 = w[1] * d2 + jnp.diag(jnp.diag(d1) @ square)
        return jnp.where(free[0], u @ h1 @ u.T, 0.0), jnp.where(free[1], v @ h2 @ v.T, 0.0)

    def dot(x: Pair, y: Pair) -> Array:
        return sum(jnp.vdot(a, b) for a, b in zip(x, y, strict=True))

    def axpy(scale, x: Pair, y: Pair) -> Pair:
        return tuple(scale * a + b for a, b in zip(x, y, strict=True))

    def precondition(x: Pair) -> Pair:
        return tuple(a / b for a, b in zip(x, slope.curvature, strict=True))

    def step(state):
        solution, rest, search, rho, n_iter = state
        curved = product(search)
        alpha = rho / dot(search, curved)
        solution, rest = axpy(alpha, search, solution), axpy(-alpha, curved, rest)
        scaled = precondition(rest)
        new_rho = dot(rest, scaled)
        return solution, rest, axpy(new_rho / rho, search, scaled), new_rho, n_iter + 1

    slopes = tuple(
        jnp.where(f, g + r * jnp.sign(x), 0.0)
        for f, g, r, x in zip(free, slope.gradient, penalties, point.theta, strict=True)
    )
    downhill = tuple(-g for g in slopes)
    first = precondition(downhill)
    rho = dot(downhill, first)
    goal = rho * jnp.minimum(0.01, slope.residual)
    zero = tuple(jnp.zeros_like(g) for g in downhill)
    solution, _, _, _, n_iter = jax.lax.while_loop(
        lambda state: (state[3] > goal) & (state[4] < _CG_STEPS), step, (zero, downhill, first, rho, 0)
    )
    return tuple(0.5 * (d + d.T) for d in solution), n_iter
