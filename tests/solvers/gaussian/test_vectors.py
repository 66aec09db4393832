"""Vectors that are never formed give what the array would."""

import numpy as np
import pytest
from scipy import sparse

from kronax.solvers.gaussian import m_step, precision
from kronax.solvers.gaussian import vectors as vectors_module
from kronax.solvers.gaussian.precision import LowRank, Partial
from kronax.solvers.gaussian.spectral import decompose
from kronax.solvers.gaussian.vectors import Held, Joined, Projected, Vectors
from kronax.solvers.rows.noise_free import Factors, NoiseFree
from kronax.solvers.rows.rows import InMemory

N, M, RANK = 53, 17, 6
STILL = [4, 20, N - 1]
KINDS = pytest.mark.parametrize("kind", ["held", "projected", "joined"])
SIZES = pytest.mark.parametrize("size", [4096, 1, 10])


def matrix(rng, n: int = N, m: int = M) -> np.ndarray:
    """Positive, two thirds zeros; no row or column of zeros alone."""
    y = rng.lognormal(0.0, 1.0, (n, m)) * (rng.random((n, m)) < 0.3)
    i = np.arange(max(n, m))
    y[i % n, i % m] = 1.0
    return y


def example(kind: str, rng, size: int = 10) -> tuple[Vectors, np.ndarray]:
    """Vectors, some rows of which are zero, and the array."""
    y, rows, cols = matrix(rng), rng.lognormal(0.0, 0.5, N), rng.lognormal(0.0, 0.5, M)
    right, offset, still = rng.normal(size=(M, RANK)), rng.normal(size=RANK), np.isin(np.arange(N), STILL)
    array = (np.sqrt(rows)[:, None] * y * np.sqrt(cols)) @ right - offset
    array[still] = 0.0
    z = NoiseFree(InMemory(sparse.csr_array(y), rows=size), Factors(cols, rows))
    if kind == "held":
        return Held(array.copy()), array
    if kind == "joined":
        return Joined(Projected(z, right[:, :4], offset[:4], lambda _: ~still), Held(array[:, 4:])), array
    return Projected(z, right, offset, lambda _: ~still), array


def all_pairs(rng) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    i, k = rng.integers(0, N, (2, 300))
    return {
        "in any order": (i, k),
        "repeated": (np.repeat(i, 3), np.repeat(k, 3)),
        "both ways": (np.append(i, k), np.append(k, i)),
        "with rows that are zero": (np.repeat(STILL, N), np.tile(np.arange(N), len(STILL))),
        "one": (i[:1], k[:1]),
        "none": (i[:0], k[:0]),
    }


@KINDS
@SIZES
def test_array(kind, size, rng):
    vectors, array = example(kind, rng, size)
    assert vectors.shape == array.shape
    np.testing.assert_allclose(vectors.array(), array, atol=1e-12)
    np.testing.assert_array_equal(vectors.still, ~array.any(axis=1))
    columns = np.array([5, 0, 4])
    np.testing.assert_allclose(vectors.some(columns), array[:, columns], atol=1e-12)


def test_a_row_that_is_zero_in_one_of_two_is_not_zero():
    joined = Joined(Held(np.eye(3)[:, :1]), Held(np.eye(3)[:, 1:2]))
    np.testing.assert_array_equal(joined.still, [False, False, True])
    np.testing.assert_array_equal(joined.with_constant().array()[2], 0.0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-5)])
@pytest.mark.parametrize(("n", "rank"), [(1, 1), (37, 5), (130, 129)])
def test_quadratic(n, rank, dtype, tolerance, rng, monkeypatch):
    """Exactly symmetric, of weights of both signs, in several pieces."""
    monkeypatch.setattr(vectors_module, "_COLUMNS", 7)
    array, weights = rng.normal(size=(n, rank)).astype(dtype), rng.normal(size=rank)
    for vectors in (Held(array), Joined(Held(array[:, :2]), Held(array[:, 2:]))):
        found = vectors.quadratic(weights)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, found.T)
        np.testing.assert_allclose(found, (array * weights) @ array.T, atol=tolerance * n)


@KINDS
@SIZES
@pytest.mark.parametrize("constant", [False, True])
def test_forms(kind, size, constant, rng):
    vectors, array = example(kind, rng, size)
    if constant:  # in all rows but those that are zero
        vectors, array = vectors.with_constant(), np.column_stack([array, np.where(array.any(axis=1), N**-0.5, 0.0)])
        np.testing.assert_allclose(vectors.array(), array, atol=1e-12)
    weights = rng.normal(size=array.shape[1])
    full = (array * weights) @ array.T
    tolerance = 1e-12 * np.abs(full).max()
    np.testing.assert_allclose(vectors.squares(weights), np.diag(full), atol=tolerance)
    for name, pairs in all_pairs(rng).items():
        squares, products = vectors.forms(weights, pairs)
        assert squares.dtype == products.dtype == np.float64
        np.testing.assert_allclose(squares, np.diag(full), atol=tolerance, err_msg=name)
        np.testing.assert_allclose(products, full[pairs], atol=tolerance, err_msg=name)
        assert not products[np.isin(pairs[0], STILL) | np.isin(pairs[1], STILL)].any()


@KINDS
@pytest.mark.parametrize("form", [LowRank, Partial])
def test_precision(kind, form, rng):
    """``bI + U diag(w) Uᵀ``, and the same scaled to a diagonal of ½, by all the ways that lead to their entries."""
    vectors, array = example(kind, rng)
    weights = rng.uniform(-0.001, 2.0, RANK)
    full = 1.5 * np.eye(N) + (array * weights) @ array.T
    kept = LowRank(1.5, vectors, weights)
    if form is Partial:
        kept, size = Partial(kept), np.sqrt(np.diag(full))
        full = full / np.outer(size, size) - 0.5 * np.eye(N)
    tolerance = 1e-12 * np.abs(full).max()
    np.testing.assert_allclose(precision.dense(kept), full, atol=tolerance)
    np.testing.assert_allclose(precision.diagonal(kept), np.diag(full), atol=tolerance)
    rows, cols = all_pairs(rng)["in any order"]
    rows, cols = rows[rows != cols], cols[rows != cols]
    np.testing.assert_allclose(precision.entries(kept, rows, cols), full[rows, cols], atol=tolerance)


def test_large_vectors_are_in_single_precision():
    """More than 2²² numbers; products of few of them are as exact as float32 is."""
    rng = np.random.default_rng(0)
    z = NoiseFree(InMemory(sparse.csr_array(rng.uniform(0.5, 1.0, (64, 4)))))
    pairs = tuple(rng.integers(0, 64, (2, 50)))
    found = []
    for rank in (2**16, 2**16 + 1):
        right = np.zeros((4, rank))
        right[:, :5] = np.linspace(-1.0, 1.0, 20).reshape(4, 5)
        vectors = Projected(z, right, np.zeros(rank), lambda _: np.ones(64, bool))
        found.append(vectors.forms(np.ones(rank), pairs))
    array = vectors.array()
    assert array.dtype == np.float32
    np.testing.assert_allclose(array[:, :5], z.products(right[:, :5], np.zeros(5)), atol=1e-6)
    double, single = found
    for one, other in zip(single, double, strict=True):
        assert one.dtype == np.float64 and not np.array_equal(one, other)
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("center", [None, 0])
def test_blocks_in_single_precision_leave_the_precision(center, rng):
    """Partial correlations of rows and of columns, within 1e-5."""
    n, m = 600, 60
    groups = rng.lognormal(0.0, 0.5, (3, m))[np.arange(n) % 3]
    x = rng.poisson(rng.gamma(2.0, groups * rng.lognormal(0.0, 0.5, (n, 1)) / 2.0)).astype(float)
    x[np.arange(n), np.arange(n) % m] += 1
    pairs = tuple(rng.integers(0, n, (2, 500)))
    pairs = tuple(side[pairs[0] != pairs[1]] for side in pairs)
    found = []
    for dtype in (np.float64, np.float32):
        rows = InMemory(sparse.csr_array(x), dtype, 128)
        spectrum = decompose(NoiseFree(rows, Factors(np.ones(m))), center=center, n_comps=10)[1]
        estimate = m_step.estimate(spectrum, m_step.Penalty())
        found.append((precision.entries(estimate.rows, *pairs), precision.dense(estimate.cols[0])))
    for double, single in zip(*found, strict=True):
        np.testing.assert_allclose(single, double, rtol=0, atol=1e-5)
        assert np.abs(double).max() > 1e-2
