from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import sparse

from kronax._data import keys
from kronax._logging import warn
from kronax.metrics._read import Holder, Matrix, read_graph, read_groups
from kronax.solvers import checks


def batch_mixing(
    data: Holder | Matrix,
    *,
    label_key: str | Sequence,
    batch_key: str | Sequence,
    neighbors_key: str = keys.MED_MAGMA,
    weighted: bool = False,
    by_label: bool = False,
) -> float | pd.DataFrame:
    r"""Measure how well a cell graph mixes the batches of cells with the same label.

    Only edges between cells with the same label count, so that nothing is gained by edges between different ones. For
    every label :math:`l`, :math:`o_l` is the share of a cell's neighbours that are from other batches, averaged over
    the :math:`n_l` cells that have any, and :math:`e_l` the share that is expected if batches make no difference: that
    of all pairs of the label's cells which are from different batches. Together,

    .. math:: \frac{\sum_l n_l o_l}{\sum_l n_l e_l}.

    It is 1 if batches are mixed as if by chance, 0 if no edge joins two of them, and above 1 if edges prefer other
    batches. If batches are exchanged at random among the cells of a label, its average is 1.

    Parameters
    ----------
    data
        AnnData object with a cell graph, MuData object, or the graph itself: a symmetric matrix of weights.
    label_key
        Column of ``obs``, or one label per cell, such as its type, found by name in a Series that has their names. Cells with a missing label are left out.
    batch_key
        Column of ``obs``, or one batch per cell, as for `label_key`. Cells with a missing batch are left out.
    neighbors_key
        Key in ``uns`` that describes the graph.
    weighted
        Whether neighbours count by the weight of the edge; otherwise all count equally.
    by_label
        Return the table of all labels.

    Returns
    -------
    The ratio; NaN if no edge joins two cells with the same label. With `by_label`, a table with one row per label:
    ``n_cells`` and ``n_batches``; ``observed``, :math:`o_l`, over cells with a neighbour of their label; ``expected``,
    :math:`e_l`; and ``mixing``, their ratio. Labels found in one batch only say nothing about mixing: they are left out
    of the ratio, with a warning, and have NaN in the table.

    Raises
    ------
    KeyError
        If there is no such graph or column.
    TypeError
        If `data` is neither an AnnData or MuData object nor a matrix.
    ValueError
        If no label is found in two batches; if the matrix is not square or not symmetric, or a weight is negative or
        not finite; or if labels or batches are too few, too many or all missing.

    See Also
    --------
    kronax.metrics.graph_connectivity : Whether the cells of a label hang together.
    kronax.pl.batch_mixing : Plot of every label and batch.

    References
    ----------
    :cite:t:`Buettner2019` compare the batches of neighbours with those of all cells; here, with those of the same label.

    Examples
    --------
    >>> import kronax as kx
    >>> import numpy as np
    >>> ring = np.roll(np.eye(6), 1, axis=0) + np.roll(np.eye(6), -1, axis=0)
    >>> round(kx.metrics.batch_mixing(ring, label_key=["T"] * 6, batch_key=["a", "a", "a", "b", "b", "b"]), 3)
    0.556
    """
    checks.one_of(by_label, (True, False), "by_label")
    mixing = read_mixing(data, label_key, batch_key, neighbors_key, weighted=weighted)
    table = mixing.by_label()
    if by_label:
        return table
    if alone := list(table.index[table["n_batches"] < 2]):
        found = checks.number(len(alone), "label")
        msg = f"{found} left out of the mixing, found in one batch only: {checks.listed(alone)}."
        warn(msg)
    return mixing.overall()


class Mixing:
    """Neighbours with the same label: how many are from other batches, and how many would be by chance.

    Attributes
    ----------
    size
        Cells, labels × batches.
    seen
        Cells with a neighbour of their label, labels × batches.
    share
        Sum over these of the share of neighbours from other batches, labels × batches.
    """

    def __init__(self, graph: sparse.csr_matrix, label: pd.Categorical, batch: pd.Categorical) -> None:
        self.label, self.batch = label.categories, batch.categories
        code, of = label.codes, batch.codes
        edges, n = graph.tocoo(), len(code)
        within = (code[edges.row] == code[edges.col]) & (of[edges.row] >= 0) & (of[edges.col] >= 0)
        row, col, weight = edges.row[within], edges.col[within], edges.data[within]
        total = np.bincount(row, weight, n)
        others = np.bincount(row, weight * (of[row] != of[col]), n)
        known, seen = (code >= 0) & (of >= 0), (code >= 0) & (total > 0)
        self.size = self._sum(code[known], of[known])
        self.seen = self._sum(code[seen], of[seen])
        self.share = self._sum(code[seen], of[seen], others[seen] / total[seen])

    def _sum(self, code: np.ndarray, of: np.ndarray, values: np.ndarray | None = None) -> np.ndarray:
        shape = len(self.label), len(self.batch)
        return np.bincount(np.ravel_multi_index((code, of), shape), values, np.prod(shape)).reshape(shape)

    def expected(self) -> np.ndarray:
        """Return the share of the other cells of a label that are from other batches, for every batch: labels × batches."""
        n = self.size.sum(axis=1, keepdims=True)
        return _ratio(n - self.size, n - 1.0)

    def by_label(self) -> pd.DataFrame:
        """Average over the cells of every label."""
        n = self.size.sum(axis=1)
        observed = _ratio(self.share.sum(axis=1), self.seen.sum(axis=1))
        expected = _ratio((self.size * np.nan_to_num(self.expected())).sum(axis=1), n)
        columns = {
            "n_cells": n,
            "n_batches": (self.size > 0).sum(axis=1),
            "observed": observed,
            "expected": expected,
            "mixing": _ratio(observed, expected),
        }
        return pd.DataFrame(columns, index=self.label)

    def by_batch(self) -> np.ndarray:
        """Divide what is observed in every batch by what is expected there: labels × batches, NaN where undefined."""
        return _ratio(_ratio(self.share, self.seen), self.expected())

    def overall(self) -> float:
        """Divide what is observed by what is expected, over the labels that are found in several batches."""
        table = self.by_label()
        n = np.where(table["n_batches"] > 1, self.seen.sum(axis=1), 0)
        return float(_ratio(self.share.sum(axis=1) @ (n > 0), n @ np.nan_to_num(table["expected"])))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide; NaN where there is nothing to divide by."""
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def read_mixing(
    data: Holder | Matrix, label_key: str | Sequence, batch_key: str | Sequence, neighbors_key: str, *, weighted: bool
) -> Mixing:
    """Count the neighbours of every cell; require a label that is found in two batches."""
    checks.one_of(weighted, (True, False), "weighted")
    graph = read_graph(data, neighbors_key, "obs")
    label = read_groups(data, label_key, "obs", graph.shape[0], "label_key")
    batch = read_groups(data, batch_key, "obs", graph.shape[0], "batch_key")
    mixing = Mixing(graph if weighted else (graph > 0).astype(np.float64), label, batch)
    if not ((mixing.size > 0).sum(axis=1) > 1).any():
        msg = (
            "No label is found in two batches, so there is nothing to mix. Name the columns that hold cell types and "
            "batches with `label_key` and `batch_key`."
        )
        raise ValueError(msg)
    return mixing
