"""Sweeps of the Wiener smoother over a tensor: Eq. 1 of :mod:`kronax.solvers.tensor.wiener.kronecker`."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tqdm.auto import tqdm

from kronax.solvers.tensor.completion import without_any
from kronax.solvers.tensor.means import two_means
from kronax.solvers.tensor.unfold import CONTEXT, TREATMENT, along
from kronax.solvers.tensor.wiener.coordinates import Task
from kronax.solvers.tensor.wiener.kernels import Kernel, Prior, context_kernel, learnt_kernels


def posterior_mean(x: np.ndarray, treatment: Kernel, context: Kernel, gene: Kernel | None, noise: float) -> np.ndarray:
    """Give Eq. 1 for fixed kernels and a tensor without gaps; ``gene=None`` is the identity."""
    genes, axes = (np.ones(x.shape[2]), None) if gene is None else (gene.values, gene.vectors)
    with jax.enable_x64(True):
        sizes = treatment.values, context.values, genes, np.float64(noise)
        return np.asarray(_smooth(jnp.asarray(x, jnp.float64), treatment.vectors, context.vectors, axes, *sizes))


@jax.jit
def _smooth(
    x: Array, v_d: Array, v_c: Array, axes: Array | None, w_d: Array, w_c: Array, w_g: Array, noise: Array
) -> Array:
    """Give Eq. 1. ``axes`` are the genes' eigenvectors, or None where ``x`` is already in their coordinates."""
    rotated = x if axes is None else jnp.matmul(x, axes, precision="highest")
    rotated = along(v_d.T, along(v_c.T, rotated, CONTEXT), TREATMENT)
    prior = w_d[:, None, None] * w_c[:, None] * w_g
    rotated = rotated * (prior / (prior + noise))
    rotated = along(v_c, along(v_d, rotated, TREATMENT), CONTEXT)
    return rotated if axes is None else jnp.matmul(rotated, axes.T, precision="highest")


@dataclass(frozen=True)
class Start:
    """Where a solve starts: a tensor ``filled`` by ``mean_2d``, where values were ``missing``, and the contexts' kernel."""

    filled: np.ndarray
    missing: np.ndarray
    context: Kernel


def start_of(values: np.ndarray) -> Start:
    """Fill a tensor, with 0 in treatments, contexts and genes without any value."""
    missing = np.isnan(values)
    filled = np.where(missing, two_means(values)[0].astype(values.dtype), values)
    filled[without_any(missing)] = 0.0
    return Start(filled, missing, context_kernel(filled, missing))


def solve(
    task: Task, prior: Prior, tol: float, max_iter: int, progress: bool, start: Start
) -> tuple[Array, list[float], bool, str]:
    """Iterate Eq. 1; give the filled tensor, the relative change of every sweep, whether it ended well, and why."""
    missing, context = start.missing, start.context
    goal = tol * float(np.linalg.norm(np.where(missing, 0.0, start.filled)))
    x, new, gaps = jnp.array(start.filled), jnp.array(start.filled), jnp.asarray(missing)
    del start  # as large as the tensor
    momentum = 0
    trace: list[float] = []
    for _ in tqdm(range(max_iter), desc="kronecker", unit="sweep", delay=2, leave=False, disable=not progress):
        treatment, genes = learnt_kernels(task, x, prior, missing)
        arrays = treatment.vectors, context.vectors, task.axes, treatment.values, context.values, genes, prior.noise
        weight = np.asarray(momentum / (momentum + 3.0), task.dtype)
        on_device = (None if a is None else jnp.asarray(a, task.dtype) for a in arrays)
        new, x, right, square = sweep(x, new, gaps, weight, *on_device)
        momentum = momentum + 1 if right else 0
        trace.append(float(square) ** 0.5)
        if trace[-1] < goal:
            reason = f"a sweep changed the missing entries by {trace[-1]:.2g}, less than {goal:.2g}"
            return new, trace, True, reason
    reason = f"the last of {max_iter} sweeps still changed the missing entries by {trace[-1]:.2g}, more than {goal:.2g}"
    return new, trace, False, reason


@partial(jax.jit, donate_argnames=["x", "last"])
def sweep(
    x: Array, last: Array, missing: Array, weight: Array, *kernels: Array | None
) -> tuple[Array, Array, Array, Array]:
    """Put Eq. 1 in the place of the missing entries of ``x``.

    Returns
    -------
    The filled tensor; the one to go on from, ``weight`` times the way from the ``last`` one to this further on, or this
    one itself if that way has become wrong (O'Donoghue and Candès 2015); whether it has not; and the square of the change.
    """
    new = jnp.where(missing, _smooth(x, *kernels), x)
    change, way = new - x, new - last
    right = jnp.vdot(change, way) > 0.0
    return new, new + jnp.where(right, weight, 0.0) * way, right, jnp.vdot(change, change)
