"""Precision matrices of random graphs: positive definite, and as far from diagonal whatever the graph and its signs."""

from typing import Literal

import numpy as np

from kronax.solvers.communities.igraph_edges import seeded
from kronax.solvers.device import eigh_all

_MARGIN = 1.1  # the smallest eigenvalue is 1 - 1/1.1


def graph_precision(
    n: int,
    graph: Literal["barabasi_albert", "block"],
    signs: Literal["positive", "random"],
    block_size: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Compute ``I + N / (1.1 |λ|)``, where ``N = D^-½ A D^-½`` and ``λ`` is the smallest eigenvalue of ``N``; (n, n).

    The spectrum of a tree is symmetric about 0 and that of ``N`` ends at 1, so for a Barabási–Albert tree ``|λ| = 1``,
    whatever the signs.
    """
    adjacency = _tree(n, rng) if graph == "barabasi_albert" else _blocks(n, block_size)
    degree = np.maximum(adjacency.sum(axis=1), 1.0)
    if signs == "random":
        upper = np.triu(rng.choice([-1.0, 1.0], size=(n, n)), 1)
        adjacency = adjacency * (upper + upper.T)
    normalised = adjacency / np.sqrt(np.outer(degree, degree))
    ((values, _),) = eigh_all([normalised])
    return np.eye(n) + normalised / (_MARGIN * abs(values[-1]))


def _tree(n: int, rng: np.random.Generator) -> np.ndarray:
    """Grow a Barabási–Albert tree: every new vertex joins one of the others, with preference for large degrees."""
    import igraph

    with seeded(int(rng.integers(2**31))):
        edges = np.array(igraph.Graph.Barabasi(n, 1).get_edgelist())
    adjacency = np.zeros((n, n))
    adjacency[edges[:, 0], edges[:, 1]] = adjacency[edges[:, 1], edges[:, 0]] = 1.0
    return adjacency


def _blocks(n: int, block_size: int) -> np.ndarray:
    """Connect all vertices of a block; the last block may be smaller."""
    block = np.arange(n) // block_size
    adjacency = (block[:, None] == block).astype(float)
    np.fill_diagonal(adjacency, 0.0)
    return adjacency
