"""The precision of the variables with groups of samples: within them and across."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from scipy import sparse

from kronax.solvers import device
from kronax.solvers.gaussian import breadth, m_step, own_groups
from kronax.solvers.gaussian.precision import Inverse, LowRank, Partial, dense
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


def test_a_ridge_is_tested_within_groups(rng):
    groups = Groups(np.arange(120) % 3, 3)
    fit = fitted(rng.lognormal(rng.normal(0.0, 1.0, (3, 40))[groups.codes], 0.5), groups)
    within = fit.spectrum.within
    size = breadth.linear_ridge(within.side)
    ridge = without_scale_errors(breadth.ridge(within.side, size).inverse, fit.margins.mean, within.units)
    found = variables.estimates(fit.cols.precision, fit)
    assert found.joining is found.shown and found.named and found.spreads is within.spreads
    np.testing.assert_allclose(dense(found.tested), dense(Partial(ridge)), atol=1e-10)
    assert not np.allclose(dense(found.shown), dense(found.tested))


@pytest.mark.parametrize("n_still", [0, 5])
def test_the_ridge_takes_no_eigenvectors_where_nothing_else_does(n_still, rng, monkeypatch):
    """It is the same, also with variables that do not vary within groups: their scales have no errors."""
    monkeypatch.setattr(own_groups, "_SMALLEST", 5)
    types = np.arange(200) % 4
    z = rng.normal(rng.normal(0.0, 2.0, (4, 60))[types], 1.0) + 5.0
    z[:, -1] += z[:, -2]
    z[:, :n_still] = 2.0 + np.arange(n_still) + types[:, None]
    with jax.enable_x64(True):
        groups = lambda *_: Groups(types, 4)
        rows = NoiseFree(InMemory(sparse.csr_array(z)))
        _, spectrum = decompose(rows, center=0, n_comps=50, variables=1, groups=groups)
    precision, means = m_step.alone(spectrum.of_cols()), z.mean(axis=0)
    with device.counted() as tally:
        _, _, found, _ = variables._of_samples(precision, spectrum, means)
    assert tally.on_host == 1  # the inverse
    without = replace(spectrum, within=replace(spectrum.within, gram=None))
    _, _, expected, _ = variables._of_samples(precision, without, means)
    assert isinstance(expected.inverse, LowRank)
    np.testing.assert_allclose(dense(found), dense(expected), atol=1e-9)
    assert np.argmax(np.abs(np.triu(dense(found), 1))) == 58 * 60 + 59
    assert not np.triu(dense(found)[:n_still], 1).any()


@pytest.mark.parametrize("noise", [1e-5, 0.1])
def test_a_ridge_that_rounding_would_reach_takes_eigenvectors(noise, rng):
    """Of variables that vary by a hundred-thousandth of their means, second moments are rounding along most directions."""
    types = np.arange(280) % 4
    z = (1.0 + types[:, None]) * (1.0 + noise * (rng.normal(size=(280, 1)) + 1e-4 * rng.normal(size=(280, 60))))
    with jax.enable_x64(True):
        rows = NoiseFree(InMemory(sparse.csr_array(z)))
        _, spectrum = decompose(rows, center=0, n_comps=50, variables=1, groups=lambda *_: Groups(types, 4))
    found = variables._ridge_alone(spectrum.within)
    assert isinstance(found.inverse, Inverse) == (noise > 0.01)
    before = dense(found).copy()
    assert np.isfinite(before).all()
    np.testing.assert_array_equal(dense(found), before)  # what is held is not changed


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
    """What was tested, or would be without groups; the estimate with groups is shown, and with named ones weighs."""
    for shown, joining, of_all, named, expected in (
        ("found", "found", None, False, ("tested", "tested")),
        ("found", "found", "all", False, ("all", "all")),
        ("both", "found", "all", False, ("both", "all")),
        ("both", "both", "all", True, ("both", "both")),
    ):
        found = variables.Estimates(shown, joining, "tested", None, of_all=of_all, named=named).of_tested()
        assert (found.shown, found.joining, found.tested) == (*expected, "tested")


@pytest.mark.parametrize("broad", [True, False])
@pytest.mark.parametrize("n", [400, 200, 50])
def test_own_groups_are_in_the_test_and_not_in_the_graph(rng, n, broad, monkeypatch):
    """And with five rows for a column in the estimate. Also where a ridge is tested in all samples in place of the estimate."""
    monkeypatch.setattr(breadth, "is_broad", lambda *_: broad)
    monkeypatch.setattr(own_groups, "_SMALLEST", 5)
    x = rng.lognormal(rng.normal(0.0, 1.0, (4, 60))[np.arange(n) % 4], 0.5)
    fit, without = own(x), fitted(x, None)
    assert fit.spectrum.within is not None and not fit.spectrum.within.named
    found, other = (variables.estimates(one.cols.precision, one) for one in (fit, without))
    assert other.joining is other.shown and (other.tested is other.shown) == (found.of_all is found.joining) == broad
    assert found.spreads is fit.spectrum.within.spreads and other.spreads is other.of_all is None
    np.testing.assert_array_equal(dense(found.joining), dense(other.joining))
    np.testing.assert_array_equal(dense(found.of_all), dense(other.tested))
    assert (found.shown is found.joining) == (n < 300)
    assert (n < 300) == np.allclose(dense(found.shown), dense(other.shown), atol=0.01)
    assert not np.allclose(dense(found.tested), dense(found.of_all), atol=0.01)


@pytest.mark.parametrize(
    ("shape", "found"), [((250, 50), True), ((2000, 49), False), ((200, 300), True), ((300, 200), True)]
)
def test_own_groups_of_many(shape, found, rng):
    """With fifty columns; the rows are the samples, whichever there are more of."""
    n, p = shape
    types = np.arange(n) % 4
    fit = own(rng.lognormal(rng.normal(0.0, 1.0, (4, p))[types], 0.5))
    within = fit.spectrum.within
    assert (within is not None) == found
    if found:
        assert within.shape == shape and within.spreads.shape == (p, len(within.between))


def test_no_own_groups_without_structure(rng):
    assert own(rng.lognormal(0.0, 0.5, (300, 60))).spectrum.within is None
