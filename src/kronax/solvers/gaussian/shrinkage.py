"""Noise in a spectrum: nonlinear shrinkage of covariance eigenvalues and optimal shrinkage of singular values."""

from functools import lru_cache

import numpy as np
from scipy import integrate, optimize
from scipy.optimize import isotonic_regression

_STEPS = 30  # of Eq. 10, at most
_CLOSE = 0.03  # how closely widths and averages agree in the end: averages then change by less than a hundredth
_STEP = 0.7  # on a logarithmic scale: whole steps can alternate where eigenvalues are far from each other
_CHUNK = 2**17  # numbers held at a time: 1 MiB, which caches hold
_GROUPS = 512  # of rows or columns with about the same energy
_NEAR, _NEAREST = 1e-10, 1e-15  # how close to 0 and to a pole


def leave_one_out(eigenvalues: np.ndarray, dim: int, n_samples: int, independent: float = 1.0) -> np.ndarray:
    """Compute the variances that a left-out sample shows along the eigenvectors of the others.

    For eigenvectors ``u_i`` of a sample covariance matrix the best eigenvalues are ``u_iᵀΣu_i``, and a sample that had no
    part in finding ``u_i`` shows them without bias. Along the eigenvectors of ``S``, with eigenvalues ``e_j``, the squares of
    the average sample are ``e_j/n``. Without it, ``S`` has the eigenvalues ``d_i``; along their eigenvectors, the squares of
    the average sample are ``s_i``. Both are the poles and residues of

        ``F(z) = Σ_i s_i/(d_i − z) = h/(1 − h)``,  ``D(z) = Σ_i 1/(d_i − z) = Σ_j 1/(e_j − z) + h′/(1 − h)``,      (9)

    with ``h(z) = (1/n) Σ_j e_j/(e_j − z)``: no further eigenproblem is solved. A single ``n s_i`` is noisy where eigenvalues
    are close to each other. Its average over the neighbourhood of an eigenvalue, with the weights
    ``1/((d_i − e)² + η²)²``, again needs only ``F`` and ``D``, at ``z = e + iη``:

        ``δ(e) = n Im[F − iη F′] / Im[D − iη D′]``.                                                              (10)

    The neighbourhood is as wide as the standard error of a variance from ``n`` samples, ``η = δ√(2/n)``; since ``δ`` stands
    on both sides, Eq. 10 is repeated. Isotonic regression keeps the order, and no eigenvalue leaves the range of
    the sample's, until all are scaled to have its trace.

    For large ``n`` and ``p``, this is the formula of Ledoit and Péché (Probability Theory and Related Fields 2011), for
    which ``D`` has no last term. That term counts a direction that the sample alone spans; where ``n`` and ``p`` are about
    equal, it decides what the smallest eigenvalues become.

    Parameters
    ----------
    eigenvalues
        The ``m`` positive eigenvalues of ``S``, a sum over the samples or their mean, in descending order.
    dim
        Number of variables ``p ≥ m``; ``p − m`` eigenvalues are zero.
    n_samples
        Number of samples ``n ≥ m``. If ``m`` is less than both ``n`` and ``p``, some variables or samples are combinations of
        others; as many of both are not counted. Directions without variance get the least of the others' values.
    independent
        Share of the samples that are worth an independent one: ``n`` is taken to be so much less, down to ``m``.

    Returns
    -------
    The ``m`` shrunk eigenvalues in descending order and, if ``p > m``, the common value of the others. Their sum, with
    multiplicities, is the sum of the eigenvalues.
    """
    m = len(eigenvalues)
    n = max(independent * (n_samples + m - min(dim, n_samples)), m)
    n_null = max(dim - n_samples, 0)
    points, counts = eigenvalues, np.ones(m)
    if n_null:
        points, counts = np.append(points, 0.0), np.append(counts, n_null)
    # from the mean on: an eigenvalue that is tiny by chance starts among its neighbours and stays there
    scale = np.full(len(points), eigenvalues.sum() / counts.sum())
    for _ in range(_STEPS):
        found = _around(points, np.sqrt(2.0 / n) * scale, eigenvalues, n, n_null)
        # where eigenvalues differ by less than chance makes them differ, Eq. 10 would make them differ more
        found = np.clip(found, points[-1], points[0])
        # a reversed view, of which NumPy's power can differ in the last bit with the place of its result in memory
        found = np.ascontiguousarray(isotonic_regression(found, weights=counts, increasing=False).x)
        if (np.abs(found - scale) <= _CLOSE * scale).all():
            break
        scale = scale ** (1.0 - _STEP) * found**_STEP
    if dim > m and not n_null:
        found = np.append(found, found[-1])
    trace = found.sum() + (dim - len(found)) * found[-1]
    return found * (eigenvalues.sum() / trace)


def _around(points: np.ndarray, width: np.ndarray, e: np.ndarray, n: float, n_null: int) -> np.ndarray:
    """Evaluate Eq. 10 at every point."""
    z = points + 1j * width
    poles, weighted = _sums_of_poles(points, width, e)
    h, h1, h2 = weighted[0] / n, weighted[1] / n, 2.0 * weighted[2] / n
    g = 1.0 / (1.0 - h)
    f, f1 = h * g, h1 * g**2
    d = poles[0] - n_null / z + h1 * g
    d1 = poles[1] + n_null / z**2 + h2 * g + (h1 * g) ** 2
    return n * (f - 1j * width * f1).imag / (d - 1j * width * d1).imag


def _sums_of_poles(points: np.ndarray, width: np.ndarray, e: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute ``Σ_j (e_j − z)⁻ᵏ`` and ``Σ_j e_j (e_j − z)⁻ᵏ`` for ``k`` = 1, 2, 3 and every ``z = x + iη``, each (3, len(points)).

    With ``u = e_j − x`` and ``d = 1/(u² + η²)`` the powers are ``(u + iη)d``, ``d − 2η²d² + 2iηud²`` and
    ``ud² − 4η²ud³ + i(3ηd² − 4η³d³)``: real arithmetic, a third of the time that complex takes.
    """
    sums, w = _sums_of_powers(points, width**2, e), width
    (d1, d2, d3), (u1, u2, u3) = sums[:, :2], sums[:, 1:] - points * sums[:, :2]
    found = np.stack(
        [
            u1 + 1j * w * d1,
            d1 - 2.0 * w**2 * d2 + 2j * w * u2,
            u2 - 4.0 * w**2 * u3 + 1j * (3.0 * w * d2 - 4.0 * w**3 * d3),
        ]
    )
    return found[:, 0], found[:, 1]


def _sums_of_powers(points: np.ndarray, squares: np.ndarray, e: np.ndarray) -> np.ndarray:
    """Compute the sums over ``j`` of ``dᵏ``, ``e_j dᵏ`` and ``e_j² dᵏ``, (3, 3, len(points)), ``k`` along the first axis.

    Some points at a time, in the same memory: to get it anew can take longer than to compute.
    """
    size = max(1, min(len(points), _CHUNK // len(e)))
    memory, found = np.empty((3, size, len(e))), np.empty((3, 3, len(points)))
    for start in range(0, len(points), size):
        some = slice(start, min(start + size, len(points)))
        d, square, cube = powers = memory[:, : some.stop - start]
        np.subtract(e, points[some, None], out=d)
        np.square(d, out=d)
        d += squares[some, None]
        np.reciprocal(d, out=d)
        np.square(d, out=square)
        np.multiply(d, square, out=cube)
        for which, factor in enumerate((np.ones(len(e)), e, e**2)):
            found[:, which, some] = powers @ factor
    return found


@lru_cache
def _marchenko_pastur_median(aspect: float) -> float:
    """Compute the median of the Marchenko–Pastur law with ratio ``aspect ≤ 1`` and unit variance."""
    root = np.sqrt(aspect)

    def density(t: float) -> float:  # in t, with x = 1 + β − 2√β·cos(t): its roots vanish
        sine = max(np.sin(t / 2), 1e-100)
        return 8.0 * np.cos(t / 2) ** 2 / (np.pi * ((1.0 - root) ** 2 / sine**2 + 4.0 * root))

    def excess(angle: float) -> float:
        return integrate.quad(density, 0.0, angle)[0] - 0.5

    return 1.0 + aspect - 2.0 * root * np.cos(optimize.brentq(excess, 0.0, np.pi))


def noise_level(eigenvalues: np.ndarray, shape: tuple[int, int]) -> float:
    """Estimate the standard deviation of white noise in a matrix from the median of its squared singular values.

    Gavish and Donoho (IEEE Trans. Inf. Theory 2014): the median of ``σ²·max(shape)·MP`` is matched, where MP is
    the Marchenko–Pastur law. A low-rank signal, however strong, hardly moves the median.

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


def noise_edge(row_energies: np.ndarray, col_energies: np.ndarray) -> float:
    """Compute the largest singular value of noise of which some rows and columns have more than others.

    Independent entries have the variances ``a_i b_j / N``, as have those of counts that are mostly zeros. The resolvent of
    such a matrix depends on two numbers ``x`` and ``y`` (Dyson's equation), with which its squared singular values ``w`` are

        ``w x = Σ_i a_i/(1 − a_i y)``,   ``w y = Σ_j b_j/(N − b_j x)``,                                          (12)

    so that ``Σ_i a_i y/(1 − a_i y) = Σ_j b_j x/(N − b_j x) = q``. Where there are no singular values, ``log w = log q − log x −
    log y`` falls as ``q`` grows from 0. It stops falling at the edge, where ``∂log x/∂log q + ∂log y/∂log q = 1``. With equal
    energies, that is ``√n + √p`` standard deviations, as in the Marchenko–Pastur law.

    Parameters
    ----------
    row_energies, col_energies
        Sums ``a_i``, (n,), and ``b_j``, (p,), of the variances, positive; the sum of each is ``N``.
    """
    (a, a_most, n_a), (b, b_most, n_b) = _grouped(row_energies), _grouped(col_energies)

    def excess(x: float) -> float:
        q, slope = _poles(x, b, n_b)
        return 1.0 / slope + 1.0 / _poles(_place_of(q, a, n_a), a, n_a)[1] - 1.0

    x = optimize.brentq(excess, _NEAR, 1.0 - _NEAR, xtol=_NEAR)
    q, _ = _poles(x, b, n_b)
    return float(np.sqrt(q / (x * _place_of(q, a, n_a)) * (a_most * b_most / col_energies.sum())))


def _grouped(energies: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Return energies relative to the largest, that, and how many there are of each; of many, means of those next to each other."""
    starts = np.linspace(0, len(energies), min(len(energies), _GROUPS), endpoint=False).astype(int)
    counts = np.diff(starts, append=len(energies))
    means = np.add.reduceat(np.sort(energies), starts) / counts
    return means / means[-1], float(means[-1]), counts


def _poles(x: float, weights: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Compute ``q = Σ ax/(1 − ax)`` and ``∂log q/∂log x``."""
    terms = weights * x / (1.0 - weights * x)
    q = counts @ terms
    return q, counts @ (terms * (1.0 + terms)) / q


def _place_of(q: float, weights: np.ndarray, counts: np.ndarray) -> float:
    """Find the ``y`` at which ``Σ ay/(1 − ay) = q``."""
    return optimize.brentq(lambda y: _poles(y, weights, counts)[0] - q, _NEAREST, 1.0 - _NEAREST, xtol=_NEAREST)
