"""Differences between samples and their controls, in units of what varies among the controls.

Of ``n`` control samples in ``g`` groups, each compared with the mean of its own, let ``E`` (n, p) be the deviations. Their
covariance is ``Σ = EᵀE/(n − g) = V diag(λ) Vᵀ``.
"""

import numpy as np
from scipy.special import digamma, polygamma

SHRINKAGE = 0.5  # γ of Eq. 1
_ROUNDING = 1e-10  # share of a vector's length, or of the largest axis', below which there is only rounding
_STEPS = 50


def characteristic_directions(differences: np.ndarray, deviations: np.ndarray, dof: int) -> np.ndarray:
    """Compute the characteristic direction of every difference (Clark et al., BMC Bioinformatics 2014).

    ``b = W (γ WᵀΣW + (1 − γ) σ̄² I)⁻¹ Wᵀd``,  ``γ = ½``, scaled to unit length,                                   (1)

    where ``W`` are the axes of all samples that are compared: those of the controls, ``V``, and what the difference ``d`` has
    beyond them. Along the latter the controls do not vary. ``σ̄²`` is the mean eigenvalue of ``WᵀΣW``. No ``p × p`` matrix is
    formed, and all differences share one decomposition.

    Parameters
    ----------
    differences
        ``d`` of every sample, (k, p).
    deviations
        ``E``, (n, p).
    dof
        ``n − g``.

    Returns
    -------
    (k, p); a difference of 0 has no direction and stays 0.
    """
    _, singular, axes = np.linalg.svd(deviations, full_matrices=False)
    kept = singular > _ROUNDING * singular.max(initial=0.0)
    variances, axes = singular[kept] ** 2 / dof, axes[kept]
    along = differences @ axes.T
    beyond = differences - along @ axes
    beyond -= (beyond @ axes.T) @ axes  # once more: what is left may be small
    has_beyond = _lengths(beyond) > _ROUNDING * _lengths(differences)
    mean = variances.sum() / (len(variances) + has_beyond)
    ridge = (1.0 - SHRINKAGE) * mean[:, None]
    found = (along / (SHRINKAGE * variances + ridge)) @ axes + np.where(has_beyond[:, None], beyond / ridge, 0.0)
    return unit(found)


def unit(rows: np.ndarray) -> np.ndarray:
    """Scale rows to unit length; rows of zeros stay."""
    length = _lengths(rows)[:, None]
    return np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)


def _lengths(rows: np.ndarray) -> np.ndarray:
    return np.linalg.norm(rows, axis=1)


def shrunken_variances(deviations: np.ndarray, dof: int) -> np.ndarray:
    """Shrink the variances of genes towards a common one (Smyth, Stat. Appl. Genet. Mol. Biol. 2004).

    ``s̃² = (d₀s₀² + d s²)/(d₀ + d)``: variances follow a scaled inverse χ² law with ``d₀`` degrees of freedom, whose parameters are
    those that give ``log s²`` its mean and its variance over genes.

    Parameters
    ----------
    deviations
        ``E``, (n, p).
    dof
        ``d = n − g``.

    Returns
    -------
    ``s̃²``, (p,). A gene that varies in no control sample has ``s² = 0`` and no part in finding ``d₀`` and ``s₀²``.
    """
    variances = np.square(deviations).sum(axis=0) / dof
    logs = np.log(variances[variances > 0])
    if not len(logs):
        return variances
    centred = logs - digamma(0.5 * dof) + np.log(0.5 * dof)
    excess = (centred.var(ddof=1) if len(logs) > 1 else 0.0) - polygamma(1, 0.5 * dof)
    if excess <= 0:  # no more spread than chance gives: one variance for all
        return np.full_like(variances, np.exp(centred.mean()))
    half = _inverse_trigamma(excess)  # d₀/2
    common = np.exp(centred.mean() + digamma(half) - np.log(half))
    return (2.0 * half * common + dof * variances) / (2.0 * half + dof)


def _inverse_trigamma(value: float) -> float:
    """Solve ``ψ′(x) = value`` by Newton's method for ``1/ψ′``, which is convex and nearly linear (Smyth 2004, appendix)."""
    x = 0.5 + 1.0 / value
    for _ in range(_STEPS):
        slope = polygamma(1, x)
        step = slope * (1.0 - slope / value) / polygamma(2, x)
        x += step
        if abs(step) < 1e-12 * x:
            break
    return float(x)
