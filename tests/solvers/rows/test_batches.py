"""Passes that keep batches apart."""

import numpy as np
import pytest
from scipy import sparse

from kronax.solvers.rows.batches import apart, counts, spread_evenly, taken
from kronax.solvers.rows.block import divided
from kronax.solvers.rows.chunked import Chunked, OfBatches, Preparation
from kronax.solvers.rows.groups import Groups
from kronax.solvers.rows.rows import InMemory
from kronax.solvers.scales.quotient import scales


@pytest.fixture
def matrix(rng) -> sparse.csr_array:
    x = rng.poisson(0.7, (50, 8)).astype(float)
    x[:, 0] += 1.0
    return sparse.csr_array(x)


@pytest.fixture
def batches(rng) -> Groups:
    return Groups(rng.permuted(np.arange(50) % 3), 3)


def chunked(matrix: sparse.csr_array, size: int = 7) -> Chunked:
    parts = [matrix[start : start + size] for start in range(0, matrix.shape[0], size)]
    return Chunked(
        [lambda part=part: part for part in parts],
        np.array([part.shape[0] for part in parts]),
        np.array([part.nnz for part in parts]),
        InMemory(matrix).col_counts,
    )


def test_counts(matrix, batches):
    expected = [(matrix.toarray()[batches.codes == batch] != 0).sum(0) for batch in range(3)]
    for rows in (InMemory(matrix, rows=9), chunked(matrix)):
        np.testing.assert_array_equal(counts(rows, batches), expected)


def test_every_batch_is_a_block(matrix, batches):
    found = counts(InMemory(matrix), batches)
    expected = np.hstack([np.where(batches.codes[:, None] == batch, matrix.toarray(), 0.0) for batch in range(3)])
    expected = expected[:, found.ravel() > 0]
    held = apart(InMemory(matrix), batches, found)
    np.testing.assert_array_equal(held.matrix.toarray(), expected)
    read = apart(chunked(matrix), batches, found)
    assert read.shape == held.shape
    np.testing.assert_array_equal(read.col_counts, held.col_counts)
    np.testing.assert_array_equal(taken(read, np.arange(50)).toarray(), expected)
    np.testing.assert_allclose(scales(read).log_cols, scales(held).log_cols, atol=1e-12)


def test_division_of_chunks_and_of_the_whole(matrix, batches, rng):
    logs = rng.normal(size=(3, 8))
    expected = divided(matrix, batches.codes, logs)
    np.testing.assert_allclose(expected.toarray(), matrix.toarray() * np.exp(-logs)[batches.codes])
    rows = chunked(matrix).prepared(Preparation(of_batches=OfBatches(batches.codes, logs)))
    np.testing.assert_array_equal(taken(rows, np.arange(50)).toarray(), expected.toarray())


def test_some_rows(matrix):
    chosen = np.array([0, 6, 7, 30, 49])
    for rows in (InMemory(matrix, rows=9), chunked(matrix)):
        np.testing.assert_array_equal(taken(rows, chosen).toarray(), matrix.toarray()[chosen])


def test_small_batches_are_not_left_out():
    batches = Groups(np.repeat([0, 1, 2], [10_000, 30, 500]), 3)
    chosen = spread_evenly(batches, 1000)
    assert (np.diff(chosen) > 0).all() and len(chosen) <= 1000
    np.testing.assert_array_equal(batches.of(chosen).sizes, [485, 30, 485])
    np.testing.assert_array_equal(spread_evenly(batches, 10**6), np.arange(10_530))
