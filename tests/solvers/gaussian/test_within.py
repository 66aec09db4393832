"""Deviations from the means of groups, by second moments and as they are."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from kronax.solvers import device
from kronax.solvers.gaussian import breadth, m_step, spectral
from kronax.solvers.gaussian import within as moments
from kronax.solvers.gaussian.precision import dense
from kronax.solvers.gaussian.scale_errors import without_scale_errors
from kronax.solvers.gaussian.within import Within
from kronax.solvers.rows.groups import Groups
from kronax.solvers.rows.noise_free import Factors, NoiseFree
from kronax.solvers.rows.on_devices import spread
from kronax.solvers.rows.rows import InMemory

N, M = 90, 40
N_GROUPS = 4


def groups_of(n: int, rng) -> Groups:
    """Groups of unequal sizes, in random order."""
    return Groups(rng.permuted(np.minimum(np.arange(n) // 7, N_GROUPS - 1)), N_GROUPS)


def within(z: np.ndarray, groups: Groups, variables: int, factors: Factors = Factors()) -> Within:
    rows = NoiseFree(spread(InMemory(sparse.csr_array(z))), factors)
    _, found = spectral.decompose(rows, center=1 - variables, n_comps=50, variables=variables, groups=groups)
    return found.within


def square(found: Within) -> np.ndarray:
    vectors = found.side.vectors.array()
    return (vectors * found.side.eigenvalues) @ vectors.T


def both_sides(found: Within) -> np.ndarray:
    return dense(found.summed(m_step.alone(found.side).inverse, found.across))


def expected(z: np.ndarray, groups: Groups) -> np.ndarray:
    """Second moments of the columns, whose deviations have equal variance."""
    means = np.stack([z[groups.codes == g].mean(axis=0) for g in range(groups.n)])
    deviations = z - means[groups.codes]
    deviations[:, np.linalg.norm(deviations, axis=0) < 1e-9] = 0.0
    size = np.sqrt((deviations**2).sum(axis=0) / (len(z) - groups.n))
    deviations = np.divide(deviations, size, out=np.zeros_like(deviations), where=size > 0)
    return deviations.T @ deviations


def drawn(n_samples: int, n_variables: int, groups: Groups, rng) -> np.ndarray:
    """Columns of different units and means, most of which differ between groups; one does so alone."""
    z = rng.normal(size=(n_samples, n_variables)) @ rng.normal(size=(n_variables, n_variables))
    z += rng.normal(0.0, 5.0, (groups.n, n_variables))[groups.codes]
    z[:, 7] = 1.0 + groups.codes
    return z * rng.lognormal(size=n_variables)


@pytest.fixture(params=[1, 0], ids=["columns", "rows"])
def variables(request) -> int:
    """The axis of the variables."""
    return request.param


@pytest.fixture
def case(variables, rng) -> tuple[np.ndarray, Groups]:
    """A tall matrix whose columns, or rows, are the variables, seen as samples × variables, and the groups of the samples."""
    n_samples = N if variables else M
    groups = groups_of(n_samples, rng)
    return drawn(n_samples, N + M - n_samples, groups, rng), groups


def oriented(z: np.ndarray, variables: int) -> np.ndarray:
    return z if variables else z.T


@pytest.mark.parametrize("on", ["cpu", "gpu"])
def test_moments_are_those_of_the_deviations(case, variables, on, x64):
    z, groups = case
    with device.as_if_on(on):
        found = within(oriented(z, variables), groups, variables)
        np.testing.assert_allclose(square(found), expected(z, groups), atol=1e-8)
    assert (found.side.dim, found.side.n_samples) == (z.shape[1], len(z) - N_GROUPS)
    assert found.side.eigenvalues.sum() == pytest.approx((z.shape[1] - 1) * found.side.n_samples)
    np.testing.assert_array_equal(np.flatnonzero(found.side.vectors.still), [7])
    assert found.units[7] == pytest.approx(oriented(z, 1)[:, 7].std(ddof=1))
    vectors = found.side.vectors.array()
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(vectors.shape[1]), atol=1e-8)


def test_spreads_are_the_variances_in_every_group(case, variables):
    """Eq. 24, in any unit; of a variable that does not vary, as if they were equal."""
    z, groups = case
    found = within(oriented(z, variables), groups, variables).spreads
    shares = groups.sizes / len(z)
    variances = np.stack([z[groups.codes == g].var(axis=0) for g in range(groups.n)], axis=1)
    expected = np.sqrt(shares) * variances / (variances @ shares)[:, None]
    expected[7] = np.sqrt(shares)
    np.testing.assert_allclose(np.delete(found, 7, axis=0), np.delete(expected, 7, axis=0), rtol=1e-6)


def test_between_groups_is_the_rest(case, variables):
    """Second moments within groups and those between them are those of the deviations from the mean."""
    z, groups = case
    found = within(oriented(z, variables), groups, variables)
    deviations = (z - z.mean(axis=0)) / found.units
    both = square(found) + found.between.T @ found.between
    np.testing.assert_allclose(both, deviations.T @ deviations, atol=1e-7)


def test_both_sides_of_the_groups(case, variables):
    """Eq. 20."""
    z, groups = case
    found = within(oriented(z, variables), groups, variables)
    mean = np.trace(expected(z, groups)) / z.shape[1]
    across = np.linalg.inv(mean * np.eye(z.shape[1]) + found.between.T @ found.between)
    np.testing.assert_allclose(dense(found.across), across, atol=1e-9 * across.max())
    inside = dense(m_step.alone(found.side).inverse)
    both = 2.0 * (len(z) - N_GROUPS) * inside + (len(z) - 1) * across
    got = both_sides(found)
    np.testing.assert_allclose(got, both, rtol=1e-7, atol=1e-9 * np.abs(both).max())
    assert np.linalg.eigvalsh(got)[0] > 0


@pytest.mark.parametrize("n_alike", [0, 3])
def test_of_many_columns_in_single_precision(rng, n_alike, monkeypatch):
    """Partial correlations are the same within 1e-5, also where columns are multiples of others."""
    groups = groups_of(300, rng)
    z = rng.normal(size=(300, M)) @ (np.eye(M) + 0.1 * rng.normal(size=(M, M)))
    z += rng.normal(0.0, 5.0, (N_GROUPS, M))[groups.codes]
    z[:, M - n_alike :] = 2.0 * z[:, :n_alike]
    found = []
    for limit in (M + 1, M):
        monkeypatch.setattr(moments, "SINGLE", limit)
        found.append(within(z, groups, 1))
        assert len(found[-1].side.eigenvalues) == M - n_alike  # solved while the limit holds
    double, single = found
    assert (double.side.vectors.array().dtype, single.side.vectors.array().dtype) == (np.float64, np.float32)
    for of in (m_step.alone, lambda side: breadth.ridge(side, breadth.linear_ridge(side))):
        one, other = (dense(of(some.side)) for some in found)
        assert one.dtype == other.dtype == np.float64
        np.testing.assert_allclose(other, one, rtol=0, atol=1e-5)
    np.testing.assert_allclose(both_sides(single), both_sides(double), rtol=0, atol=1e-5 * both_sides(double).max())


def test_units_of_variables_do_not_matter(case, variables, rng):
    """Neither to what is found within groups nor to what is between them."""
    z, groups = case
    one, other = (
        within(oriented(values, variables), groups, variables) for values in (z, z * rng.lognormal(size=z.shape[1]))
    )
    np.testing.assert_allclose(one.between, other.between, atol=1e-9)
    np.testing.assert_allclose(both_sides(one), both_sides(other), rtol=1e-6, atol=1e-9 * both_sides(one).max())


def test_means_of_groups_do_not_matter(case, variables, rng):
    z, groups = case
    other = z + rng.normal(0.0, 3.0, (N_GROUPS, z.shape[1]))[groups.codes]
    one, two = (square(within(oriented(values, variables), groups, variables)) for values in (z, other))
    np.testing.assert_allclose(one, two, atol=1e-8)


def test_numbers_of_groups_do_not_matter(case, variables):
    z, groups = case
    other = Groups(np.array([2, 0, 3, 1])[groups.codes], N_GROUPS)
    one, two = (both_sides(within(oriented(z, variables), names, variables)) for names in (groups, other))
    np.testing.assert_allclose(one, two, atol=1e-9 * one.max())


def test_one_group_is_all_samples(case, variables):
    z = oriented(np.delete(case[0], 7, axis=1), variables)
    rows, groups = NoiseFree(InMemory(sparse.csr_array(z))), Groups(np.zeros(len(case[0]), int), 1)
    _, found = spectral.decompose(rows, center=1 - variables, n_comps=50, variables=variables, groups=groups)
    side = found.of_cols() if variables else found.of_rows()
    n = len(case[0])
    np.testing.assert_allclose(found.within.side.eigenvalues, side.eigenvalues * (n - 1) / n, rtol=1e-9)
    np.testing.assert_allclose(found.within.units, found.units * (n / (n - 1)) ** 0.5, rtol=1e-9)
    assert (found.within.side.dim, found.within.side.n_samples) == (side.dim, side.n_samples)
    np.testing.assert_allclose(found.within.between, 0.0, atol=1e-9)
    inverse, mean = dense(m_step.alone(side).inverse), found.within.side.eigenvalues.sum() / side.dim
    both = 2.0 * n * inverse + (n - 1) / mean * np.eye(len(inverse))
    np.testing.assert_allclose(both_sides(found.within), both, rtol=1e-7, atol=1e-9 * both.max())


def test_factors(case, variables, rng):
    """``Z`` is never held; in a transposed spectrum, its variables are the same."""
    z, groups = np.abs(case[0]), case[1]
    y = oriented(z, variables)
    factors = Factors(rng.uniform(0.5, 2.0, y.shape[1]))
    behind = NoiseFree(InMemory(sparse.csr_array(y)), factors).held().toarray()
    found = within(y, groups, variables, factors)
    np.testing.assert_allclose(square(found), expected(oriented(behind, variables), groups), atol=1e-8)


def alike(groups: Groups, p: int) -> np.ndarray:
    """Samples of three groups, within which they differ by factors alone."""
    z = np.array([[1.0, 2.0], [2.0, 1.0], [4.0, 3.0]])[groups.codes] @ np.ones((2, p))
    return z * np.arange(1, p + 1) ** groups.codes[:, None]


def test_refuses_groups_within_which_nothing_varies(variables):
    groups = Groups(np.arange(N if variables else M) % 3, 3)
    with pytest.raises(ValueError, match="Nothing varies within groups"):
        within(oriented(alike(groups, N + M - len(groups.codes)), variables), groups, variables)


@pytest.mark.parametrize("noise", [0.0, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5])
def test_groups_that_are_found_may_have_nothing_within(noise, rng):
    """All rounding and nearly so: then there are none."""
    groups = Groups(np.arange(120) % 3, 3)
    z = alike(groups, 30) * (1.0 + noise * rng.normal(size=(120, 30)))
    rows = NoiseFree(InMemory(sparse.csr_array(z)))
    _, found = spectral.decompose(rows, center=0, n_comps=50, variables=1, groups=lambda *_: groups)
    if noise <= 1e-9:
        assert found.within is None
    elif noise >= 1e-5:
        assert not found.within.named and len(found.within.side.eigenvalues) > 0


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e6])
def test_a_constant_variable_is_not_between_groups_either(size, rng):
    """The means of unequal groups differ by rounding."""
    groups = Groups(rng.permuted(np.minimum(np.arange(400) // 37, 6)), 7)
    z = rng.normal(size=(400, 12)) + groups.codes[:, None]
    z[:, 5] = size / 3.0
    found = within(z, groups, 1)
    assert not found.between[:, 5].any() and found.between[:, 4].all()
    assert not np.delete(both_sides(found)[5], 5).any()


def test_many_samples_tell_the_covariances(rng):
    """With hardly anything to shrink, the sum is that of the inverses of two covariances, in units of equal variance within groups.

    Of that within groups, twice, and of that of all samples if variables did not depend on each other within groups.
    """
    n, p = 20_000, 8
    groups = Groups(np.arange(n) % 3, 3)
    mixed = rng.normal(size=(p, p)) + 2.0 * np.eye(p)
    means = rng.normal(0.0, 2.0, (3, p))
    z = rng.normal(size=(n, p)) @ mixed + means[groups.codes]
    inside, between = mixed.T @ mixed, np.cov(means.T, bias=True)
    sd = np.sqrt(np.diag(inside))
    across = np.linalg.inv(np.eye(p) + between / sd / sd[:, None])
    expected = 2.0 * sd * np.linalg.inv(inside) * sd[:, None] + across
    np.testing.assert_allclose(both_sides(within(z, groups, 1)), expected, atol=0.03 * np.abs(expected).max())


def test_groups_of_equal_means(rng):
    """Nothing is known across them."""
    z = rng.normal(size=(60, 10))
    groups, z = Groups(np.repeat([0, 1], 60), 2), np.vstack([z, z])
    found = within(z, groups, 1)
    mean = found.side.eigenvalues.sum() / 10
    np.testing.assert_allclose(dense(found.across), np.eye(10) / mean, atol=1e-9 / mean)
    across = replace(found, between=np.zeros((2, 10))).across
    for nothing in (across, without_scale_errors(across, np.ones(10), np.ones(10))):
        np.testing.assert_allclose(dense(nothing), np.eye(10) / mean, atol=1e-9 / mean)


@pytest.mark.parametrize("copies", [1, 4])
def test_what_finds_groups_is_told_how_many_samples_are_independent(copies, rng):
    told = []
    z = np.repeat(rng.normal(size=(120, 60)), copies, axis=0) + 5.0
    rows = NoiseFree(InMemory(sparse.csr_array(z)))
    options = {"center": 0, "n_comps": 50, "variables": 1, "groups": lambda *arguments: told.append(arguments)}
    _, found = spectral.decompose(rows, **options)
    ((coordinates, _, independent),) = told
    assert len(coordinates) == len(z) and found.within is None
    assert independent == found.independent and (independent < 0.5) == (copies > 1)
