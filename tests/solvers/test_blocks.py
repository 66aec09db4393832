"""Sums and products of a matrix in blocks equal those of the dense matrix, however it is cut."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

from kronax.solvers import blocks

pytestmark = pytest.mark.usefixtures("x64")

N, M = 53, 17

# entries of a dense block: all rows in one block, blocks of 10 rows with 3 left over, one row a block
SIZES = [2**22, 10 * M + 3, 1]


@pytest.fixture(params=SIZES, ids=["one block", "six blocks", "a block for every row"])
def cut(request, rng):
    """A matrix with rows, columns and a whole block of zeros: dense and in blocks."""
    dense = rng.normal(size=(N, M)) * (rng.random((N, M)) < 0.3)
    dense[10:20] = 0.0
    dense[37] = 0.0
    dense[:, 4] = 0.0
    dense[-1] = rng.normal(size=M)
    found = blocks.from_csr(sparse.csr_array(dense), request.param)
    assert found.shape == (N, M)
    assert len(found.values) == {2**22: 1, 10 * M + 3: 6, 1: N}[request.param]
    return dense, found


def assert_equal(found, expected):
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-12, atol=1e-12)


def on_pattern(found: blocks.Blocks, values) -> np.ndarray:
    """Put values, in the shape of the blocks' own, into a dense matrix, leaving the padding out."""
    rows, cols, values = (np.asarray(part).ravel() for part in (found.rows, found.cols, values))
    real = rows < N
    assert (cols[~real] == M).all()
    dense = np.zeros((N, M))
    dense[rows[real], cols[real]] = values[real]
    return dense


def test_entries_stay(cut):
    dense, found = cut
    np.testing.assert_array_equal(on_pattern(found, found.values), dense)
    assert int((np.asarray(found.rows) < N).sum()) == np.count_nonzero(dense)


def test_dtype_stays():
    assert blocks.from_csr(sparse.csr_array(np.eye(3, dtype=np.float32))).values.dtype == jnp.float32


def test_with_values_keeps_the_pattern(cut):
    dense, found = cut
    doubled = found.with_values(2.0 * found.values)
    assert_equal(on_pattern(doubled, doubled.values), 2.0 * dense)


def test_sums(cut):
    dense, found = cut
    assert_equal(blocks.row_sums(found), dense.sum(1))
    assert_equal(blocks.col_sums(found), dense.sum(0))


def test_sums_leave_the_padding_out(cut):
    dense, found = cut
    ones = found.with_values(jnp.ones_like(found.values))
    np.testing.assert_array_equal(blocks.row_sums(ones), np.count_nonzero(dense, axis=1))
    np.testing.assert_array_equal(blocks.col_sums(ones), np.count_nonzero(dense, axis=0))


def test_outer_sum(cut, rng):
    dense, found = cut
    a, b = rng.normal(size=N), rng.normal(size=M)
    expected = np.where(dense != 0, a[:, None] + b, 0.0)
    assert_equal(on_pattern(found, blocks.outer_sum(found, jnp.asarray(a), jnp.asarray(b))), expected)


def test_rmatmul(cut, rng):
    dense, found = cut
    left = rng.normal(size=(N, 5))
    assert_equal(blocks.rmatmul(found, jnp.asarray(left)), left.T @ dense)


def test_add_on_pattern(cut, rng):
    dense, found = cut
    left, right = rng.normal(size=(N, 5)), rng.normal(size=(5, M))
    gain, weights, scale = rng.normal(size=(M, 4)), rng.normal(size=4), 0.7
    expected = scale * dense + left @ right + dense @ (gain * weights) @ gain.T
    values = blocks.add_on_pattern(found, *map(jnp.asarray, (left, right, gain, weights)), scale)
    assert_equal(on_pattern(found, values), np.where(dense != 0, expected, 0.0))


def test_blocks_pass_through_jit(cut):
    dense, found = cut
    doubled = jax.jit(lambda z: z.with_values(2.0 * z.values))(found)
    assert (doubled.shape, doubled.rows_per_block) == (found.shape, found.rows_per_block)
    assert_equal(blocks.col_sums(doubled), 2.0 * dense.sum(0))
