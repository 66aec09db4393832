"""Normal scores: ranks and nothing but ranks."""

import numpy as np
from scipy import sparse, stats

from kronax.solvers.medmagma.nonparanormal import normal_scores

N, M = 30, 6


def data(rng) -> np.ndarray:
    return rng.poisson(1.0, (N, M)) * rng.normal(1.0, 1.0, (N, M)).round(1)


def test_differ_from_scores_of_dense_ranks_by_a_constant(rng):
    x = data(rng)
    scores = stats.norm.ppf(stats.rankdata(x, axis=0) / (N + 1))
    found = normal_scores(sparse.csr_array(x)).toarray()
    np.testing.assert_allclose(found - found.mean(0), scores - scores.mean(0), atol=1e-12)
    np.testing.assert_array_equal(found[x == 0], 0.0)


def test_increasing_functions_of_a_column_change_nothing(rng):
    x = data(rng)
    one, other = (normal_scores(sparse.csr_array(values)).toarray() for values in (x, np.sinh(x)))
    np.testing.assert_array_equal(one, other)


def test_columns_without_zeros(rng):
    x = rng.normal(size=(N, M)) + 10.0
    found = normal_scores(sparse.csr_array(x)).toarray()
    np.testing.assert_allclose(found, stats.norm.ppf(stats.rankdata(x, axis=0) / (N + 1)), atol=1e-12)
