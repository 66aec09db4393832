"""Passes over rows that lie on accelerators, or on several devices of any kind.

Every device holds blocks of its own, sparse, and no device holds the matrix. A pass makes one block at a time dense and calls
the same kernels as on the host: ``jax.shard_map`` with a scan over the device's blocks, and, where results are added, one sum over
the devices. Sharded arrays alone would not do: a scan over them makes XLA gather the whole matrix on every device.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import DTypeLike
from scipy import sparse

from kronax.solvers.blocks import rounded_up
from kronax.solvers.device import devices, from_pieces, passes_on_devices, to_all, to_host
from kronax.solvers.rows.rows import ROWS, InMemory, Rows

_GROUPS = 8  # of blocks that are added in a row, at least
_AXIS = "devices"
_SPLIT, _COPIED = PartitionSpec(_AXIS), PartitionSpec()


def spread(rows: Rows) -> Rows:
    """Put rows in memory on the devices too, where passes are made there; return other rows as they are."""
    return OnDevices(rows.matrix, rows.dtype) if passes_on_devices() and type(rows) is InMemory else rows


@dataclass(frozen=True)
class DenseBlock:
    """Some rows of ``Y``, as an array on a device; to kernels it is a :class:`~kronax.solvers.rows.block.Block`.

    Rows of zeros, beyond those of ``Y``, may be among them.

    Attributes
    ----------
    values
        (rows, m), float64.
    counts
        Number of stored entries of every row, float64.
    rows
        Their numbers.
    dtype
        Of matrix products.
    """

    values: Array
    counts: Array
    rows: Array
    dtype: DTypeLike

    @property
    def ones(self) -> Array:
        """A 1 for every row of ``Y``."""
        return jnp.where(self.counts > 0, 1.0, 0.0)

    def row_energies(self, weights: Array) -> Array:
        """Compute ``Σ_j y_ij² w_j`` of every row; 1 where there is nothing, so that 0 can be divided by it."""
        return jnp.where(self.counts > 0, _product(self.values**2, weights), 1.0)

    def col_energies(self, weights: Array) -> Array:
        """Compute ``Σ_i w_i y_ij²`` of every column."""
        return _product(weights, self.values**2)

    def times(self, right: Array) -> Array:
        """Compute ``Σ_j y_ij r_j`` of every row."""
        return _product(self.values, right)

    def transposed_times(self, left: Array) -> Array:
        """Compute ``Σ_i l_i y_ij`` of every column."""
        return _product(left, self.values)

    def sums_of(self, codes: Array, n_groups: int) -> Array:
        """Add the rows of every group, (groups, m); ``codes`` are the groups of the rows."""
        return _product((codes == jnp.arange(n_groups)[:, None]).astype(self.values.dtype), self.values)

    def scaled(self, left: Array, right: Array) -> "DenseBlock":
        """Return the block with the entries ``y_ij √(l_i r_j)``."""
        return replace(self, values=self.values * jnp.sqrt(left)[:, None] * jnp.sqrt(right))

    def squared(self) -> "DenseBlock":
        """Return the block with the squares of its entries."""
        return replace(self, values=self.values**2)

    def gram(self) -> Array:
        """Compute ``YᵀY``, (m, m)."""
        values = self.values.astype(self.dtype)
        return _product(values.T, values)

    def products(self, right: Array, offset: Array, dtype: DTypeLike) -> Array:
        """Compute ``Y·right − 1·offsetᵀ``."""
        left, right = (array.astype(self.dtype) for array in (self.values, right))
        return (_product(left, right).astype(offset.dtype) - offset).astype(dtype)


def _product(left: Array, right: Array) -> Array:
    """Multiply matrices, without the short cut of some GPUs.

    XLA does not fuse a product with what comes before or after it, as it does with sums, and differently for one device and several;
    the last bit would differ. Nor may one side be all ones when code is compiled, which would make it a sum.
    """
    return jnp.matmul(left, right, precision="highest")


class Parts(NamedTuple):
    """Blocks of CSR, each padded with zeros in column ``m``: values and columns (n_blocks, capacity), starts of rows."""

    values: Array
    cols: Array
    starts: Array


class Layout(NamedTuple):
    """How an ``n × m`` matrix is dealt out: row ``i`` is number ``i // n_blocks`` of block ``i % n_blocks``.

    Blocks are about equally full then, however rows are sorted. ``group``: blocks in a group. Blocks, groups and thereby the order
    of all sums are the same for any number of devices up to ``_GROUPS``, and so are results, to the last bit.
    """

    shape: tuple[int, int]
    n_blocks: int
    group: int
    n_groups: int
    mesh: Mesh
    dtype: Any

    @property
    def height(self) -> int:
        """Rows in a block."""
        return -(-self.shape[0] // self.n_blocks)


class OnDevices(InMemory):
    """A CSR matrix on the devices, and in memory for the passes that stay there: those that ask for single ``results``."""

    def __init__(self, matrix: sparse.csr_array, dtype: DTypeLike | None = None, rows: int = ROWS) -> None:
        super().__init__(matrix, dtype)
        where = devices()
        n_groups = max(_GROUPS, len(where))
        group = -(-matrix.shape[0] // (n_groups * rows))
        padded = -(-n_groups // len(where)) * len(where)  # with empty groups, so that every device has as many
        mesh = Mesh(np.array(where), (_AXIS,))
        self.layout = Layout(matrix.shape, n_groups * group, group, padded, mesh, np.dtype(self.dtype))
        with self._settings():
            self.parts = _uploaded(matrix, self.layout)

    def sums(
        self, kernel: Callable[..., Any], *shared: Any, title: str = "", progress: bool = False
    ) -> tuple[Array, ...]:
        """Return the sums over all blocks of the arrays that the kernel returns, left on the first device."""
        with self._settings():
            return tuple(total.addressable_data(0) for total in summed(*self.operands(kernel, *shared)))

    def each(self, kernel: Callable[..., Any], *shared: Any, title: str = "", progress: bool = False) -> np.ndarray:
        """Return one array with a row for every row of the matrix, on the host."""
        with self._settings():
            found = to_host(of_each(*self.operands(kernel, *shared)))[: self.layout.n_blocks]
        return np.ascontiguousarray(found.swapaxes(0, 1).reshape(-1, *found.shape[2:])[: self.shape[0]])

    def operands(self, kernel: Callable[..., Any], *shared: Any) -> tuple["Call", Parts, list[Array]]:
        """Return what a pass is called with; arrays among ``shared`` go to every device, for all else code is compiled."""
        leaves, form = jax.tree.flatten(shared)
        moves = tuple(isinstance(leaf, np.ndarray | Array) for leaf in leaves)
        fixed = tuple(None if moved else leaf for leaf, moved in zip(leaves, moves, strict=True))
        everywhere = NamedSharding(self.layout.mesh, _COPIED)
        arrays = [to_all(leaf, everywhere) for leaf, moved in zip(leaves, moves, strict=True) if moved]
        return Call(kernel, self.layout, form, moves, fixed), self.parts, arrays

    @contextmanager
    def _settings(self) -> Iterator[None]:
        """Compute in float64, and with these devices even where the session has chosen a mesh."""
        with jax.enable_x64(True), jax.set_mesh(self.layout.mesh):
            yield


class Call(NamedTuple):
    """A kernel and all that its compiled code depends on."""

    kernel: Callable[..., Any]
    layout: Layout
    form: Any
    moves: tuple[bool, ...]
    fixed: tuple[Any, ...]

    def __call__(self, block: DenseBlock, arrays: list[Array]) -> Any:
        """Return what the kernel returns."""
        moved = iter(arrays)
        leaves = [next(moved) if moves else fixed for moves, fixed in zip(self.moves, self.fixed, strict=True)]
        return self.kernel(block, *jax.tree.unflatten(self.form, leaves))


@partial(jax.jit, static_argnames="call")
def summed(call: Call, parts: Parts, arrays: list[Array]) -> tuple[Array, ...]:
    """Add what a kernel returns: block after block within a group, then the groups.

    Every device fills the places of its own groups, and the sum over devices adds zeros to them, which no order of it can change.
    """
    layout = call.layout

    def local(parts: Parts, arrays: list[Array]) -> tuple[Array, ...]:
        first = jax.lax.axis_index(_AXIS) * len(parts.starts)

        def step(totals: tuple[Array, ...], number: Array) -> tuple[tuple[Array, ...], None]:
            group = (first + number) // layout.group
            found = call(_block(parts, number, first, layout), arrays)
            return tuple(
                total.at[group].add(part.astype(total.dtype)) for total, part in zip(totals, found, strict=True)
            ), None

        found = jax.eval_shape(lambda: call(_block(parts, 0, first, layout), arrays))
        zeros = tuple(jnp.zeros((layout.n_groups, *part.shape), np.float64) for part in found)
        totals, _ = jax.lax.scan(step, zeros, jnp.arange(len(parts.starts), dtype=jnp.int32))
        return tuple(total.sum(0) for total in jax.lax.psum(totals, _AXIS))

    return _on_each(local, layout.mesh, _COPIED)(parts, arrays)


@partial(jax.jit, static_argnames="call")
def of_each(call: Call, parts: Parts, arrays: list[Array]) -> Array:
    """Return what a kernel returns for every block, (n_blocks, rows, ...), left where it was computed."""

    def local(parts: Parts, arrays: list[Array]) -> Array:
        first = jax.lax.axis_index(_AXIS) * len(parts.starts)
        return jax.lax.map(
            lambda number: call(_block(parts, number, first, call.layout), arrays),
            jnp.arange(len(parts.starts), dtype=jnp.int32),
        )

    return _on_each(local, call.layout.mesh, _SPLIT)(parts, arrays)


def _on_each(local: Callable[..., Any], mesh: Mesh, out: PartitionSpec) -> Callable[..., Any]:
    return jax.shard_map(local, mesh=mesh, in_specs=(_SPLIT, _COPIED), out_specs=out, check_vma=False)


def _block(parts: Parts, number: Array | int, first: Array, layout: Layout) -> DenseBlock:
    """Make one of a device's blocks dense; ``first`` is the number, among all, of its first block."""
    n, m = layout.shape
    values, cols, starts = (part[number] for part in parts)
    counts, row = jnp.diff(starts), jnp.arange(layout.height, dtype=jnp.int32)
    rows = jnp.repeat(row, counts, total_repeat_length=len(values))
    dense = jnp.zeros((layout.height, m)).at[rows, cols].set(values, mode="drop", unique_indices=True)
    place = jnp.minimum(first + number + layout.n_blocks * row, n - 1)
    return DenseBlock(dense, counts.astype(dense.dtype), place, layout.dtype)


def _uploaded(matrix: sparse.csr_array, layout: Layout) -> Parts:
    """Build the blocks of every device and put them there."""
    n, m = layout.shape
    entries = np.diff(matrix.indptr)
    most = max(int(entries[block :: layout.n_blocks].sum()) for block in range(layout.n_blocks))
    capacity, n_local = rounded_up(most), layout.n_groups * layout.group // layout.mesh.size

    def pieces() -> Iterator[Parts]:
        for start in range(0, n_local * layout.mesh.size, n_local):
            values, cols = np.zeros((n_local, capacity)), np.full((n_local, capacity), m, np.int32)
            starts = np.zeros((n_local, layout.height + 1), np.int32)
            for place, block in enumerate(range(start, min(start + n_local, layout.n_blocks))):
                part = matrix[block :: layout.n_blocks]
                values[place, : part.nnz], cols[place, : part.nnz] = part.data, part.indices
                starts[place, 1:] = part.nnz
                starts[place, : part.shape[0] + 1] = part.indptr
            yield Parts(values, cols, starts)

    return from_pieces(pieces(), NamedSharding(layout.mesh, _SPLIT))
