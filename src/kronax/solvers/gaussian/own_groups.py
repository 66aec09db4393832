"""Groups of samples that nobody named: clusters of their coordinates, if there are any.

A sample of them is halved across its longest direction, and the halves again, into parts worth forty independent samples or more: up to three for every
direction above the noise, and sixty-four at most. From their means Lloyd's algorithm (k-means) starts.

Samples without clusters can be divided too, and what they have in common is then lost. With ``W`` the sum of the squared distances from the nearest
mean, and ``W*`` that of Gaussian samples with the same covariance, clusters are those with the gap (Tibshirani et al. 2001)

    ``E[log W*] − log W > 2.5 sd(log W*)``.                                                                          (25)
"""

import warnings

import numpy as np
from scipy.cluster.vq import kmeans2, vq

from kronax.solvers.graph.lists import halved
from kronax.solvers.rows.groups import Groups

_MOST, _PER_DIRECTION, _SMALLEST = 64, 3, 40  # groups, and independent samples in a part
_SAMPLED, _COMPARED = 10_000, 2_000  # samples from which they are found, and whose gap is
_ROUNDS = 20  # of Lloyd's algorithm: what moves later are single samples
_DRAWN, _SURE = 8, 2.5  # Gaussian samples, and standard deviations


def own_groups(coordinates: np.ndarray, rank: int, independent: float = 1.0) -> Groups | None:
    """Group samples by their coordinates, (n, k).

    Parameters
    ----------
    coordinates
        Of every sample.
    rank
        Number of directions above the noise.
    independent
        Share of the samples that are worth an independent one.

    Returns
    -------
    The groups; None with fewer than two directions, too few samples, or no clusters.
    """
    if rank < 2:
        return None
    n_most, smallest = min(_MOST, _PER_DIRECTION * rank), _SMALLEST / (independent * len(coordinates))
    if not _are_clustered(_some(coordinates, _COMPARED), n_most, smallest):
        return None
    means = _means(_some(coordinates, _SAMPLED), n_most, smallest)
    names, codes = np.unique(vq(coordinates, means)[0], return_inverse=True)
    return Groups(codes, len(names)) if len(names) > 1 else None


def _some(coordinates: np.ndarray, n: int) -> np.ndarray:
    """Return random rows, so many at most, the same every time: evenly spread ones could be of one type."""
    if len(coordinates) <= n:
        return coordinates
    return coordinates[np.sort(np.random.default_rng(0).choice(len(coordinates), n, replace=False))]


def _means(sample: np.ndarray, n_most: int, smallest: float) -> np.ndarray:
    """Find the means of clusters, so many at most, and with at least this share of the rows."""
    longest = max(
        2 * len(sample) / (n_most + 1) + 1, 2 * smallest * len(sample) - 1
    )  # halves of which are no more than `n_most`
    means = np.stack([sample[part].mean(axis=0) for part in halved(sample, np.arange(len(sample)), longest)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a group is empty: it stays where it is
        return kmeans2(sample, means, iter=_ROUNDS, minit="matrix")[0]


def _are_clustered(sample: np.ndarray, n_most: int, smallest: float) -> bool:
    """Return whether there is a gap: Eq. 25, with the same draws every time."""
    values, vectors = np.linalg.eigh(np.cov(sample, rowvar=False))
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    draws = np.random.default_rng(0).normal(size=(_DRAWN, *sample.shape)) @ root

    def log_distance(some: np.ndarray) -> float:
        squares = (vq(some, _means(some, n_most, smallest))[1] ** 2).sum()
        return float(np.log(max(squares, np.finfo(np.float64).tiny)))  # equal rows have none

    drawn = [log_distance(draw) for draw in draws]
    error = np.std(drawn, ddof=1) * np.sqrt(1.0 + 1.0 / _DRAWN)
    return bool(np.mean(drawn) - log_distance(sample) > _SURE * error)
