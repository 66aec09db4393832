"""The gene graph that a graph method wrote, found through ``uns`` as scanpy finds the cell graph."""

import numpy as np
from anndata import AnnData
from scipy import sparse

from kronax import _validate

_REMEDY = "Run kx.tl.med_magma first."


def gene_graph(adata: AnnData, neighbors_key: str) -> sparse.csr_matrix:
    """Read the connectivities of the genes: CSR, float64, a copy, no stored zeros, weights checked."""
    _validate.key_in(neighbors_key, adata.uns, "adata.uns", _REMEDY)
    _validate.key_in("connectivities_key", adata.uns[neighbors_key], f"adata.uns[{neighbors_key!r}]", _REMEDY)
    key = adata.uns[neighbors_key]["connectivities_key"]
    _validate.key_in(key, adata.varp, "adata.varp", _REMEDY)
    graph = sparse.csr_matrix(adata.varp[key], dtype=np.float64, copy=True)
    graph.eliminate_zeros()
    if not (np.isfinite(graph.data).all() and (graph.data > 0).all()):
        msg = f"`adata.varp[{key!r}]` has negative, NaN or infinite values; the weights of a graph are positive."
        raise ValueError(msg)
    return graph
