"""Graphs in which edges have changed places and every vertex has kept the number of its edges."""

from collections.abc import Iterator, Sequence

import numpy as np

from kronax.solvers.communities.igraph_edges import from_edges, seeded

_PATIENCE = 50  # rounds of trials without progress
_TRIALS = 10  # per edge, after which nothing is left of the original


def randomised(n: int, edges: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a random graph with the degrees of a graph: its edges, (m, 2)."""
    graph = from_edges(n, edges)
    with seeded(_seed(rng)):
        graph.rewire(_TRIALS * len(edges))
    return _edges(graph)


def perturbed(n: int, edges: np.ndarray, shares: Sequence[float], rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Rewire a growing share of the edges; return the edges, (m, 2), at every share. Shares must ascend.

    The ends of two random edges are exchanged again and again, where that makes no double edge. A share is met to within
    half a per cent of the edges.
    """
    graph = from_edges(n, edges)
    original = np.sort(_number(n, edges))
    close = len(edges) // 200
    now, changed = edges, 0
    for share in shares:
        target = round(share * len(edges))
        best, waited = changed, 0
        while changed < target and (target - changed > close or changed == 0):
            with seeded(_seed(rng)):
                graph.rewire(max(1, (target - changed) // 2))
            now = _edges(graph)
            changed = len(edges) - int(_found(_number(n, now), original).sum())
            best, waited = (changed, 0) if changed > best else (best, waited + 1)
            if waited > _PATIENCE:
                msg = (
                    f"Only {best / len(edges):.0%} of the edges can change places while every vertex keeps the number of "
                    "its edges. The graph is too dense, or too small, to be perturbed that far: ask for smaller shares."
                )
                raise ValueError(msg)
        yield now


def carry_weights(
    n: int, edges: np.ndarray, weights: np.ndarray, changed: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Choose the weights of the edges of a perturbed graph.

    An edge that is still there keeps its weight; the new ones get those of the edges that are gone, in random order.
    """
    old, new = _number(n, edges), _number(n, changed)
    order = np.argsort(old)
    place = order[np.minimum(np.searchsorted(old, new, sorter=order), len(old) - 1)]
    kept = old[place] == new
    carried = np.empty(len(new))
    carried[kept] = weights[place[kept]]
    carried[~kept] = rng.permutation(weights[~_found(old, np.sort(new))])
    return carried


def _found(numbers: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Mark the numbers that are among others, which are sorted."""
    return among[np.minimum(np.searchsorted(among, numbers), len(among) - 1)] == numbers


def _edges(graph) -> np.ndarray:
    return np.sort(np.array(graph.get_edgelist(), dtype=np.int64).reshape(-1, 2), axis=1)


def _number(n: int, edges: np.ndarray) -> np.ndarray:
    """Number pairs, the smaller vertex first."""
    return edges[:, 0] * n + edges[:, 1]


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))
