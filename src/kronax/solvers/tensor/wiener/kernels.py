"""The kernels of treatments, contexts and genes: Eq. 2 and 3 of :mod:`kronax.solvers.tensor.wiener.kronecker`."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from kronax.solvers.tensor.unfold import TREATMENT, eigh, gram
from kronax.solvers.tensor.wiener.coordinates import Task


@dataclass(frozen=True)
class Kernel:
    """A positive semi-definite matrix: eigenvalues ``(k,)`` and eigenvectors ``(n, k)``."""

    values: np.ndarray
    vectors: np.ndarray

    @property
    def dense(self) -> np.ndarray:
        """The matrix itself."""
        return (self.vectors * self.values) @ self.vectors.T


@dataclass(frozen=True)
class Prior:
    """``λ`` of Eq. 1, ``s`` and ``t`` of Eq. 2."""

    noise: float
    own_share: float
    common_share: float


def learnt_kernels(task: Task, x: Array, prior: Prior, missing: np.ndarray) -> tuple[Kernel, np.ndarray]:
    """Take the treatments' kernel (Eq. 2) and the genes' spectrum from a filled tensor."""
    treatments, genes = _second_moments(x, task.axes)
    has = ~missing.all(axis=(1, 2))
    similar = 1.0 - prior.own_share - prior.common_share
    mixture = np.asarray(treatments, np.float64) * (similar * has.sum() / float(jnp.trace(treatments)))
    mixture += prior.own_share * np.diag(has) + prior.common_share * np.outer(has, has)  # (2)
    w_g = np.ones(len(genes))
    if task.gene_power > 0:
        w_g = mean_one(np.asarray(genes, np.float64) ** task.gene_power, task.n_axes)
    return Kernel(*eigh(mixture)), w_g


@jax.jit
def _second_moments(x: Array, axes: Array | None) -> tuple[Array, Array]:
    """Give the Gram matrix of treatments and the genes' spectrum."""
    rotated = x if axes is None else jnp.matmul(x, axes, precision="highest")
    return gram(x, TREATMENT), jnp.sum(jnp.square(rotated), axis=(0, 1))


def context_kernel(filled: np.ndarray, missing: np.ndarray) -> Kernel:
    """Take the contexts' kernel from what was measured (Eq. 3)."""
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
    return Kernel(mean_one(values, int(has.sum())), vectors)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide; 0 where there is nothing to divide by."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def mean_one(spectrum: np.ndarray, count: int) -> np.ndarray:
    """Scale eigenvalues to mean 1 over the ``count`` of them that can differ from 0."""
    return spectrum * (count / spectrum.sum())
