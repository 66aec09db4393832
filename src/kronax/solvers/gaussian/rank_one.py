"""A symmetric matrix whose eigenvectors are known, and the same with a rank-one matrix added.

The eigenvalues ``λ`` of ``diag(d) + uuᵀ`` lie between those of ``d``, one in every gap, and are the roots of

    ``f(λ) = 1 + Σ_i u_i²/(d_i − λ)``,                                                                          (11)

with the eigenvectors ``u_i/(d_i − λ)``. To find them all takes a few times ``m²`` operations; a decomposition of the sum takes
``m³``.
"""

import numpy as np

_STEPS = 100
_CHUNK = 2**16  # numbers held at a time: half a MiB, which caches hold
_EPS = np.finfo(np.float64).eps
_ACCURACY = 4.0 * _EPS  # of f, relative to the sizes of its terms


def leading_with(values: np.ndarray, vectors: np.ndarray, added: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return all eigenvalues, descending, and the ``k`` leading eigenvectors of ``V diag(d) Vᵀ + aaᵀ``.

    Parameters
    ----------
    values, vectors
        ``d``, descending, (m,), and all of ``V``, (m, m).
    added
        ``a``, (m,).
    k
        Eigenvectors wanted.
    """
    d, u = _in_general_position(values[::-1], (added @ vectors)[::-1])
    pole, offset = _roots(d, u**2)
    top = slice(-1, -k - 1, -1)
    inside = u[:, None] / ((d[:, None] - d[pole[top]]) - offset[top])
    inside /= np.linalg.norm(inside, axis=0)
    found = vectors[:, ::-1] @ inside
    found *= np.where(found.max(axis=0) >= -found.min(axis=0), 1.0, -1.0)
    return (d[pole] + offset)[::-1], found


def _in_general_position(d: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Move equal ``d`` apart and every ``u`` away from 0, by no more than rounding: then every gap has one root."""
    rounding = _EPS * (np.abs(d).max() + u @ u)
    steps = rounding * np.arange(len(d))
    u = np.copysign(np.maximum(np.abs(u), np.sqrt(_EPS * rounding)), u)
    return np.maximum.accumulate(d - steps) + steps, u


def _roots(d: np.ndarray, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find all roots, each as its nearest ``d``, by number, and the offset from there: eigenvectors need accurate differences.

    In a gap, ``f`` is close to ``s + a/(d_k − λ) + b/(d_{k+1} − λ)`` with the slopes that the terms on the left and on the right
    have, and its root is the next point (Li, LAPACK Working Note 89, 1993). Where that leads out of the part in which
    the root must be, the middle of the part is.
    """
    last = len(d) - 1
    gaps = np.append(np.diff(d), squares.sum())
    right_ends = np.append(d[1:], d[last] + gaps[last])
    numbers = np.arange(len(d))
    on_left = _secular(d, squares, numbers, numbers, 0.5 * gaps)[0] >= 0.0  # f rises from −∞ to ∞
    on_left[last] = True
    pole = np.where(on_left, numbers, numbers + 1)
    low, high = np.where(on_left, 0.0, -0.5 * gaps), np.where(on_left, 0.5 * gaps, 0.0)
    high[last] = gaps[last]
    offset, going = 0.5 * (low + high), numbers
    for _ in range(_STEPS):
        x = offset[going]
        value, size, left, right = _secular(d, squares, going, pole[going], x)
        low[going], high[going] = np.where(value < 0.0, x, low[going]), np.where(value < 0.0, high[going], x)
        still = np.abs(value) > _ACCURACY * size
        going, x, value, left, right = (array[still] for array in (going, x, value, left, right))
        if not len(going):
            break
        to_left, to_right = (ends[going] - d[pole[going]] - x for ends in (d, right_ends))
        new = x + _root_between(value, left, right, to_left, to_right)
        inside = (new > low[going]) & (new < high[going])
        offset[going] = np.where(inside, new, 0.5 * (low[going] + high[going]))
    return pole, offset


def _secular(
    d: np.ndarray, squares: np.ndarray, gaps: np.ndarray, pole: np.ndarray, offset: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Compute ``f``, the sum of the sizes of its terms, and the slopes of those left and right of a gap, at one point each."""
    size = max(1, _CHUNK // len(d))
    chunks = [slice(start, start + size) for start in range(0, len(gaps), size)]
    parts = [_secular_at(d, squares, gaps[some], pole[some], offset[some]) for some in chunks]
    return tuple(map(np.concatenate, zip(*parts, strict=True)))


def _secular_at(
    d: np.ndarray, squares: np.ndarray, gaps: np.ndarray, pole: np.ndarray, offset: np.ndarray
) -> tuple[np.ndarray, ...]:
    inverse = 1.0 / ((d - d[pole][:, None]) - offset[:, None])
    terms = inverse * squares
    value = 1.0 + terms.sum(axis=1)
    size = 1.0 + np.abs(terms).sum(axis=1)
    terms *= inverse
    slope = terms.sum(axis=1)
    terms[np.arange(len(d)) > gaps[:, None]] = 0.0
    left = terms.sum(axis=1)
    return value, size, left, slope - left


def _root_between(
    value: np.ndarray, left: np.ndarray, right: np.ndarray, to_left: np.ndarray, to_right: np.ndarray
) -> np.ndarray:
    """Solve ``s + a/(Δ₁ − η) + b/(Δ₂ − η) = 0`` for the ``η`` between the poles ``Δ₁ < 0 < Δ₂``; value and slopes are those at 0."""
    a, b = left * to_left**2, right * to_right**2
    s = value - a / to_left - b / to_right
    half = s * (to_left + to_right) + a + b
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(np.maximum(half**2 - 4.0 * s * to_left * to_right * value, 0.0))
        between = np.where(half > 0.0, 2.0 * to_left * to_right * value / (half + root), (half - root) / (2.0 * s))
        return np.where(right > 0.0, between, to_left + a / s)  # nothing lies right of the last gap
