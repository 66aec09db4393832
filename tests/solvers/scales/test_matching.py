"""What distinguishes batches, from rows that match across them."""

import numpy as np
import pytest
from scipy import sparse

from kronax.solvers.rows.groups import Groups
from kronax.solvers.scales import matching


def two_batches(n: int) -> Groups:
    return Groups(np.arange(2 * n) // n, 2)


def pairs_of_all(batches: Groups) -> sparse.csr_array:
    return sparse.csr_array((batches.codes[:, None] != batches.codes).astype(float))


def test_matches_are_mutual_and_between_batches(rng):
    codes = rng.integers(3, size=90)
    embedding = rng.standard_normal((90, 4))
    found = matching.matches(embedding, Groups(codes, 3))
    assert (found != found.T).nnz == 0 and set(found.data) == {1.0}
    row, col = found.tocoo().coords
    assert (codes[row] != codes[col]).all()
    cosines = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    cosines = cosines @ cosines.T
    cosines[codes[:, None] == codes] = -np.inf
    near = np.zeros((90, 90), bool)
    np.put_along_axis(near, np.argsort(-cosines, axis=1)[:, : matching.NEIGHBOURS], True, axis=1)
    near &= cosines > 1e-6
    np.testing.assert_array_equal(found.toarray() > 0, near & near.T)


def test_difference_is_that_of_the_sums():
    """By hand: with all pairs, ρ is the difference of the logarithms of sums, of which the weighted mean is removed."""
    sizes = np.array([[1.0, 2.0, 4.0], [3.0, 2.0, 4.0], [1.0, 4.0, 2.0], [1.0, 4.0, 6.0]])
    batches = two_batches(2)
    found = matching.difference(sparse.csr_array(sizes), pairs_of_all(batches), batches)
    expected = np.log(sizes[:2].sum(0)) - np.log(sizes[2:].sum(0))
    np.testing.assert_allclose(found.logs[0], expected - expected.mean(), atol=1e-12)
    np.testing.assert_allclose(found.logs[1], -found.logs[0], atol=1e-12)
    np.testing.assert_array_equal(found.matched, 1.0)


def test_recovers_the_factors_of_rows_that_match(rng):
    """Batches of different composition: the means of all rows are misleading, those of matching rows are not."""
    n, m = 400, 60
    means = rng.gamma(2.0, size=(2, m))
    kind = np.r_[rng.random(n) < 0.8, rng.random(n) < 0.2].astype(int)
    delta = rng.normal(0.0, 0.3, m)
    batches = two_batches(n)
    sizes = (
        means[kind]
        * rng.gamma(200.0, 1 / 200.0, (2 * n, m))
        * np.exp(np.where(batches.codes[:, None] == 0, delta, 0.0))
    )
    pairs = sparse.csr_array(((batches.codes[:, None] != batches.codes) & (kind[:, None] == kind)).astype(float))
    found = matching.difference(sparse.csr_array(sizes), pairs, batches)
    wanted = delta - delta.mean()
    assert np.abs(found.logs[0] - wanted).max() < 0.05
    by_all = np.log(sizes[:n].mean(0) / sizes[n:].mean(0))
    assert np.abs(by_all - by_all.mean() - wanted).max() > 0.2


def test_errors_are_those_of_repeated_draws(rng):
    """The variance covers what independent draws of both batches show, and is not many times larger."""
    n, m, draws = 100, 30, 200
    batches, pairs = two_batches(n), pairs_of_all(two_batches(n))
    logs, variances = [], []
    for _ in range(draws):
        sizes = sparse.csr_array(rng.poisson(1.0, (2 * n, m)).astype(float))
        found = matching.difference(sizes, pairs, batches)
        logs.append(found.logs[0])
        variances.append(found.variances[0])
    ratio = np.mean(variances) / np.mean(np.square(logs))
    assert 0.9 < ratio < 2.5


def test_columns_and_rows_without_anything_to_compare(rng):
    n = 30
    sizes = rng.gamma(2.0, size=(2 * n, 5))
    sizes[:n, 1] = 0.0
    sizes[:, 2] = 0.0
    batches = two_batches(n)
    found = matching.difference(sparse.csr_array(sizes), pairs_of_all(batches), batches)
    assert np.isinf(found.variances[:, [1, 2]]).all() and (found.logs[:, [1, 2]] == 0).all()
    none = matching.difference(sparse.csr_array(sizes), sparse.csr_array((2 * n, 2 * n)), batches)
    assert (none.logs == 0).all() and np.isinf(none.variances).all() and (none.matched == 0).all()
    estimates, spread = matching.pooled(none.logs, none.variances)
    assert (estimates == 0).all() and (spread == 0).all()


def test_a_single_row_tells_no_deviation(rng):
    batches = Groups(np.r_[0, np.ones(20, int)], 2)
    found = matching.difference(sparse.csr_array(rng.gamma(2.0, size=(21, 6))), pairs_of_all(batches), batches)
    assert np.isinf(found.variances).all()


@pytest.mark.parametrize("tau", [0.0, 0.2, 1.0])
def test_variance_is_found(rng, tau):
    errors = rng.gamma(2.0, 0.02, 5000)
    estimates = rng.normal(0.0, np.sqrt(tau**2 + errors))
    assert np.sqrt(matching.variance(estimates, errors)) == pytest.approx(tau, abs=0.05)


def test_pooling_goes_from_nothing_to_everything(rng):
    estimates = rng.normal(0.0, 0.5, (2, 400))
    exact, spread = matching.pooled(estimates, np.full((2, 400), 1e-9))
    np.testing.assert_allclose(exact, estimates, rtol=1e-6)
    np.testing.assert_allclose(spread, 0.5, rtol=0.1)
    assert (matching.pooled(estimates, np.full((2, 400), 1.0))[0] == 0).all()
