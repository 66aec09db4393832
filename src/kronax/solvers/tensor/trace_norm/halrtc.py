"""HaLRTC: ADMM on the trace norms themselves (Liu et al. 2013, Algorithm 4).

The equations are those of :mod:`kronax.solvers.tensor.trace_norm.problem`.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from kronax.solvers import checks
from kronax.solvers.device import Matrix, to_device, to_host
from kronax.solvers.status import ended
from kronax.solvers.tensor.completion import Completion
from kronax.solvers.tensor.method import Options
from kronax.solvers.tensor.trace_norm.problem import Problem, Solved, complete, iterations, require_weights
from kronax.solvers.tensor.unfold import along, eigh, gram, spectral

_BALANCE = 10.0  # of ADMM's residuals: beyond this ratio ρ is changed ...
_BALANCED_UNTIL = 100  # ... up to this iteration, and then kept so that ADMM converges


@dataclass(frozen=True)
class HalrtcOptions(Options):
    """Options of ``"halrtc"``: trace norms minimised by ADMM, the alternating direction method of multipliers.

    Attributes
    ----------
    alpha
        Weights of the trace norms of the treatment, context and gene unfoldings; non-negative, rescaled to sum to 1. A
        mode with weight 0 is left out.
    threshold
        Initial threshold on singular values, averaged over the modes, as a share of the largest singular value of any
        unfolding. It sets ADMM's penalty parameter, which is adapted in the first 100 iterations to balance the primal
        and dual residuals.
    max_iter
        Maximum number of iterations.
    tol
        Convergence tolerance: the solver stops when the low-rank copies of the unfoldings differ from the tensor, and
        an iteration changes the tensor, by less than this share of the norm of the measured entries.

    References
    ----------
    :cite:t:`Liu2013`, Algorithm 4.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=50)
    >>> kx.tl.complete_tensor(mdata, method="halrtc", options=kx.tl.HalrtcOptions(tol=1e-3))
    >>> mdata.uns["completion"]["converged"]
    True
    """

    alpha: tuple[float, float, float] = (1.0, 1.0, 0.0)
    threshold: float = 0.1
    max_iter: int = 500
    tol: float = 1e-4

    def __post_init__(self) -> None:
        require_weights(self.alpha, "options.alpha")
        checks.positive(self.threshold, "options.threshold")
        checks.integer(self.max_iter, "options.max_iter", low=1)
        checks.positive(self.tol, "options.tol")


def halrtc(
    values: np.ndarray,
    options: HalrtcOptions = HalrtcOptions(),
    *,
    progress: bool = False,
) -> Completion:
    """Complete a tensor by ADMM on the trace norms of its unfoldings (Liu et al. 2013, Algorithm 4).

    Works on entries: missing fibers and single missing entries are one case.

    Parameters
    ----------
    values
        ``(D, C, G)``, NaN where missing.
    options
        See :class:`HalrtcOptions`.
    progress
        Whether long work shows a progress bar.
    """
    return complete(values, options.alpha, lambda problem: _admm(problem, options, progress))


@partial(jax.jit, static_argnames=["modes"])
def _shifted(x: Array, duals: list[Array], rho: np.float64, modes: tuple[int, ...]) -> tuple[list[Array], list[Array]]:
    """Return ``X + Y_i/ρ`` and the Gram matrices of their unfoldings."""
    shifted = [x + dual / rho for dual in duals]
    return shifted, [gram(tensor, mode) for tensor, mode in zip(shifted, modes, strict=True)]


@partial(jax.jit, static_argnames=["modes"])
def _admm_step(
    x: Array, missing: Array, shifted: list[Array], duals: list[Array], maps: list[Matrix], rho: np.float64, modes
) -> tuple[Array, list[Array], Array, Array]:
    """Update ``M_i``, ``X`` and ``Y_i``; return also the two residuals, ``max_i ‖M_i − X‖`` and ``‖ΔX‖``."""
    copies = [along(matrix, tensor, mode) for matrix, tensor, mode in zip(maps, shifted, modes, strict=True)]
    mean = sum(m - dual / rho for m, dual in zip(copies, duals, strict=True)) / float(len(modes))
    new = jnp.where(missing, mean, x)
    duals = [dual - rho * (m - new) for m, dual in zip(copies, duals, strict=True)]
    apart = jnp.stack([jnp.linalg.norm(jnp.ravel(m - new)) for m in copies])
    return new, duals, jnp.max(apart), jnp.linalg.norm(jnp.ravel(new - x))


def _admm(problem: Problem, options: HalrtcOptions, progress: bool) -> Solved:
    """Minimise Eq. 1 by the alternating direction method of multipliers."""
    modes, tol, x = problem.modes, options.tol * problem.norm, problem.start
    duals = [to_device(np.zeros(x.shape)) for _ in modes]
    rho = 1.0 / (len(modes) * options.threshold * problem.largest.max())
    objective: list[float] = []
    for k in iterations("HaLRTC", options.max_iter, progress):
        shifted, matrices = _shifted(x, duals, np.float64(rho), modes)
        maps, value = [], 0.0
        for alpha, matrix in zip(problem.alpha, matrices, strict=True):
            squares, vectors = eigh(matrix)
            s = np.sqrt(squares)
            kept = np.maximum(s - alpha / rho, 0.0)
            maps.append(spectral(vectors, np.divide(kept, s, out=np.zeros_like(s), where=s > 0)))
            value += float(alpha * kept.sum())
        objective.append(value)
        x, duals, apart, change = _admm_step(x, problem.free.entries, shifted, duals, maps, np.float64(rho), modes)
        apart, change = float(to_host(apart)), float(to_host(change))
        if max(apart, change) < tol:
            reason = f"copies differ from the tensor by {apart:.2g}, an iteration changed it by {change:.2g}: less than {tol:.2g}"
            return Solved(x, ended(True, reason, objective))
        if k <= _BALANCED_UNTIL and k % 5 == 0:
            rho *= 2.0 if apart > _BALANCE * change else 0.5 if change > _BALANCE * apart else 1.0
    reason = f"after {options.max_iter} iterations copies still differ by {apart:.2g}, and {change:.2g} changed, more than {tol:.2g}"
    return Solved(x, ended(False, reason, objective))
