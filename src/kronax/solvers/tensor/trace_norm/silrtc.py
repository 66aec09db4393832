"""SiLRTC: plain gradient steps on the relaxed trace norms (Liu et al. 2013, Algorithm 1).

The equations are those of :mod:`kronax.solvers.tensor.trace_norm.problem`.
"""

from dataclasses import dataclass

import numpy as np

from kronax.solvers import checks
from kronax.solvers.device import to_host
from kronax.solvers.tensor.completion import Completion
from kronax.solvers.tensor.method import Options
from kronax.solvers.tensor.trace_norm.problem import (
    Envelope,
    Problem,
    Solved,
    complete,
    gradient_and_square,
    grams,
    iterations,
    reached,
    require_weights,
    step,
    stopped,
)
from kronax.solvers.tensor.unfold import eigh


@dataclass(frozen=True)
class SilrtcOptions(Options):
    """Options of ``"silrtc"``: gradient descent on smoothed trace norms.

    Attributes
    ----------
    alpha
        Weights of the trace norms of the treatment, context and gene unfoldings; non-negative, rescaled to sum to 1. A
        mode with weight 0 is left out.
    smoothing
        Smoothing threshold, as a share of each unfolding's largest singular value. Singular values below the threshold
        are penalised quadratically, larger ones linearly. Plain gradient descent needs a larger threshold than
        ``"falrtc"``.
    max_iter
        Maximum number of iterations.
    tol
        Convergence tolerance: the solver stops when an iteration changes the tensor by less than this share of the norm
        of the measured entries.

    References
    ----------
    :cite:t:`Liu2013`, Algorithm 1.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=50)
    >>> kx.tl.complete_tensor(mdata, method="silrtc", options=kx.tl.SilrtcOptions(tol=1e-4))
    >>> mdata.uns["completion"]["converged"]
    True
    """

    alpha: tuple[float, float, float] = (1.0, 1.0, 0.0)
    smoothing: float = 1e-2
    max_iter: int = 1000
    tol: float = 1e-5

    def __post_init__(self) -> None:
        require_weights(self.alpha, "options.alpha")
        checks.positive(self.smoothing, "options.smoothing")
        checks.integer(self.max_iter, "options.max_iter", low=1)
        checks.positive(self.tol, "options.tol")


def silrtc(
    values: np.ndarray,
    options: SilrtcOptions = SilrtcOptions(),
    *,
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
    progress
        Whether long work shows a progress bar.
    """

    def solve(problem: Problem) -> Solved:
        envelope = problem.envelope(options.smoothing * problem.alpha * problem.largest)
        return _plain(problem, envelope, options, progress)

    return complete(values, options.alpha, solve)


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
        change = float(to_host(square)) ** 0.5 / envelope.bound
        if change < tol:
            return reached(x, objective, change, tol)
    return stopped(x, objective, change, tol)
