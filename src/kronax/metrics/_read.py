"""What every metric takes: an AnnData or MuData object with the names of what to read, or the matrices themselves."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from kronax._data import objects
from kronax._data.matrix import require_no_mask
from kronax._data.modules import categorical
from kronax._data.named import places_of
from kronax._data.stored_graph import AXES, Axis, require_weights, stored_graph
from kronax.solvers import checks

Holder = AnnData | MuData  # of graphs: a MuData object of its cells' alone
Matrix = np.ndarray | sparse.spmatrix | sparse.sparray


def read_graph(data: Holder | Matrix, neighbors_key: str, axis: Axis) -> sparse.csr_matrix:
    """Read a graph: CSR, float64, a copy, symmetric, weights positive, no diagonal."""
    checks.one_of(axis, AXES, "axis")
    if isinstance(data, Holder):
        objects.holds_graph(data, axis)
        graph, place = stored_graph(data, neighbors_key, axis), f"The graph of {neighbors_key!r}"
    else:
        graph, place = square(data, "The graph"), "The graph"
        require_weights(graph, place)
    require_symmetric(graph, place)
    graph.setdiag(0)
    graph.eliminate_zeros()
    return graph


def square(matrix: Any, place: str) -> sparse.csr_matrix:
    """Copy a square matrix to CSR, float64, without stored zeros."""
    if not (isinstance(matrix, np.ndarray) or sparse.issparse(matrix)):
        msg = f"Expected an AnnData or MuData object, an array or a sparse matrix, found {type(matrix).__name__}."
        raise TypeError(msg)
    require_no_mask(matrix, place)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        msg = f"{place} must be a square matrix, found shape {matrix.shape}."
        raise ValueError(msg)
    copy = sparse.csr_matrix(matrix, dtype=np.float64, copy=True)
    copy.sum_duplicates()
    copy.eliminate_zeros()
    return copy


def require_symmetric(matrix: sparse.csr_matrix, place: str) -> None:
    """Require that a matrix equals its transpose up to rounding."""
    difference = abs(matrix - matrix.T)
    if difference.nnz and difference.max() > 1e-6 * abs(matrix).max():
        msg = f"{place} is not symmetric. Make it so, e.g. with `matrix.maximum(matrix.T)`."
        raise ValueError(msg)


def read_labels(data: Holder | Matrix, labels: str | Sequence, axis: Axis, n: int) -> np.ndarray:
    """Number the labels: (n,), -1 where one is missing."""
    return pd.factorize(np.asarray(_column(data, labels, axis, n, "labels"), dtype=object))[0]


def read_groups(data: Holder | Matrix, groups: str | Sequence, axis: Axis, n: int, argument: str) -> pd.Categorical:
    """Read groups with their names, in the order of their categories, all of which occur."""
    column = _column(data, groups, axis, n, argument)
    return categorical(column, groups if isinstance(groups, str) else argument)


def _column(data: Holder | Matrix, values: str | Sequence, axis: Axis, n: int, argument: str) -> Sequence:
    """Return the column that is named, or the values themselves: one per vertex, not all of them missing."""
    if isinstance(values, str):
        if not isinstance(data, Holder):
            msg = f"`{argument}` names a column, {values!r}, but a matrix has none. Pass one value per vertex."
            raise ValueError(msg)
        table = getattr(data, axis)
        objects.key_in(values, table, f"{objects.called(data)}.{axis}")
        values = table[values]
    if len(values) != n:
        msg = f"`{argument}` has {len(values)} values, but the graph has {n} vertices."
        raise ValueError(msg)
    if isinstance(values, pd.Series) and isinstance(data, Holder):
        places = places_of(getattr(data, f"{axis}_names"), values.index, f"names of `{argument}` and of `{axis}_names`")
        values = values if places is None else values.iloc[places]
    if np.ma.isMaskedArray(values):
        values = np.where(np.ma.getmaskarray(values), None, values.data.astype(object))
    if pd.isna(np.asarray(values, dtype=object)).all():
        msg = f"All values of `{argument}` are missing."
        raise ValueError(msg)
    return values
