"""The choice of genes for a graph: detected in enough cells, and variable by scanpy's criterion on logarithms."""

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from kronax._data.matrix import Counts

_LARGEST_LOGARITHM = 50  # no count has a logarithm beyond: larger values are counts, whole or not


def n_cells_detected(counts: Counts) -> np.ndarray:
    """Count, for every gene of the object, the cells in which it has a value other than zero."""
    detected = np.zeros(counts.shape[1], np.int64)
    detected[counts.genes] = counts.rows.col_counts
    return detected


def matrix(adata: AnnData, layer: str | None) -> np.ndarray | sparse.spmatrix | sparse.sparray:
    """Return a layer, or X."""
    return adata.X if layer is None else adata.layers[layer]


def log_normalised(adata: AnnData, layer: str | None, sample: sparse.sparray | None = None) -> AnnData:
    """Return a copy with normalised totals and logarithms; values that are logarithms already are left as they are.

    They are judged by a sample of rows, if there is one.
    """
    import scanpy as sc

    values = matrix(adata, layer).astype(np.float32)
    logs = AnnData(values, obs=pd.DataFrame(index=adata.obs_names), var=pd.DataFrame(index=adata.var_names))
    judged = values if sample is None else sample
    entries = judged.data if sparse.issparse(judged) else judged
    if (entries == np.rint(entries)).all() or entries.max() > _LARGEST_LOGARITHM:
        sc.pp.normalize_total(logs)
        sc.pp.log1p(logs)
    return logs


def highly_variable(logs: AnnData, n_top_genes: int) -> np.ndarray:
    """Choose genes as scanpy does by default: a mask."""
    import scanpy as sc

    return sc.pp.highly_variable_genes(logs, n_top_genes=n_top_genes, inplace=False)["highly_variable"].to_numpy()
