"""The mode on the fiber: matrix scaling for any positive definite Ω, whatever the start."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

from kronax.solvers.blocks import Blocks, from_csr
from kronax.solvers.rows.rows import InMemory
from kronax.solvers.scales import fiber
from kronax.solvers.scales.quotient import pattern_counts, quotient

pytestmark = pytest.mark.usefixtures("x64")

N, M = 40, 30
TOL = 1e-9
DENSITIES = pytest.mark.parametrize("density", [1.0, 0.3], ids=["no zeros", "zeros"])


class Problem(NamedTuple):
    """A quotient, dense and in blocks, its pattern's counts, and Ω, dense and in its low-rank form."""

    y: np.ndarray
    blocks: Blocks
    counts: tuple[jax.Array, jax.Array]
    psi: np.ndarray
    phi: np.ndarray
    omega: fiber.Omega


def matrix(rng, density: float) -> np.ndarray:
    x = rng.lognormal(0.0, 0.7, (N, M)) * rng.choice([-1.0, 1.0], (N, M)) * (rng.random((N, M)) < density)
    i = np.arange(N)
    x[i, i % M] = rng.normal(size=N)  # no empty row or column
    return x


def precision(rng, size: int, spread: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positive definite, eigenvalues between 1/spread and spread: the matrix, eigenvectors, eigenvalues."""
    vectors, _ = np.linalg.qr(rng.normal(size=(size, size)))
    values = np.exp(rng.uniform(-np.log(spread), np.log(spread), size))
    return (vectors * values) @ vectors.T, vectors, values


def omega_of(u: np.ndarray, lam: np.ndarray, v: np.ndarray, mu: np.ndarray) -> fiber.Omega:
    """Write Ω = U diag(λ) Uᵀ ⊕ V diag(μ) Vᵀ with all of its parts at work."""
    parts = (np.asarray(lam.min() + mu.min()), u, lam - lam.min(), v, mu - mu.min())
    return fiber.Omega(*map(jnp.asarray, parts))


def problem(rng, density: float, spread: float) -> Problem:
    y = quotient(sparse.csr_array(matrix(rng, density))).matrix
    psi, *rows = precision(rng, N, spread)
    phi, *cols = precision(rng, M, spread)
    counts = tuple(map(jnp.asarray, pattern_counts(y)))
    return Problem(y.toarray(), from_csr(y), counts, psi, phi, omega_of(*rows, *cols))


def identity() -> fiber.Omega:
    """Ω = I."""
    parts = (np.asarray(1.0), np.zeros((N, 1)), np.zeros(1), np.zeros((M, 1)), np.zeros(1))
    return fiber.Omega(*map(jnp.asarray, parts))


def swept(case: Problem, tol: float = TOL) -> fiber.Mode:
    return fiber.sinkhorn(InMemory(sparse.csr_array(case.y)), tol)


def dense_z(y: np.ndarray, mode: fiber.Mode) -> np.ndarray:
    return y * np.exp(np.asarray(mode.a)[:, None] + np.asarray(mode.b))


def assert_scaled(problem: Problem, z: np.ndarray, psi, phi):
    m = z * (psi @ z + z @ phi)
    np.testing.assert_allclose(m.sum(1), problem.counts[0], rtol=1e-6)
    np.testing.assert_allclose(m.sum(0), problem.counts[1], rtol=1e-6)


def g(theta, y, psi, phi):
    """g of section 2 as a function of (a, b) in one vector; written for autodiff, with dense matrices."""
    a, b = theta[:N], theta[N:]
    p, n = jnp.sum(y != 0, axis=1, dtype=float), jnp.sum(y != 0, axis=0, dtype=float)
    z = y * jnp.exp(a[:, None] + b)
    return 0.5 * jnp.sum(z * (psi @ z + z @ phi)) - p @ a - n @ b


gradient_of_g, hessian_of_g = jax.jit(jax.grad(g)), jax.jit(jax.hessian(g))


@DENSITIES
def test_times_is_the_kronecker_sum(density, rng):
    case = problem(rng, density, 3.0)
    product = sparse.coo_array(
        (
            np.asarray(fiber.times(case.omega, case.blocks)).ravel(),
            (np.asarray(case.blocks.rows).ravel(), np.asarray(case.blocks.cols).ravel()),
        ),
        (N + 1, M + 1),
    ).toarray()[:N, :M]
    expected = (case.psi @ case.y + case.y @ case.phi) * (case.y != 0)
    np.testing.assert_allclose(product, expected, rtol=1e-12, atol=1e-12)


@DENSITIES
@pytest.mark.parametrize("spread", [1.5, 10.0])
def test_newton_meets_the_counts_from_every_start(density, spread, rng):
    case = problem(rng, density, spread)
    for _ in range(4):
        start = jnp.asarray(rng.normal(0.0, 1.0, N)), jnp.asarray(rng.normal(0.0, 1.0, M))
        mode = fiber.newton(case.blocks, case.omega, *case.counts, *start, TOL)
        assert mode.residual <= TOL
        assert_scaled(case, dense_z(case.y, mode), case.psi, case.phi)


@DENSITIES
def test_mode_does_not_depend_on_the_start(density, rng):
    case = problem(rng, density, 1.5)
    modes = []
    for _ in range(4):
        start = jnp.asarray(rng.normal(0.0, 1.0, N)), jnp.asarray(rng.normal(0.0, 1.0, M))
        modes.append(dense_z(case.y, fiber.newton(case.blocks, case.omega, *case.counts, *start, TOL)))
    for other in modes[1:]:
        np.testing.assert_allclose(other, modes[0], rtol=1e-6)


@DENSITIES
def test_mode_is_a_minimum(density, rng):
    case = problem(rng, density, 1.5)
    zero = jnp.zeros(N), jnp.zeros(M)
    mode = fiber.newton(case.blocks, case.omega, *case.counts, *zero, TOL)
    theta = jnp.concatenate([mode.a, mode.b])
    curvature = np.linalg.eigvalsh(hessian_of_g(theta, case.y, case.psi, case.phi))
    # (1, −1) changes nothing; every other direction leads up
    assert abs(curvature[0]) < 1e-8 * curvature[-1]
    assert curvature[1] > 1e-3 * curvature[-1]


@DENSITIES
def test_gradient_and_hessian_agree_with_autodiff(density, rng):
    case = problem(rng, density, 3.0)
    a, b, u, v = (jnp.asarray(rng.normal(0.0, 0.5, size)) for size in (N, M, N, M))
    theta = jnp.concatenate([a, b])

    z = fiber.at(case.blocks, a, b)
    omega_z = fiber.times(case.omega, z)
    product = np.concatenate(fiber.hessian_product(case.omega, z, omega_z, (u, v)))
    expected = hessian_of_g(theta, case.y, case.psi, case.phi) @ jnp.concatenate([u, v])
    np.testing.assert_allclose(product, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())

    # the sums that newton drives to the counts are the gradient
    dense = np.asarray(case.y * np.exp(np.asarray(a)[:, None] + np.asarray(b)))
    m = dense * (case.psi @ dense + dense @ case.phi)
    expected = np.concatenate([m.sum(1), m.sum(0)]) - np.concatenate(case.counts)
    found = gradient_of_g(theta, case.y, case.psi, case.phi)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


@DENSITIES
def test_sinkhorn_and_newton_agree_for_the_identity(density, rng):
    case = problem(rng, density, 1.5)
    scaled = swept(case)
    zero = jnp.zeros(N), jnp.zeros(M)
    stepped = fiber.newton(case.blocks, identity(), *case.counts, *zero, TOL)
    assert max(scaled.residual, stepped.residual) <= TOL
    np.testing.assert_allclose(dense_z(case.y, scaled), dense_z(case.y, stepped), rtol=1e-7)


@DENSITIES
def test_sinkhorn_agrees_with_a_plain_iteration(density, rng):
    case = problem(rng, density, 1.5)
    squares, (p, n) = case.y**2, map(np.asarray, case.counts)
    cols = np.ones(M)
    for _ in range(5000):
        rows = p / (squares @ cols)
        cols = n / (rows @ squares)
    found = dense_z(case.y, swept(case))
    np.testing.assert_allclose(found**2, rows[:, None] * squares * cols, rtol=1e-7)
    np.testing.assert_allclose((found**2).sum(1), p, rtol=1e-8)
    np.testing.assert_allclose((found**2).sum(0), n, rtol=1e-8)


def test_sinkhorn_counts_its_sweeps_and_meets_a_loose_goal_sooner(rng):
    case = problem(rng, 0.3, 1.5)
    loose, strict = (swept(case, tol) for tol in (1e-2, 1e-9))
    assert 0 < loose.n_iter < strict.n_iter
    assert strict.residual <= 1e-9 < loose.residual <= 1e-2


def test_pattern_in_two_blocks(rng):
    x = matrix(rng, 1.0)
    x[:25, 12:] = x[25:, :12] = 0.0
    y = quotient(sparse.csr_array(x)).matrix
    case = problem(rng, 1.0, 1.5)._replace(
        y=y.toarray(), blocks=from_csr(y), counts=tuple(map(jnp.asarray, pattern_counts(y)))
    )
    mode = swept(case)
    assert mode.residual <= TOL
    assert_scaled(case, dense_z(case.y, mode), 0.5 * np.eye(N), 0.5 * np.eye(M))
    mode = fiber.newton(case.blocks, case.omega, *case.counts, mode.a, mode.b, TOL)
    assert mode.residual <= TOL
    assert_scaled(case, dense_z(case.y, mode), case.psi, case.phi)


@DENSITIES
def test_scales_of_the_matrix_leave_the_mode(density, rng):
    x = matrix(rng, density)
    scaled = rng.lognormal(0.0, 1.5, N)[:, None] * x * rng.lognormal(0.0, 1.5, M)
    case = problem(rng, density, 1.5)
    found = []
    for one in (x, scaled):
        y = quotient(sparse.csr_array(one)).matrix
        counts = tuple(map(jnp.asarray, pattern_counts(y)))
        mode = fiber.newton(from_csr(y), case.omega, *counts, jnp.zeros(N), jnp.zeros(M), TOL)
        found.append(dense_z(y.toarray(), mode))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-8)


def test_extreme_omega(rng):
    """Six orders of magnitude between the eigenvalues: more steps, the same goal."""
    case = problem(rng, 0.3, 1e3)
    start = swept(case)
    mode = fiber.newton(case.blocks, case.omega, *case.counts, start.a, start.b, TOL)
    assert mode.residual <= TOL
    assert_scaled(case, dense_z(case.y, mode), case.psi, case.phi)


def test_distance(rng):
    case = problem(rng, 0.3, 1.5)
    one, two = (
        fiber.Mode(*(jnp.asarray(rng.normal(size=size)) for size in (N, M)), jnp.asarray(0.0), jnp.asarray(1))
        for _ in range(2)
    )
    pattern = case.y != 0
    logs = [np.log(np.abs(dense_z(case.y, mode)[pattern])) for mode in (one, two)]
    expected = np.sqrt(np.mean((logs[0] - logs[1]) ** 2))
    np.testing.assert_allclose(fiber.distance(case.blocks, one, two, float(pattern.sum())), expected, rtol=1e-12)
