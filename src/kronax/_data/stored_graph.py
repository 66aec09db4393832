"""The graphs that a graph method wrote, found through ``uns`` as scanpy finds its cell graph."""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from kronax._data import objects
from kronax._data.written import params_of

Axis = Literal["obs", "var"]
AXES = ("obs", "var")
Graph = sparse.csr_matrix | sparse.csr_array
_SIGNIFICANCE = ("p_value", "q_value")


def stored_matrix(data: AnnData | MuData, neighbors_key: str, axis: Axis, what: str) -> tuple[sparse.csr_matrix, str]:
    """Read a matrix of a graph, such as ``"connectivities"``: CSR, float64, a copy, no stored zeros; and its place."""
    of = objects.called(data)
    name, stored = f"{of}.{axis}p", getattr(data, f"{axis}p")
    remedy = _remedy(data.uns, stored, what)
    graph = objects.entry(data, neighbors_key, None, remedy)
    if left_out := _left_out(graph, params_of(data, neighbors_key), axis, what):
        remedy = left_out
    elif what == "precision" and "connectivities_key" in graph and "precision_key" not in graph:
        remedy = f"This graph has no precision; only kx.tl.med_magma and kx.tl.gmgm write one. {remedy}"
    elif what in _SIGNIFICANCE and "connectivities_key" in graph:
        remedy = f"This graph has no {what.replace('_', '-')}s. {_way_to_significance(axis)}"
    if f"{what}_key" not in graph and axis == "obs" and "params" in graph and what in stored:
        key = what  # scanpy takes it from there where the entry has no names
    else:
        objects.key_in(f"{what}_key", graph, f"{of}.uns[{neighbors_key!r}]", remedy)
        key = graph[f"{what}_key"]
    if key not in stored and axis == "obs" and "version" in graph and not left_out:
        remedy = (
            f"A graph of the cells that was learnt from a MuData object is in that one: pass it. Otherwise: {remedy}"
        )
    objects.key_in(key, stored, name, remedy)
    matrix = sparse.csr_matrix(stored[key], dtype=np.float64, copy=True)
    matrix.eliminate_zeros()
    return matrix, f"`{name}[{key!r}]`"


def holds(data: AnnData | MuData, neighbors_key: str, axis: Axis, what: str) -> bool:
    """Return whether a graph has a matrix such as ``"precision"`` or ``"q_value"`` of an axis."""
    graph = data.uns.get(neighbors_key)
    return isinstance(graph, Mapping) and graph.get(f"{what}_key") in getattr(data, f"{axis}p")


def _way_to_significance(axis: Axis) -> str:
    """Say how a graph gets p- and q-values."""
    if axis == "obs":
        return "Only those of genes have some."
    return "Run kx.tl.med_magma, which writes those of genes where they can be had."


def _remedy(uns: Mapping, stored: Mapping, what: str) -> str:
    """Name the graphs that are there, if any."""
    there = [key for key, entry in uns.items() if isinstance(entry, Mapping) and entry.get(f"{what}_key") in stored]
    return f"Pass `neighbors_key=`, one of {sorted(there)}." if there else "Run kx.tl.med_magma first."


def _left_out(graph: Mapping, params: Mapping, axis: Axis, what: str) -> str:
    """Say that what is asked for was not wanted when the entry was made; empty if it was."""
    graphs, other = params.get("graphs", "both"), "genes" if axis == "obs" else "cells"
    if graphs == "both" and (axis, what) == ("obs", "precision") and "cell_precision" in params:
        return f"It was made without it: run kx.tl.{params['method']} with cell_precision=True, the matrix in memory."
    if graphs == "both" or (graphs != other and not (what == "precision" and "precision_key" not in graph)):
        return ""
    return f"It was made with graphs={graphs!r}: run kx.tl.{params['method']} with graphs='both'."


def stored_graph(data: AnnData | MuData, neighbors_key: str, axis: Axis) -> sparse.csr_matrix:
    """Read the connectivities of cells or genes: CSR, float64, a copy, no stored zeros, weights checked."""
    graph, place = stored_matrix(data, neighbors_key, axis, "connectivities")
    require_weights(graph, place)
    return graph


def require_weights(graph: sparse.csr_matrix, place: str) -> None:
    """Require that all weights are positive and finite."""
    if not (np.isfinite(graph.data).all() and (graph.data > 0).all()):
        msg = f"{place} has negative, NaN or infinite values; the weights of a graph are positive."
        raise ValueError(msg)
