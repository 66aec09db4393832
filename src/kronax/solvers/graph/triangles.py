"""Edges that others may explain."""

from itertools import groupby

import numpy as np


def weakest_of_three(first: np.ndarray, second: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Mark the edges whose ends a third vertex joins by two stronger edges: ``w_ij < min(w_ik, w_jk)`` for some ``k``.

    If one variable acts on another only through a third, it tells less about it than about the third: the data processing inequality, by
    which ARACNE leaves such edges out (Margolin et al. 2006).

    Parameters
    ----------
    first, second
        Ends of every edge, each edge once.
    strength
        Of every edge, whatever its sign.
    """
    bits = {vertex: 1 << place for place, vertex in enumerate(np.unique([first, second]).tolist())}
    neighbours = dict.fromkeys(bits, 0)  # a set of vertices as the bits of a number
    found, first, second = np.zeros(len(strength), dtype=bool), first.tolist(), second.tolist()
    order = np.argsort(-strength, kind="stable").tolist()
    for _, equal in groupby(order, key=strength.tolist().__getitem__):
        equal = list(equal)
        for edge in equal:
            found[edge] = neighbours[first[edge]] & neighbours[second[edge]] != 0
        for edge in equal:
            i, j = first[edge], second[edge]
            neighbours[i] |= bits[j]
            neighbours[j] |= bits[i]
    return found
