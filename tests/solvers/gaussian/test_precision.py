"""A precision matrix gives the same numbers whichever way it is kept and asked."""

import numpy as np
import pytest
from scipy import sparse

from kronax.solvers.gaussian import precision
from kronax.solvers.gaussian import vectors as of_vectors
from kronax.solvers.gaussian.precision import LowRank, Partial, Sparse, Whole, dense
from kronax.solvers.gaussian.vectors import Held, quadratic

N, RANK = 40, 7

DTYPES = pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-13), (np.float32, 1e-6)])


def example(rng, dtype=np.float64, n: int = N, rank: int = RANK) -> tuple[LowRank, np.ndarray]:
    """The low-rank form and the matrix it stands for."""
    vectors = np.linalg.qr(rng.normal(size=(n, rank)))[0].astype(dtype)
    weights = rng.normal(size=rank)
    wide = vectors.astype(np.float64)
    return LowRank(2.5, Held(vectors), weights), 2.5 * np.eye(n) + wide @ np.diag(weights) @ wide.T


@DTYPES
def test_diagonal(dtype, tolerance, rng):
    low_rank, full = example(rng, dtype)
    found = precision.diagonal(low_rank)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.diag(full), rtol=tolerance)


@DTYPES
def test_mean_diagonal(dtype, tolerance, rng):
    low_rank, full = example(rng, dtype)
    assert precision.mean_diagonal(low_rank) == pytest.approx(np.diag(full).mean(), rel=tolerance)


@DTYPES
def test_dense(dtype, tolerance, rng):
    low_rank, full = example(rng, dtype)
    found = dense(low_rank)
    np.testing.assert_allclose(found, full, rtol=0, atol=tolerance)
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize("signs", [1.0, -1.0, 0.0, None], ids=["positive", "negative", "zero", "mixed"])
@DTYPES
def test_quadratic(dtype, tolerance, signs, rng):
    vectors, weights = rng.normal(size=(300, 11)).astype(dtype), rng.normal(size=11)
    weights = weights if signs is None else signs * np.abs(weights)
    found = quadratic(vectors, weights)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_allclose(found, (vectors.astype(np.float64) * weights) @ vectors.T, atol=100 * tolerance)


def test_quadratic_takes_some_columns_at_a_time(rng, monkeypatch):
    monkeypatch.setattr(of_vectors, "_COLUMNS", 4)
    vectors, weights = rng.normal(size=(30, 21)), rng.normal(size=21)
    np.testing.assert_allclose(quadratic(vectors, weights), (vectors * weights) @ vectors.T, atol=1e-12)


@DTYPES
def test_partial_correlations_are_exactly_symmetric(dtype, tolerance, rng):
    low_rank, full = example(rng, dtype)
    found, size = dense(Partial(low_rank)), np.sqrt(np.diag(full))
    expected = full / size / size[:, None]
    np.fill_diagonal(expected, 0.5)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance / size.min() ** 2)
    np.testing.assert_allclose(dense(low_rank), full, rtol=0, atol=tolerance)


def test_held(rng, monkeypatch):
    low_rank, full = example(rng)
    whole = precision.held(low_rank)
    assert isinstance(whole, Whole) and len(whole) == N
    rows, cols = np.triu_indices(N, k=1)
    np.testing.assert_allclose(precision.entries(whole, rows, cols), full[rows, cols], atol=1e-13)
    np.testing.assert_allclose(precision.diagonal(whole), np.diag(full), rtol=1e-13)
    np.testing.assert_allclose(precision.complete(whole).toarray(), full, atol=1e-13)
    monkeypatch.setattr(precision, "_FEW", N - 1)
    for kept, expected in ((low_rank, full), (Partial(low_rank), dense(Partial(low_rank)))):
        found = precision.held(kept)
        assert isinstance(found, type(kept))
        np.testing.assert_allclose(dense(found), expected, atol=1e-13)


def test_eigenvalues_are_base_and_base_plus_weights(rng):
    low_rank, _ = example(rng)
    expected = np.sort(np.append(2.5 + low_rank.weights, np.full(N - RANK, 2.5)))
    np.testing.assert_allclose(np.linalg.eigvalsh(dense(low_rank)), expected, rtol=1e-12)


@DTYPES
@pytest.mark.parametrize(
    ("n", "rank", "n_pairs"),
    [(N, RANK, 123), (1100, RANK, 123), (1100, 60, 150_000)],
    ids=["from the whole matrix", "one chunk", "three chunks, the last one short"],
)
def test_entries(dtype, tolerance, n, rank, n_pairs, rng):
    low_rank, full = example(rng, dtype, n, rank)
    rows = rng.integers(0, n, n_pairs)
    cols = (rows + rng.integers(1, n, n_pairs)) % n
    found = precision.entries(low_rank, rows, cols)
    assert found.dtype == np.float64
    assert found.shape == (n_pairs,)
    np.testing.assert_allclose(found, full[rows, cols], rtol=0, atol=tolerance)


def test_no_entries(rng):
    low_rank, _ = example(rng)
    none = np.array([], dtype=np.int64)
    assert precision.entries(low_rank, none, none).shape == (0,)


# With exact zeros


def exactly_sparse(rng) -> tuple[Sparse, np.ndarray]:
    full = rng.normal(size=(N, N)) * (rng.uniform(size=(N, N)) < 0.1)
    full = full + full.T + np.diag(rng.uniform(1.0, 2.0, N))
    return Sparse(sparse.csr_array(full)), full


def test_sparse_precision(rng):
    kept, full = exactly_sparse(rng)
    rows, cols = rng.integers(0, N, 50), rng.integers(0, N, 50)
    np.testing.assert_array_equal(dense(kept), full)
    np.testing.assert_array_equal(precision.diagonal(kept), np.diag(full))
    np.testing.assert_array_equal(precision.entries(kept, rows, cols), full[rows, cols])
    assert precision.mean_diagonal(kept) == pytest.approx(np.diag(full).mean(), rel=1e-12)
    assert precision.complete(kept).nnz == np.count_nonzero(full)
    assert len(kept) == N


# Scaled to partial correlations


@pytest.fixture
def scaled(rng) -> tuple[Partial, np.ndarray]:
    """``ΔC⁻¹Δ − ½I`` and the matrix it stands for, the inverse of a covariance with variances of all sizes."""
    vectors, weights = rng.lognormal(0.0, 1.0, (N, 1)) * rng.normal(size=(N, RANK)), rng.uniform(-0.02, 3.0, RANK)
    inverse = 2.5 * np.eye(N) + (vectors * weights) @ vectors.T
    size = np.diag(np.diag(inverse) ** -0.5)
    return Partial(LowRank(2.5, Held(vectors), weights)), size @ inverse @ size - 0.5 * np.eye(N)


def test_partial_correlations(scaled, rng):
    kept, full = scaled
    rows = rng.integers(0, N, 123)
    cols = (rows + rng.integers(1, N, 123)) % N
    np.testing.assert_allclose(dense(kept), full, atol=1e-12)
    np.testing.assert_array_equal(dense(kept), dense(kept).T)
    np.testing.assert_array_equal(precision.diagonal(kept), np.full(N, 0.5))
    np.testing.assert_allclose(precision.entries(kept, rows, cols), full[rows, cols], atol=1e-12)
    np.testing.assert_allclose(precision.complete(kept).toarray(), full, atol=1e-12)
    assert precision.mean_diagonal(kept) == 0.5
    assert len(kept) == N
    assert precision.entries(kept, rows[:0], cols[:0]).shape == (0,)


def test_factors_give_all_that_is_off_the_diagonal(scaled, rng):
    for kept, full in (scaled, example(rng)):
        vectors, weights = precision.factors(kept)
        product = (vectors * weights) @ vectors.T
        np.testing.assert_allclose(product - np.diag(np.diag(product)), full - np.diag(np.diag(full)), atol=1e-12)


@pytest.mark.parametrize("form", [example, exactly_sparse])
def test_shifted(form, rng):
    matrix, full = form(rng)
    np.testing.assert_allclose(dense(precision.shifted(matrix, 0.7)), full + 0.7 * np.eye(N), atol=1e-12)


def test_complete(rng):
    low_rank, full = example(rng)
    np.testing.assert_allclose(precision.complete(low_rank).toarray(), full, atol=1e-12)
