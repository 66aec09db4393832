"""Draws from the Kronecker-sum Gaussian against its covariance, written out."""

import numpy as np
import pytest
from scipy import stats

from kronax.solvers.gaussian.simulate import kronecker_sum_gaussian, noise_scales


def positive_definite(n, rng, shift=0.3):
    root = rng.normal(size=(n, n))
    return root @ root.T / n + shift * np.eye(n)


def test_covariance_is_the_inverse_of_the_kronecker_sum(rng):
    psi, phi = positive_definite(3, rng), positive_definite(4, rng)
    draws = kronecker_sum_gaussian(psi, phi, rng, n_draws=40_000).reshape(-1, 12)  # rows one after the other
    covariance = np.linalg.inv(np.kron(psi, np.eye(4)) + np.kron(np.eye(3), phi))
    variance = np.outer(*[np.diag(covariance)] * 2) + covariance**2  # of a product of two entries
    z_score = (draws.T @ draws / len(draws) - covariance) / np.sqrt(variance / len(draws))
    assert np.abs(z_score).max() < 4.5
    assert np.sqrt(np.mean(z_score**2)) == pytest.approx(1, abs=0.35)
    assert np.abs(draws.mean(0) / np.sqrt(np.diag(covariance) / len(draws))).max() < 4


def test_one_axis_may_be_indefinite(rng):
    draws = kronecker_sum_gaussian(-0.5 * np.eye(2), np.diag([1.0, 2.0]), rng, n_draws=20_000)
    np.testing.assert_allclose(draws.var(axis=(0, 1)), [2.0, 1 / 1.5], rtol=0.05)


def test_sum_that_is_not_positive_definite(rng):
    with pytest.raises(ValueError, match=r"not positive definite: its smallest eigenvalue is -0\.5"):
        kronecker_sum_gaussian(-np.eye(2), np.diag([0.5, 2.0]), rng)


@pytest.mark.parametrize(
    ("distribution", "law"),
    [("chi2", lambda x: stats.chi2(1).cdf(x**2)), ("lognormal", lambda x: stats.lognorm(0.5).cdf(x))],
)
def test_noise_has_its_law(distribution, law, rng):
    scales = noise_scales(5000, 0.5, distribution, rng)
    assert stats.kstest(scales, law).pvalue > 0.01


@pytest.mark.parametrize("distribution", ["chi2", "lognormal"])
def test_no_noise(distribution, rng):
    np.testing.assert_array_equal(noise_scales(7, 0.0, distribution, rng), np.ones(7))
