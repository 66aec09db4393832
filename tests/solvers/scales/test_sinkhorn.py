"""Accelerated matrix scaling: the fixed point of the plain iteration, in fewer passes, whatever the scales."""

import numpy as np
import pytest
from scipy import sparse

from kronax.solvers.rows.noise_free import Factors, NoiseFree
from kronax.solvers.rows.rows import InMemory
from kronax.solvers.scales.quotient import pattern_counts
from kronax.solvers.scales.sinkhorn import Scaling, scale

N, M = 120, 80


def counts(rng, n: int = N, m: int = M) -> sparse.csr_array:
    """Negative binomial counts of genes of all sizes, most of them zeros."""
    mean = rng.gamma(0.5, 1.0, m) * rng.lognormal(0.0, 0.5, (n, 1))
    x = rng.poisson(rng.gamma(2.0, mean / 2.0)).astype(float)
    i = np.arange(n)
    x[i, i % m] += 1
    return sparse.csr_array(x)


def band(rng, n: int, width: int = 1) -> sparse.csr_array:
    """A chain of entries: what one end needs reaches the other one step by step."""
    inside = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) <= width
    return sparse.csr_array(np.where(inside, np.exp(rng.normal(size=(n, n))), 0.0))


def scaled(x: sparse.csr_array, tol: float = 1e-9, **others) -> Scaling:
    return scale(InMemory(x, **others), tol)


def noise_free(x: sparse.csr_array, found: Scaling) -> np.ndarray:
    return NoiseFree(InMemory(x), Factors(found.cols)).held().toarray()


def plain(x: sparse.csr_array, tol: float) -> tuple[np.ndarray, int]:
    """Sinkhorn's iteration from ones: the squares scaled, and how often it went over the matrix."""
    squares, (p, n) = x.toarray() ** 2, pattern_counts(x)
    cols = np.ones(x.shape[1])
    for passes in range(1, 20_000):
        rows = p / (squares @ cols)
        sums = rows @ squares
        if np.abs(cols * sums / n - 1.0).max() <= tol:
            return rows[:, None] * squares * cols, passes
        cols = n / sums
    msg = "the plain iteration did not get there"
    raise AssertionError(msg)


@pytest.mark.parametrize("make", [counts, lambda rng: band(rng, 12)], ids=["counts", "a chain"])
def test_fixed_point_is_that_of_the_plain_iteration(make, rng):
    x = make(rng)
    found = scaled(x)
    assert found.residual <= 1e-9
    z = noise_free(x, found)
    p, n = pattern_counts(x)
    np.testing.assert_allclose((z**2).sum(1), p, rtol=1e-12)
    np.testing.assert_allclose((z**2).sum(0), n, rtol=1.1e-9)
    np.testing.assert_allclose(z**2, plain(x, 1e-13)[0], rtol=1e-6, atol=1e-12)


def test_residual_is_that_of_the_columns(rng):
    x = counts(rng)
    for tol in (1e-1, 1e-3, 1e-9):
        found = scaled(x, tol)
        off = np.abs((noise_free(x, found) ** 2).sum(0) / pattern_counts(x)[1] - 1.0).max()
        assert found.residual <= tol
        assert found.residual == pytest.approx(off, rel=1e-3, abs=1e-14)


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_few_passes_over_counts(power, rng):
    x = counts(rng, 2000, 200)
    x.data **= power
    found = scaled(x)
    assert found.residual <= 1e-9
    assert found.n_passes <= 11
    assert found.n_passes < plain(x, 1e-9)[1]


@pytest.mark.parametrize("n", [30, 60, 120])
def test_a_loosely_connected_pattern_does_not_lead_astray(n, rng):
    """Where extrapolation goes too far, it is taken back: the end is never worse than plain passes give, nor the start."""
    x = band(rng, n)
    counts_of_cols = pattern_counts(x)[1]
    start = np.abs((noise_free(x, Scaling(np.ones(n), 0.0, 0)) ** 2).sum(0) / counts_of_cols - 1.0).max()
    found = scaled(x)
    assert np.isfinite(found.cols).all() and (found.cols > 0).all()
    assert found.residual < start
    squares, cols = x.toarray() ** 2, np.ones(n)
    for _ in range(found.n_passes - 1):
        rows = pattern_counts(x)[0] / (squares @ cols)
        cols = counts_of_cols / (rows @ squares)
    rows = pattern_counts(x)[0] / (squares @ cols)
    assert found.residual <= np.abs(cols * (rows @ squares) / counts_of_cols - 1.0).max()


def test_two_separate_blocks(rng):
    x = counts(rng).toarray()
    x[:60, 40:] = x[60:, :40] = 0.0
    x[x.sum(1) == 0, :] = 0.0
    x = x[x.any(1)][:, x.any(0)]
    found = scaled(sparse.csr_array(x))
    assert found.residual <= 1e-9
    z = noise_free(sparse.csr_array(x), found)
    np.testing.assert_allclose((z**2).sum(0), np.count_nonzero(x, axis=0), rtol=1e-8)


@pytest.mark.parametrize("side", ["rows", "columns", "both"])
def test_scales_of_the_matrix_leave_z(side, rng):
    """Of any size: rows are exact in every pass, and columns start elsewhere."""
    x = counts(rng).toarray()
    rows = rng.lognormal(0.0, 3.0, (N, 1)) if side != "columns" else 1.0
    cols = rng.lognormal(0.0, 3.0, M) if side != "rows" else 1.0
    one, other = sparse.csr_array(x), sparse.csr_array(rows * x * cols)
    expected = noise_free(one, scaled(one, 1e-11))
    np.testing.assert_allclose(noise_free(other, scaled(other, 1e-11)), expected, rtol=1e-8)


@pytest.mark.parametrize("size", [1, 17])
def test_blocks_of_any_size(size, rng):
    x = counts(rng)
    whole, cut = scaled(x), scaled(x, rows=size)
    np.testing.assert_allclose(cut.cols, whole.cols, rtol=1e-7)
    assert cut.residual <= 1e-9


@pytest.mark.parametrize("pseudocount", [1e-5, 1e-8])
def test_genes_that_the_same_few_cells_have_beside_pseudocounts(pseudocount, rng):
    """They are nearly a block of their own: extrapolation goes far beyond what numbers hold, and starts anew."""
    x = rng.poisson(rng.gamma(0.8, 1.0, 60), (100, 60)).astype(float)
    rare = np.zeros((100, 6))
    rare[:5] = rng.poisson(4.0, (5, 6)) + 1.0
    x = np.hstack([x, rare])
    x[x == 0] = pseudocount
    found = scaled(sparse.csr_array(x), 1e-6)
    assert found.residual <= 1e-6 and found.n_passes < 250
