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
SMALL, LARGE = (4, 5), (8, 10)  # few shapes, for every one is compiled
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


def hessian(z, psi, phi, theta=None) -> np.ndarray:
    with jax.enable_x64(True):
        theta = np.zeros(sum(z.shape)) if theta is None else theta
        return np.asarray(COMPILED(*map(jnp.asarray, (theta, z, psi, phi))))


def null_vectors(pattern) -> np.ndarray:
    return laplace._null_vectors(pattern)


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
    n, p = z.shape
    counts = np.append((z != 0).sum(1), (z != 0).sum(0))
    complement = linalg.null_space(null_vectors(z != 0).T)  # θ orthogonal to the directions that change nothing
    root = complement @ np.linalg.cholesky(np.linalg.inv(complement.T @ hessian(*case) @ complement))
    k = root.shape[1]
    rows, cols, total, squares, shift = 0.0, 0.0, 0.0, 0.0, g(z, psi, phi)
    for _ in range(N_SAMPLES // BATCH):
        x = rng.normal(size=(BATCH, k)) / np.sqrt(rng.chisquare(DOF, (BATCH, 1)) / DOF)
        theta = x @ root.T
        samples = z * np.exp(theta[:, :n, None] + theta[:, None, n:])
        energy = 0.5 * np.sum(samples * (psi @ samples + samples @ phi), axis=(1, 2)) - theta @ counts
        weights = np.exp(shift - energy + 0.5 * (DOF + k) * np.log1p(np.sum(x**2, axis=1) / DOF))
        rows = rows + np.tensordot(samples * weights[:, None, None], samples, ((0, 2), (0, 2)))
        cols = cols + np.tensordot(samples * weights[:, None, None], samples, ((0, 1), (0, 1)))
        total, squares = total + weights.sum(), squares + (weights**2).sum()
    return rows / total, cols / total, total**2 / squares


def error(found: np.ndarray, expected: np.ndarray) -> float:
    """Relative, in the Frobenius norm; scales count."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("shape", "density", "tolerance"),
    [(SMALL, 1.0, 0.04), (LARGE, 1.0, 0.01), (LARGE, 0.7, 0.02)],
)
def test_moments(shape, density, tolerance, seed):
    case = problem(seed, *shape, density)
    rows, cols, effective = sampled(case, np.random.default_rng(seed))
    assert effective > 4000
    # E⟨Z, Ω·Z⟩ is the number of non-zeros, exactly: how far off the sampler itself is
    count = np.count_nonzero(case.z)
    assert np.vdot(case.psi, rows) + np.vdot(case.phi, cols) == pytest.approx(count, rel=0.01)
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
        z, psi, phi = map(jnp.asarray, problem(0, *SMALL, 0.7))
        n, p = z.shape

        def of_theta(theta):
            x = z * jnp.exp(theta[:n, None] + theta[n:])
            return 0.5 * jnp.sum(x * (psi @ x + x @ phi))

        theta = jnp.linspace(-0.3, 0.4, n + p)
        expected = jax.jit(jax.hessian(of_theta))(theta)
        np.testing.assert_allclose(hessian(z, psi, phi, theta), expected, atol=1e-10)


@pytest.mark.parametrize("density", [1.0, 0.5])
def test_symmetric_positive_and_of_one_trace(density):
    for seed in range(3):
        case = problem(seed, *SMALL, density)
        found = laplace.moments(*case)
        for moment in (found.rows, found.cols):
            np.testing.assert_array_equal(moment, moment.T)
            assert np.linalg.eigvalsh(moment).min() > -1e-12 * np.trace(moment)
        assert np.trace(found.rows) == pytest.approx(np.trace(found.cols), rel=1e-12)
        total = np.vdot(case.psi, found.rows) + np.vdot(case.phi, found.cols)
        assert total == pytest.approx(np.count_nonzero(case.z), rel=1e-12)


def test_moments_by_hand_with_another_generalised_inverse():
    """Any will do: here that of the Hessian without its first row coordinate; its derivative by differences."""
    z, psi, phi = case = problem(0, *SMALL)
    n, p = z.shape
    v = np.pad(np.linalg.inv(hessian(*case)[1:, 1:]), ((1, 0), (1, 0)))
    tau, step = np.empty(n + p), 1e-5
    for i, e in enumerate(step * np.eye(n + p)):
        tau[i] = np.vdot(v, hessian(*case, e) - hessian(*case, -e)) / (4.0 * step)
    place = np.zeros((n, p, n + p))  # of a_i + b_j
    place[np.arange(n), :, np.arange(n)] = 1.0
    place[:, np.arange(p), n + np.arange(p)] = 1.0
    covariance = np.einsum("iju,uv,klv->ijkl", place, v, place)
    mean = z * (1.0 - place @ v @ tau + 0.5 * np.einsum("ijij->ij", covariance))
    rows = mean @ mean.T + np.einsum("ij,kj,ijkj->ik", z, z, covariance)
    cols = mean.T @ mean + np.einsum("ij,il,ijil->jl", z, z, covariance)
    scale = z.size / (np.vdot(psi, rows) + np.vdot(phi, cols))
    found = laplace.moments(*case)
    np.testing.assert_allclose(found.rows, scale * rows, rtol=1e-6)
    np.testing.assert_allclose(found.cols, scale * cols, rtol=1e-6)


def test_exchange_of_the_axes():
    case = problem(1, *SMALL, 0.7)
    found, other = laplace.moments(*case), laplace.moments(case.z.T, case.phi, case.psi)
    np.testing.assert_allclose(other.cols, found.rows, rtol=1e-10)
    np.testing.assert_allclose(other.rows, found.cols, rtol=1e-10)


def test_pattern_of_two_blocks():
    """Precisions without entries between the blocks: each block by itself."""
    one, two = problem(0, *SMALL), problem(1, *SMALL)
    whole = Problem(*(linalg.block_diag(a, b) for a, b in zip(one, two, strict=True)))
    assert null_vectors(whole.z != 0).shape == (18, 2)
    found = laplace.moments(*whole)
    for block, i, j in ((one, slice(0, 4), slice(0, 5)), (two, slice(4, 8), slice(5, 10))):
        alone = laplace.moments(*block)
        scale = np.trace(alone.rows) / np.trace(found.rows[i, i])
        assert scale == pytest.approx(1.0, abs=0.01)  # the number of non-zeros is matched once for both
        np.testing.assert_allclose(scale * found.rows[i, i], alone.rows, rtol=1e-9)
        np.testing.assert_allclose(scale * found.cols[j, j], alone.cols, rtol=1e-9)


def test_correction_vanishes_as_the_matrix_grows():
    """It is O(1/n + 1/p)."""
    errors = []
    for shape in (SMALL, (20, 21)):
        case = problem(0, *shape)
        errors.append(error(case.z @ case.z.T, laplace.moments(*case).rows))
    assert errors[1] < 0.4 * errors[0]


def test_not_a_mode():
    case = problem(0, *SMALL)
    z = case.z * np.exp(np.random.default_rng(0).normal(0, 2, case.z.shape)) * np.sign(case.psi[0, 0])
    with pytest.raises(ValueError, match="not the mode"):
        laplace.moments(-1e-3 * z, case.psi - 3.2 * np.eye(4), case.phi)


def test_expectation_maximisation_does_not_decrease_the_penalised_likelihood():
    """Marginal likelihood by Laplace's integral, with a ridge; a rise of its negative can only be Laplace's error."""
    rng, weight = np.random.default_rng(3), 0.05
    y = rng.normal(size=LARGE)
    psi, phi = (0.5 * np.eye(size) for size in LARGE)
    values = []
    for _ in range(6):
        z = mode(y, psi, phi)
        omega = np.linalg.eigvalsh(psi)[:, None] + np.linalg.eigvalsh(phi)
        logs = np.log(np.abs(z / y))  # a_i + b_j
        null = null_vectors(y != 0)
        curvature = np.linalg.slogdet(hessian(z, psi, phi) + null @ null.T)[1]
        minus_twice_log = 2.0 * (g(z, psi, phi) - logs.sum()) - np.log(omega).sum() + curvature
        values.append(minus_twice_log + weight * np.sum(omega**2))
        found = laplace.moments(z, psi, phi)
        (e, u), (f, v) = np.linalg.eigh(found.rows), np.linalg.eigh(found.cols)
        with jax.enable_x64(True):
            solved = kronecker_sum.fit(e, f, *map(np.ones, LARGE), ridge=weight)
        psi, phi = (u * solved.lam) @ u.T, (v * solved.mu) @ v.T
    changes = np.diff(values)
    assert (changes < 0.005 * np.abs(changes).max()).all()
    assert changes[0] < -1.0
