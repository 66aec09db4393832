"""Noise in a spectrum: nonlinear shrinkage of covariance eigenvalues and optimal shrinkage of singular values."""

from functools import lru_cache

import numpy as np
from scipy import integrate, optimize


def quadratic_inverse_shrinkage(eigenvalues: np.ndarray, dim: int, n_samples: int) -> tuple[np.ndarray, float]:
    """Shrink the eigenvalues of a sample covariance matrix so that its inverse is as good as it can be.

    Quadratic-inverse shrinkage (Ledoit and Wolf, Bernoulli 2022), asymptotically optimal for the inverse Stein loss
    among all estimators that keep the sample eigenvectors.

    Parameters
    ----------
    eigenvalues
        The ``m`` positive eigenvalues, in any order.
    dim
        Number of variables ``p ≥ m``; ``p − m`` eigenvalues are zero.
    n_samples
        Number of samples ``n ≥ m``. Where ``m`` is less than both, some variables, or some samples, are combinations of
        others: they do not count, and directions that show no variance get the least of the shrunk eigenvalues.

    Returns
    -------
    The ``m`` shrunk eigenvalues in the order given, and the common value of the ``p − m`` others (NaN if there are none).
    Their sum, with multiplicities, is the sum of the eigenvalues.
    """
    m = len(eigenvalues)
    p, n = (m, n_samples) if dim <= n_samples else (dim, m)
    c = p / n
    h = min(c**2, c**-2) ** 0.35 / p**0.35
    inverse = 1.0 / eigenvalues
    difference = inverse[None, :] - inverse[:, None]
    kernel = inverse[None, :] / (difference**2 + h**2 * inverse[None, :] ** 2)
    theta = (kernel * difference).mean(axis=1)
    amplitude = theta**2 + (h * kernel * inverse[None, :]).mean(axis=1) ** 2
    if p > m:
        shrunk = 1.0 / (inverse * amplitude)
        null = 1.0 / ((c - 1.0) * inverse.mean())
    else:
        shrunk = 1.0 / ((1.0 - c) ** 2 * inverse + 2.0 * c * (1.0 - c) * inverse * theta + c**2 * inverse * amplitude)
        null = shrunk.min()
    trace = eigenvalues.sum() / (shrunk.sum() + (dim - m) * null)
    return trace * shrunk, trace * null if dim > m else np.nan


@lru_cache
def _marchenko_pastur_median(aspect: float) -> float:
    """Median of the Marchenko–Pastur law with ratio ``aspect ≤ 1`` and unit variance."""
    root = np.sqrt(aspect)

    def density(t: float) -> float:  # in t, with x = 1 + β − 2√β·cos(t): its roots vanish
        sine = max(np.sin(t / 2), 1e-100)
        return 8.0 * np.cos(t / 2) ** 2 / (np.pi * ((1.0 - root) ** 2 / sine**2 + 4.0 * root))

    def excess(angle: float) -> float:
        return integrate.quad(density, 0.0, angle)[0] - 0.5

    return 1.0 + aspect - 2.0 * root * np.cos(optimize.brentq(excess, 0.0, np.pi))


def noise_level(eigenvalues: np.ndarray, shape: tuple[int, int]) -> float:
    """Estimate the standard deviation of white noise in a matrix from the median of its squared singular values.

    Gavish and Donoho (IEEE Trans. Inf. Theory 2014): the median of ``σ²·max(shape)·MP`` is
    matched, where MP is the Marchenko–Pastur law. A low-rank signal, however strong, hardly moves the median.

    Parameters
    ----------
    eigenvalues
        The positive squared singular values.
    shape
        Shape of the matrix.
    """
    small, large = sorted(shape)
    return float(np.sqrt(np.median(eigenvalues) / (large * _marchenko_pastur_median(small / large))))


def shrink_singular_values(singular: np.ndarray, noise: float, shape: tuple[int, int]) -> np.ndarray:
    """Shrink singular values so that the low-rank matrix made of them is nearest, in mean square, to the signal.

    With ``y = s / (σ√N)`` and ``β = M/N`` for an ``M × N`` matrix, ``M ≤ N``:
    ``η(y) = √((y² − β − 1)² − 4β) / y`` above the noise edge ``y = 1 + √β`` and 0 below
    (Gavish and Donoho, IEEE Trans. Inf. Theory 2017, Frobenius loss).
    """
    small, large = sorted(shape)
    beta = small / large
    unit = noise * np.sqrt(large)
    shrunk = np.zeros_like(singular)
    above = singular > unit * (1.0 + np.sqrt(beta))
    y2 = (singular[above] / unit) ** 2
    shrunk[above] = unit * np.sqrt(np.maximum((y2 - beta - 1.0) ** 2 - 4.0 * beta, 0.0) / y2)
    return shrunk
