"""What passes over ``Z`` give without ``Z``, against the matrix itself."""

import numpy as np
import pytest
from scipy import sparse, stats

from kronax.solvers.rows.noise_free import Factors, NoiseFree, col_energies
from kronax.solvers.rows.rows import InMemory, Rows

N, M = 53, 17
SIZES = pytest.mark.parametrize("size", [4096, 1, 10])
GIVEN = pytest.mark.parametrize("given", ["none", "columns", "both"])


def matrix(rng, shape: tuple[int, int] = (N, M)) -> np.ndarray:
    """A third of zeros; no row or column of zeros alone."""
    x = rng.lognormal(0.0, 1.0, shape) * rng.choice([-1.0, 1.0], shape) * (rng.random(shape) < 0.7)
    i = np.arange(max(shape))
    x[i % shape[0], i % shape[1]] = 1.0
    return x


def example(rng, given: str, size: int, dtype=None) -> tuple[NoiseFree, np.ndarray, np.ndarray]:
    """``Z`` in blocks and as an array, and its rows' factors."""
    y = matrix(rng)
    cols, rows = rng.lognormal(0.0, 1.0, M), rng.lognormal(0.0, 1.0, N)
    if given == "none":
        cols, rows, factors = np.ones(M), np.ones(N), Factors()
    elif given == "columns":
        rows, factors = np.count_nonzero(y, axis=1) / (y**2 @ cols), Factors(cols)
    else:
        factors = Factors(cols, rows)
    z = NoiseFree(InMemory(sparse.csr_array(y), dtype, size), factors)
    return z, np.sqrt(rows)[:, None] * y * np.sqrt(cols), rows


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())


@SIZES
@GIVEN
def test_passes_are_those_over_the_dense_matrix(given, size, rng):
    z, dense, rows = example(rng, given, size)
    assert z.shape == (N, M)
    square, energies, sums = z.moments()
    assert_close(square, dense.T @ dense)
    np.testing.assert_array_equal(square, square.T)
    assert_close(energies, (dense**2).sum(0))
    assert_close(sums, dense.sum(0))
    assert_close(z.row_factors(), rows)
    right, offset, mean = rng.normal(size=(M, 5)), rng.normal(size=5), rng.normal(size=M)
    assert_close(z.products(right, offset), dense @ right - offset)
    coordinates, row_energies = z.coordinates(right)
    assert_close(coordinates, dense @ right)
    assert_close(row_energies, (dense**2).sum(1))
    assert_close(z.deviations(mean), np.column_stack([(dense**2).sum(1), dense.sum(1), dense @ mean]))
    assert_close(z.held().toarray(), dense)
    for axis in (0, 1):
        found, counts = z.margins(axis), np.count_nonzero(dense, axis=1 - axis)
        np.testing.assert_allclose(found.skewness, stats.skew(dense, axis=axis), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found.mean, dense.mean(axis), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.deviation, dense.std(axis), rtol=1e-9)
        np.testing.assert_allclose(found.level, dense.mean(axis) / dense.std(axis), rtol=1e-9)
        along = [np.corrcoef(line, counts)[0, 1] for line in np.moveaxis(dense, axis, 1)]
        np.testing.assert_allclose(found.along, along, atol=1e-9)
        np.testing.assert_array_equal(found.counts, np.count_nonzero(dense, axis=axis))


def test_margins_of_what_does_not_vary(rng):
    y = matrix(rng)
    y[:, 3] = 2.0
    z = NoiseFree(InMemory(sparse.csr_array(y)))
    for found in z.margins(0)[:-1]:
        assert found[3] == 0 and np.isfinite(found).all()


@pytest.mark.parametrize("axis", [0, 1])
def test_margins_of_what_varies_by_rounding_alone(axis):
    """A thousandth of many values is no number of float64, and sums of it are not exact."""
    y = np.full((3000, 3), 1e-3)
    y[:, :2] = np.random.default_rng(0).normal(size=(3000, 2))
    z = NoiseFree(InMemory(sparse.csr_array(np.moveaxis(y, axis, 0))))
    for found in z.margins(axis)[:-1]:
        assert found[2] == 0


@SIZES
def test_mean_square_is_1_whatever_the_columns_factors(size, rng):
    z, _, _ = example(rng, "columns", size)
    squares = z.held()
    squares.data **= 2
    np.testing.assert_allclose(squares.sum(axis=1), z.rows.each(lambda block: block.counts), rtol=1e-12)


@SIZES
def test_energies_of_columns(size, rng):
    z, dense, _ = example(rng, "columns", size)
    (found,) = z.rows.sums(col_energies, z.factors.cols)
    assert_close(found * z.factors.cols, (dense**2).sum(0))


@SIZES
@GIVEN
@pytest.mark.parametrize("n_pairs", [0, 1, 300])
def test_forms(given, size, n_pairs, rng):
    """Pairs in any order, some of them several times and both ways round, some rows in none."""
    z, dense, _ = example(rng, given, size)
    inner = rng.normal(size=(M, M))
    inner, linear = inner + inner.T, rng.normal(size=M)
    i, k = rng.integers(0, N // 2, n_pairs), rng.integers(0, N, n_pairs)
    squares, products = z.forms(inner, linear, 0.7, (i, k))
    full = dense @ inner @ dense.T - (dense @ linear)[:, None] - dense @ linear + 0.7
    assert_close(squares, np.diag(full))
    np.testing.assert_allclose(products, full[i, k], rtol=0, atol=1e-12 * np.abs(full).max())
    assert squares.dtype == products.dtype == np.float64 and products.shape == (n_pairs,)
    both_ways = z.forms(inner, linear, 0.7, (k, i))[1]
    np.testing.assert_allclose(both_ways, products, rtol=0, atol=1e-12 * np.abs(full).max())


def test_only_a_matrix_in_memory_can_be_held(rng):
    class Elsewhere(Rows):
        shape, dtype = (N, M), np.float64

        def results(self, kernel, *shared):
            yield from ()

        def __len__(self) -> int:
            return 1

    with pytest.raises(TypeError, match="in memory"):
        NoiseFree(Elsewhere()).held()


# Blocks in single precision


def counts(rng, n: int = 1000, m: int = 60) -> sparse.csr_array:
    """Negative binomial counts, most of them zeros."""
    mean = rng.gamma(0.5, 1.0, m) * rng.lognormal(0.0, 0.5, (n, 1))
    x = rng.poisson(rng.gamma(2.0, mean / 2.0)).astype(float)
    x[np.arange(n), np.arange(n) % m] += 1
    return sparse.csr_array(x)


def in_both(rng, size: int = 128) -> tuple[NoiseFree, NoiseFree]:
    x = counts(rng)
    cols = rng.lognormal(0.0, 0.5, x.shape[1])
    return tuple(NoiseFree(InMemory(x, dtype, size), Factors(cols)) for dtype in (np.float64, np.float32))


def test_eigenvalues_of_single_blocks(rng):
    double, single = (np.linalg.eigvalsh(z.moments()[0]) for z in in_both(rng))
    np.testing.assert_allclose(single, double, rtol=2e-7)
    assert not np.array_equal(single, double)


def test_sums_of_single_blocks_are_free_of_their_rounding(rng):
    double, single = in_both(rng)
    for one, other in zip(single.moments()[1:], double.moments()[1:], strict=True):
        np.testing.assert_array_equal(one, other)
    mean = rng.normal(size=60)
    np.testing.assert_array_equal(single.deviations(mean), double.deviations(mean))


def test_products_have_the_type_asked_for(rng):
    double, single = in_both(rng)
    right, offset = np.linalg.qr(rng.normal(size=(60, 5)))[0], rng.normal(size=5)
    expected = double.products(right, offset)
    assert expected.dtype == np.float64
    assert double.products(right, offset, np.float32).dtype == np.float32
    for z, dtype in ((double, np.float32), (single, np.float64), (single, np.float32)):
        np.testing.assert_allclose(z.products(right, offset, dtype), expected, atol=1e-6 * np.abs(expected).max())


def test_forms_in_single_precision(rng):
    """Of partial correlations, the products divided by the roots of the squares: within 1e-5."""
    double, single = in_both(rng)
    root = rng.normal(size=(60, 60))
    pairs = tuple(rng.integers(0, 1000, (2, 500)))
    arguments = root @ root.T, rng.normal(size=60), 500.0, pairs

    def correlations(z: NoiseFree, dtype) -> np.ndarray:
        squares, products = z.forms(*arguments, dtype)
        return products / np.sqrt(squares[pairs[0]] * squares[pairs[1]])

    expected = correlations(double, np.float64)
    for z, dtype in ((double, np.float32), (single, np.float32), (single, np.float64)):
        np.testing.assert_allclose(correlations(z, dtype), expected, rtol=0, atol=1e-5)


def test_many_multiplications_are_made_in_single_precision(rng):
    few, many = sparse.csr_array((1000, 500)), sparse.csr_array((2**17, 2**11))
    assert InMemory(few).dtype == np.float64
    assert InMemory(many).dtype == np.float32
    assert InMemory(many, np.float64).dtype == np.float64
