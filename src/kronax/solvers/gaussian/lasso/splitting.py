"""Eq. 5 of :mod:`kronax.solvers.gaussian.lasso.newton` from afar: Douglas–Rachford splitting, accelerated.

Likelihood and penalty are dealt with one at a time (Eckstein and Bertsekas, Math. Program. 1992). With the norm
``ρ‖Ψ ⊕ Φ‖²`` for the distance of two pairs ``(Ψ, Φ)``, both have a proximal point in closed form or nearly so:

- of the penalty: off the diagonals, entries move towards zero by ``R/2ρp`` and ``C/2ρn``, and stop there;
- of the likelihood: with ``(A, B)`` for the point, the minimum of Eqs. 3 and 3′ for ``S₁ − 2ρ(pA + tr(B)I)`` and
  ``S₂ − 2ρ(nB + tr(A)I)``, which has their eigenvectors.

The barrier at the edge of the domain is thus met exactly, where Newton's method would have to take many short steps. Near
the solution it is the other way round. A fixed point ``V`` of

    ``Z = prox of the penalty at V``,   ``Θ = prox of the likelihood at 2Z − V``,   ``V ← V + Θ − Z``               (6)

has the solution ``Z = Θ``, ``Z`` being exactly sparse. Anderson's extrapolation over the last points takes the place of most
of the steps (Anderson, J. ACM 1965).
"""

import numpy as np
from tqdm.auto import tqdm

from kronax.solvers.device import eigh_all
from kronax.solvers.gaussian import kronecker_sum

_WEIGHT = 0.5  # the first ρ, in units of the squared mean variance
_MEMORY = 20  # points that the extrapolation looks back on
_ADAPTED = 20  # every so many steps ρ is adapted ...
_ADAPTED_UNTIL = 200  # ... up to this one
_BALANCE = 4.0  # of the two residuals: beyond this ratio ρ is changed
_WORSE = 2.0  # if a step increases the distance to a fixed point by more than this factor, it was extrapolated too far
_REGULAR = 1e-10  # of the extrapolation's normal equations

Pair = tuple[np.ndarray, np.ndarray]


def split(
    s1: np.ndarray,
    s2: np.ndarray,
    penalties: Pair,
    start: Pair,
    *,
    tol: float = 1e-7,
    max_iter: int = 3000,
    progress: str | None = None,
) -> Pair:
    """Come close to the solution of Eq. 5, from anywhere.

    Parameters
    ----------
    s1, s2
        ``S₁`` (n, n) and ``S₂`` (p, p), symmetric, the same trace.
    penalties
        ``R`` and ``C``, symmetric, zero diagonals.
    start
        ``Ψ`` and ``Φ``.
    tol
        To stop at: distance of ``Z`` and ``Θ``, and length of the last step of ``Z``, relative.
    max_iter
        Steps to stop after.
    progress
        Name of the bar that long work shows; None for no bar.

    Returns
    -------
    ``Ψ`` and ``Φ``, exactly sparse, not quite the solution. They may lie outside the domain of Eq. 5.
    """
    s, sizes = (s1, s2), (len(s2), len(s1))  # how often the norm counts an entry of Ψ, of Φ
    rho = _WEIGHT * (np.trace(s1) / (len(s1) * len(s2))) ** 2
    v, z, spectra, history = _lifted(start, s, rho, sizes), start, None, _History(sizes)
    endless = iter(range(max_iter))  # without an end, so that the bar estimates none: few solves come near the limit
    steps = tqdm(endless, desc=progress, unit=" step", delay=2, leave=False, disable=progress is None)
    for k in steps:
        last, z = z, tuple(_shrunk(x, r / (2.0 * rho * size)) for x, r, size in zip(v, penalties, sizes, strict=True))
        theta, spectra = _likely(s, _plus(z, 1.0, _plus(z, -1.0, v)), rho, sizes, spectra)
        move = _plus(theta, -1.0, z)
        apart = _norm(move, sizes) / _norm(z, sizes)
        moved = _norm(_plus(z, -1.0, last), sizes) / max(_norm(_plus(v, -1.0, z), sizes), 1e-300)
        steps.set_postfix(residual=f"{max(apart, moved):.1e}", goal=f"{tol:.0e}", refresh=False)
        if k and max(apart, moved) < tol:
            break
        if k % _ADAPTED == _ADAPTED - 1 and k < _ADAPTED_UNTIL and not 1 / _BALANCE < apart / moved < _BALANCE:
            factor = 2.0 if apart > moved else 0.5
            rho, v, history = rho * factor, _plus(z, 1.0 / factor, _plus(v, -1.0, z)), _History(sizes)
        else:
            v = history.next(v, move)
    return z


def _lifted(theta: Pair, s: Pair, rho: float, sizes: tuple[int, int]) -> Pair:
    """Return the ``V`` that belongs to a solution: ``Θ`` and, off the diagonal, the likelihood's gradient, turned and scaled."""
    (lam, u), (mu, v) = eigh_all(theta)
    k = 1.0 / np.maximum(np.add.outer(lam, mu), 1e-300)
    partial_traces = (u * k.sum(axis=1)) @ u.T, (v * k.sum(axis=0)) @ v.T
    lifted = []
    for x, trace, a, size in zip(theta, partial_traces, s, sizes, strict=True):
        force = (trace - a) / (2.0 * rho * size)
        np.fill_diagonal(force, 0.0)
        lifted.append(x + force)
    return tuple(lifted)


def _shrunk(x: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    return np.sign(x) * np.maximum(np.abs(x) - threshold, 0.0)


def _likely(s: Pair, point: Pair, rho: float, sizes: tuple[int, int], start: Pair | None) -> tuple[Pair, Pair]:
    """Return the proximal point of the likelihood, and its eigenvalues, from which the next solve may start."""
    traces = np.trace(point[1]), np.trace(point[0])
    shifted = [
        a - 2.0 * rho * (size * x + trace * np.eye(len(x)))
        for a, x, size, trace in zip(s, point, sizes, traces, strict=True)
    ]
    (e, u), (f, v) = eigh_all(shifted)
    solved = kronecker_sum.fit(e, f, np.ones(len(e)), np.ones(len(f)), ridge=rho, start=start)
    return ((u * solved.lam) @ u.T, (v * solved.mu) @ v.T), (solved.lam, solved.mu)


class _History:
    """The last points of Eq. 6 and their moves, as differences, from which the next point is extrapolated."""

    def __init__(self, sizes: tuple[int, int]) -> None:
        self.scales = tuple(np.sqrt(size) for size in sizes)
        self.upper = tuple(np.triu_indices(size) for size in sizes[::-1])
        length = sum(len(rows) for rows, _ in self.upper)
        self.d_points, self.d_moves = np.empty((2, _MEMORY, length))
        self.normal = np.zeros((_MEMORY, _MEMORY))  # products of the rows of d_moves
        self.last: Pair | None = None
        self.n_known = 0

    def next(self, point: Pair, move: Pair) -> Pair:
        """Return the combination of the last points whose moves, combined in the same way, are the shortest; and move on."""
        x, g = self._flat(point), self._flat(move)
        if self.last is not None:
            self._note(
                x - self.last[0], g - self.last[1], worse=np.linalg.norm(g) > _WORSE * np.linalg.norm(self.last[1])
            )
        self.last = x, g
        known = min(self.n_known, _MEMORY)
        if known > 1:
            normal = self.normal[:known, :known]
            regular = normal + _REGULAR * np.trace(normal) * np.eye(known)
            weights = np.linalg.solve(regular, self.d_moves[:known] @ g)
            x, g = x - weights @ self.d_points[:known], g - weights @ self.d_moves[:known]
        return self._matrices(x + g)

    def _note(self, d_point: np.ndarray, d_move: np.ndarray, *, worse: bool) -> None:
        if worse:
            self.n_known = 0
            return
        slot = self.n_known % _MEMORY
        self.n_known += 1
        known = min(self.n_known, _MEMORY)
        self.d_points[slot], self.d_moves[slot] = d_point, d_move
        self.normal[slot, :known] = self.normal[:known, slot] = self.d_moves[:known] @ d_move

    def _flat(self, pair: Pair) -> np.ndarray:
        return np.concatenate([a * x[upper] for a, x, upper in zip(self.scales, pair, self.upper, strict=True)])

    def _matrices(self, flat: np.ndarray) -> Pair:
        matrices = []
        parts = np.split(flat, [len(self.upper[0][0])])
        for part, a, (rows, cols), size in zip(parts, self.scales, self.upper, self.scales[::-1], strict=True):
            matrix = np.empty((round(size**2),) * 2)
            matrix[rows, cols] = matrix[cols, rows] = part / a
            matrices.append(matrix)
        return tuple(matrices)


def _plus(x: Pair, scale: float, y: Pair) -> Pair:
    return tuple(a + scale * b for a, b in zip(x, y, strict=True))


def _norm(x: Pair, sizes: tuple[int, int]) -> float:
    return float(np.sqrt(sum(size * np.vdot(a, a) for a, size in zip(x, sizes, strict=True))))
