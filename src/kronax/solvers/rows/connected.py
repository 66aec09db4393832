"""Blocks of rows and columns that no entry connects, counted in one pass."""

from collections.abc import Iterable

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from kronax.solvers.rows.block import Block, like

_STEPS = 4


def hang_together(matrix: sparse.csr_array) -> bool:
    """Return whether a few steps from the first column, to all rows that have it and all that they have, reach every column.

    Nearly always they do; where they do not, all may still be connected.
    """
    pattern, reached = like(matrix, np.ones(matrix.nnz, bool)), np.arange(matrix.shape[1]) == 0
    for _ in range(_STEPS):
        reached |= pattern.T @ (pattern @ reached)
    return bool(reached.all())


def component_of_cols(block: Block) -> np.ndarray:
    """Number the connected components of some rows and all columns; return that of every column, (m,)."""
    n, m = block.matrix.shape
    pattern = sparse.csr_array((np.ones(block.matrix.nnz, np.int8), block.matrix.indices, block.matrix.indptr), (n, m))
    return connected_components(sparse.block_array([[None, pattern], [pattern.T, None]]), directed=False)[1][n:]


def count(parts: Iterable[np.ndarray]) -> int:
    """Count the components of all rows together, from those of the columns in every part; no row is empty."""
    parts = [np.unique(part, return_inverse=True)[1] for part in parts]
    m, starts = len(parts[0]), np.cumsum([0, *(part.max() + 1 for part in parts)])
    cols = np.tile(np.arange(m), len(parts))
    groups = np.concatenate([start + part for start, part in zip(starts[:-1], parts, strict=True)])
    links = sparse.coo_array((np.ones(len(cols), np.int8), (cols, m + groups)), (m + starts[-1],) * 2)
    return int(connected_components(links, directed=False)[0])
