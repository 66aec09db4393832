"""The precision of the variables with groups of samples: two estimates in one unit."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from kronax.solvers.gaussian import m_step
from kronax.solvers.gaussian.precision import dense
from kronax.solvers.gaussian.scale_errors import without_scale_errors
from kronax.solvers.gaussian.spectral import decompose
from kronax.solvers.gaussian.within import Within
from kronax.solvers.medmagma import em, variables
from kronax.solvers.rows.groups import Groups
from kronax.solvers.rows.noise_free import NoiseFree
from kronax.solvers.rows.rows import InMemory


def expected_of(within: Within, precision: np.ndarray) -> np.ndarray:
    """The precision within groups and, with the covariance between them, that of all samples."""
    own = within.side.n_samples * precision
    both = own + np.linalg.inv(np.linalg.inv(own) + within.between.T @ within.between)
    size = np.sqrt(np.diag(both))
    found = both / size / size[:, None]
    np.fill_diagonal(found, 0.5)
    return found


@pytest.mark.parametrize("shape", [(150, 30), (40, 60)])
def test_both_estimates_are_added(shape, rng):
    n, p = shape
    groups = Groups(rng.permuted(np.arange(n) % 3), 3)
    x = rng.lognormal(rng.normal(0.0, 1.0, (3, p))[groups.codes], 0.5)
    fit = em.fit(sparse.csr_array(x), groups=groups)
    found, _, _ = variables.estimates(fit.cols.precision, fit)
    within = fit.spectrum.within
    alone = without_scale_errors(m_step.alone(within.side).inverse, fit.margins.mean, within.units)
    np.testing.assert_allclose(dense(found), expected_of(within, dense(alone)), atol=1e-9)


def test_one_group_is_as_none(rng):
    x = sparse.csr_array(rng.lognormal(0.0, 0.5, (100, 25)))
    fits = [em.fit(x, groups=groups) for groups in (None, Groups(np.zeros(100, int), 1))]
    one, other = (dense(variables.estimates(fit.cols.precision, fit)[0]) for fit in fits)
    np.testing.assert_allclose(one, other, atol=1e-10)


def test_without_noise_and_a_variable_that_varies_between_groups_alone(rng):
    """Within groups it depends on none; what joins it to others is how they differ between groups."""
    n, p = 120, 20
    groups = Groups(np.arange(n) % 3, 3)
    z = rng.normal(size=(n, p)) + rng.normal(0.0, 2.0, (3, p))[groups.codes]
    z[:, 4] = groups.codes
    matrix = sparse.csr_array(z)
    _, spectrum = decompose(NoiseFree(InMemory(matrix)), center=0, n_comps=10, variables=1, groups=groups)
    part = replace(em.fit_without_noise(matrix), spectrum=spectrum)
    found, _, _ = variables.estimates(part.cols.precision, part)
    alone = dense(m_step.alone(spectrum.within.side).inverse)
    np.testing.assert_array_equal(np.flatnonzero(alone[4]), [4])
    np.testing.assert_allclose(dense(found), expected_of(spectrum.within, alone), atol=1e-9)
    assert np.abs(np.delete(dense(found)[4], 4)).max() > 0.05


def test_groups_that_differ_without_end(rng):
    """Then only dependence within them is left, and the directions between them are lost to the rest: two graphs in one."""
    n, p = 300, 12
    groups = Groups(np.arange(n) % 3, 3)
    noise = rng.multivariate_normal(np.zeros(p), 0.5 ** np.abs(np.subtract.outer(np.arange(p), np.arange(p))), n)
    apart = rng.normal(size=(3, p))[groups.codes]
    found = []
    for size in (1e3, 1e5):
        matrix = sparse.csr_array(noise + size * apart)
        _, spectrum = decompose(NoiseFree(InMemory(matrix)), center=0, n_comps=10, variables=1, groups=groups)
        part = replace(em.fit_without_noise(matrix), spectrum=spectrum)
        found.append(dense(variables.estimates(part.cols.precision, part)[0]))
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)
    assert np.linalg.eigvalsh(found[1] + 0.5 * np.eye(p)).min() > 0
