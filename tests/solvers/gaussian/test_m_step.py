"""The two fits of the M-step: the Ω that an E-step sees, and the estimate."""

import numpy as np
import pytest
from scipy import sparse

from kronax.solvers.blocks import from_csr, gram
from kronax.solvers.gaussian import kronecker_sum, m_step
from kronax.solvers.gaussian.precision import dense
from kronax.solvers.gaussian.spectral import decompose

pytestmark = pytest.mark.usefixtures("x64")

N, M = 40, 30
DAMPING = 0.5


def structured(rng) -> np.ndarray:
    """Three strong directions in white noise, mean square 1."""
    u, v = np.linalg.qr(rng.normal(size=(N, 3)))[0], np.linalg.qr(rng.normal(size=(M, 3)))[0]
    z = rng.normal(size=(N, M)) + (u * np.array([60.0, 40.0, 25.0])) @ v.T
    return z / np.sqrt(np.mean(z**2))


def estimated(z: np.ndarray, center: int | None = None):
    blocks = from_csr(sparse.csr_array(z))
    return m_step.estimate(decompose(blocks, gram(blocks), center=center, n_comps=10)[1], m_step.Penalty(joint=True))


def test_spiked_is_the_damped_fit_to_a_pooled_spectrum(rng):
    z = structured(rng)
    blocks = from_csr(sparse.csr_array(z))
    lead, _ = decompose(blocks, gram(blocks), center=None, n_comps=10)
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
    blocks = from_csr(sparse.csr_array((u * np.minimum(s, s[8])) @ vt))
    lead, _ = decompose(blocks, gram(blocks), center=None, n_comps=10)
    assert lead.rank == 0
    omega = m_step.spiked(lead, float(z.size), 10)
    assert float(omega.scale) == 1.0
    for weights in (omega.row_weights, omega.col_weights):
        np.testing.assert_array_equal(weights, np.zeros(10))


def test_objective_of_the_estimate_is_the_likelihood_of_the_data(rng):
    """½(tr ZZᵀΨ + tr ZᵀZΦ − log det Ψ⊕Φ) per entry."""
    z = structured(rng)
    rows, (cols,), _, objective, shortfall = estimated(z)
    assert not shortfall
    psi, phi = dense(rows), dense(cols)
    total = np.linalg.eigvalsh(psi)[:, None] + np.linalg.eigvalsh(phi)
    assert total.min() > 0
    expected = 0.5 * (np.mean(z * (psi @ z + z @ phi)) - np.log(total).mean())
    assert objective == pytest.approx(expected, rel=1e-8)


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


@pytest.mark.parametrize(
    ("n_samples", "n_folds"), [(4, 4), (9, 9), (50, 10), (200, 10), (400, 5), (700, 4), (10_000, 4)]
)
def test_number_of_folds(n_samples, n_folds):
    assert m_step._n_folds(n_samples) == n_folds
