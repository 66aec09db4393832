"""A sparse matrix in the shape that jitted code wants: blocks of rows, each with room for the same number of entries.

Sums over rows and columns run over the entries alone. Products with dense matrices make one block at a time dense, so
that they are matrix products on CPU and GPU alike and no dense matrix of the full size ever exists.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy import sparse

from kronax.solvers.device import block_size, to_device

_DENSE_BLOCK = 2**22  # entries of one block when it is dense: 32 MiB in float64


@partial(
    jax.tree_util.register_dataclass, data_fields=["values", "rows", "cols"], meta_fields=["shape", "rows_per_block"]
)
@dataclass(frozen=True)
class Blocks:
    """A sparse ``n × m`` matrix: its entries by blocks of rows, each padded to ``(n_blocks, capacity)``.

    Rows are dealt out to the blocks in turn, so that these are about equally full however the rows are sorted: row ``i``
    is number ``i // n_blocks`` of block ``i % n_blocks``. Padding stands at row ``n`` and column ``m``, outside the matrix,
    where every sum drops it, whatever its value.
    """

    values: Array
    rows: Array
    cols: Array
    shape: tuple[int, int]
    rows_per_block: int

    def with_values(self, values: Array) -> "Blocks":
        """Return the same pattern with other values."""
        return replace(self, values=values)


def from_csr(matrix: sparse.csr_array, dense_block: int = _DENSE_BLOCK) -> Blocks:
    """Deal the rows of a CSR matrix out to blocks of at most so many entries when dense, or of one row."""
    n, m = matrix.shape
    n_blocks = -(-n // min(n, max(1, block_size(dense_block) // m)))
    parts = [matrix[block::n_blocks] for block in range(n_blocks)]
    shape = (n_blocks, rounded_up(max(part.nnz for part in parts)))
    values = np.zeros(shape, matrix.dtype)
    rows, cols = np.full(shape, n, np.int32), np.full(shape, m, np.int32)
    for block, part in enumerate(parts):
        values[block, : part.nnz] = part.data
        rows[block, : part.nnz] = block + n_blocks * np.repeat(np.arange(part.shape[0]), np.diff(part.indptr))
        cols[block, : part.nnz] = part.indices
    return Blocks(to_device(values), to_device(rows), to_device(cols), (n, m), -(-n // n_blocks))


def rounded_up(count: int) -> int:
    """Round up to a multiple of a sixteenth of a power of two, so that similar matrices share compiled code."""
    step = max(256, 2 ** (count.bit_length() - 4))
    return -(-count // step) * step


def row_sums(blocks: Blocks) -> Array:
    """Sum every row, shape ``(n,)``."""
    return jax.ops.segment_sum(blocks.values.ravel(), blocks.rows.ravel(), blocks.shape[0])


def col_sums(blocks: Blocks) -> Array:
    """Sum every column, shape ``(m,)``."""
    return jax.ops.segment_sum(blocks.values.ravel(), blocks.cols.ravel(), blocks.shape[1])


def outer_sum(blocks: Blocks, a: Array, b: Array) -> Array:
    """Compute ``a_i + b_j`` for every entry, in the shape of the values."""
    return a[blocks.rows] + b[blocks.cols]


def _over_blocks(step: Callable, blocks: Blocks, carry):
    """Scan over the blocks: ``step(carry, dense block, rows within it, columns, its number) -> (carry, output)``."""
    n_blocks = blocks.values.shape[0]

    def body(carry, block):
        values, rows, cols, number = block
        local = rows // n_blocks
        dense = jnp.zeros((blocks.rows_per_block, blocks.shape[1]), values.dtype).at[local, cols].add(values)
        return step(carry, dense, local, cols, number)

    numbers = jnp.arange(n_blocks, dtype=jnp.int32)
    return jax.lax.scan(body, carry, (blocks.values, blocks.rows, blocks.cols, numbers))


def _dealt(blocks: Blocks, dense: Array) -> Array:
    """Deal the rows of an ``n × k`` matrix out like those of the blocks: ``(n_blocks, rows_per_block, k)``."""
    n_blocks = blocks.values.shape[0]
    missing = n_blocks * blocks.rows_per_block - dense.shape[0]
    padded = jnp.pad(dense, ((0, missing), (0, 0)))
    return padded.reshape(blocks.rows_per_block, n_blocks, -1).swapaxes(0, 1)


def rmatmul(blocks: Blocks, left: Array) -> Array:
    """Compute ``leftᵀ·Z``, shape ``(k, m)``."""
    left = _dealt(blocks, left)

    def step(total, z, _local, _cols, number):
        return total + jnp.matmul(left[number].T, z, precision="highest"), None

    return _over_blocks(step, blocks, jnp.zeros((left.shape[2], blocks.shape[1]), left.dtype))[0]


def add_on_pattern(blocks: Blocks, left: Array, right: Array, gain: Array, cols_gain: Array, scale: float) -> Array:
    """Compute the entries of ``scale·T + left·right + T·(gain cols_gain gainᵀ)`` on the pattern of ``T``."""
    left = _dealt(blocks, left)

    def step(_, t, local, cols, number):
        dense = (
            scale * t
            + jnp.matmul(left[number], right, precision="highest")
            + jnp.matmul(jnp.matmul(t, gain, precision="highest") * cols_gain, gain.T, precision="highest")
        )
        return None, dense[local, cols]

    return _over_blocks(step, blocks, None)[1]
