"""Passes over blocks of rows: what a dense matrix gives, however it is cut and whoever computes."""

import os
import tracemalloc
from functools import reduce

import numpy as np
import pytest
from scipy import sparse
from threadpoolctl import threadpool_limits

from kronax.solvers.rows import block as parts
from kronax.solvers.rows import connected
from kronax.solvers.rows.block import Block
from kronax.solvers.rows.noise_free import Factors, NoiseFree
from kronax.solvers.rows.rows import InMemory, added

N, M = 53, 17

# rows of a block: all in one, one each, blocks of 10 and a last one of 3, blocks of 26 and a last one of 1
SIZES = pytest.mark.parametrize("size", [4096, N, 1, 10, 26])


@pytest.fixture
def matrix(rng) -> np.ndarray:
    """A third of zeros; no row or column of zeros alone."""
    return signed(rng, (N, M))


def signed(rng, shape: tuple[int, int]) -> np.ndarray:
    x = rng.lognormal(0.0, 1.0, shape) * rng.choice([-1.0, 1.0], shape) * (rng.random(shape) < 0.7)
    i = np.arange(max(shape))
    x[i % shape[0], i % shape[1]] = 1.0
    return x


def columns(block: Block, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return block.matrix.sum(axis=0), block.col_energies(weights[block.start : block.start + block.matrix.shape[0]])


def numbered(block: Block, weights: np.ndarray) -> np.ndarray:
    n = block.matrix.shape[0]
    return np.column_stack([np.arange(block.start, block.start + n), block.counts, block.row_energies(weights)])


@SIZES
def test_sums(size, matrix, rng):
    weights = rng.uniform(0.5, 2.0, N)
    found = InMemory(sparse.csr_array(matrix), rows=size).sums(columns, weights)
    assert [part.dtype for part in found] == [np.float64] * 2
    np.testing.assert_allclose(found[0], matrix.sum(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found[1], weights @ matrix**2, rtol=1e-12)


@SIZES
def test_each(size, matrix, rng):
    weights = rng.uniform(0.5, 2.0, M)
    rows = InMemory(sparse.csr_array(matrix), rows=size)
    assert len(rows) == -(-N // size)
    found = rows.each(numbered, weights)
    np.testing.assert_array_equal(found[:, 0], np.arange(N))
    np.testing.assert_array_equal(found[:, 1], np.count_nonzero(matrix, axis=1))
    np.testing.assert_allclose(found[:, 2], matrix**2 @ weights, rtol=1e-12)


@SIZES
def test_blocks_are_the_matrix(size, matrix):
    """Their rows in a row, views of the matrix, of the size asked for except the last one."""
    csr = sparse.csr_array(matrix)
    rows = InMemory(csr, rows=size)
    blocks = [rows.block(number) for number in range(len(rows))]
    np.testing.assert_array_equal(np.vstack([block.matrix.toarray() for block in blocks]), matrix)
    assert [block.matrix.shape[0] for block in blocks[:-1]] == [size] * (len(rows) - 1)
    assert all(np.shares_memory(block.matrix.data, csr.data) for block in blocks)
    assert all(np.shares_memory(block.matrix.indices, csr.indices) for block in blocks)


@pytest.mark.parametrize("shape", [(N, M), (7, 2**19), (2**10 + 5, 2**12)], ids=["one part", "by four", "by 512"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_dense_parts(shape, dtype, rng):
    """One after the other, of bounded size, every row once."""
    n_entries = int(1e-4 * np.prod(shape))
    entries = (
        rng.normal(size=n_entries),
        (rng.integers(shape[0], size=n_entries), rng.integers(shape[1], size=n_entries)),
    )
    csr = sparse.csr_array(entries, shape)
    n_rows = 0
    for rows, part in Block(csr, dtype=dtype).dense_parts():
        assert rows.start == n_rows and part.dtype == dtype and part.size <= 2**21
        np.testing.assert_array_equal(part, csr[rows.start : rows.stop].toarray().astype(dtype))
        n_rows = rows.stop
    assert n_rows == shape[0]


@pytest.mark.parametrize("n_rows", [1, 4, 1000])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_products_of_parts(n_rows, dtype, tolerance, matrix, rng, monkeypatch):
    """However many rows a part has: exactly symmetric, and all rows in it."""
    monkeypatch.setattr(parts, "_DENSE", n_rows * M)
    block = Block(sparse.csr_array(matrix), dtype=dtype)
    gram = block.gram()
    assert gram.dtype == dtype
    np.testing.assert_array_equal(gram, gram.T)
    np.testing.assert_allclose(gram, matrix.T @ matrix, rtol=tolerance, atol=tolerance)
    right, offset = rng.normal(size=(M, 3)), rng.normal(size=3)
    found = block.products(right, offset, np.float64)
    np.testing.assert_allclose(found, matrix @ right - offset, rtol=tolerance, atol=10 * tolerance)


def test_scaled(matrix, rng):
    left, right = rng.uniform(0.5, 2.0, N), rng.uniform(0.5, 2.0, M)
    block = Block(sparse.csr_array(matrix), start=5, dtype=np.float32)
    found = block.scaled(left, right)
    expected = np.sqrt(left)[:, None] * matrix * np.sqrt(right)
    np.testing.assert_allclose(found.matrix.toarray(), expected, rtol=1e-14)
    assert (found.start, found.dtype) == (5, np.float32)
    np.testing.assert_array_equal(block.matrix.toarray(), matrix)


# In which order


def tree(parts: list[np.ndarray]) -> np.ndarray:
    """The largest power of two of parts on the left, however many there are."""
    if len(parts) == 1:
        return parts[0]
    left = 2 ** ((len(parts) - 1).bit_length() - 1)
    return tree(parts[:left]) + tree(parts[left:])


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6, 7, 8, 13])
def test_arrays_are_added_as_a_binary_tree(n, rng):
    parts = list(rng.normal(size=(n, 50)) * 10.0 ** rng.integers(-9, 9, (n, 50)))
    found, other = added((part, part[:3]) for part in parts)
    np.testing.assert_array_equal(found, tree(parts))
    np.testing.assert_array_equal(other, tree(parts)[:3])
    if n > 3:  # the order shows
        assert not np.array_equal(found, reduce(np.add, parts))


def test_single_precision_is_added_in_double():
    parts = [np.full(3, value, np.float32) for value in (1.0, 2.0**-30, 2.0**-40)]
    (found,) = InMemory(sparse.csr_array(np.ones((3, 2))), rows=1).sums(lambda block: (parts[block.start],))
    np.testing.assert_array_equal(found, 1.0 + 2.0**-30 + 2.0**-40)


def test_few_sums_wait_at_a_time():
    """As many as the tree has levels, and not as there are blocks."""
    size = 10_000
    tracemalloc.start()
    try:
        (found,) = added((np.ones(size),) for _ in range(256))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found[0] == 256
    assert peak < 14 * 8 * size


# Whoever computes


@pytest.fixture
def cores(monkeypatch):
    """Pretend that the process may use so many."""
    return lambda count: monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(count)), raising=False)


def passes(z: NoiseFree, rng: np.random.Generator) -> list[np.ndarray]:
    """What every pass returns."""
    n, m = z.shape
    inner = rng.normal(size=(m, m))
    pairs = rng.integers(0, n, (2, 200))
    return [
        *z.moments(),
        z.row_factors(),
        z.products(rng.normal(size=(m, 7)), np.zeros(7)),
        z.deviations(rng.normal(size=m)),
        z.held().data,
        *z.forms(inner + inner.T, rng.normal(size=m), 0.5, tuple(pairs)),
    ]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("size", [64, 1000], ids=["many blocks", "one block"])
def test_the_number_of_threads_changes_no_bit(dtype, size, rng, cores):
    matrix, cols = sparse.csr_array(signed(rng, (1000, 150))), rng.uniform(0.5, 2.0, 150)
    found = []
    for count in (1, 2, 7):
        cores(count)
        with threadpool_limits(count, user_api="blas"):
            z = NoiseFree(InMemory(matrix, dtype, size), Factors(cols))
            found.append(passes(z, np.random.default_rng(1)))
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_an_error_in_a_block_reaches_the_caller(matrix):
    def fails(block: Block) -> np.ndarray:
        if block.start == 20:
            msg = "this block"
            raise ArithmeticError(msg)
        return block.counts

    rows = InMemory(sparse.csr_array(matrix), rows=10)
    with pytest.raises(ArithmeticError, match="this block"):
        rows.each(fails)
    np.testing.assert_array_equal(rows.each(lambda block: block.counts), np.count_nonzero(matrix, axis=1))


@pytest.mark.parametrize("size", [4096, 1, 10])
def test_blocks_that_no_entry_connects(size, rng):
    """However long the way from one end to the other, and whatever the order of rows and columns."""
    chain = sparse.csr_array(np.eye(40, 39) - np.eye(40, 39, -1))
    broken = chain.tolil()
    broken[20, 19] = 0.0
    thick = sparse.csr_array(np.ones((40, 39)))
    for whole, n_blocks in ((chain, 1), (broken.tocsr(), 2), (thick, 1), (sparse.block_diag([thick] * 3, "csr"), 3)):
        matrix = sparse.csr_array(whole[rng.permutation(whole.shape[0])][:, rng.permutation(whole.shape[1])])
        assert connected.count(InMemory(matrix, rows=size).results(connected.component_of_cols)) == n_blocks
        assert not (connected.hang_together(matrix) and n_blocks > 1)
    assert connected.hang_together(thick) and not connected.hang_together(chain)
