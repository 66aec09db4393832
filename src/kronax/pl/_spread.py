"""Nodes of a network, moved as little as possible so that all names and edges can be seen."""

import numpy as np

_GROWTH = 1.02  # of all distances, when pushing alone does not help
_FASTER = 1.06  # that, where it is for the names alone
_PUSHES = 15  # before that
_MOST = 1.5  # growth that edges may cost; names may cost any
_WORK = 1_000_000  # most pairs of an edge and a node that are examined, about a second's work


def spread(
    places: np.ndarray,
    sizes: np.ndarray,
    edges: np.ndarray | None = None,
    *,
    aside: np.ndarray | float = 0.0,
    dot: float = 0.0,
) -> np.ndarray:
    """Move nodes until no box overlaps another, and edges lead past the nodes that are not their own, if that is possible.

    Parameters
    ----------
    places
        Nodes, ``(n, 2)``, all different.
    sizes
        Widths and heights of their boxes, ``(n, 2)``.
    edges
        The nodes that each edge joins, ``(m, 2)``.
    aside
        From the nodes to their boxes' centres, ``(n, 2)``.
    dot
        Distance that edges keep from the nodes of others.

    Returns
    -------
    Nodes, ``(n, 2)``.
    """
    places = np.array(places, float)
    least = (sizes[:, None] + sizes) / 2  # (n, n, 2): centres this far apart along either axis do not overlap
    edges = np.zeros((0, 2), int) if edges is None else edges
    tries = _WORK // max(1, len(edges) * len(places))
    step, grown = 0, 1.0
    while True:
        heeded = step < tries and grown <= _MOST
        push = _off_edges(places, edges, dot) if heeded else np.zeros_like(places)
        away, clash = _apart(places + push + aside, least)
        if not clash and not push.any():
            return places
        places += push + away
        step += 1
        if step % _PUSHES == 0:
            growth = _GROWTH if heeded else _FASTER
            places, grown = places * growth, grown * growth


def _apart(centres: np.ndarray, least: np.ndarray) -> tuple[np.ndarray, bool]:
    """Compute, for every box, the way out of those it overlaps; return also whether any do."""
    away = centres[:, None] - centres
    lack = least - np.abs(away)
    clash = (lack > 0).all(axis=2)
    np.fill_diagonal(clash, False)
    narrow = lack[..., 0] < lack[..., 1]  # along which axis the way out is shorter
    push = np.zeros_like(away)
    for axis, along in ((0, narrow), (1, ~narrow)):
        direction = np.where(away[..., axis] != 0, np.sign(away[..., axis]), _by_order(len(centres)))
        push[..., axis] = np.where(clash & along, direction * (lack[..., axis] / 2 + 1e-6), 0.0)
    return push.sum(axis=1) / np.maximum(clash.sum(axis=1), 1)[:, None], bool(clash.any())


def crossed(places: np.ndarray, edges: np.ndarray, dot: float) -> tuple[np.ndarray, ...]:
    """Find edges that lead over other nodes: edges, nodes, how far along the edge, and the nodes' distance to its left."""
    start = places[edges[:, 0]]
    way = places[edges[:, 1]] - start
    long = np.maximum(np.hypot(*way.T), 1e-12)[:, None]
    x, y = (places[:, axis] - start[:, axis, None] for axis in (0, 1))  # (m, n)
    along = (x * way[:, :1] + y * way[:, 1:]) / long**2
    left = (y * way[:, :1] - x * way[:, 1:]) / long
    over = (along > 0) & (along < 1) & (np.abs(left) < dot)
    over[np.arange(len(edges))[:, None], edges] = False
    edge, node = np.nonzero(over)
    return edge, node, along[over], left[over]


def _off_edges(places: np.ndarray, edges: np.ndarray, dot: float) -> np.ndarray:
    """Compute, for every node, the way off the edges of others; the edges' ends go the other way."""
    push, weight = np.zeros_like(places), np.zeros(len(places))
    edge, node, along, left = crossed(places, edges, dot)
    one, other = edges[edge].T
    way = places[other] - places[one]
    aside = np.stack([-way[:, 1], way[:, 0]], axis=1) / np.hypot(*way.T)[:, None]
    lack = ((1.1 * dot - np.abs(left)) * np.where(left >= 0, 1, -1) / 2)[:, None] * aside
    for of, share in ((node, np.ones(len(node))), (one, along - 1), (other, -along)):
        np.add.at(push, of, lack * share[:, None])
        np.add.at(weight, of, np.abs(share))
    return push / np.maximum(weight, 1)[:, None]


def _by_order(n: int) -> np.ndarray:
    """Choose a direction for pairs at the same place: the later one moves up."""
    return np.sign(np.subtract.outer(np.arange(n), np.arange(n)))
