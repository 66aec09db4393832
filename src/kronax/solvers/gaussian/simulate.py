"""Draws from the model: a Kronecker-sum Gaussian behind multiplicative noise of rows and columns."""

from typing import Literal

import numpy as np

from kronax.solvers.device import eigh_all


def kronecker_sum_gaussian(psi: np.ndarray, phi: np.ndarray, rng: np.random.Generator, n_draws: int = 1) -> np.ndarray:
    """Draw matrices with ``vec Z ~ N(0, (Ψ ⊕ Φ)⁻¹)``, exactly: (n_draws, n, p).

    With ``Ψ = U diag(λ) Uᵀ`` and ``Φ = V diag(μ) Vᵀ``, ``Z = U (E ∘ (λ_i + μ_j)^-½) Vᵀ`` for a standard normal ``E``.

    Parameters
    ----------
    psi, phi
        Symmetric, (n, n) and (p, p), with ``λ_i + μ_j > 0`` for all pairs of eigenvalues.
    rng
        Where the random numbers come from.
    n_draws
        Number of independent matrices.
    """
    (lam, u), (mu, v) = eigh_all([psi, phi])
    total = lam[:, None] + mu
    if total.min() <= 0:
        msg = f"The Kronecker sum is not positive definite: its smallest eigenvalue is {total.min():.3g}."
        raise ValueError(msg)
    standard = rng.standard_normal((n_draws, len(lam), len(mu)))
    return u @ (standard / np.sqrt(total)) @ v.T


def noise_scales(
    n: int, strength: float, distribution: Literal["chi2", "lognormal"], rng: np.random.Generator
) -> np.ndarray:
    """Draw scales: ``χ²(1)`` to the power of the strength, or ``exp(strength · N(0, 1))``; ones at strength 0."""
    if distribution == "chi2":
        return rng.chisquare(1, n) ** strength
    return np.exp(strength * rng.standard_normal(n))
