"""The posterior variance of the signal that ``kronecker`` predicts."""

import numpy as np
from jax import Array

from kronax.solvers.device import eigh, to_device, to_host
from kronax.solvers.tensor.wiener.contexts import context_kernel
from kronax.solvers.tensor.wiener.coordinates import Task
from kronax.solvers.tensor.wiener.kernels import Kernel, Prior, learnt_kernels, mixing_of
from kronax.solvers.tensor.wiener.options import MOST_FIBERS


def require_fibers(n_whole: int) -> None:
    """Require that the eigenproblem of the fibers without gaps can be solved."""
    if not 0 < n_whole <= MOST_FIBERS:
        msg = (
            f"The posterior variance is offered for 1 to {MOST_FIBERS} profiles without gaps, found {n_whole}. "
            "Complete with `variance=False`."
        )
        raise ValueError(msg)


def kernels_of(task: Task, x: Array, prior: Prior) -> tuple[Kernel, Kernel, np.ndarray]:
    """Return the kernels of treatments and contexts, and the genes' spectrum, of a completed tensor."""
    missing = np.isnan(task.values)
    context, _ = context_kernel(np.where(missing, 0.0, task.values), missing, task.links, task.weights)
    axes, similarity = (None if a is None else to_device(a) for a in (task.axes, task.similarity))
    measured = to_device(~missing.all(axis=(1, 2)))
    treatment, genes = learnt_kernels(x, axes, measured, mixing_of(task, prior), similarity)
    return treatment, context, to_host(genes)


def posterior_variance(task: Task, x: Array, prior: Prior) -> np.ndarray:
    """Return the posterior variance of the signal in missing entries, ``(D, C)``, averaged over genes, in squared units.

    With the eigenvalues ``e`` and eigenvectors ``U`` of the measured fibers' covariance ``K_oo``, and along gene axis
    ``k`` with eigenvalue ``g``: ``g K_ff − Σ_e (g K_fo U)_e² / (g e + λ)``. The kernels are relative; the mean square of
    the measured entries, which is that of ``S`` and of the noise, sets the unit. A fiber with some entries measured
    counts as missing: its variance is an upper bound. With precisions ``w``, ``K_oo`` and ``K_fo`` are those of ``√w`` times the
    measured values, whose noise is ``λ``.
    """
    missing = np.isnan(task.values)
    whole = ~missing.any(axis=2)
    rows, cols = np.nonzero(whole)
    require_fibers(len(rows))
    treatment, context, genes = kernels_of(task, x, prior)
    n_genes = task.values.shape[2] if task.basis is None else task.basis.shape[1]
    n_axes = task.n_axes
    if task.gene_power == 0:  # every direction has signal, even outside the span of the measured fibers
        genes, n_axes = np.ones(n_genes), n_genes
    k_d, k_c = treatment.dense, context.dense
    root = np.ones(len(rows)) if task.weights is None else np.sqrt(task.weights.mean(axis=2)[whole])
    values, vectors = map(to_host, eigh(k_d[np.ix_(rows, rows)] * k_c[np.ix_(cols, cols)] * np.outer(root, root)))
    gain = np.array([(genes**2 / (genes * e + prior.noise)).sum() for e in np.maximum(values, 0.0)])
    before = np.outer(np.diag(k_d), np.diag(k_c))
    variance = before * genes.sum()
    for c in range(len(k_c)):
        variance[:, c] -= np.square((k_d[:, rows] * k_c[c, cols] * root) @ vectors) @ gain
    square = np.nansum(np.square(task.values), dtype=np.float64) / len(rows)  # of a fiber
    unit = square / (before[whole].mean() * genes.sum() + prior.noise * n_axes)
    return np.where(missing.any(axis=2), np.maximum(unit * variance / n_genes, 0.0), 0.0)
