"""The kernels of treatments, contexts and genes: Eq. 2 and 3 of :mod:`kronax.solvers.tensor.wiener.kronecker`."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from kronax.solvers.device import Matrix, eigh, to_device, to_host
from kronax.solvers.tensor.unfold import TREATMENT, gram
from kronax.solvers.tensor.wiener.coordinates import Task


@dataclass(frozen=True)
class Kernel:
    """A positive semi-definite matrix: eigenvalues ``(k,)``, those below 0 by rounding, and eigenvectors ``(n, k)``."""

    values: Matrix
    vectors: Matrix

    @property
    def dense(self) -> np.ndarray:
        """The matrix itself."""
        vectors = to_host(self.vectors)
        return (vectors * np.maximum(to_host(self.values), 0.0)) @ vectors.T


@dataclass(frozen=True)
class Prior:
    """``λ`` of Eq. 1, ``s`` and ``t`` of Eq. 2."""

    noise: float
    own_share: float
    common_share: float


def mixing_of(task: Task, prior: Prior) -> Array:
    """Return what :func:`learnt_kernels` mixes by: ``s``, ``t``, the power of the genes' spectrum, and its number of axes."""
    return to_device([prior.own_share, prior.common_share, task.gene_power, task.n_axes], np.float64)


def learnt_kernels(x: Array, axes: Array | None, measured: Array, mixing: Array) -> tuple[Kernel, Array]:
    """Compute the treatments' kernel (Eq. 2) and the genes' spectrum of a filled tensor, on JAX's device.

    ``axes`` are those of a :class:`Task`; ``measured``, (D,), marks treatments with a measured value.
    """
    mixture, genes = _second_moments(x, axes, measured, mixing)
    return Kernel(*eigh(mixture)), genes


@jax.jit
def _second_moments(x: Array, axes: Array | None, measured: Array, mixing: Array) -> tuple[Array, Array]:
    """Return Eq. 2, and the genes' spectrum raised to a power; with power 0 all of it is 1."""
    own, common, power, n_axes = mixing
    has, treatments = measured.astype(own.dtype), gram(x, TREATMENT).astype(own.dtype)
    mixture = treatments * ((1.0 - own - common) * has.sum() / jnp.trace(treatments))
    mixture = mixture + own * jnp.diag(has) + common * jnp.outer(has, has)  # (2)
    rotated = x if axes is None else jnp.matmul(x, axes, precision="highest")
    genes = jnp.sum(jnp.square(rotated), axis=(0, 1)).astype(own.dtype) ** power
    return mixture, jnp.where(power > 0.0, genes * (n_axes / genes.sum()), 1.0)


def context_kernel(filled: np.ndarray, missing: np.ndarray) -> Kernel:
    """Compute the contexts' kernel from what was measured (Eq. 3)."""
    n_contexts, n_genes = filled.shape[1:]
    products, squares, both = (np.zeros((n_contexts, n_contexts)) for _ in range(3))
    for profiles, gaps in zip(filled, missing, strict=True):  # treatment by treatment, to save memory
        known = (~gaps).astype(np.float64)
        values = profiles * known
        products += values @ values.T
        squares += values**2 @ known.T  # of a context's entries, those that were measured in the other too
        both += known @ known.T
    shared, n = both / n_genes, np.diag(both) / n_genes
    has = n > 0
    rho = _ratio(products, np.sqrt(squares * squares.T))
    usual = np.average(rho, weights=shared - np.diag(n)) if has.sum() > 1 and (shared - np.diag(n)).any() else 0.0
    r = (shared * rho + usual) / (shared + 1.0)
    np.fill_diagonal(r, 1.0)
    size, mean = _ratio(np.diag(squares), np.diag(both)), np.trace(squares) / np.trace(both)
    log_a = np.log(np.where(size > 0, size, mean) / mean) * n / (n + 1.0)
    root = np.where(has, np.exp(0.5 * log_a), 0.0)
    values, vectors = eigh(r * np.outer(root, root))
    values = np.maximum(to_host(values), 0.0)
    return Kernel(values * (has.sum() / values.sum()), vectors)  # of mean 1


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide; 0 where there is nothing to divide by."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
