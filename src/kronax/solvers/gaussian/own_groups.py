"""Groups of samples that nobody named: clusters of their coordinates.

A sample of the rows is halved across its longest direction, and the halves again, into up to sixteen parts of twenty or more. From their means Lloyd's algorithm
(k-means) starts. Nothing is drawn at random.
"""

import warnings

import numpy as np
from scipy.cluster.vq import kmeans2, vq

from kronax.solvers.graph.lists import halved
from kronax.solvers.rows.groups import Groups

_MOST, _SMALLEST = 16, 20  # groups, and rows in a part
_SAMPLED = 20_000  # rows from which they are found
_ROUNDS = 20  # of Lloyd's algorithm: what moves later are single rows


def own_groups(coordinates: np.ndarray) -> Groups | None:
    """Group rows by their coordinates, (n, k); None if they are too few for two groups."""
    n = len(coordinates)
    sample = coordinates[:: -(-n // _SAMPLED)]
    parts = list(halved(sample, np.arange(len(sample)), max(len(sample) / _MOST + 1.0, 2.0 * _SMALLEST - 1.0)))
    if len(parts) < 2:
        return None
    means = np.stack([sample[part].mean(axis=0) for part in parts])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a group is empty: it stays where it is
        means, _ = kmeans2(sample, means, iter=_ROUNDS, minit="matrix")
    names, codes = np.unique(vq(coordinates, means)[0], return_inverse=True)
    return Groups(codes, len(names)) if len(names) > 1 else None
