"""Laplace moments against importance sampling of the posterior over the fiber."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg

from kronax.solvers.gaussian import kronecker_sum
from kronax.solvers.scales import laplace

N_SAMPLES, BATCH = 120_000, 20_000
DOF = 8  # of the proposal, Student's t: its tails are heavier than the posterior's


class Problem(NamedTuple):
    """The mode and the precisions it belongs to."""

    z: np.ndarray
    psi: np.ndarray
    phi: np.ndarray


def precision(rng, size: int) -> np.ndarray:
    """Eigenvalues between 1/3 and 3."""
    vectors = np.linalg.qr(rng.normal(size=(size, size)))[0]
    return (vectors * 3.0 ** rng.uniform(-1, 1, size)) @ vectors.T


def pattern_with_zeros(rng, n: int, p: int, density: float) -> np.ndarray:
    pattern = rng.random((n, p)) < density
    i = np.arange(max(n, p))
    pattern[i % n, i % p] = True  # no empty row or column
    return pattern


COMPILED = jax.jit(laplace.hessian)


def hessian(z, psi, phi) -> np.ndarray:
    with jax.enable_x64(True):
        return np.asarray(COMPILED(jnp.zeros(sum(z.shape)), *map(jnp.asarray, (z, psi, phi))))


def null_vectors(pattern: np.ndarray) -> np.ndarray:
    """What ``a_i + b_j`` on the pattern does not see, orthonormal."""
    i, j = np.nonzero(pattern)
    sums = np.zeros((len(i), sum(pattern.shape)))
    sums[np.arange(len(i)), i] = sums[np.arange(len(i)), len(pattern) + j] = 1.0
    return linalg.null_space(sums)


def fixed(pattern: np.ndarray) -> np.ndarray:
    """The same, and the direction in which the geometric mean of ``|Z|`` changes."""
    counts = np.append(pattern.sum(1), pattern.sum(0))
    return np.column_stack([null_vectors(pattern), counts / np.linalg.norm(counts)])


def g(z, psi, phi) -> float:
    """Eq. 2 but for the volume."""
    return 0.5 * (np.vdot(psi, z @ z.T) + np.vdot(phi, z.T @ z))


def mode(y, psi, phi) -> np.ndarray:
    """Damped Newton with dense matrices."""
    n, p = y.shape
    counts = np.append((y != 0).sum(1), (y != 0).sum(0))
    null = null_vectors(y != 0)
    theta = np.zeros(n + p)

    def at(theta):
        return y * np.exp(theta[:n, None] + theta[n:])

    for _ in range(200):
        z = at(theta)
        m = z * (psi @ z + z @ phi)
        gradient = np.append(m.sum(1), m.sum(0)) - counts
        if np.abs(gradient).max() < 1e-9:
            return z
        h = hessian(z, psi, phi)
        values, vectors = np.linalg.eigh(h + np.trace(h) * null @ null.T)
        step = -vectors @ ((vectors.T @ gradient) / np.maximum(np.abs(values), 1e-3 * values.max()))
        length, value = min(1.0, 2.0 / np.abs(step).max()), g(z, psi, phi) - counts @ theta
        highest = value + 1e-12 * abs(value)  # near the mode rounding is all that a step changes
        while g(at(theta + length * step), psi, phi) - counts @ (theta + length * step) > highest and length > 1e-9:
            length /= 2
        theta = theta + length * step
    raise AssertionError("no mode found")


def problem(seed: int, n: int, p: int, density: float = 1.0) -> Problem:
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(n, p)) * pattern_with_zeros(rng, n, p, density)
    psi, phi = precision(rng, n), precision(rng, p)
    return Problem(mode(y, psi, phi), psi, phi)


def sampled(case: Problem, rng) -> tuple[np.ndarray, np.ndarray, float]:
    """E[ZZᵀ], E[ZᵀZ] and the effective sample size, by self-normalised importance sampling."""
    z, psi, phi = case
    n, _ = z.shape
    complement = linalg.null_space(fixed(z != 0).T)
    root = complement @ np.linalg.cholesky(np.linalg.inv(complement.T @ hessian(*case) @ complement))
    k = root.shape[1]
    rows, cols, total, squares, shift = 0.0, 0.0, 0.0, 0.0, g(z, psi, phi)
    for _ in range(N_SAMPLES // BATCH):
        x = rng.normal(size=(BATCH, k)) / np.sqrt(rng.chisquare(DOF, (BATCH, 1)) / DOF)
        theta = x @ root.T
        samples = z * np.exp(theta[:, :n, None] + theta[:, None, n:])
        energy = 0.5 * np.sum(samples * (psi @ samples + samples @ phi), axis=(1, 2))
        weights = np.exp(shift - energy + 0.5 * (DOF + k) * np.log1p(np.sum(x**2, axis=1) / DOF))
        rows = rows + np.tensordot(samples * weights[:, None, None], samples, ((0, 2), (0, 2)))
        cols = cols + np.tensordot(samples * weights[:, None, None], samples, ((0, 1), (0, 1)))
        total, squares = total + weights.sum(), squares + (weights**2).sum()
    return rows / total, cols / total, total**2 / squares


def error(found: np.ndarray, expected: np.ndarray) -> float:
    """Relative, in the Frobenius norm; scales count."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def two_blocks(seed: int) -> Problem:
    """Of the sizes 4 × 5 and 3 × 4, in the pattern and in both precisions."""
    return Problem(
        *(linalg.block_diag(*pair) for pair in zip(problem(seed, 4, 5), problem(seed + 9, 3, 4), strict=True))
    )


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("build", "tolerance"),
    [
        (lambda seed: problem(seed, 4, 5), 0.04),
        (lambda seed: problem(seed, 8, 10), 0.01),
        (lambda seed: problem(seed, 10, 12, 0.7), 0.02),
        (two_blocks, 0.04),
    ],
    ids=["4 × 5", "8 × 10", "zeros", "two blocks"],
)
def test_moments(build, tolerance, seed):
    case = build(seed)
    rows, cols, effective = sampled(case, np.random.default_rng(seed))
    assert effective > 4000
    found = laplace.moments(*case)
    for moment, expected, at_mode in (
        (found.rows, rows, case.z @ case.z.T),
        (found.cols, cols, case.z.T @ case.z),
    ):
        assert error(moment, expected) < tolerance
        assert error(moment, expected) < 0.6 * error(at_mode, expected)
        scale = np.vdot(at_mode, expected) / np.vdot(at_mode, at_mode)
        assert error(moment, expected) < error(scale * at_mode, expected)  # even if the mode is given the best scale


def test_hessian_agrees_with_autodiff():
    with jax.enable_x64(True):
        z, psi, phi = map(jnp.asarray, problem(0, 4, 5, 0.7))
        n, p = z.shape

        def of_theta(theta):
            x = z * jnp.exp(theta[:n, None] + theta[n:])
            return 0.5 * jnp.sum(x * (psi @ x + x @ phi))

        theta = jnp.linspace(-0.3, 0.4, n + p)
        expected = jax.jit(jax.hessian(of_theta))(theta)
        np.testing.assert_allclose(COMPILED(theta, z, psi, phi), expected, atol=1e-10)


@pytest.mark.parametrize("density", [1.0, 0.5])
def test_symmetric_and_of_one_trace(density):
    for seed in range(3):
        found = laplace.moments(*problem(seed, 5, 6, density))
        for moment in (found.rows, found.cols):
            np.testing.assert_array_equal(moment, moment.T)
        assert np.trace(found.rows) == pytest.approx(np.trace(found.cols), rel=1e-12)


def test_split_of_the_diagonal_does_not_matter():
    """``Ψ + t`` and ``Φ − t`` are one ``Ω``."""
    case = problem(0, 5, 6)
    found, other = laplace.moments(*case), laplace.moments(case.z, case.psi + 2 * np.eye(5), case.phi - 2 * np.eye(6))
    np.testing.assert_allclose(other.rows, found.rows, rtol=1e-10)
    np.testing.assert_allclose(other.cols, found.cols, rtol=1e-10)
    assert other.log_det == pytest.approx(found.log_det, rel=1e-12)


def on_fixed_mean(y, psi, phi) -> np.ndarray:
    """The mode among the matrices with the geometric mean of |Y|: that of all but for its size."""
    z = mode(y, psi, phi)
    pattern = y != 0
    return z * np.exp(np.log(np.abs(y[pattern] / z[pattern])).mean())


def minus_twice_log_marginal(y, psi, phi) -> float:
    """By Laplace's integral, without the terms that depend on ``Y`` alone."""
    z = on_fixed_mean(y, psi, phi)
    complement = linalg.null_space(fixed(y != 0).T)
    curvature = np.linalg.slogdet(complement.T @ hessian(z, psi, phi) @ complement)[1]
    omega = np.linalg.eigvalsh(psi)[:, None] + np.linalg.eigvalsh(phi)
    return 2.0 * g(z, psi, phi) + curvature - np.log(omega).sum()


@pytest.mark.parametrize("density", [1.0, 0.7])
def test_moments_are_the_derivatives_of_the_marginal_likelihood(density):
    """In every direction of ``Ψ`` and ``Φ``, the mode following; ``log det Ω`` has derivatives of its own."""
    rng = np.random.default_rng(5)
    y = rng.normal(size=(5, 6)) * pattern_with_zeros(rng, 5, 6, density)
    psi, phi = precision(rng, 5), precision(rng, 6)
    found = laplace.moments(on_fixed_mean(y, psi, phi), psi, phi)
    inverse = np.linalg.inv(np.kron(psi, np.eye(6)) + np.kron(np.eye(5), phi)).reshape(5, 6, 5, 6)
    step = 1e-4
    for _ in range(3):
        d_psi, d_phi = (x + x.T for x in (rng.normal(size=(5, 5)), rng.normal(size=(6, 6))))
        ahead, behind = (minus_twice_log_marginal(y, psi + t * d_psi, phi + t * d_phi) for t in (step, -step))
        expected = np.vdot(found.rows - np.einsum("ijkj->ik", inverse), d_psi)
        expected += np.vdot(found.cols - np.einsum("ijil->jl", inverse), d_phi)
        assert (ahead - behind) / (2 * step) == pytest.approx(expected, rel=1e-5)


def test_exchange_of_the_axes():
    case = problem(1, 5, 6, 0.7)
    found, other = laplace.moments(*case), laplace.moments(case.z.T, case.phi, case.psi)
    np.testing.assert_allclose(other.cols, found.rows, rtol=1e-10)
    np.testing.assert_allclose(other.rows, found.cols, rtol=1e-10)


def test_correction_vanishes_as_the_matrix_grows():
    """It is O(1/n + 1/p)."""
    errors = []
    for n in (5, 20):
        case = problem(0, n, n + 1)
        errors.append(error(case.z @ case.z.T, laplace.moments(*case).rows))
    assert errors[1] < 0.4 * errors[0]


def test_not_a_mode():
    case = problem(0, 4, 5)
    z = case.z * np.exp(np.random.default_rng(0).normal(0, 2, case.z.shape)) * np.sign(case.psi[0, 0])
    with pytest.raises(ValueError, match="not the mode"):
        laplace.moments(-1e-3 * z, case.psi - 3.2 * np.eye(4), case.phi)


@pytest.mark.parametrize("weight", [0.05, 1.0])
def test_expectation_maximisation_does_not_decrease_the_penalised_likelihood(weight):
    rng = np.random.default_rng(3)
    y = rng.normal(size=(6, 7))
    psi, phi = 0.5 * np.eye(6), 0.5 * np.eye(7)
    values = []
    for _ in range(6):
        omega = np.linalg.eigvalsh(psi)[:, None] + np.linalg.eigvalsh(phi)
        values.append(minus_twice_log_marginal(y, psi, phi) + weight * np.sum(omega**2))
        found = laplace.moments(on_fixed_mean(y, psi, phi), psi, phi)
        (e, u), (f, v) = np.linalg.eigh(found.rows), np.linalg.eigh(found.cols)
        solved = kronecker_sum.fit(e, f, np.ones(6), np.ones(7), ridge=weight)
        psi, phi = (u * solved.lam) @ u.T, (v * solved.mu) @ v.T
    changes = np.diff(values)
    assert (changes < 0).all()
    assert changes[0] < -1.0
