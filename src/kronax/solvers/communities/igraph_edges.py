"""igraph with a seed of its own. igraph is imported late, as whatever is slow to import."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    import igraph


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let igraph draw from a generator with this seed, and afterwards from Python's again, which is its default."""
    import igraph

    igraph.set_random_number_generator(random.Random(seed))
    try:
        yield
    finally:
        igraph.set_random_number_generator(random)


def from_edges(n: int, edges: np.ndarray) -> igraph.Graph:
    """Make an undirected graph of n vertices from an array of pairs."""
    import igraph

    return igraph.Graph(n, edges.tolist())


def edges_of(graph: sparse.spmatrix | sparse.sparray) -> tuple[np.ndarray, np.ndarray]:
    """Return every edge of a symmetric graph once, as pairs (m, 2), smaller vertex first, and its weight."""
    upper = sparse.triu(graph, k=1, format="coo")
    return np.column_stack([upper.row, upper.col]).astype(np.int64), upper.data
