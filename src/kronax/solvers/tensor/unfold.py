"""Unfoldings of a tensor: their Gram matrices, products along a mode, and the exact compression of the genes.

Unfolding ``i`` of a ``D × C × G`` tensor is the matrix whose rows are indexed by mode ``i`` (0 treatments, 1 contexts,
2 genes) and whose columns by the other two. It is never decomposed itself: its left singular vectors are the
eigenvectors of ``X_(i) X_(i)ᵀ``, and every spectral operation used here is a product with a matrix of that size. When
there are more genes than fibers, the short side of the third unfolding is that of the fibers.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from kronax.solvers import device
from kronax.solvers.device import Matrix, to_device, to_host

TREATMENT, CONTEXT, GENE = 0, 1, 2


def unfold(tensor: Array, mode: int) -> Array:
    """Return the unfolding along a mode: ``(n_mode, product of the others)``."""
    return jnp.moveaxis(tensor, mode, 0).reshape(tensor.shape[mode], -1)


def fold(matrix: Array, mode: int, shape: tuple[int, int, int]) -> Array:
    """Undo :func:`unfold`."""
    others = [size for i, size in enumerate(shape) if i != mode]
    return jnp.moveaxis(matrix.reshape(shape[mode], *others), 0, mode)


def by_fibers(shape: tuple[int, ...], mode: int) -> bool:
    """Return whether an unfolding has fewer columns than rows: more genes than fibers."""
    return mode == GENE and shape[GENE] > shape[TREATMENT] * shape[CONTEXT]


@partial(jax.jit, static_argnames=["mode"])
def gram(tensor: Array, mode: int) -> Array:
    """Return the Gram matrix of an unfolding's short side."""
    return inner(tensor, tensor, mode)


def inner(left: Array, right: Array, mode: int) -> Array:
    """Return ``L_(i) R_(i)ᵀ``, or, where the short side is that of the fibers, ``L_(i)ᵀ R_(i)``."""
    if by_fibers(left.shape, mode):
        n_genes = left.shape[GENE]
        return jnp.matmul(left.reshape(-1, n_genes), right.reshape(-1, n_genes).T, precision="highest")
    if mode == CONTEXT:  # treatment by treatment: no transposed copy of the tensor
        return jnp.einsum("dcg,deg->dce", left, right, precision="highest").sum(axis=0)
    if mode == TREATMENT:  # context by context, for the same reason
        zero = jnp.zeros((left.shape[0], right.shape[0]), left.dtype)

        def add(c: Array, total: Array) -> Array:
            return total + jnp.matmul(left[:, c], right[:, c].T, precision="highest")

        return jax.lax.fori_loop(0, left.shape[CONTEXT], add, zero)
    return jnp.tensordot(left, right, ((0, 1), (0, 1)), precision="highest")


def along(matrix: Array, tensor: Array, mode: int) -> Array:
    """Multiply an unfolding's short side from the left with a square matrix, and fold the product back."""
    if by_fibers(tensor.shape, mode):
        return jnp.matmul(matrix, tensor.reshape(-1, tensor.shape[GENE]), precision="highest").reshape(tensor.shape)
    if mode == TREATMENT:
        return jnp.tensordot(matrix, tensor, 1, precision="highest")
    if mode == CONTEXT:  # treatment by treatment, as in `inner`
        each = jnp.broadcast_to(matrix, (tensor.shape[TREATMENT], *matrix.shape))
        return jnp.matmul(each, tensor, precision="highest")
    return jnp.matmul(tensor, matrix.T, precision="highest")


def eigh(matrix: Matrix) -> tuple[np.ndarray, Matrix]:
    """Return eigenvalues of a Gram matrix, ascending, none below 0, and eigenvectors, these where they were computed."""
    values, vectors = device.eigh(matrix)
    return np.maximum(to_host(values), 0.0), vectors


def eigvalsh(matrix: Matrix) -> np.ndarray:
    """Return the eigenvalues of a Gram matrix, ascending, none below 0."""
    return np.maximum(to_host(device.eigvalsh(matrix)), 0.0)


def spectral(vectors: Matrix, values: np.ndarray) -> Matrix:
    """Return ``U diag(values) Uᵀ``, multiplied where ``U`` is and left there."""
    if isinstance(vectors, Array):
        return jnp.matmul(vectors * to_device(values), vectors.T, precision="highest")
    return (vectors * values) @ vectors.T


@dataclass(frozen=True)
class Compressed:
    """A tensor in other coordinates of the genes, ``values = scores·basis`` on the measured fibers.

    ``scores`` is ``(D, C, r)``, NaN where missing; ``basis`` ``(r, G)`` has orthonormal rows, or is None if nothing
    would have been gained; rows of zeros fill it up to ``r`` (:func:`shared_size`).
    """

    scores: np.ndarray
    basis: np.ndarray | None


def shared_size(n: int) -> int:
    """Round a number of fibers up, by at most 1/16 or to the next multiple of eight.

    Tensors with nearly as many, such as those that the folds of a cross-validation leave, then share compiled code.
    """
    step = max(8, 1 << max(n.bit_length() - 5, 0))
    return -(-n // step) * step


def compress(values: np.ndarray, *, include: np.ndarray | None = None) -> Compressed:
    """Rotate the genes to the span of the measured fibers. Only for tensors whose fibers are missing whole.

    A method that commutes with rotations of the gene axis never leaves that span: nothing is lost.

    Parameters
    ----------
    values
        ``(D, C, G)``, NaN where missing.
    include
        Profiles ``(k, G)`` that shall lie in the span too.
    """
    measured = ~np.isnan(values[:, :, 0])
    rows = values[measured]
    n_measured = len(rows)
    if include is not None:
        rows = np.concatenate([rows, include])
    n_axes, size = len(rows), shared_size(len(rows))
    if size >= values.shape[2]:
        return Compressed(values, None)
    span, coordinates = map(to_host, device.qr(rows.T))
    basis = np.zeros((size, values.shape[2]))
    basis[:n_axes] = span.T
    scores = np.full((*measured.shape, size), np.nan)
    scores[measured] = 0.0
    scores[measured, :n_axes] = coordinates.T[:n_measured]
    return Compressed(scores, basis)
