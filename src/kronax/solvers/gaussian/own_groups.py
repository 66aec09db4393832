"""Groups of samples that nobody named: clusters of their coordinates.

A sample of the rows is halved across its longest direction, and the halves again, into parts worth forty independent rows or more: up to three for every
direction above the noise, and thirty-two at most. From their means Lloyd's algorithm (k-means) starts. Nothing is drawn at random.
"""

import warnings

import numpy as np
from scipy.cluster.vq import kmeans2, vq

from kronax.solvers.graph.lists import halved
from kronax.solvers.rows.groups import Groups

_MOST, _PER_DIRECTION, _SMALLEST = 32, 3, 40  # groups, and independent rows in a part
_SAMPLED = 20_000  # rows from which they are found
_ROUNDS = 20  # of Lloyd's algorithm: what moves later are single rows


def own_groups(coordinates: np.ndarray, rank: int, independent: float = 1.0) -> Groups | None:
    """Group rows by their coordinates, (n, k).

    Parameters
    ----------
    coordinates
        Of every row.
    rank
        Number of directions above the noise.
    independent
        Share of the rows that are worth an independent one.

    Returns
    -------
    The groups; None with fewer than two directions, or too few rows.
    """
    if rank < 2:
        return None
    sample = coordinates[:: -(-len(coordinates) // _SAMPLED)]
    most = min(_MOST, _PER_DIRECTION * rank)
    smallest = _SMALLEST / independent
    longest = max(2 * len(sample) / (most + 1) + 1, 2 * smallest - 1)  # halves of which are no more than `most`
    means = np.stack([sample[part].mean(axis=0) for part in halved(sample, np.arange(len(sample)), longest)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a group is empty: it stays where it is
        means, _ = kmeans2(sample, means, iter=_ROUNDS, minit="matrix")
    names, codes = np.unique(vq(coordinates, means)[0], return_inverse=True)
    return Groups(codes, len(names)) if len(names) > 1 else None
