"""The contexts' kernel: Eq. 3 of :mod:`kronax.solvers.tensor.wiener.kronecker`, and what it is drawn to.

Without side information, the correlation of two contexts is drawn to the usual one ``ρ̄``. A given similarity ``S`` and coordinates
of the contexts replace it by a target that is fitted to the correlations seen,

    ``R_bc = (1 − ν) S_bc ∏_j exp(−½ d_j(b, c)² / ℓ_j²)``,                                                         (4)

by least squares with weights ``n_bc``. As for ``ρ̄``, five more treatments, over all pairs, are taken to have shown ½: where few
treatments show how contexts compare, lengths are long, and the target is nearly ``ρ̄``.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kronax.solvers.device import eigh, to_host
from kronax.solvers.tensor.side import Links
from kronax.solvers.tensor.wiener.descent import descend
from kronax.solvers.tensor.wiener.kernels import Kernel

_PRIOR, _ASSUMED = 5.0, 0.5  # treatments, and the correlation of two contexts that they are taken to have shown
_LENGTHS = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 4.5, np.inf)  # candidates, shares of the largest distance


@dataclass(frozen=True)
class Target:
    """What correlations of contexts are drawn to, ``(C, C)``, and the parameters of Eq. 4 by their names."""

    values: np.ndarray
    parameters: dict[str, float]


def context_kernel(
    filled: np.ndarray, missing: np.ndarray, links: Links | None = None, weights: np.ndarray | None = None
) -> tuple[Kernel, dict[str, float]]:
    """Compute the contexts' kernel from what was measured (Eq. 3), and the parameters of its target.

    Parameters
    ----------
    filled
        ``(D, C, G)``, without gaps.
    missing
        Where a value was not measured.
    links
        What is known of the contexts; those never measured then have a place in the kernel too.
    weights
        Precisions ``(D, C, 1)`` or ``(D, C, G)``, 1 for the usual value: a treatment counts as so many.
    """
    n_contexts, n_genes = filled.shape[1:]
    products, squares, both = (np.zeros((n_contexts, n_contexts)) for _ in range(3))
    for d, (profiles, gaps) in enumerate(zip(filled, missing, strict=True)):  # treatment by treatment, to save memory
        known = (~gaps).astype(np.float64)
        if weights is not None:
            known *= np.sqrt(weights[d])
        values = profiles * known
        products += values @ values.T
        squares += (profiles * values) @ known.T  # of a context's entries, those that were measured in the other too
        both += known @ known.T
    shared, n = both / n_genes, np.diag(both) / n_genes
    has = n > 0
    rho = _ratio(products, np.sqrt(squares * squares.T))
    target = target_of(shared, rho, links)
    r = (shared * rho + target.values) / (shared + 1.0)
    np.fill_diagonal(r, 1.0)
    size, mean = _ratio(np.diag(squares), np.diag(both)), np.trace(squares) / np.trace(both)
    relative = np.divide(size, mean, out=np.ones_like(size), where=size > 0)
    log_a = np.log(relative) * n / (n + 1.0)
    if links is not None:
        has = np.ones_like(has)
    root = np.where(has, np.exp(0.5 * log_a), 0.0)
    values, vectors = eigh(r * np.outer(root, root))
    values = np.maximum(to_host(values), 0.0)
    return Kernel(values * (has.sum() / values.sum()), vectors), target.parameters  # of mean 1


def target_of(shared: np.ndarray, rho: np.ndarray, links: Links | None) -> Target:
    """Fit what the correlations ``rho`` over ``shared`` treatments are drawn to: ``ρ̄``, or Eq. 4."""
    pairs = np.triu_indices(len(rho), 1)
    n, seen = shared[pairs], rho[pairs]
    if links is None:
        return Target(np.full(rho.shape, (n @ seen + _PRIOR * _ASSUMED) / (n.sum() + _PRIOR)), {})
    given = np.ones_like(rho) if links.similarity is None else links.similarity
    names = [name for name, d in links.distances.items() if d.any()]
    scaled = [links.distances[name] / links.distances[name].max() for name in names]
    more = _PRIOR / max(len(n), 1)

    def kernel(place: tuple[int, ...]) -> np.ndarray:
        exponent = sum((d / _LENGTHS[i] ** 2 for d, i in zip(scaled, place, strict=True)), np.zeros_like(rho))
        return given * np.exp(-0.5 * exponent)

    def fit(k: np.ndarray) -> tuple[float, float]:
        """Return the share of the kernel and the squared error."""
        share = _ratio(n @ (seen * k) + more * _ASSUMED * k.sum(), n @ k**2 + more * (k @ k))  # of k = 0, any would do
        share = float(np.clip(share, 0.0, 1.0))
        return share, float(n @ np.square(seen - share * k) + more * np.square(_ASSUMED - share * k).sum())

    def errors(place: tuple[int, ...]) -> Iterator[float]:
        yield fit(kernel(place)[pairs])[1]

    place = descend(errors, (len(_LENGTHS),) * len(scaled), (_LENGTHS.index(1.0),) * len(scaled))
    k = kernel(place)
    share = fit(k[pairs])[0]
    lengths = {
        f"length_{name}": _LENGTHS[i] * float(np.sqrt(links.distances[name].max()))
        for name, i in zip(names, place, strict=True)
    }
    return Target(share * k, {"nugget": 1.0 - share, **lengths})


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide; 0 where there is nothing to divide by."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
