"""The Kronecker-sum Gaussian: a convex problem, solved to its optimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from kronax.solvers.gaussian import kronecker_sum

pytestmark = pytest.mark.usefixtures("x64")

N, M = 12, 9


def spectra(rng, n: int = N, m: int = M, decades: float = 1.0) -> tuple[np.ndarray, ...]:
    """Two spectra with the same sum, as S₁ and S₂ have, and multiplicities of one."""
    e, f = 10.0 ** rng.uniform(0, decades, n), 10.0 ** rng.uniform(0, decades, m)
    return e, f * e.sum() / f.sum(), np.ones(n), np.ones(m)


def residuals(found: kronecker_sum.KroneckerSum, e, f, m, q) -> float:
    """Largest relative violation of e_i = Σ_j q_j/(λ_i+μ_j) and f_j = Σ_i m_i/(λ_i+μ_j)."""
    k = 1.0 / (found.lam[:, None] + found.mu)
    return max(np.abs(k @ q / e - 1.0).max(), np.abs(m @ k / f - 1.0).max())


def assert_solves(found: kronecker_sum.KroneckerSum, e, f, m, q):
    assert found.status.converged
    assert (found.lam[:, None] + found.mu).min() > 0
    assert residuals(found, e, f, m, q) < 1e-6
    assert np.average(found.lam, weights=m) == pytest.approx(np.average(found.mu, weights=q), rel=1e-10)


def test_gradient_agrees_with_autodiff(rng):
    problem = (*spectra(rng)[:2], rng.integers(1, 5, N) * 1.0, rng.integers(1, 5, M) * 1.0)
    lam, mu = rng.uniform(0.1, 2, N), rng.uniform(0.1, 2, M)

    def objective(lam, mu, e, f, m, q):
        return (m * e) @ lam + (q * f) @ mu - m @ jnp.log(lam[:, None] + mu) @ q

    assert kronecker_sum.objective(lam, mu, *problem) == pytest.approx(float(objective(lam, mu, *problem)), rel=1e-12)
    expected = jax.grad(objective, argnums=(0, 1))(lam, mu, *problem)
    for found, by_jax in zip(kronecker_sum.gradient(lam, mu, *problem), expected, strict=True):
        np.testing.assert_allclose(found, by_jax, rtol=1e-10, atol=1e-10)


def test_objective_is_that_of_the_matrices(rng):
    """Eq. 3 against traces and the determinant of the Kronecker sum, formed."""
    e, f, m, q = spectra(rng)
    lam, mu = rng.uniform(0.1, 2, N), rng.uniform(-0.05, 2, M)
    u, _ = np.linalg.qr(rng.normal(size=(N, N)))
    v, _ = np.linalg.qr(rng.normal(size=(M, M)))
    psi, phi, s1, s2 = ((w * x) @ w.T for w, x in ((u, lam), (v, mu), (u, e), (v, f)))
    omega = np.kron(psi, np.eye(M)) + np.kron(np.eye(N), phi)
    expected = np.trace(s1 @ psi) + np.trace(s2 @ phi) - np.linalg.slogdet(omega)[1]
    found = kronecker_sum.objective(lam, mu, e, f, m, q)
    assert found == pytest.approx(expected, rel=1e-12)


def test_objective_outside_of_its_domain(rng):
    problem = spectra(rng)
    lam, mu = np.ones(N), np.ones(M)
    mu[3] = -1.5
    assert kronecker_sum.objective(lam, mu, *problem) == np.inf


@pytest.mark.parametrize("shape", [(12, 9), (9, 12), (40, 30)])
def test_solution(shape, rng):
    problem = spectra(rng, *shape)
    found = kronecker_sum.fit(*problem)
    assert_solves(found, *problem)
    gradient = np.concatenate(kronecker_sum.gradient(found.lam, found.mu, *problem))
    assert np.abs(gradient).max() < 1e-6 * np.concatenate(problem[:2]).max()
    at_solution = kronecker_sum.objective(found.lam, found.mu, *problem)
    assert found.objective == pytest.approx(at_solution, rel=1e-12)


def test_agrees_with_an_independent_optimiser(rng):
    e, f, m, q = spectra(rng)

    def unpacked(x):
        return x[:N], np.append(x[N:], 0.0)  # μ_M = 0 takes the constant away

    def value(x):
        lam, mu = unpacked(x)
        total = lam[:, None] + mu
        return e @ lam + f @ mu - np.log(total).sum() if total.min() > 0 else np.inf

    def slope(x):
        lam, mu = unpacked(x)
        k = 1.0 / (lam[:, None] + mu)
        return np.append(e - k.sum(1), (f - k.sum(0))[:-1])

    start = np.append(np.ones(N), np.zeros(M - 1))
    other = optimize.minimize(value, start, jac=slope, method="BFGS", options={"gtol": 1e-9, "maxiter": 10_000})
    assert np.abs(slope(other.x)).max() < 1e-5
    lam, mu = unpacked(other.x)
    found = kronecker_sum.fit(e, f, m, q)
    np.testing.assert_allclose(found.lam[:, None] + found.mu, lam[:, None] + mu, rtol=1e-5)
    assert found.objective == pytest.approx(value(other.x), rel=1e-10)


def test_groups_stand_for_repeated_eigenvalues(rng):
    e, f = np.array([3.0, 1.0, 0.5]), np.array([2.0, 0.7])
    m, q = np.array([2.0, 5.0, 5.0]), np.array([4.0, 5.0])
    f *= (m @ e) / (q @ f)
    grouped = kronecker_sum.fit(e, f, m, q)
    rows, cols = np.repeat(np.arange(3), m.astype(int)), np.repeat(np.arange(2), q.astype(int))
    single = kronecker_sum.fit(e[rows], f[cols], np.ones(N), np.ones(M))
    np.testing.assert_allclose(grouped.lam[rows], single.lam, rtol=1e-6)
    np.testing.assert_allclose(grouped.mu[cols], single.mu, rtol=1e-6)
    assert grouped.objective == pytest.approx(single.objective, rel=1e-10)


def test_flat_spectra():
    """S₁ = e·I: λ + μ = M/e."""
    e, f = np.full(N, 3.0), np.full(M, 3.0 * N / M)
    found = kronecker_sum.fit(e, f, np.ones(N), np.ones(M))
    np.testing.assert_allclose(found.lam, M / 6.0, rtol=1e-9)
    np.testing.assert_allclose(found.mu, M / 6.0, rtol=1e-9)


def test_one_flat_axis():
    """S₂ a multiple of I: μ_j alike, so that λ_i + μ = M/e_i."""
    e = np.linspace(1.0, 5.0, N)
    found = kronecker_sum.fit(e, np.full(M, e.sum() / M), np.ones(N), np.ones(M))
    # Σ_i (λ_i + μ) ⁻¹ = Σ e_i / M = f: both conditions hold
    np.testing.assert_allclose(found.lam[:, None] + found.mu, np.tile((M / e)[:, None], M), rtol=1e-7)


@pytest.mark.parametrize("decades", [1.0, 3.0])
def test_recovers_the_kronecker_sum(decades, rng):
    lam, mu = 10.0 ** rng.uniform(-decades / 2, decades / 2, N), 10.0 ** rng.uniform(-decades / 2, decades / 2, M)
    lam[0] = -0.5 * mu.min()  # one axis alone need not be positive
    k = 1.0 / (lam[:, None] + mu)
    problem = k.sum(1), k.sum(0), np.ones(N), np.ones(M)
    found = kronecker_sum.fit(*problem)
    assert_solves(found, *problem)
    t = 0.5 * (mu.mean() - lam.mean())
    np.testing.assert_allclose(found.lam, lam + t, rtol=1e-5, atol=1e-6 * np.abs(lam + t).max())
    np.testing.assert_allclose(found.mu, mu - t, rtol=1e-5, atol=1e-6 * np.abs(mu - t).max())


@pytest.mark.parametrize("shape", [(12, 9), (40, 30)])
def test_extreme_spectra(shape, rng):
    """Eigenvalues of a true Kronecker sum over six orders of magnitude."""
    n, m = shape
    lam, mu = np.logspace(-3, 3, n), rng.permutation(np.logspace(-3, 3, m))
    k = 1.0 / (lam[:, None] + mu)
    problem = k.sum(1), k.sum(0), np.ones(n), np.ones(m)
    found = kronecker_sum.fit(*problem)
    assert_solves(found, *problem)


def test_null_group_of_a_tall_matrix(rng):
    """As the M-step has it: one null eigenvalue for all the directions that fewer columns cannot span."""
    f = 10.0 ** rng.uniform(0, 2, 30)
    e = np.append(f[::-1], 0.2)
    m, q = np.append(np.ones(30), 4000.0), np.ones(30)
    e *= f.sum() / (m @ e)
    found = kronecker_sum.fit(e, f, m, q)
    assert_solves(found, e, f, m, q)


def test_scale(rng):
    """Spectra a thousand times as large: precisions a thousandth."""
    e, f, m, q = spectra(rng)
    one, thousand = kronecker_sum.fit(e, f, m, q), kronecker_sum.fit(1e3 * e, 1e3 * f, m, q)
    np.testing.assert_allclose(1e3 * thousand.lam, one.lam, rtol=1e-6)
    np.testing.assert_allclose(1e3 * thousand.mu, one.mu, rtol=1e-6)


def test_exchange_of_the_axes(rng):
    e, f, m, q = spectra(rng)
    one, other = kronecker_sum.fit(e, f, m, q), kronecker_sum.fit(f, e, q, m)
    np.testing.assert_allclose(other.lam, one.mu, rtol=1e-6)
    np.testing.assert_allclose(other.mu, one.lam, rtol=1e-6)


def test_converged_means_the_tolerance_was_met(rng):
    problem = spectra(rng)
    loose, strict = kronecker_sum.fit(*problem, tol=1e-1), kronecker_sum.fit(*problem, tol=1e-14)
    assert loose.status.converged
    assert loose.status.n_iter < strict.status.n_iter
    assert residuals(strict, *problem) < residuals(loose, *problem)


def test_objective_of_every_step(rng):
    found = kronecker_sum.fit(*spectra(rng, decades=3.0))
    trace = found.status.objective
    assert len(trace) == found.status.n_iter + 1 > 3
    assert trace[-1] == found.objective
    assert (np.diff(trace) <= 1e-12 * np.abs(trace[-1])).all()


def test_a_tolerance_that_nothing_meets_is_no_convergence(rng):
    problem = spectra(rng, decades=3.0)
    found = kronecker_sum.fit(*problem, tol=-1.0)
    assert found.status.n_iter > kronecker_sum.fit(*problem).status.n_iter
    assert not found.status.converged
    assert f"after {found.status.n_iter} steps, with a goal of -1" in found.status.reason


def test_start_from_lumped_eigenvalues_leads_to_the_same_solution(rng):
    """Large problems start from a coarse one: the solution stays, the steps get fewer."""
    n, p = 300, 270
    e, f = np.exp(rng.normal(0, 1.5, n)), np.exp(rng.normal(0, 1.5, p))
    f *= e.sum() / f.sum()
    m, q = np.ones(n), np.ones(p)
    plain = kronecker_sum.fit(e, f, m, q, start=(0.5 * p / e, 0.5 * n / f))  # each axis as if alone
    lumped = kronecker_sum.fit(e, f, m, q)
    assert plain.status.converged
    assert lumped.status.converged
    assert lumped.status.n_iter < plain.status.n_iter
    np.testing.assert_allclose(lumped.lam, plain.lam, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(lumped.mu, plain.mu, rtol=1e-6, atol=1e-9)


# The ridge


@pytest.mark.parametrize("ridge", [1e-3, 0.3])
def test_gradient_with_a_ridge_vanishes_at_the_solution(ridge, rng):
    """Also where both spectra have zeros, for which Eq. 3 alone has no solution."""
    e, f, m, q = spectra(rng)
    e[:4], f[:2] = 0.0, 0.0
    f *= e.sum() / f.sum()
    found = kronecker_sum.fit(e, f, m, q, ridge=ridge)
    assert found.status.converged
    x = found.lam[:, None] + found.mu
    assert x.min() > 0
    expected = 1.0 / x - 2.0 * ridge * x  # the derivative of log x − ρx²
    np.testing.assert_allclose(expected.sum(1), e, atol=1e-5 * e.max())
    np.testing.assert_allclose(expected.sum(0), f, atol=1e-5 * f.max())
    assert found.lam.mean() == pytest.approx(found.mu.mean(), rel=1e-9)


def test_gradient_with_a_ridge_agrees_with_autodiff(rng):
    problem = (*spectra(rng)[:2], rng.integers(1, 5, N) * 1.0, rng.integers(1, 5, M) * 1.0)
    lam, mu = rng.uniform(0.1, 2, N), rng.uniform(0.1, 2, M)

    def objective(lam, mu, e, f, m, q):
        total = lam[:, None] + mu
        return (m * e) @ lam + (q * f) @ mu - m @ (jnp.log(total) - 0.7 * total**2) @ q

    assert kronecker_sum.objective(lam, mu, *problem, 0.7) == pytest.approx(
        float(objective(lam, mu, *problem)), rel=1e-12
    )
    expected = jax.grad(objective, argnums=(0, 1))(lam, mu, *problem)
    for found, by_jax in zip(kronecker_sum.gradient(lam, mu, *problem, 0.7), expected, strict=True):
        np.testing.assert_allclose(found, by_jax, rtol=1e-10, atol=1e-10)


def test_ridge_is_the_squared_norm_of_the_kronecker_sum(rng):
    problem = tuple(map(jnp.asarray, spectra(rng)))
    lam, mu = rng.uniform(0.1, 2, N), rng.uniform(0.1, 2, M)
    omega = np.kron(np.diag(lam), np.eye(M)) + np.kron(np.eye(N), np.diag(mu))
    arrays = jnp.asarray(lam), jnp.asarray(mu), *problem
    added = kronecker_sum.objective(*arrays, 0.3) - kronecker_sum.objective(*arrays)
    assert float(added) == pytest.approx(0.3 * np.linalg.norm(omega) ** 2, rel=1e-10)


def test_weak_ridge_is_none(rng):
    problem = spectra(rng)
    none, weak = kronecker_sum.fit(*problem), kronecker_sum.fit(*problem, ridge=1e-9)
    np.testing.assert_allclose(weak.lam[:, None] + weak.mu, none.lam[:, None] + none.mu, rtol=1e-4)


def test_strong_ridge_leaves_a_multiple_of_the_identity(rng):
    """Only −log x + ρx² is left: x = 1/√(2ρ)."""
    found = kronecker_sum.fit(*spectra(rng), ridge=1e8)
    np.testing.assert_allclose(np.sqrt(2e8) * (found.lam[:, None] + found.mu), 1.0, rtol=1e-3)


def test_ridge_on_one_flat_axis():
    """S₂ a multiple of I: every λ_i + μ solves the quadratic equation of its own eigenvalue."""
    e, ridge = np.linspace(0.0, 5.0, N), 0.2
    found = kronecker_sum.fit(e, np.full(M, e.sum() / M), np.ones(N), np.ones(M), ridge=ridge)
    x = (-e / M + np.sqrt((e / M) ** 2 + 8 * ridge)) / (4 * ridge)
    np.testing.assert_allclose(found.lam[:, None] + found.mu, np.tile(x[:, None], M), rtol=1e-6)


def test_newton_is_quadratic_with_a_ridge(rng):
    """A Hessian without the ridge's part would still lead there, in many more steps."""
    found = kronecker_sum.fit(*spectra(rng), ridge=10.0)
    assert found.status.converged and found.status.n_iter <= 8
