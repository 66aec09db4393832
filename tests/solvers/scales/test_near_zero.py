"""Values that stand for zeros are found whatever the scales, and no ordinary matrix has any."""

import numpy as np
import pytest
from scipy import sparse

from kronax.solvers.scales.near_zero import power_for, stand_for_zero
from kronax.solvers.scales.quotient import quotient

N, P = 120, 90


def counts(rng) -> np.ndarray:
    """Negative binomial counts, two thirds zeros; no row or column of zeros alone."""
    mean = rng.gamma(0.5, 1.0, P) * rng.lognormal(0.0, 0.5, (N, 1))
    x = rng.poisson(rng.gamma(2.0, mean / 2.0)).astype(float)
    x[np.arange(N), np.arange(N) % P] += 1
    return x


def found(x: np.ndarray) -> np.ndarray:
    """Where values were found, in the shape of the matrix."""
    matrix = sparse.csr_array(x)
    free = quotient(matrix)
    data = stand_for_zero(free.matrix, free.dispersion).astype(float)
    return sparse.csr_array((data, matrix.indices, matrix.indptr), matrix.shape).toarray() > 0


SMALL = {
    "a few, log-uniform": lambda x, rng: (rng.random(x.shape) < 0.05, 10 ** rng.uniform(-6, -2, x.shape)),
    "many, log-uniform": lambda x, rng: (rng.random(x.shape) < 0.4, 10 ** rng.uniform(-6, -2, x.shape)),
    "pseudocount": lambda x, rng: (np.ones(x.shape, bool), np.full(x.shape, 1e-6)),
    "posterior means": lambda x, rng: (np.ones(x.shape, bool), rng.gamma(0.1, 0.01, x.shape)),
}


@pytest.mark.parametrize("kind", SMALL)
def test_small_values_where_counts_have_zeros(kind, rng):
    x = counts(rng)
    chosen, values = SMALL[kind](x, rng)
    planted = chosen & (x == 0)
    y = np.where(planted, values, x)
    left_out = found(y)
    assert left_out[y != 0].sum() > 0.9 * planted.sum()
    assert left_out[x != 0].mean() < 0.1  # the faintest counts are as faint
    rest = np.where(left_out, 0.0, y)
    assert rest.any(0).all() and rest.any(1).all()
    alone = power_for(quotient(sparse.csr_array(x)).dispersion)
    assert power_for(quotient(sparse.csr_array(y)).dispersion) < 0.5 * alone
    assert power_for(quotient(sparse.csr_array(rest)).dispersion) > 0.75 * alone


def test_values_as_large_as_the_others_stand_for_nothing_else(rng):
    """However many there are: a hundredth of a per cent of them has a hundredth of a per cent of the energy."""
    planted = rng.random((N, P)) < 0.3
    np.testing.assert_array_equal(found(np.where(planted, 1e-6, 1.0)), planted)


def test_scales_do_not_matter(rng):
    x = counts(rng)
    x[(x == 0) & (rng.random(x.shape) < 0.3)] = 1e-4
    expected = found(x)
    assert expected.any()
    np.testing.assert_array_equal(found(rng.lognormal(0.0, 3.0, (N, 1)) * x * rng.lognormal(0.0, 3.0, P)), expected)


ORDINARY = {
    "counts": counts,
    "log-normalised": lambda rng: np.log1p(counts(rng)),
    "counts and 1": lambda rng: counts(rng) + 1,
    "sizes of Gaussian values": lambda rng: np.abs(rng.normal(size=(N, P))),
    "sizes, with zeros": lambda rng: np.abs(rng.normal(size=(N, P))) * (rng.random((N, P)) < 0.3) + np.eye(N, P),
    "a broad distribution": lambda rng: rng.lognormal(0.0, 2.0, (N, P)),
    "broad, with zeros": lambda rng: rng.lognormal(0.0, 2.5, (N, P)) * (counts(rng) > 0),
    "heavy tails": lambda rng: np.abs(rng.standard_cauchy((N, P))),
}


@pytest.mark.parametrize("kind", ORDINARY)
def test_ordinary_values_are_all_kept(kind, rng):
    x = ORDINARY[kind](rng)
    x[x.sum(1) == 0, 0] = 1.0
    assert not found(x[:, x.any(0)]).any()


def test_few_columns_may_be_of_two_kinds(rng):
    """Four hashtags, one of them a hundred times the others in every cell: the background are counts."""
    x = (
        rng.poisson(np.where(np.arange(4) == np.arange(N)[:, None] % 4, 3000.0, 4.0) * rng.lognormal(0.0, 1.0, (N, 1)))
        + 1.0
    )
    matrix = sparse.csr_array(x)
    assert quotient(matrix).dispersion > 1.0
    assert not found(x).any()
