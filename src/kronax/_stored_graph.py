"""The graphs that a graph method wrote, found through ``uns`` as scanpy finds its cell graph."""

from typing import Literal

import numpy as np
from anndata import AnnData
from scipy import sparse

from kronax import _validate

Axis = Literal["obs", "var"]
AXES = ("obs", "var")
_REMEDY = "Run kx.tl.med_magma first."


def stored_matrix(adata: AnnData, neighbors_key: str, axis: Axis, what: str) -> tuple[sparse.csr_matrix, str]:
    """Read ``"connectivities"`` or ``"precision"`` of an axis: CSR, float64, a copy, no stored zeros; and its place."""
    _validate.key_in(neighbors_key, adata.uns, "adata.uns", _REMEDY)
    _validate.key_in(f"{what}_key", adata.uns[neighbors_key], f"adata.uns[{neighbors_key!r}]", _REMEDY)
    key = adata.uns[neighbors_key][f"{what}_key"]
    name = f"adata.{axis}p"
    _validate.key_in(key, getattr(adata, f"{axis}p"), name, _REMEDY)
    matrix = sparse.csr_matrix(getattr(adata, f"{axis}p")[key], dtype=np.float64, copy=True)
    matrix.eliminate_zeros()
    return matrix, f"`{name}[{key!r}]`"


def stored_graph(adata: AnnData, neighbors_key: str, axis: Axis) -> sparse.csr_matrix:
    """Read the connectivities of cells or genes: CSR, float64, a copy, no stored zeros, weights checked."""
    graph, place = stored_matrix(adata, neighbors_key, axis, "connectivities")
    require_weights(graph, place)
    return graph


def require_weights(graph: sparse.csr_matrix, place: str) -> None:
    """Require that all weights are positive and finite."""
    if not (np.isfinite(graph.data).all() and (graph.data > 0).all()):
        msg = f"{place} has negative, NaN or infinite values; the weights of a graph are positive."
        raise ValueError(msg)
