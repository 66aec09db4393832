import numpy as np
import pytest
from scipy import stats

from kronax.solvers.effects import contrasts


def plain(difference, deviations, dof, gamma=0.5):
    """Clark et al. 2014 in a few lines: on the axes of all that differs, controls and the sample."""
    _, singular, axes = np.linalg.svd(np.vstack([deviations, difference]), full_matrices=False)
    axes = axes[singular > 1e-9 * singular[0]]
    within = axes @ deviations.T @ deviations @ axes.T / dof
    ridge = (1 - gamma) * np.trace(within) / len(within) * np.eye(len(within))
    found = axes.T @ np.linalg.solve(gamma * within + ridge, axes @ difference)
    return found / np.linalg.norm(found)


def drawn(n, p, k=6, seed=0):
    rng = np.random.default_rng(seed)
    controls = rng.normal(size=(n, p)) * rng.uniform(0.5, 2.0, p)
    return rng.normal(size=(k, p)), controls - controls.mean(axis=0)


@pytest.mark.parametrize(("n", "p"), [(5, 40), (30, 12), (13, 12), (2, 3)])
def test_as_written_in_the_paper(n, p):
    differences, deviations = drawn(n, p)
    found = contrasts.characteristic_directions(differences, deviations, n - 1)
    wanted = [plain(difference, deviations, n - 1) for difference in differences]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-8)


@pytest.mark.parametrize(("n", "p"), [(5, 40), (30, 12)])
def test_rotating_the_genes_rotates_the_directions(n, p):
    differences, deviations = drawn(n, p)
    rotation = stats.ortho_group.rvs(p, random_state=0)
    found = contrasts.characteristic_directions(differences @ rotation, deviations @ rotation, n - 1)
    wanted = contrasts.characteristic_directions(differences, deviations, n - 1) @ rotation
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10)


def test_a_difference_within_the_controls_space():
    differences, deviations = drawn(5, 40)
    within = deviations[:2] - deviations[2:4]
    both = np.vstack([within, differences])
    found = contrasts.characteristic_directions(both, deviations, 4)
    np.testing.assert_allclose(found, [plain(difference, deviations, 4) for difference in both], rtol=0, atol=1e-8)


def test_no_difference_has_no_direction():
    _, deviations = drawn(5, 10)
    assert not contrasts.characteristic_directions(np.zeros((2, 10)), deviations, 4).any()


def test_equal_variances_in_all_directions_leave_the_difference():
    p = 8
    deviations = np.vstack([np.eye(p), -np.eye(p)])
    differences = drawn(5, p)[0]
    found = contrasts.characteristic_directions(differences, deviations, 2 * p - 1)
    np.testing.assert_allclose(found, contrasts.unit(differences), rtol=0, atol=1e-12)


def test_variances_of_one_size_become_equal():
    rng = np.random.default_rng(0)
    deviations = rng.normal(size=(6, 5000))
    deviations -= deviations.mean(axis=0)
    deviations *= np.sqrt(1.0 / (np.square(deviations).sum(axis=0) / 5))  # no spread at all
    found = contrasts.shrunken_variances(deviations, 5)
    assert np.ptp(found) < 1e-12


def test_the_prior_of_the_variances_is_found():
    """Variances from a scaled inverse chi-squared law: the shrunken ones are nearer to the truth, with the weights of the law."""
    rng = np.random.default_rng(1)
    d0, s0, dof, p = 6.0, 2.0, 4, 200_000
    truth = d0 * s0 / rng.chisquare(d0, p)
    deviations = np.sqrt(truth) * rng.normal(size=(dof, p))
    sample = np.square(deviations).sum(axis=0) / dof
    found = contrasts.shrunken_variances(deviations, dof)
    slope, intercept = np.polyfit(sample, found, 1)
    assert slope == pytest.approx(dof / (d0 + dof), rel=0.02)
    assert intercept == pytest.approx(d0 * s0 / (d0 + dof), rel=0.02)


def test_constant_genes_get_the_common_part():
    rng = np.random.default_rng(2)
    deviations = rng.normal(size=(5, 100)) * rng.gamma(1.0, 1.0, 100)
    deviations[:, 0] = 0.0
    found = contrasts.shrunken_variances(deviations, 4)
    assert 0 < found[0] == found.min()
