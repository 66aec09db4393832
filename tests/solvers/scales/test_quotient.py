"""The quotient is what row and column scales cannot change."""

import sys

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import sparse

from kronax.solvers.scales.quotient import pattern_counts, quotient

N, M = 40, 30


def matrix(rng, n: int = N, m: int = M, density: float = 0.3) -> np.ndarray:
    """Signed, heavy-tailed, with zeros, but in no row and no column only zeros."""
    x = rng.lognormal(0.0, 1.0, (n, m)) * rng.choice([-1.0, 1.0], (n, m)) * (rng.random((n, m)) < density)
    i = np.arange(max(n, m))
    x[i % n, i % m] = 1.5
    return x


def two_islands(rng) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A matrix whose pattern falls into two blocks, shuffled, and the block of every row and of every column."""
    x = np.zeros((N, M))
    x[:25, :12] = matrix(rng, 25, 12)
    x[25:, 12:] = matrix(rng, 15, 18)
    rows, cols = rng.permutation(N), rng.permutation(M)
    return x[rows][:, cols], rows >= 25, cols >= 12


def factors(rng, size: int, kind: str) -> np.ndarray:
    if kind == "log-normal":
        return rng.lognormal(0.0, 1.5, size)
    return rng.permutation(np.logspace(-6, 6, size))


def test_pattern_counts(rng):
    x = matrix(rng)
    rows, cols = pattern_counts(sparse.csr_array(x))
    np.testing.assert_array_equal(rows, (x != 0).sum(1))
    np.testing.assert_array_equal(cols, (x != 0).sum(0))
    assert rows.dtype == cols.dtype == np.float64


@pytest.mark.parametrize("kind", ["log-normal", "extreme"])
@pytest.mark.parametrize("pattern", ["zeros", "no zeros", "two islands"])
def test_invariant_to_scales_of_rows_and_columns(kind, pattern, rng):
    x = two_islands(rng)[0] if pattern == "two islands" else matrix(rng, density=1.0 if pattern == "no zeros" else 0.3)
    r, c = factors(rng, N, kind), factors(rng, M, kind)
    clean = quotient(sparse.csr_array(x))
    noisy = quotient(sparse.csr_array(r[:, None] * x * c))
    np.testing.assert_allclose(noisy.matrix.toarray(), clean.matrix.toarray(), rtol=1e-10)
    np.testing.assert_allclose(noisy.dispersion, clean.dispersion, rtol=1e-10)


@hypothesis.settings(max_examples=30)
@hypothesis.given(
    x=arrays(np.float64, (6, 5), elements=st.one_of(st.just(0.0), st.floats(1e-3, 1e3), st.floats(-1e3, -1e-3))),
    log_r=arrays(np.float64, 6, elements=st.floats(-10, 10)),
    log_c=arrays(np.float64, 5, elements=st.floats(-10, 10)),
)
def test_invariant_whatever_the_matrix(x, log_r, log_c):
    x[np.arange(6), np.arange(6) % 5] = 2.0  # no empty row or column; the rest is free, islands included
    clean = quotient(sparse.csr_array(x)).matrix
    noisy = quotient(sparse.csr_array(np.exp(log_r)[:, None] * x * np.exp(log_c))).matrix
    np.testing.assert_allclose(noisy.toarray(), clean.toarray(), rtol=1e-10)


def test_zeros_and_signs_stay(rng):
    x = matrix(rng)
    np.testing.assert_array_equal(np.sign(quotient(sparse.csr_array(x)).matrix.toarray()), np.sign(x))


def test_input_stays(rng):
    x = sparse.csr_array(matrix(rng))
    before = x.copy()
    quotient(x)
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(x, part), getattr(before, part))


def test_without_zeros_it_is_double_centring(rng):
    x = matrix(rng, density=1.0)
    logs = np.log(np.abs(x))
    centred = logs - logs.mean(1, keepdims=True) - logs.mean(0) + logs.mean()
    found = quotient(sparse.csr_array(x))
    np.testing.assert_allclose(found.matrix.toarray(), np.sign(x) * np.exp(centred), rtol=1e-10)


@pytest.mark.parametrize("islands", [False, True])
def test_is_the_least_squares_fit(islands, rng):
    x = two_islands(rng)[0] if islands else matrix(rng)
    rows, cols = np.nonzero(x)
    design = np.hstack([np.eye(N)[rows], np.eye(M)[cols]])  # L_ij = α_i + β_j, one line for every entry
    logs = np.log(np.abs(x[rows, cols]))
    residual = logs - design @ np.linalg.lstsq(design, logs)[0]
    found = quotient(sparse.csr_array(x))
    np.testing.assert_allclose(np.log(np.abs(found.matrix.toarray()[rows, cols])), residual, rtol=0, atol=1e-11)
    np.testing.assert_allclose(found.dispersion, np.sqrt(np.mean(residual**2)), rtol=1e-11)


@pytest.mark.parametrize("islands", [False, True])
def test_scales_give_the_matrix_back(islands, rng):
    x = two_islands(rng)[0] if islands else matrix(rng)
    found = quotient(sparse.csr_array(x))
    back = np.exp(found.log_rows[:, None] + found.log_cols) * found.matrix.toarray()
    np.testing.assert_allclose(back, x, rtol=1e-12)


def test_column_scales_average_to_0_on_every_island(rng):
    x, row_island, col_island = two_islands(rng)
    assert not x[row_island][:, ~col_island].any()
    beta = quotient(sparse.csr_array(x)).log_cols
    counts = (x != 0).sum(0)
    assert np.abs(beta).max() > 0.1
    for island in (col_island, ~col_island):
        assert abs(np.average(beta[island], weights=counts[island])) < 1e-12


def test_nothing_is_left_of_a_matrix_of_rank_one(rng):
    r, c = rng.lognormal(0.0, 1.5, N), rng.lognormal(0.0, 1.5, M)
    full = quotient(sparse.csr_array(np.outer(r, c)))
    np.testing.assert_allclose(full.matrix.toarray(), 1.0, rtol=1e-12)
    assert full.dispersion < 1e-12
    pattern = matrix(rng) != 0
    part = quotient(sparse.csr_array(np.outer(r, c) * pattern))
    np.testing.assert_allclose(part.matrix.toarray(), pattern, rtol=1e-12)


def test_a_tree_leaves_nothing(rng):
    # as many entries as rows and columns less one: every value can be explained by scales alone
    x = np.zeros((N, M))
    x[:, 0] = rng.lognormal(0.0, 1.5, N)
    x[0] = rng.lognormal(0.0, 1.5, M)
    np.testing.assert_allclose(quotient(sparse.csr_array(x)).matrix.data, 1.0, rtol=1e-10)


@pytest.mark.parametrize("steps", [1, 3])
def test_residual_is_the_largest_mean_of_a_column(steps, rng, monkeypatch):
    """Of the logarithms, and where the iteration ends early; rows have none."""
    monkeypatch.setattr(sys.modules[quotient.__module__], "_STEPS", steps)
    x = matrix(rng)
    found = quotient(sparse.csr_array(x))
    with np.errstate(divide="ignore"):
        logs = np.log(np.abs(found.matrix.toarray()))
    means = [np.mean(logs, axis=axis, where=x != 0) for axis in (0, 1)]
    assert found.residual > 1e-6
    np.testing.assert_allclose([found.residual, 0.0], [np.abs(mean).max() for mean in means], rtol=1e-9, atol=1e-12)


def test_permutation_of_rows_and_columns(rng):
    x = matrix(rng)
    rows, cols = rng.permutation(N), rng.permutation(M)
    straight, permuted = quotient(sparse.csr_array(x)), quotient(sparse.csr_array(x[rows][:, cols]))
    np.testing.assert_allclose(permuted.matrix.toarray(), straight.matrix.toarray()[rows][:, cols], rtol=1e-10)
    np.testing.assert_allclose(permuted.log_rows, straight.log_rows[rows], atol=1e-10)
    np.testing.assert_allclose(permuted.log_cols, straight.log_cols[cols], atol=1e-10)


def test_transpose(rng):
    x = matrix(rng)
    straight, transposed = quotient(sparse.csr_array(x)), quotient(sparse.csr_array(x.T))
    np.testing.assert_allclose(transposed.matrix.toarray(), straight.matrix.toarray().T, rtol=1e-10)
