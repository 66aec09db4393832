"""FaLRTC: accelerated descent on the smoothed trace norms (Liu et al. 2013, Algorithm 3).

The equations are those of :mod:`kronax.solvers.tensor.trace_norm.problem`.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from kronax.solvers import checks
from kronax.solvers.device import to_host
from kronax.solvers.status import ended
from kronax.solvers.tensor.completion import Completion
from kronax.solvers.tensor.method import Options
from kronax.solvers.tensor.trace_norm.problem import (
    Envelope,
    Free,
    Problem,
    Solved,
    complete,
    gradient_and_square,
    iterations,
    reached,
    require_weights,
    step,
    stopped,
)
from kronax.solvers.tensor.unfold import eigh, eigvalsh

_DECAY = 1.15  # power of the iteration's number in the schedule of μ
_START = 0.3  # τ_i at the first iteration, of σ_max(X_(i))


@dataclass(frozen=True)
class FalrtcOptions(Options):
    """Options of ``"falrtc"``: accelerated gradient descent on smoothed trace norms.

    Attributes
    ----------
    alpha
        Weights of the trace norms of the treatment, context and gene unfoldings; non-negative, rescaled to sum to 1. A
        mode with weight 0 is left out.
    smoothing
        Final smoothing threshold, as a share of each unfolding's largest singular value. Singular values below the
        threshold are penalised quadratically, larger ones linearly.
    n_continuation
        Number of iterations over which the smoothing threshold decreases to its final value.
    max_iter
        Maximum number of iterations.
    tol
        Convergence tolerance: once the threshold is final, the solver stops when an iteration changes the tensor by
        less than this share of the norm of the measured entries.
    lipschitz
        Lipschitz constant at which the line search starts, as a share of the known upper bound.
    restart
        Whether to drop the momentum when the objective would increase (adaptive restart). Once the threshold is final,
        the objective then never increases.
    absolute
        Whether to interpret the numbers above as in 2018. The final smoothing parameter of mode ``i`` of size ``n_i``
        is then ``smoothing * alpha_i / sqrt(n_i)`` with `alpha` not rescaled, `tol` and `lipschitz` are absolute
        numbers, and `tol` applies from the first iteration on.

    References
    ----------
    :cite:t:`Liu2013`, Algorithm 3; adaptive restart: :cite:t:`ODonoghue2015`.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=50)
    >>> kx.tl.complete_tensor(mdata, method="falrtc", options=kx.tl.FalrtcOptions(alpha=(1, 1, 0.1)))
    >>> mdata.uns["completion"]["converged"]
    True
    """

    alpha: tuple[float, float, float] = (1.0, 1.0, 0.0)
    smoothing: float = 1e-3
    n_continuation: int = 20
    max_iter: int = 500
    tol: float = 1e-4
    lipschitz: float = 1e-3
    restart: bool = True
    absolute: bool = False

    def __post_init__(self) -> None:
        require_weights(self.alpha, "options.alpha")
        checks.positive(self.smoothing, "options.smoothing")
        checks.integer(self.n_continuation, "options.n_continuation", low=1)
        checks.integer(self.max_iter, "options.max_iter", low=1)
        checks.positive(self.tol, "options.tol")
        checks.positive(self.lipschitz, "options.lipschitz")
        checks.boolean(self.restart, "options.restart")
        checks.boolean(self.absolute, "options.absolute")


HODOS_2018 = FalrtcOptions(
    alpha=(1.0, 1.0, 0.01),
    smoothing=0.01,
    n_continuation=5,
    max_iter=20,
    tol=0.1,
    lipschitz=1e-5,
    restart=False,
    absolute=True,
)
"""Settings of :cite:t:`Hodos2018` for ``"falrtc"``, chosen for profiles of unit norm."""


def falrtc(
    values: np.ndarray,
    options: FalrtcOptions = FalrtcOptions(),
    *,
    progress: bool = False,
) -> Completion:
    """Complete a tensor by accelerated descent on the smoothed trace norms (Liu et al. 2013, Algorithm 3).

    Works on entries: missing fibers and single missing entries are one case. Both start at 0 or, with absolute options,
    at the mean of all measured entries. Where fibers are missing whole, the genes are first rotated to the span of the
    measured ones, which changes nothing but the time.

    Parameters
    ----------
    values
        ``(D, C, G)``, NaN where missing.
    options
        See :class:`FalrtcOptions`; :data:`HODOS_2018` are the published settings.
    progress
        Whether long work shows a progress bar.
    """

    def solve(problem: Problem) -> Solved:
        envelope = _schedule(problem, options)
        tol = options.tol if options.absolute else options.tol * problem.norm
        return _accelerated(problem, envelope, options, tol, progress)

    return complete(values, options.alpha, solve, at_mean=options.absolute)


@partial(jax.jit, static_argnames=["modes"])
def _between(z: Array, y: Array, free: Free, share: np.float64, modes: tuple[int, ...]) -> tuple[Array, list[Array]]:
    """Return ``W`` between ``Z`` and ``Y``, and its Gram matrices."""
    w = share * z + (1.0 - share) * y
    return w, [free.gram(w, mode) for mode in modes]


@jax.jit
def _moved(z: Array, gradient: Array, length: np.float64) -> Array:
    return z - length * gradient


@jax.jit
def _distance(x: Array, y: Array) -> Array:
    return jnp.linalg.norm(jnp.ravel(x - y))


def _schedule(problem: Problem, options: FalrtcOptions):
    """Return the envelope of every iteration ``k = 1, 2, …``: ``μ_k = max(slope·k^−1.15 + offset, μ_end)``."""
    first = _START * problem.alpha * problem.largest
    if options.absolute:
        last = options.smoothing * problem.raw / np.sqrt(problem.sizes)
    else:
        last = options.smoothing * problem.alpha * problem.largest
    end = options.n_continuation**-_DECAY
    if options.n_continuation > 1:
        slope = (first - last) / (1.0 - end)
        offset = (last - first * end) / (1.0 - end)
    else:
        slope, offset = 0.0, last
    return lambda k: problem.envelope(np.maximum(slope * k**-_DECAY + offset, last))


def _accelerated(problem: Problem, schedule, options: FalrtcOptions, tol: float, progress: bool) -> Solved:
    """Minimise Eq. 2 by the accelerated loop."""
    y = z = problem.start
    big_b = 0.0
    lipschitz = options.lipschitz if options.absolute else options.lipschitz * schedule(1).bound
    objective: list[float] = []
    for k in iterations("FaLRTC", options.max_iter, progress):
        envelope, last = schedule(k), y
        flat = k > options.n_continuation
        while True:
            new, gradient, b, lipschitz, value = _line_search(problem, envelope, z, last, big_b, lipschitz)
            if not (options.restart and flat and big_b > 0 and value > objective[-1]):
                break
            z, big_b = last, 0.0  # without momentum the step starts at Y, from where it cannot increase f
        if options.restart and flat and value > objective[-1]:  # rounding is all that is left
            reason = f"no step of iteration {k} decreases the objective any further"
            return Solved(last, ended(True, reason, objective))
        y = new
        objective.append(value)
        change = float(to_host(_distance(y, last)))
        if change < tol and (flat or options.absolute):
            return reached(y, objective, change, tol)
        z = _moved(z, gradient, np.float64(b))
        del gradient, new, last  # each as large as the tensor
        big_b += b
    return stopped(y, objective, change, tol)


def _line_search(problem: Problem, envelope: Envelope, z: Array, y: Array, big_b: float, lipschitz: float):
    """Double ``L`` until the step from ``W`` decreases ``f`` by ``‖∇f(W)‖²/(2L)``, or ``L`` is the bound on the curvature.

    Returns
    -------
    The new ``Y``, ``∇f(W)``, ``b``, ``L`` and ``f(Y)``.
    """
    modes, free = problem.modes, problem.free
    w = gradient = None
    while True:
        b = (1.0 + np.sqrt(1.0 + 4.0 * lipschitz * big_b)) / (2.0 * lipschitz)
        if w is None or big_b > 0.0:  # without momentum W is Z, whatever L is
            del w, gradient  # each as large as the tensor
            w, matrices = _between(z, y, free, np.float64(b / (b + big_b)), modes)
            decomposed = [eigh(matrix) for matrix in matrices]
            value = envelope.value([s2 for s2, _ in decomposed])
            gradient, square = gradient_and_square(w, free, envelope.gradient_maps(decomposed), modes)
        new, matrices = step(w, gradient, free, np.float64(1.0 / lipschitz), modes)
        new_value = envelope.value([eigvalsh(matrix) for matrix in matrices])
        if value - new_value >= float(to_host(square)) / (2.0 * lipschitz) or lipschitz >= envelope.bound:
            return new, gradient, b, lipschitz, new_value
        lipschitz *= 2.0
        del new
