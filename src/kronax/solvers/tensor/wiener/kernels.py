"""The kernels of treatments and genes: Eq. 2 of :mod:`kronax.solvers.tensor.wiener.kronecker`."""

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
    """``λ`` of Eq. 1, ``s``, ``t`` and ``u`` of Eq. 2."""

    noise: float
    own_share: float
    common_share: float
    similarity_share: float = 0.0


def mixing_of(task: Task, prior: Prior) -> Array:
    """Return what :func:`learnt_kernels` mixes by: ``s``, ``t``, ``u``, the power of the genes' spectrum, its number of axes."""
    shares = prior.own_share, prior.common_share, prior.similarity_share if task.similarity is not None else 0.0
    return to_device([*shares, task.gene_power, task.n_axes], np.float64)


def learnt_kernels(
    x: Array, axes: Array | None, measured: Array, mixing: Array, similarity: Array | None = None
) -> tuple[Kernel, Array]:
    """Compute the treatments' kernel (Eq. 2) and the genes' spectrum of a filled tensor, on JAX's device.

    ``axes`` and ``similarity`` are those of a :class:`Task`; ``measured``, (D,), marks treatments with a measured value.
    """
    mixture, genes = _second_moments(x, axes, measured, mixing, similarity)
    return Kernel(*eigh(mixture)), genes


@jax.jit
def _second_moments(
    x: Array, axes: Array | None, measured: Array, mixing: Array, similarity: Array | None
) -> tuple[Array, Array]:
    """Return Eq. 2, and the genes' spectrum raised to a power; with power 0 all of it is 1."""
    own, common, alike, power, n_axes = mixing
    has, treatments = measured.astype(own.dtype), gram(x, TREATMENT).astype(own.dtype)
    mixture = treatments * ((1.0 - own - common) * _ratio(has.sum(), jnp.trace(treatments)))
    mixture = mixture + own * jnp.diag(has) + common * jnp.outer(has, has)  # (2)
    if similarity is not None:
        mixture = (1.0 - alike) * mixture + alike * jnp.outer(has, has) * similarity
    rotated = x if axes is None else jnp.matmul(x, axes, precision="highest")
    genes = jnp.sum(jnp.square(rotated), axis=(0, 1)).astype(own.dtype) ** power
    return mixture, jnp.where(power > 0.0, genes * _ratio(n_axes, genes.sum()), 1.0)


def _ratio(part: Array, whole: Array) -> Array:
    """Divide; 0 where what is left of a tensor has only zeros."""
    return jnp.where(whole > 0.0, part / whole, 0.0)
