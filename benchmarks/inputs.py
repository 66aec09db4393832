"""The matrices that are timed. Both need no download."""

import numpy as np
import peers
import scanpy as sc
from anndata import AnnData
from scipy import sparse

N_TYPES = 10
MEDIAN_DEPTH = 290  # counts per cell and 2,000 genes: 10 to 12% of the entries are not zero
BLOCK = 1000  # cells


def pbmc68k() -> AnnData:
    """Read 700 cells × 700 genes, log-normalised: what MED-MAGMA's protocol keeps of the data shipped with scanpy."""
    adata = sc.datasets.pbmc68k_reduced().raw.to_adata()
    return adata[:, peers.widely_expressed(adata)].copy()


def simulated_counts(n_cells: int, n_genes: int, seed: int = 0, first: int = 0) -> AnnData:
    """Draw Poisson counts of ten cell types with gamma profiles and log-normal depths.

    With another ``first``, the number of the first cell, they are other cells of the same types.
    """
    rng = np.random.default_rng(seed)
    profiles = rng.gamma(0.3, size=(N_TYPES, n_genes))
    profiles /= profiles.mean(axis=1, keepdims=True)
    if first:
        rng = np.random.default_rng([seed, first])
    blocks = [
        _block(rng, profiles, min(BLOCK, n_cells - start), MEDIAN_DEPTH / 2000) for start in range(0, n_cells, BLOCK)
    ]
    return AnnData(sparse.vstack(blocks, format="csr"))


def _block(rng: np.random.Generator, profiles: np.ndarray, n_cells: int, depth: float) -> sparse.csr_matrix:
    """Draw some of the cells; only this many are ever dense."""
    types = rng.integers(len(profiles), size=n_cells)
    depths = depth * rng.lognormal(sigma=0.4, size=(n_cells, 1))
    return sparse.csr_matrix(rng.poisson(depths * profiles[types]).astype(np.float32))
