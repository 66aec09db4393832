"""The E-step's mode: the likeliest noise-free matrix on the fiber over a quotient.

The fiber over ``Y`` is ``{Z = Y ∘ exp(a_i + b_j)}``; its posterior under ``vec Z ~ N(0, Ω⁻¹)`` is, up to a constant,
``exp(−g)`` with

    ``g(a, b) = ½⟨Z, Ω·Z⟩ − Σ_i p_i a_i − Σ_j n_j b_j``,   ``Ω·Z = ΨZ + ZΦ``,                                   (2)

``p_i`` and ``n_j`` the numbers of non-zeros (the volume factor of the change of variables). At the mode the row and
column sums of ``M = Z ∘ (Ω·Z)`` equal ``p_i`` and ``n_j``: a matrix-scaling problem. For ``Ω = I`` it is Sinkhorn's, on
``Y∘Y``; otherwise truncated Newton steps, started there, solve it.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from kronax.solvers.blocks import Blocks, add_on_pattern, col_sums, outer_sum, rmatmul, row_sums
from kronax.solvers.device import Matrix, to_host
from kronax.solvers.rows.noise_free import Factors, NoiseFree
from kronax.solvers.rows.rows import Rows
from kronax.solvers.scales.sinkhorn import scale

_NEWTON_STEPS = 100
_CG_STEPS = 200
_ROUNDING = 1e-14  # of the objective's terms
_LARGEST_STEP = 2.0  # in one Newton step no entry of Z changes by more than a factor e²


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["scale", "row_vectors", "row_weights", "col_vectors", "col_weights"],
    meta_fields=[],
)
@dataclass(frozen=True)
class Omega:
    """``Ω = Ψ ⊕ Φ`` as ``Ω·T = scale·T + U diag(u) UᵀT + TV diag(v) Vᵀ``."""

    scale: Matrix
    row_vectors: Matrix
    row_weights: Matrix
    col_vectors: Matrix
    col_weights: Matrix


@partial(jax.tree_util.register_dataclass, data_fields=["a", "b", "residual", "n_iter"], meta_fields=[])
@dataclass(frozen=True)
class Mode:
    """Where on the fiber: ``Z = Y ∘ exp(a_i + b_j)``.

    ``residual`` is the largest relative deviation of a row or column sum of ``M`` from its target.
    """

    a: Matrix
    b: Matrix
    residual: Matrix
    n_iter: Matrix


def identity(n: int, m: int) -> Omega:
    """Return ``Ω = I``."""
    none = np.zeros(1)  # NumPy's arrays: many who ask for Ω never compute with it, and would start XLA's compiler
    return Omega(np.asarray(1.0), np.zeros((n, 1)), none, np.zeros((m, 1)), none)


def precisions(omega: Omega) -> tuple[np.ndarray, np.ndarray]:
    """Return ``Ψ`` and ``Φ`` of a small ``Ω``, which share its multiple of the identity."""
    return tuple(
        to_host(0.5 * omega.scale * jnp.eye(len(vectors)) + (vectors * weights) @ vectors.T)
        for vectors, weights in (
            (omega.row_vectors, omega.row_weights),
            (omega.col_vectors, omega.col_weights),
        )
    )


def at(quotient: Blocks, a: Array, b: Array) -> Blocks:
    """Compute ``Z = Y ∘ exp(a_i + b_j)``."""
    return quotient.with_values(quotient.values * jnp.exp(outer_sum(quotient, a, b)))


@jax.jit
def distance(quotient: Blocks, old: Mode, new: Mode, n_entries: float) -> Array:
    """Compute the root mean square difference of ``log|Z|`` over the pattern."""
    change = outer_sum(quotient, new.a - old.a, new.b - old.b)
    return jnp.sqrt(row_sums(quotient.with_values(change**2)).sum() / n_entries)


def times(omega: Omega, matrix: Blocks) -> Array:
    """Compute ``Ω·T`` on the pattern of ``T``."""
    left = omega.row_vectors * omega.row_weights
    right = rmatmul(matrix, omega.row_vectors)
    return add_on_pattern(matrix, left, right, omega.col_vectors, omega.col_weights, omega.scale)


def _sums(pattern: Blocks, values: Array) -> tuple[Array, Array]:
    summed = pattern.with_values(values)
    return row_sums(summed), col_sums(summed)


def _deviation(sums: tuple[Array, Array], targets: tuple[Array, Array]) -> Array:
    return jnp.maximum(*(jnp.max(jnp.abs(s / t - 1.0)) for s, t in zip(sums, targets, strict=True)))


def sinkhorn(rows: Rows, tol: float, *, progress: bool = False) -> Mode:
    """Find the mode for ``Ω = I``: scale ``Y∘Y`` until its row and column sums are the counts."""
    found = scale(rows, tol, progress=progress)
    factors = NoiseFree(rows, Factors(found.cols)).row_factors()
    return Mode(*map(np.asarray, (0.5 * np.log(factors), 0.5 * np.log(found.cols), found.residual, found.n_passes)))


@jax.jit
def newton(
    quotient: Blocks, omega: Omega, row_counts: Array, col_counts: Array, a: Array, b: Array, tol: float
) -> Mode:
    """Find the mode for any positive definite ``Ω`` by truncated Newton steps from ``(a, b)``."""
    targets = row_counts, col_counts
    rounding = _ROUNDING * row_counts.sum()  # ⟨Z, Ω·Z⟩ at the mode is the sum of the counts

    def objective(a, b, z, omega_z):  # g of Eq. 2
        return 0.5 * jnp.vdot(z.values, omega_z) - row_counts @ a - col_counts @ b

    def evaluate(a, b):
        z = at(quotient, a, b)
        omega_z = times(omega, z)
        return z, omega_z, objective(a, b, z, omega_z)

    def step(state):
        a, b, z, omega_z, value, _, n_iter = state
        gradient = tuple(s - t for s, t in zip(_sums(z, z.values * omega_z), targets, strict=True))
        direction = _truncated_cg(partial(hessian_product, omega, z, omega_z), gradient, targets)
        slope = sum(jnp.vdot(g, d) for g, d in zip(gradient, direction, strict=True))
        longest = jnp.max(jnp.abs(direction[0])) + jnp.max(jnp.abs(direction[1]))

        def trial(length):
            new = a + length * direction[0], b + length * direction[1]
            return (*new, *evaluate(*new))

        def too_long(search):
            length, (*_, trial_value) = search
            return ~(trial_value <= value + 1e-4 * length * slope + rounding) & (length > 1e-10)

        length = jnp.minimum(1.0, _LARGEST_STEP / longest)
        _, (a, b, z, omega_z, value) = jax.lax.while_loop(
            too_long, lambda search: (search[0] / 2, trial(search[0] / 2)), (length, trial(length))
        )
        return a, b, z, omega_z, value, _deviation(_sums(z, z.values * omega_z), targets), n_iter + 1

    z, omega_z, value = evaluate(a, b)
    residual = _deviation(_sums(z, z.values * omega_z), targets)
    a, b, _, _, _, residual, n_iter = jax.lax.while_loop(
        lambda state: (state[5] > tol) & (state[6] < _NEWTON_STEPS), step, (a, b, z, omega_z, value, residual, 0)
    )
    return Mode(a, b, residual, n_iter)


def hessian_product(omega: Omega, z: Blocks, omega_z: Array, direction: tuple[Array, Array]) -> tuple[Array, Array]:
    """Multiply the Hessian of ``g`` in ``(a, b)`` with a direction ``(u, v)``.

    With ``D = u_i + v_j``: the row and column sums of ``Z∘(Ω·(Z∘D)) + M∘D``.
    """
    d = outer_sum(z, *direction)
    return _sums(z, z.values * times(omega, z.with_values(z.values * d)) + z.values * omega_z * d)


def _truncated_cg(product, gradient: tuple[Array, Array], targets: tuple[Array, Array]) -> tuple[Array, Array]:
    """Solve ``H d = −gradient`` loosely; stop at negative curvature (Nocedal and Wright 2006, Algorithm 7.1).

    Preconditioned with the diagonal of ``H`` at the mode of ``Ω = I``, twice the targets.
    """

    def dot(x, y):
        return sum(jnp.vdot(a, b) for a, b in zip(x, y, strict=True))

    def precondition(x):
        return tuple(a / (2.0 * t) for a, t in zip(x, targets, strict=True))

    def axpy(scale, x, y):
        return tuple(scale * a + b for a, b in zip(x, y, strict=True))

    def step(state):
        solution, residual, search, rho, _, n_iter = state
        curved = product(search)
        curvature = dot(search, curved)
        positive = curvature > 1e-12 * dot(search, axpy(1.0, search, search))
        alpha = jnp.where(positive, rho / curvature, jnp.where(n_iter == 0, 1.0, 0.0))
        solution = axpy(alpha, search, solution)
        residual = axpy(-alpha, curved, residual)
        scaled = precondition(residual)
        new_rho = dot(residual, scaled)
        return solution, residual, axpy(new_rho / rho, search, scaled), new_rho, positive, n_iter + 1

    downhill = tuple(-g for g in gradient)
    start = precondition(downhill)
    rho = dot(downhill, start)
    # relative accuracy of the step: min(½, √‖gradient‖), which makes the outer steps converge superlinearly
    goal = rho * jnp.minimum(0.25, jnp.sqrt(rho / dot(targets, precondition(targets))))
    zero = tuple(jnp.zeros_like(g) for g in gradient)
    solution, *_ = jax.lax.while_loop(
        lambda state: (state[3] > goal) & state[4] & (state[5] < _CG_STEPS),
        step,
        (zero, downhill, start, rho, jnp.asarray(True), 0),
    )
    return solution
