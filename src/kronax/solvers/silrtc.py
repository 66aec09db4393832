"""SiLRTC: plain gradient steps on the relaxed trace norms (Liu et al. 2013, Algorithm 1).

The equations are those of :mod:`kronax.solvers.trace_norm`.
"""

from dataclasses import dataclass

import numpy as np

from kronax.solvers.completion import Completion
from kronax.solvers.trace_norm import (
    Envelope,
    Problem,
    Solved,
    complete,
    gradient_and_square,
    grams,
    iterations,
    reached,
    step,
    stopped,
)
from kronax.solvers.unfold import eigh


@dataclass(frozen=True)
class SilrtcOptions:
    """Options of ``silrtc``.

    Attributes
    ----------
    alpha
        Weights of the modes (treatment, context, gene), positive or 0 (the mode is left out); scaled to sum 1.
    smoothing
        ``τ_i = α_i/β_i`` as a share of ``σ_max(X_(i))``, as in :class:`FalrtcOptions`; its steps need it larger.
    max_iter
        Iterations, at most.
    tol
        The solve ends when an iteration changes the tensor by less than this share of the norm of the measured entries.
    """

    alpha: tuple[float, float, float] = (1.0, 1.0, 0.0)
    smoothing: float = 1e-2
    max_iter: int = 1000
    tol: float = 1e-5


def silrtc(
    values: np.ndarray,
    options: SilrtcOptions = SilrtcOptions(),
    *,
    width: int | None = None,
    progress: bool = False,
) -> Completion:
    """Complete a tensor by block coordinate descent on the relaxed trace norms (Liu et al. 2013, Algorithm 1).

    Its two blocks are the unfoldings' low-rank copies and the missing entries; a round of both is a gradient step of
    length ``1/Σ a_i`` on Eq. 2. Works on entries: missing fibers and single missing entries are one case.

    Parameters
    ----------
    values
        ``(D, C, G)``, NaN where missing.
    options
        See :class:`SilrtcOptions`.
    width
        See :func:`kronax.solvers.unfold.compress`.
    progress
        Whether long work shows a progress bar.
    """

    def solve(problem: Problem) -> Solved:
        envelope = problem.envelope(options.smoothing * problem.alpha * problem.largest)
        return _plain(problem, envelope, options, progress)

    return complete(values, options.alpha, width, solve)


def _plain(problem: Problem, envelope: Envelope, options: SilrtcOptions, progress: bool) -> Solved:
    """Minimise Eq. 2 by gradient steps of length ``1/Σ a_i``."""
    modes, free, tol, x = problem.modes, problem.free, options.tol * problem.norm, problem.start
    objective: list[float] = []
    matrices = grams(x, free, modes)
    for _ in iterations("SiLRTC", options.max_iter, progress):
        decomposed = [eigh(matrix) for matrix in matrices]
        objective.append(envelope.value([s2 for s2, _ in decomposed]))
        gradient, square = gradient_and_square(x, free, envelope.gradient_maps(decomposed), modes)
        x, matrices = step(x, gradient, free, np.float64(1.0 / envelope.bound), modes)
        change = float(square) ** 0.5 / envelope.bound
        if change < tol:
            return reached(x, objective, change, tol)
    return stopped(x, objective, change, tol)
