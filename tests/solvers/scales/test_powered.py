"""The power of a matrix and a start for its scales, from all rows or from a sample."""

import numpy as np
import pytest
from scipy import sparse

from kronax.solvers.rows.noise_free import Factors, NoiseFree
from kronax.solvers.scales.powered import Powered, powered
from kronax.solvers.scales.quotient import quotient
from kronax.solvers.scales.sinkhorn import scale

N, M = 600, 80


def counts(rng, n: int = N, m: int = M) -> np.ndarray:
    """Negative binomial counts of genes of all sizes, most of them zeros."""
    mean = 2.0 * rng.gamma(0.5, 1.0, m) * rng.lognormal(0.0, 0.8, (n, 1))
    x = rng.poisson(rng.gamma(2.0, mean / 2.0)).astype(float)
    i = np.arange(n)
    x[i, i % m] += 1
    return x


def noise_free(found: Powered) -> np.ndarray:
    return NoiseFree(found.rows, Factors(scale(found.rows, 1e-9).cols)).held().toarray()


def back(found: Powered) -> np.ndarray:
    """``X``, from what is said of it."""
    dense, factors = found.rows.matrix.toarray(), np.exp(found.log_rows[:, None] + found.log_cols)
    return np.sign(dense) * factors * np.abs(dense) ** (1.0 / found.tails.power)


@pytest.mark.parametrize("sample", [N, N + 1, 10**6])
def test_a_sample_of_all_rows_is_the_whole(sample, rng):
    x = sparse.csr_array(counts(rng))
    found, free = powered(x, None, sample), quotient(x)
    assert found.tails.n_sampled == N and found.tails.dispersion == free.dispersion
    np.testing.assert_array_equal(found.log_rows, free.log_rows)
    np.testing.assert_array_equal(found.log_cols, free.log_cols)
    np.testing.assert_allclose(found.rows.matrix.toarray(), free.matrix.toarray() ** found.tails.power, rtol=1e-14)


@pytest.mark.parametrize("sample", [N, 100])
@pytest.mark.parametrize("power", [None, 0.4])
def test_factors_and_power_give_the_matrix_back(sample, power, rng):
    for x in (counts(rng), counts(rng) * rng.choice([-1.0, 1.0], (N, M))):
        found = powered(sparse.csr_array(x), power, sample)
        np.testing.assert_allclose(back(found), x, rtol=1e-10)
        assert found.tails.n_near_zero == 0
    assert found.tails.power == (1.0 if power is None else 0.4)  # signed


@pytest.mark.parametrize("sample", [300, 100])
def test_power_of_a_sample(sample, rng):
    """Within 2% of that of the whole; rows are taken at a fixed distance."""
    x = counts(rng)
    whole, some = (powered(sparse.csr_array(x), None, count) for count in (N, sample))
    assert whole.tails.power < 1.0
    assert some.tails.power == pytest.approx(whole.tails.power, rel=0.02)
    assert some.tails.n_sampled == sample
    rows = powered(sparse.csr_array(x[:: N // sample][:, x[:: N // sample].any(0)]), None)
    assert (some.tails.power, some.tails.dispersion) == (rows.tails.power, rows.tails.dispersion)


@pytest.mark.parametrize("sample", [599, 250, 7])
def test_no_more_rows_than_asked_for(sample, rng):
    assert 0 < powered(sparse.csr_array(counts(rng)), 1.0, sample).tails.n_sampled <= sample


@pytest.mark.parametrize("power", [1.0, 0.5])
@pytest.mark.parametrize("sample", [100, 3])
def test_of_a_given_power_the_sample_leaves_z(power, sample, rng):
    """Factors of rows and columns do not matter to it, however rough they are."""
    x = sparse.csr_array(counts(rng))
    whole, some = (noise_free(powered(x, power, count)) for count in (N, sample))
    np.testing.assert_allclose(some, whole, rtol=1e-7)


def test_columns_that_the_sample_has_not_seen(rng):
    x = counts(rng)
    x[:, 5] = 0.0
    x[[1, 2, 3, 301], 5] = 4.0  # every sixth row is looked at
    found, whole = (powered(sparse.csr_array(x), 0.5, sample) for sample in (100, N))
    np.testing.assert_allclose(back(found), x, rtol=1e-10)
    np.testing.assert_allclose(noise_free(found), noise_free(whole), rtol=1e-7)


def test_scales_do_not_matter(rng):
    x = counts(rng)
    noisy = rng.lognormal(0.0, 2.0, (N, 1)) * x * rng.lognormal(0.0, 2.0, M)
    one, other = (powered(sparse.csr_array(values), None, 100) for values in (x, noisy))
    assert other.tails.power == pytest.approx(one.tails.power, rel=1e-9)
    np.testing.assert_allclose(noise_free(other), noise_free(one), rtol=1e-7)


@pytest.mark.parametrize("sample", [N, 100])
@pytest.mark.parametrize("factor", [1e-200, 1e200])
def test_unit_does_not_matter(factor, sample, rng):
    """Not even where its square is no float64."""
    x = counts(rng)
    one, other = (powered(sparse.csr_array(values), 1.0, sample) for values in (x, x * factor))
    np.testing.assert_allclose(noise_free(other), noise_free(one), rtol=1e-7)
    np.testing.assert_allclose(back(other) / factor, x, rtol=1e-9)


def test_values_that_stand_for_zeros_in_the_sample_lead_to_the_whole(rng):
    """All of them have to be found, and not only those of the sample."""
    x = counts(rng)
    small = (x == 0) & (rng.random(x.shape) < 0.3)
    x[small] = 10 ** rng.uniform(-6, -4, small.sum())
    some, whole = (powered(sparse.csr_array(x), None, sample) for sample in (100, N))
    assert some.tails.n_near_zero == whole.tails.n_near_zero > 0.9 * small.sum()
    assert some.tails.power == whole.tails.power > 0.4
    assert some.tails.n_sampled == N
    np.testing.assert_array_equal(some.rows.matrix.toarray(), whole.rows.matrix.toarray())


def test_the_matrix_stays(rng):
    x = sparse.csr_array(counts(rng))
    before = x.copy()
    for sample in (N, 100):
        powered(x, None, sample)
        for part in ("data", "indices", "indptr"):
            np.testing.assert_array_equal(getattr(x, part), getattr(before, part))
