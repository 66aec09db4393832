"""Sweeps of the Wiener smoother over a tensor: Eq. 1 of :mod:`kronax.solvers.tensor.wiener.kronecker`."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tqdm.auto import tqdm

from kronax.solvers.device import Matrix, to_device, to_host
from kronax.solvers.status import Status, ended
from kronax.solvers.tensor.completion import without_any
from kronax.solvers.tensor.means import cautious_means
from kronax.solvers.tensor.unfold import CONTEXT, TREATMENT, along
from kronax.solvers.tensor.wiener.contexts import context_kernel
from kronax.solvers.tensor.wiener.coordinates import Task
from kronax.solvers.tensor.wiener.kernels import Kernel, Prior, learnt_kernels, mixing_of


def posterior_mean(x: np.ndarray, treatment: Kernel, context: Kernel, gene: Kernel | None, noise: float) -> np.ndarray:
    """Return Eq. 1 for fixed kernels and a tensor without gaps; ``gene=None`` is the identity."""
    genes, axes = (np.ones(x.shape[2]), None) if gene is None else (gene.values, gene.vectors)
    arrays = treatment.vectors, context.vectors, axes, treatment.values, context.values, genes, noise
    with jax.enable_x64(True):
        return to_host(_smooth(*(None if a is None else to_device(a, np.float64) for a in (x, *arrays))))


@jax.jit
def _smooth(
    x: Array, v_d: Array, v_c: Array, axes: Array | None, w_d: Array, w_c: Array, w_g: Array, noise: Array
) -> Array:
    """Return Eq. 1. ``axes`` are the genes' eigenvectors, or None where ``x`` is already in their coordinates."""
    rotated = x if axes is None else jnp.matmul(x, axes, precision="highest")
    rotated = along(v_d.T, along(v_c.T, rotated, CONTEXT), TREATMENT)
    prior = jnp.maximum(w_d, 0.0)[:, None, None] * w_c[:, None] * w_g  # below 0 is rounding
    rotated = rotated * (prior / (prior + noise))
    rotated = along(v_c, along(v_d, rotated, TREATMENT), CONTEXT)
    return rotated if axes is None else jnp.matmul(rotated, axes.T, precision="highest")


@dataclass(frozen=True)
class Start:
    """Where a solve starts.

    Attributes
    ----------
    filled, gaps
        Where JAX computes: a tensor filled by means, and where values were missing.
    missing
        The same on the host.
    measured
        ``(D,)``, where JAX computes: treatments of which something was measured.
    norm
        Of the measured entries.
    context
        The contexts' kernel.
    target
        The parameters of what it is drawn to.
    similarity
        Of the treatments, where JAX computes; None if none is given.
    shares
        Where JAX computes: how far a measured value is followed, from the relative precision; None if all are alike.
    noise
        Noise of the most precise value in terms of ``λ``.
    """

    filled: Array
    gaps: Array
    missing: np.ndarray
    measured: Array
    norm: float
    context: Kernel
    target: dict[str, float]
    similarity: Array | None = None
    shares: Array | None = None
    noise: float = 1.0


def start_of(task: Task, held_out: np.ndarray | None = None) -> Start:
    """Fill a task's tensor, without ``held_out`` fibers (D, C); with 0 in treatments, contexts and genes without any value.

    Contexts of which nothing was measured start at the genes' means if something links them with others.
    """
    values, weights = task.values, task.weights
    if held_out is not None:
        values = np.where(held_out[:, :, None], np.nan, values)
    missing = np.isnan(values)
    filled = np.where(missing, cautious_means(values).astype(values.dtype), values)
    filled[without_any(missing, contexts=task.links is None)] = 0.0
    context, target = context_kernel(filled, missing, task.links, weights)
    most = 1.0
    if weights is not None:
        weights = np.where(missing, 0.0, weights)
        most = weights.max()
    return Start(
        filled=to_device(filled),
        gaps=to_device(missing),
        missing=missing,
        measured=to_device(~missing.all(axis=(1, 2))),
        norm=float(np.linalg.norm(np.where(missing, 0.0, filled))),
        context=context,
        target=target,
        similarity=None if task.similarity is None else to_device(task.similarity, np.float64),
        shares=None if weights is None else to_device(weights / most, values.dtype),
        noise=1.0 / most,
    )


def solve(task: Task, prior: Prior, tol: float, max_iter: int, progress: bool, start: Start) -> tuple[Array, Status]:
    """Iterate Eq. 1; return the filled tensor and how the solve ended.

    The objective is the change of the missing entries in every sweep, of the norm of the measured ones. Of every sweep nothing
    leaves the device but the size of its change, and, where that is the host, its eigenproblem.
    """
    norm = start.norm or 1.0  # with only zeros nothing changes
    measured, gaps, similarity = start.measured, start.gaps, start.similarity
    mixing, axes = mixing_of(task, prior), None if task.axes is None else to_device(task.axes)
    v_c, w_c, noise, momentum = (
        to_device(a, task.dtype) for a in (start.context.vectors, start.context.values, prior.noise * start.noise, 0.0)
    )
    imprecise = None if start.shares is None else (start.shares, jnp.array(start.filled))
    x, new = jnp.array(start.filled), jnp.array(start.filled)  # copies: a sweep reuses its input
    del start  # as large as the tensor
    trace: list[float] = []
    for _ in tqdm(range(max_iter), desc="kronecker", unit="sweep", delay=2, leave=False, disable=not progress):
        treatment, w_g = learnt_kernels(x, axes, measured, mixing, similarity)
        # as they are, for a compiled function takes arrays of the host faster than they are moved one by one
        kernels = treatment.vectors, v_c, axes, treatment.values, w_c, w_g, noise
        new, x, momentum, square = sweep(x, new, gaps, imprecise, momentum, *kernels)
        trace.append(float(to_host(square)) ** 0.5 / norm)
        if trace[-1] < tol:
            reason = f"a sweep changed the missing entries by {trace[-1]:.2g} of the measured ones' norm, less than tol={tol:g}"
            return new, ended(True, reason, trace)
    reason = (
        f"the last of {max_iter} sweeps still changed the missing entries by {trace[-1]:.2g} of the measured ones' norm, more "
        f"than tol={tol:g}"
    )
    return new, ended(False, reason, trace)


@partial(jax.jit, donate_argnames=["x", "last"])
def sweep(
    x: Array,
    last: Array,
    missing: Array,
    imprecise: tuple[Array, Array] | None,
    momentum: Array,
    *kernels: Matrix | None,
) -> tuple[Array, Array, Array, Array]:
    """Put Eq. 1 in the place of the missing entries of ``x``.

    Where values are of different precision, they are followed in part: ``imprecise`` are the shares ``w`` and values ``Y`` of
    ``X = Z + w∘(Y − Z)``, whose fixed point is the posterior mean with noise ``λ / w``. The kernels may have another precision.

    Returns
    -------
    The filled tensor; the one to go on from, extrapolated beyond it in the direction from the ``last`` one, or the filled one
    itself if that direction has become wrong (O'Donoghue and Candès 2015); the number of sweeps since then; and the square of the
    change.
    """
    smooth = _smooth(x, *(None if kernel is None else kernel.astype(x.dtype) for kernel in kernels))
    if imprecise is None:
        new = jnp.where(missing, smooth, x)
    else:
        new = smooth + imprecise[0] * (imprecise[1] - smooth)
    change, way = new - x, new - last
    right = jnp.vdot(change, way) > 0.0
    ahead = new + jnp.where(right, momentum / (momentum + 3.0), 0.0) * way
    return new, ahead, jnp.where(right, momentum + 1.0, 0.0), jnp.vdot(change, change)
