"""The two fits of the M-step: the Ω that an E-step sees, and the estimate."""

import numpy as np
import pytest
from scipy import sparse

from kronax.solvers.gaussian import kronecker_sum, m_step
from kronax.solvers.gaussian.precision import dense
from kronax.solvers.gaussian.shrinkage import leave_one_out
from kronax.solvers.gaussian.spectral import Leading, Spectrum, decompose
from kronax.solvers.gaussian.vectors import Held
from kronax.solvers.rows.noise_free import NoiseFree
from kronax.solvers.rows.rows import InMemory

pytestmark = pytest.mark.usefixtures("x64")

N, M = 40, 30
DAMPING = 0.5


def structured(rng) -> np.ndarray:
    """Three strong directions in white noise, mean square 1."""
    u, v = np.linalg.qr(rng.normal(size=(N, 3)))[0], np.linalg.qr(rng.normal(size=(M, 3)))[0]
    z = rng.normal(size=(N, M)) + (u * np.array([60.0, 40.0, 25.0])) @ v.T
    return z / np.sqrt(np.mean(z**2))


def decomposed(z: np.ndarray, center: int | None = None) -> tuple[Leading, Spectrum]:
    return decompose(NoiseFree(InMemory(sparse.csr_array(z))), center=center, n_comps=10)


def estimated(z: np.ndarray, center: int | None = None):
    return m_step.estimate(decomposed(z, center)[1], m_step.Penalty(joint=True))


def test_spiked_is_the_damped_fit_to_a_pooled_spectrum(rng):
    z = structured(rng)
    lead, _ = decomposed(z)
    assert lead.rank == 3
    omega = m_step.spiked(lead, float(z.size), 10)

    u, s, vt = np.linalg.svd(z)
    spikes = s[:3] ** 2
    rest = z.size - spikes.sum()
    e, f = (np.append(spikes, np.full(size - 3, rest / (size - 3))) for size in (N, M))
    solved = kronecker_sum.fit(e, f, np.ones(N), np.ones(M))
    unit = solved.lam[-1] + solved.mu[-1]  # of the pooled directions
    psi, phi = (u * (solved.lam - solved.lam[-1])) @ u.T / unit, (vt.T * (solved.mu - solved.mu[-1])) @ vt / unit

    row_part = (omega.row_vectors * omega.row_weights) @ omega.row_vectors.T
    col_part = (omega.col_vectors * omega.col_weights) @ omega.col_vectors.T
    assert float(omega.scale) == 1.0
    np.testing.assert_allclose(row_part, DAMPING * psi, atol=1e-6)
    np.testing.assert_allclose(col_part, DAMPING * phi, atol=1e-6)
    assert np.linalg.eigvalsh(row_part)[0] + np.linalg.eigvalsh(col_part)[0] + 1.0 > 0
    assert omega.row_vectors.shape == (N, 10) and omega.col_vectors.shape == (M, 10)


def test_without_spikes_omega_is_the_identity(rng):
    z = rng.normal(size=(N, M))
    u, s, vt = np.linalg.svd(z, full_matrices=False)
    lead, _ = decomposed((u * np.minimum(s, s[8])) @ vt)
    assert lead.rank == 0
    omega = m_step.spiked(lead, float(z.size), 10)
    assert float(omega.scale) == 1.0
    for weights in (omega.row_weights, omega.col_weights):
        np.testing.assert_array_equal(weights, np.zeros(10))


def test_objective_of_the_estimate_is_the_likelihood_of_the_data(rng):
    """½(tr ZZᵀΨ + tr ZᵀZΦ − log det Ψ⊕Φ) per entry."""
    z = structured(rng)
    rows, (cols,), _, status = estimated(z)
    assert status.converged
    psi, phi = dense(rows), dense(cols)
    total = np.linalg.eigvalsh(psi)[:, None] + np.linalg.eigvalsh(phi)
    assert total.min() > 0
    expected = 0.5 * (np.mean(z * (psi @ z + z @ phi)) - np.log(total).mean())
    assert status.objective[-1] == pytest.approx(expected, rel=1e-8)


def test_estimate_is_closer_to_the_truth_than_white_noise(rng):
    """One draw from a model with three strong directions among its rows: Kullback–Leibler divergence per entry."""
    n, m = 200, 150
    u, v = (np.linalg.qr(rng.normal(size=(size, size)))[0] for size in (n, m))
    lam, mu = np.append(np.ones(n - 3), np.full(3, -0.97)), np.ones(m)
    variances = 1.0 / (lam[:, None] + mu)
    z = u @ (rng.normal(size=(n, m)) * np.sqrt(variances)) @ v.T
    found = estimated(z)
    psi, phi = dense(found.rows), dense(found.cols[0])

    def divergence(psi, phi):
        diagonal = np.diag(u.T @ psi @ u)[:, None] + np.diag(v.T @ phi @ v)
        total = np.linalg.eigvalsh(psi)[:, None] + np.linalg.eigvalsh(phi)
        return 0.5 * np.mean(variances * diagonal - np.log(total) - np.log(variances) - 1.0)

    white = 0.5 / variances.mean()
    assert divergence((u * lam) @ u.T, (v * mu) @ v.T) == pytest.approx(0.0, abs=1e-12)
    assert divergence(psi, phi) < 0.8 * divergence(white * np.eye(n), white * np.eye(m))


@pytest.mark.parametrize("center", [0, 1])
def test_means_that_were_taken_away_tie_nothing(center, rng):
    """Along the constant direction the precision is its mean, whatever it is along others without data."""
    z = structured(rng)
    z[5:10], z[:, 5:10] = z[:5], z[:, :5]  # twins: more directions without data
    rows, (cols,), *_ = estimated(z, center)
    precision = dense(cols if center else rows)
    ones = np.ones(len(precision))
    np.testing.assert_allclose(precision @ ones, precision.trace() / len(ones) * ones, rtol=1e-8)


def spectrum(z: np.ndarray) -> Spectrum:
    """The spectrum of deviations from the columns' means, the mean square of ``Z`` being 1."""
    z = z / np.sqrt(np.mean(z**2))
    u, s, vt = np.linalg.svd(z - z.mean(0), full_matrices=False)
    kept = min(len(z) - 1, z.shape[1])
    return Spectrum(Held(u[:, :kept]), Held(vt[:kept].T), s[:kept] ** 2, (len(z) - 1, z.shape[1]))


def test_objective_of_separate_fits_is_the_likelihood_of_each_axis(rng):
    """Mean over both axes of ½(tr SC⁻¹ + log det C)/p, with the covariance ``C`` that belongs to the precision found."""
    z = structured(rng)
    z /= np.sqrt(np.mean(z**2))
    u, s, vt = np.linalg.svd(z)
    found = m_step.estimate(Spectrum(Held(u[:, :M]), Held(vt.T), s**2, (N, M)), m_step.Penalty())
    assert found.status.converged
    expected = []
    for precision, samples in ((found.rows, z.T), (found.cols[0], z)):
        n, p = samples.shape
        inverse = dense(precision) + 0.5 * np.eye(p)  # of C, but for its rows' and columns' scales
        moments = samples.T @ samples / n
        # the eigenvectors of C are those of the moments, and so is its trace
        values, vectors = np.linalg.eigh(moments)
        shrunk = leave_one_out(values[::-1][: min(n, p)], p, n)
        full = np.append(shrunk[:-1], np.full(p - len(shrunk) + 1, shrunk[-1]))[::-1]
        covariance = (vectors * full) @ vectors.T
        size = np.sqrt(np.diag(np.linalg.inv(covariance)))
        np.testing.assert_allclose(np.linalg.inv(covariance) / np.outer(size, size), inverse, atol=1e-8)
        expected.append(0.5 * (np.trace(np.linalg.solve(covariance, moments)) + np.linalg.slogdet(covariance)[1]) / p)
    assert found.status.objective[-1] == pytest.approx(np.mean(expected), rel=1e-8)


def partial_correlations(z: np.ndarray) -> np.ndarray:
    found = -dense(m_step.estimate(spectrum(z), m_step.Penalty()).cols[0])
    return found - np.diag(np.diag(found))


def modules(rng, n: int, p: int) -> np.ndarray:
    """Variables that depend on one another in groups of five, and three directions that all share."""
    groups = np.repeat(rng.normal(size=(n, p // 5)), 5, axis=1)
    return rng.normal(size=(n, p)) + 0.7 * groups + 0.7 * rng.normal(size=(n, 3)) @ rng.normal(size=(3, p))


@pytest.mark.parametrize(("n", "most"), [(51, 0.2), (60, 0.18), (75, 0.15), (125, 0.1), (205, 0.07)])
def test_one_sample_left_out_changes_little(n, most, rng):
    """50 variables, at ratios on both sides of 1 and of 4; of the weight of all edges together."""
    z = modules(rng, n, 50)
    whole = partial_correlations(z)
    changes = [np.abs(partial_correlations(np.delete(z, row, 0)) - whole).sum() for row in range(8)]
    assert np.mean(changes) < most * np.abs(whole).sum()


@pytest.mark.parametrize("shape", [(40, 30), (30, 40)])
def test_order_and_signs_do_not_matter(shape, rng):
    z = modules(rng, *shape)
    rows, cols = rng.permutation(shape[0]), rng.permutation(shape[1])
    whole, shuffled = partial_correlations(z), partial_correlations(z[rows][:, cols])
    np.testing.assert_allclose(shuffled, whole[np.ix_(cols, cols)], atol=1e-8)
    signs = rng.choice([-1.0, 1.0], shape[1])
    np.testing.assert_allclose(partial_correlations(z * signs), whole * np.outer(signs, signs), atol=1e-8)


@pytest.mark.parametrize("shape", [(40, 30), (30, 30), (30, 80)])
def test_transposed(shape, rng):
    z = modules(rng, *shape)
    u, s, vt = np.linalg.svd(z, full_matrices=False)
    one = m_step.estimate(Spectrum(Held(u), Held(vt.T), s**2, shape), m_step.Penalty())
    other = m_step.estimate(Spectrum(Held(vt.T), Held(u), s**2, shape[::-1]), m_step.Penalty())
    np.testing.assert_allclose(dense(one.rows), dense(other.cols[0]), atol=1e-10)
    np.testing.assert_allclose(dense(one.cols[0]), dense(other.rows), atol=1e-10)
    assert one.status.objective[-1] == pytest.approx(other.status.objective[-1], rel=1e-10)
