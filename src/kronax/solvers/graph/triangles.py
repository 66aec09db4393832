"""Edges that others may explain."""

import numpy as np


def weakest_of_three(first: np.ndarray, second: np.ndarray, strength: np.ndarray, margin: float = 1.0) -> np.ndarray:
    """Mark the edges whose ends a third vertex joins by two stronger edges: ``w_ij < margin · min(w_ik, w_jk)`` for some ``k``.

    If one variable acts on another only through a third, it tells less about it than about the third: the data processing inequality, by
    which ARACNE leaves such edges out (Margolin et al. 2006).

    Parameters
    ----------
    first, second
        Ends of every edge, each edge once.
    strength
        Of every edge, whatever its sign.
    margin
        How many times as strong as the weaker of two others an edge has to be, 1 or more.
    """
    bits = {vertex: 1 << place for place, vertex in enumerate(np.unique([first, second]).tolist())}
    neighbours = dict.fromkeys(bits, 0)  # a set of vertices as the bits of a number
    found, n_joined = np.zeros(len(strength), dtype=bool), 0
    order = np.argsort(-strength, kind="stable")
    first, second, strength = (values[order].tolist() for values in (first, second, strength))
    for place, (i, j, own) in enumerate(zip(first, second, strength, strict=True)):
        while n_joined < len(order) and margin * strength[n_joined] > own:
            one, other = first[n_joined], second[n_joined]
            neighbours[one] |= bits[other]
            neighbours[other] |= bits[one]
            n_joined += 1
        found[order[place]] = neighbours[i] & neighbours[j] != 0
    return found
