"""The precision of the variables with groups of samples: within them and across."""

from dataclasses import replace
from functools import partial as partial_of

import numpy as np
import pytest
from scipy import sparse

from kronax.solvers.gaussian import breadth, m_step
from kronax.solvers.gaussian.precision import Partial, dense
from kronax.solvers.gaussian.scale_errors import without_scale_errors
from kronax.solvers.gaussian.spectral import decompose
from kronax.solvers.medmagma import em, variables
from kronax.solvers.rows.groups import Groups
from kronax.solvers.rows.noise_free import NoiseFree
from kronax.solvers.rows.rows import InMemory


def fitted(x: np.ndarray, groups: Groups | None) -> em.Fit:
    return em.fit(sparse.csr_array(x), groups=groups)


def partial(precision: np.ndarray) -> np.ndarray:
    size = np.sqrt(np.diag(precision))
    return precision / size / size[:, None]


@pytest.mark.parametrize("shape", [(150, 30), (40, 60)])
def test_both_sides_of_the_groups(shape, rng):
    """What errors of scales add is taken from the precision within groups and from the one across them."""
    n, p = shape
    groups = Groups(rng.permuted(np.arange(n) % 3), 3)
    x = rng.lognormal(rng.normal(0.0, 1.0, (3, p))[groups.codes], 0.5)
    fit = fitted(x, groups)
    found = variables.estimates(fit.cols.precision, fit).shown
    within = fit.spectrum.within
    inside, across = (
        dense(without_scale_errors(inverse, fit.margins.mean, within.units))
        for inverse in (m_step.alone(within.side).inverse, within.across)
    )
    expected = partial(2.0 * (n - 3) * inside + (n - 1) * across)
    np.fill_diagonal(expected, 0.5)
    np.testing.assert_allclose(dense(found), expected, atol=1e-10)


def test_each_estimate_is_tested(rng):
    groups = Groups(np.arange(200) % 2, 2)
    fit = fitted(rng.lognormal(rng.normal(0.0, 1.0, (2, 60))[groups.codes], 0.5), groups)
    without = replace(fit, spectrum=replace(fit.spectrum, within=None))
    (alone,) = variables.estimates(fit.cols.precision, without).to_test
    found, joining, (all_samples, within), *_ = variables.estimates(fit.cols.precision, fit)
    assert joining is found
    np.testing.assert_array_equal(dense(all_samples), dense(alone))
    assert not np.allclose(dense(within), dense(all_samples)) and not np.allclose(dense(found), dense(within))


def test_a_ridge_is_tested_within_groups(rng):
    groups = Groups(np.arange(120) % 3, 3)
    fit = fitted(rng.lognormal(rng.normal(0.0, 1.0, (3, 40))[groups.codes], 0.5), groups)
    within = fit.spectrum.within
    size = breadth.linear_ridge(within.side)
    ridge = without_scale_errors(breadth.ridge(within.side, size).inverse, fit.margins.mean, within.units)
    _, tested = variables.estimates(fit.cols.precision, fit).to_test
    np.testing.assert_allclose(dense(tested), dense(Partial(ridge)), atol=1e-10)


def test_a_variable_that_varies_between_groups_alone(rng):
    """Within groups nothing is known of it: its entries are what groups say."""
    n, p = 120, 20
    groups = Groups(np.arange(n) % 3, 3)
    z = rng.normal(size=(n, p)) + rng.normal(0.0, 2.0, (3, p))[groups.codes]
    z[:, 4] = groups.codes
    matrix = sparse.csr_array(z)
    _, spectrum = decompose(NoiseFree(InMemory(matrix)), center=0, n_comps=10, variables=1, groups=groups)
    part = replace(em.fit_without_noise(matrix), spectrum=spectrum)
    found = variables.estimates(part.cols.precision, part).shown
    within = spectrum.within
    inside = dense(m_step.alone(within.side).inverse)
    assert not np.delete(inside[4], 4).any()
    expected = partial(2.0 * (n - 3) * inside + (n - 1) * dense(within.across))
    np.fill_diagonal(expected, 0.5)
    np.testing.assert_allclose(dense(found), expected, atol=1e-10)
    assert np.abs(np.delete(dense(found)[4], 4)).sum() > 0.1


def own(x: np.ndarray) -> em.Fit:
    return em.fit(sparse.csr_array(x), own=True)


def test_what_a_graph_of_tested_edges_weighs():
    """What was tested: a ridge, where there is little structure; the estimate with groups is shown, and with named ones weighs."""
    estimates = partial_of(variables.Estimates, along=None)
    for shown, joining, to_test, expected in (
        ("found", "found", ["ridge"], ("ridge", "ridge")),
        ("both", "found", ["ridge", "within"], ("both", "ridge")),
        ("both", "both", ["ridge", "within"], ("both", "both")),
    ):
        found = estimates(shown=shown, joining=joining, to_test=to_test).of_tested()
        assert (found.shown, found.joining, found.to_test) == (*expected, to_test)


@pytest.mark.parametrize("broad", [True, False])
def test_own_groups_are_in_the_estimate_and_in_the_test_and_not_in_the_graph(rng, broad, monkeypatch):
    """Also where a ridge is tested in place of the estimate."""
    monkeypatch.setattr(breadth, "is_broad", lambda *_: broad)
    x = rng.lognormal(rng.normal(0.0, 1.0, (4, 60))[np.arange(400) % 4], 0.5)
    fit, without = own(x), fitted(x, None)
    assert fit.spectrum.within is not None and not fit.spectrum.within.named
    found, joining, (all_samples, within), *_ = variables.estimates(fit.cols.precision, fit)
    other, alone, (also,), *_ = variables.estimates(without.cols.precision, without)
    assert alone is other and (also is other) == (all_samples is joining) == broad
    for one, same in ((all_samples, also), (joining, other)):
        np.testing.assert_array_equal(dense(one), dense(same))
    assert not np.allclose(dense(found), dense(other), atol=0.01)
    assert not np.allclose(dense(within), dense(all_samples), atol=0.01)


@pytest.mark.parametrize(
    ("shape", "found"), [((300, 60), True), ((299, 60), False), ((250, 50), True), ((2000, 49), False)]
)
def test_own_groups_of_many(shape, found, rng):
    """With five rows for a column, and fifty columns."""
    n, p = shape
    x = rng.lognormal(rng.normal(0.0, 1.0, (4, p))[np.arange(n) % 4], 0.5)
    assert (own(x).spectrum.within is not None) == found


def test_no_own_groups_without_structure(rng):
    assert own(rng.lognormal(0.0, 0.5, (300, 60))).spectrum.within is None
