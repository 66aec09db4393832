from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import csgraph

from kronax._data import keys
from kronax._data.stored_graph import Axis
from kronax.metrics._read import Holder, Matrix, read_graph, read_groups
from kronax.solvers import checks


def graph_connectivity(
    data: Holder | Matrix,
    *,
    label_key: str | Sequence,
    neighbors_key: str = keys.MED_MAGMA,
    axis: Axis = "obs",
    by_label: bool = False,
) -> float | pd.DataFrame:
    """Measure whether vertices with the same label hang together.

    For every label, the share of its vertices that are in the largest connected component of the graph of these
    vertices alone. The mean over labels is 1 if every label hangs together; in a graph that keeps batches apart, the
    cells of a label fall into one component for each batch.

    Parameters
    ----------
    data
        AnnData object with a graph, MuData object with a cell graph, or the graph itself: a symmetric matrix of
        weights.
    label_key
        Column of ``obs`` (``var`` for ``axis="var"``), or one label per vertex, found by name in a Series that has their names.
        Vertices with a missing label are left
        out.
    neighbors_key
        Key in ``uns`` that describes the graph.
    axis
        ``"obs"`` for the graph of the cells, ``"var"`` for that of the genes.
    by_label
        Return the table of all labels.

    Returns
    -------
    The mean over labels, from 0 to 1. With `by_label`, a table with one row per label: ``n``, its vertices;
    ``n_components``; and ``connectivity``, the share in the largest one.

    Raises
    ------
    KeyError
        If there is no such graph or column.
    TypeError
        If `data` is neither an AnnData or MuData object nor a matrix.
    ValueError
        If the matrix is not square or not symmetric, a weight is negative or not finite, or labels are too few, too
        many or all missing.

    See Also
    --------
    kronax.metrics.batch_mixing : Whether edges join the batches of a label.

    References
    ----------
    :cite:t:`Luecken2022`, "graph connectivity". The packages scib and scib-metrics, which compute it, ask for
    components that are strongly connected; in a symmetric graph, all are.

    Examples
    --------
    >>> import kronax as kx
    >>> import numpy as np
    >>> path = np.eye(5, k=1) + np.eye(5, k=-1)
    >>> round(kx.metrics.graph_connectivity(path, label_key=["a", "a", "b", "b", "a"]), 3)
    0.833
    """
    checks.one_of(by_label, (True, False), "by_label")
    graph = read_graph(data, neighbors_key, axis)
    label = read_groups(data, label_key, axis, graph.shape[0], "label_key")
    rows = []
    for code in range(len(label.categories)):
        members = np.flatnonzero(label.codes == code)
        n_components, component = csgraph.connected_components(graph[members][:, members], directed=False)
        rows.append((len(members), n_components, np.bincount(component).max() / len(members)))
    table = pd.DataFrame(rows, columns=["n", "n_components", "connectivity"], index=label.categories)
    return table if by_label else float(table["connectivity"].mean())
