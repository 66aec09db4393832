"""How well a tensor with a CP-like truth can be completed by somebody who knows more than its measured values.

Factors are those of ``T_dcg = Σ_k i_dk r_ck u_gk``, treatments, contexts and genes.
"""

import numpy as np

Factors = tuple[np.ndarray, np.ndarray, np.ndarray]


def true_factors(truth: np.ndarray, rank: int) -> Factors:
    """Decompose a tensor without noise: two mixtures of its slices have the same genes' factors as eigenvectors."""
    n_contexts, n_genes = truth.shape[1:]
    basis = np.linalg.svd(truth.reshape(-1, n_genes), full_matrices=False)[2][:rank].T
    mixed = np.random.default_rng(0).normal(size=(2, n_contexts))
    first, second = (np.einsum("c,dcg->dg", weights, truth) @ basis for weights in mixed)
    vectors = np.linalg.eig(np.linalg.lstsq(first, second, rcond=None)[0])[1].real
    genes = basis @ np.linalg.inv(vectors).T
    products = truth @ np.linalg.pinv(genes).T  # i_dk r_ck
    left, size, right = np.linalg.svd(np.moveaxis(products, 2, 0), full_matrices=False)
    return left[:, :, 0].T * size[:, 0], right[:, 0].T, genes


def completed_by(factors: Factors) -> np.ndarray:
    return np.einsum("dk,ck,gk->dcg", *factors)


def treatments_alone(x: np.ndarray, factors: Factors, noise: float) -> Factors:
    """Fit the treatments' factors, with the prior variance and noise that they have; genes and contexts are given."""
    treatments, contexts, genes = factors
    penalty = np.diag(noise**2 / np.mean(treatments**2, axis=0))
    return _by_treatment(x, contexts, genes, penalty), contexts, genes


def least_squares(x: np.ndarray, factors: Factors, *, ridge: float = 1e-3, n_sweeps: int = 100) -> Factors:
    """Fit all factors in turns, from given ones, with a penalty that only keeps the equations regular."""
    treatments, contexts, genes = balanced(factors)
    penalty = ridge * np.eye(genes.shape[1])
    some = ~np.isnan(x[:, :, 0])
    for _ in range(n_sweeps):
        treatments = _by_treatment(x, contexts, genes, penalty)
        contexts = _by_treatment(np.moveaxis(x, 1, 0), treatments, genes, penalty)
        where = np.nonzero(some)
        products = treatments[where[0]] * contexts[where[1]]
        genes = np.linalg.solve(products.T @ products + penalty, products.T @ x[some]).T
    return treatments, contexts, genes


def balanced(factors: Factors) -> Factors:
    """Scale every component to the same mean square in all modes."""
    sizes = [np.sqrt(np.mean(factor**2, axis=0)) for factor in factors]
    common = np.prod(sizes, axis=0) ** (1 / 3)
    return tuple(factor * common / size for factor, size in zip(factors, sizes, strict=True))


def _by_treatment(x: np.ndarray, contexts: np.ndarray, genes: np.ndarray, penalty: np.ndarray) -> np.ndarray:
    """Solve the normal equations of every slice of the first mode."""
    some = (~np.isnan(x[:, :, 0])).astype(float)
    gram = np.einsum("dc,cj,ck->djk", some, contexts, contexts) * (genes.T @ genes) + penalty
    right = np.einsum("dcg,ck,gk->dk", np.nan_to_num(x), contexts, genes, optimize=True)
    return np.linalg.solve(gram, right[:, :, None])[:, :, 0]
