"""The choice of genes for a graph: detected in enough cells, and variable by scanpy's criterion on logarithms."""

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from kronax._data.chunks import is_dask
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
    if not are_logarithms(values if sample is None else sample):
        sc.pp.normalize_total(logs)
        sc.pp.log1p(logs)
    return logs


def counts_behind(adata: AnnData, layer: str | None) -> sparse.csr_array:
    """Read the values into memory, float64; of logarithms, what they were made of, ``exp(x) − 1``."""
    found = matrix(adata, layer)
    values = sparse.csr_array(found.compute() if is_dask(found) else found, dtype=np.float64, copy=True)
    return values.expm1() if are_logarithms(values) else values


def are_logarithms(values: np.ndarray | sparse.spmatrix | sparse.sparray) -> bool:
    """Return whether values without negative ones are logarithms: not whole numbers, and none as large as a count may be."""
    entries = values.data if sparse.issparse(values) else values
    return bool((entries != np.rint(entries)).any() and entries.max() <= _LARGEST_LOGARITHM)


def highly_variable(logs: AnnData, n_top_genes: int, batches: pd.Categorical | None = None) -> np.ndarray:
    """Choose genes as scanpy does by default, by how they vary within batches if these are given: a mask.

    Cells without a batch are left out then.
    """
    import scanpy as sc

    key = None if batches is None else "batch"
    if key:
        numbers = pd.RangeIndex(logs.n_vars).astype(str)  # scanpy adds up what has one name
        logs = AnnData(logs.X, pd.DataFrame({key: batches}, index=logs.obs_names), pd.DataFrame(index=numbers))
    found = sc.pp.highly_variable_genes(logs, n_top_genes=n_top_genes, batch_key=key, inplace=False)
    return found["highly_variable"].to_numpy()
