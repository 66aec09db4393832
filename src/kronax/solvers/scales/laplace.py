"""The E-step beyond its mode: Laplace's second-order moments of ``Z`` on the fiber.

Around the mode the fiber is ``Z ∘ exp(a_i + b_j)``, and Eq. 2 is, with its Hessian ``H`` there and ``V = H⁺``,
approximately Gaussian in ``θ = (a, b)``: covariance ``V``, mean ``s = −Vτ``, ``τ = ∇_θ ½⟨V, H(θ)⟩`` with ``V`` held fixed.
With ``C_ij = Var(a_i + b_j)`` it follows, up to terms of third order,

    ``E[Z] = Z ∘ (1 + s_i + s_j + ½C)``,
    ``E[ZZᵀ] = E[Z] E[Z]ᵀ + Σ_j z_j z_jᵀ ∘ Cov(a_i + b_j, a_k + b_j)``,   and so for ``E[ZᵀZ]``.                 (6)

Only sums ``a_i + b_j`` occur, whose distribution does not depend on how ``(a + t, b − t)`` is fixed. Both terms are positive
semidefinite, and both moments have the same trace. Under the posterior, exactly,

    ``tr(Ψ E[ZZᵀ]) + tr(Φ E[ZᵀZ]) = number of non-zeros``,                                                      (7)

because the expected gradient of Eq. 2 is zero; the scale of both moments is set by it.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy import sparse

_MATRICES = 16  # of the Hessian's size, alive at a time


@dataclass(frozen=True)
class Moments:
    """``E[ZZᵀ]`` (n, n) and ``E[ZᵀZ]`` (p, p): symmetric, positive semidefinite, of one trace."""

    rows: np.ndarray
    cols: np.ndarray


def moments(z: np.ndarray, psi: np.ndarray, phi: np.ndarray) -> Moments:
    """Give the second moments of the fiber's posterior.

    Parameters
    ----------
    z
        The mode ``Z`` (n, p), dense, a non-zero entry in every row and column.
    psi, phi
        ``Ψ`` (n, n) and ``Φ`` (p, p), symmetric; ``Ψ ⊕ Φ`` positive definite.

    Raises
    ------
    ValueError
        If ``H`` is not positive definite but for the null vectors that every connected block of the pattern has: ``Z`` is no
        strict mode.
    """
    null = _null_vectors(z != 0)
    with jax.enable_x64(True):
        z, psi, phi, null = (jnp.asarray(x, jnp.float64) for x in (z, psi, phi, null))
        rows, cols = map(np.asarray, _moments(z, psi, phi, null))
    if not (np.isfinite(rows).all() and np.isfinite(cols).all()):
        msg = "The Hessian at Z is not positive definite: Z is not the mode for this Ψ and Φ. Find the mode first."
        raise ValueError(msg)
    return Moments(rows, cols)


def bytes_needed(n: int, p: int) -> int:
    """Estimate the peak memory of :func:`moments`, in bytes."""
    return 8 * _MATRICES * (n + p) ** 2


def _null_vectors(pattern: np.ndarray) -> np.ndarray:
    """Give ``(1, −1)/√size`` for every connected block of rows and columns, (n + p, n_blocks)."""
    n, p = pattern.shape
    graph = sparse.block_array([[sparse.csr_array((n, n)), pattern], [None, sparse.csr_array((p, p))]])
    n_blocks, block = sparse.csgraph.connected_components(graph, directed=False)
    null = (block[:, None] == np.arange(n_blocks)) / np.sqrt(np.bincount(block))
    null[n:] *= -1.0
    return null


@jax.jit
def _moments(z: Array, psi: Array, phi: Array, null: Array) -> tuple[Array, Array]:
    n, p = z.shape
    v = _pseudo_inverse(hessian(jnp.zeros(n + p), z, psi, phi), null)
    tau = jax.grad(lambda theta: 0.5 * jnp.vdot(v, hessian(theta, z, psi, phi)))(jnp.zeros(n + p))
    s = -v @ tau
    vaa, vab, vbb = v[:n, :n], v[:n, n:], v[n:, n:]
    va, vb = jnp.diag(vaa), jnp.diag(vbb)
    mean = z * (1.0 + s[:n, None] + s[n:] + 0.5 * (va[:, None] + 2.0 * vab + vb))
    cross = z * vab  # Cov(a_i + b_j, a_k + b_j) = Vaa_ik + Vab_ij + Vab_kj + vb_j
    rows = mean @ mean.T + vaa * (z @ z.T) + (z * vb) @ z.T + cross @ z.T + z @ cross.T
    cols = mean.T @ mean + vbb * (z.T @ z) + (z.T * va) @ z + cross.T @ z + z.T @ cross
    scale = jnp.count_nonzero(z).astype(z.dtype) / (jnp.vdot(psi, rows) + jnp.vdot(phi, cols))  # Eq. 7
    return 0.5 * scale * (rows + rows.T), 0.5 * scale * (cols + cols.T)


def hessian(theta: Array, z: Array, psi: Array, phi: Array) -> Array:
    """Give the Hessian of ``g`` (Eq. 2) in ``(a, b)`` at ``θ`` from the mode, (n + p, n + p).

    With ``M = Z∘(ΨZ + ZΦ)``: ``[Ψ∘ZZᵀ + diag(rowsums(Z∘ZΦ + M)), 2M; 2Mᵀ, Φ∘ZᵀZ + diag(colsums(Z∘ΨZ + M))]``.
    """
    n = len(psi)
    z = z * jnp.exp(theta[:n, None] + theta[n:])
    left, right = z * (psi @ z), z * (z @ phi)
    m = left + right
    rows = psi * (z @ z.T) + jnp.diag((right + m).sum(1))
    cols = phi * (z.T @ z) + jnp.diag((left + m).sum(0))
    return jnp.block([[rows, 2.0 * m], [2.0 * m.T, cols]])


def _pseudo_inverse(h: Array, null: Array) -> Array:
    """Invert ``H`` on the complement of its null vectors; not a number where it is not positive definite there."""
    size = jnp.trace(h) / len(h)
    projector = null @ null.T
    factor = jax.scipy.linalg.cho_factor(h + size * projector, lower=True)
    return jax.scipy.linalg.cho_solve(factor, jnp.eye(len(h))) - projector / size
