"""The E-step beyond its mode: the second moments of ``Z`` on the fiber, by Laplace's approximation.

This reproduces the paper (Andrew et al. 2026, section 3.4); in the benchmarks, the mode alone does as well.

As in the paper, the geometric mean of ``|Z|`` is fixed. On the fiber ``Z ∘ exp(a_i + b_j)`` this is one linear condition on
``θ = (a, b)``: ``Σ p_i a_i + Σ n_j b_j = 0``, with the counts of Eq. 2. The volume is then constant, and the posterior is
``exp(−½⟨Z, Ω·Z⟩)``. With ``H`` the Hessian of ``½⟨Z, Ω·Z⟩`` at the mode and ``V`` its inverse in the directions that are left,
``θ`` has approximately the covariance ``V`` and the mean ``s = −Vτ``, ``τ = ∇½⟨V, H(θ)⟩`` with ``V`` held fixed. To second order,

    ``E⟨Z, Ω·Z⟩ = ⟨Z, Ω·Z⟩ + ⟨s, ∇⟨Z, Ω·Z⟩⟩ + ⟨V, H⟩``,                                                         (6)

and ``E[ZZᵀ]`` and ``E[ZᵀZ]`` are the derivatives of the right-hand side in ``Ψ`` and ``Φ``. They are also the derivatives of

    ``⟨Z, Ω·Z⟩ + log det H``,                                                                                   (7)

Laplace's approximation of ``−2 log ∫ exp(−½⟨Z, Ω·Z⟩) dθ``. Steps of EM with these moments therefore have one objective.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy import sparse

from kronax.solvers.device import to_device, to_host

_MATRICES = 16  # of the Hessian's size, alive at a time
_WORTHWHILE = 0.01  # a relative change of the second moments
_SMALL = 1000  # rows and columns: their Hessian is inverted


@dataclass(frozen=True)
class Moments:
    """``E[ZZᵀ]`` (n, n) and ``E[ZᵀZ]`` (p, p), symmetric and of one trace, and ``log det H``.

    Where the approximation is poor, they may not be positive semidefinite.
    """

    rows: np.ndarray
    cols: np.ndarray
    log_det: float


@dataclass(frozen=True)
class Laplace:
    """Second moments for the E-step.

    Attributes
    ----------
    required
        Whether they are always taken, or only where they are :func:`worthwhile`.
    """

    required: bool = True

    def __call__(self, z: np.ndarray, psi: np.ndarray, phi: np.ndarray) -> Moments | None:
        """Compute the moments; None where they are not taken or ``Z`` is no strict mode. See :func:`moments`."""
        if not (self.required or worthwhile(*z.shape, np.count_nonzero(z))):
            return None
        try:
            return moments(z, psi, phi)
        except ValueError:
            return None

    def bytes_needed(self, n: int, p: int) -> int:
        """Estimate the peak memory, in bytes; 0 if moments are only taken where worthwhile, as such matrices are small."""
        return 8 * _MATRICES * (n + p) ** 2 if self.required else 0


def worthwhile(n: int, p: int, n_entries: int) -> bool:
    """Return whether the moments change by more than 1%, cost little, and can be told from the entries.

    The change is of the order of ``1/n + 1/p``. It is accurate to a few per cent if there are at least twice as many entries
    as scales.
    """
    return 1.0 / n + 1.0 / p > _WORTHWHILE and n + p <= _SMALL and n_entries >= 2 * (n + p)


def moments(z: np.ndarray, psi: np.ndarray, phi: np.ndarray) -> Moments:
    """Compute the second moments of the fiber's posterior.

    Parameters
    ----------
    z
        The mode ``Z`` (n, p), dense, a non-zero entry in every row and column.
    psi, phi
        ``Ψ`` (n, n) and ``Φ`` (p, p), symmetric; ``Ψ ⊕ Φ`` positive definite.

    Raises
    ------
    ValueError
        If ``H`` is not positive definite in the directions that are left: ``Z`` is no strict mode.
    """
    fixed = _fixed_directions(z != 0)
    with jax.enable_x64(True):
        z, psi, phi, fixed = (to_device(x, np.float64) for x in (z, psi, phi, fixed))
        rows, cols, log_det = map(to_host, _moments(z, psi, phi, fixed))
    if not (np.isfinite(rows).all() and np.isfinite(cols).all() and np.isfinite(log_det)):
        msg = "The Hessian at Z is not positive definite: Z is not the mode for this Ψ and Φ. Find the mode first."
        raise ValueError(msg)
    return Moments(rows, cols, float(log_det))


def _fixed_directions(pattern: np.ndarray) -> np.ndarray:
    """Return the directions in which ``θ`` does not move, orthonormal, (n + p, n_blocks + 1).

    They are ``(1, −1)`` for every connected block of rows and columns, which changes nothing, and the counts, along which the
    geometric mean would change.
    """
    n, p = pattern.shape
    graph = sparse.block_array([[sparse.csr_array((n, n)), pattern], [None, sparse.csr_array((p, p))]])
    n_blocks, block = sparse.csgraph.connected_components(graph, directed=False)
    null = (block[:, None] == np.arange(n_blocks)) / np.sqrt(np.bincount(block))
    null[n:] *= -1.0
    counts = np.append(pattern.sum(1), pattern.sum(0))  # of a block's rows and of its columns the sums are equal
    return np.column_stack([null, counts / np.linalg.norm(counts)])


@jax.jit
def _moments(z: Array, psi: Array, phi: Array, fixed: Array) -> tuple[Array, Array, Array]:
    nowhere = jnp.zeros(sum(z.shape))
    v, log_det = _inverse(hessian(nowhere, z, psi, phi), fixed)
    s = -v @ jax.grad(lambda theta: 0.5 * jnp.vdot(v, hessian(theta, z, psi, phi)))(nowhere)

    def expected(psi: Array, phi: Array) -> Array:  # Eq. 6
        at_mode, along = jax.jvp(lambda theta: energy(theta, z, psi, phi), (nowhere,), (s,))
        return 2.0 * (at_mode + along) + jnp.vdot(v, hessian(nowhere, z, psi, phi))

    rows, cols = jax.grad(expected, (0, 1))(psi, phi)
    return 0.5 * (rows + rows.T), 0.5 * (cols + cols.T), log_det


def energy(theta: Array, z: Array, psi: Array, phi: Array) -> Array:
    """Evaluate ``½⟨Z, Ω·Z⟩`` at ``θ`` from the mode."""
    n = len(psi)
    z = z * jnp.exp(theta[:n, None] + theta[n:])
    return 0.5 * jnp.vdot(z, psi @ z + z @ phi)


def hessian(theta: Array, z: Array, psi: Array, phi: Array) -> Array:
    """Compute the Hessian of :func:`energy` in ``θ``, (n + p, n + p).

    With ``M = Z∘(ΨZ + ZΦ)``: ``[Ψ∘ZZᵀ + diag(rowsums(Z∘ZΦ + M)), 2M; 2Mᵀ, Φ∘ZᵀZ + diag(colsums(Z∘ΨZ + M))]``.
    """
    n = len(psi)
    z = z * jnp.exp(theta[:n, None] + theta[n:])
    left, right = z * (psi @ z), z * (z @ phi)
    m = left + right
    rows = psi * (z @ z.T) + jnp.diag((right + m).sum(1))
    cols = phi * (z.T @ z) + jnp.diag((left + m).sum(0))
    return jnp.block([[rows, 2.0 * m], [2.0 * m.T, cols]])


def _inverse(h: Array, fixed: Array) -> tuple[Array, Array]:
    """Invert ``H`` on the complement of the fixed directions, and take ``log det`` there.

    NaN where ``H`` is not positive definite there.
    """
    size = jnp.trace(h) / len(h)
    projector = fixed @ fixed.T
    h = h - projector @ h
    h = h - h @ projector
    factor = jax.scipy.linalg.cho_factor(h + size * projector, lower=True)
    log_det = 2.0 * jnp.log(jnp.diag(factor[0])).sum() - fixed.shape[1] * jnp.log(size)
    return jax.scipy.linalg.cho_solve(factor, jnp.eye(len(h))) - projector / size, log_det
