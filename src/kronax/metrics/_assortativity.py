from collections.abc import Sequence

import numpy as np
from scipy import sparse

from kronax._data import keys
from kronax._data.stored_graph import Axis
from kronax.metrics._read import Holder, Matrix, read_graph, read_labels
from kronax.solvers import checks


def assortativity(
    data: Holder | Matrix,
    *,
    labels: str | Sequence,
    neighbors_key: str = keys.MED_MAGMA,
    axis: Axis = "obs",
    weighted: bool = False,
) -> float:
    r"""Measure how much more often than by chance edges join vertices with the same label.

    Nominal assortativity: with :math:`e_{ab}` the share of edges from label :math:`a` to label :math:`b` (every edge
    counted in both directions) and :math:`q_a = \sum_b e_{ab}`,

    .. math:: \frac{\sum_a e_{aa} - \sum_a q_a^2}{1 - \sum_a q_a^2}.

    It is 1 if all edges join equal labels, 0 if labels make no difference, and negative if edges tend to join different
    ones.

    Parameters
    ----------
    data
        AnnData object with a graph, MuData object with a cell graph, or the graph itself: a symmetric matrix of
        weights.
    labels
        Column of ``obs`` (``var`` for ``axis="var"``), or one label per vertex, found by name in a Series that has their names.
        Vertices with a missing label are left
        out with their edges.
    neighbors_key
        Key in ``uns`` that describes the graph.
    axis
        ``"obs"`` for the graph of the cells, ``"var"`` for that of the genes.
    weighted
        Whether edges count by their weight; otherwise all count equally.

    Returns
    -------
    The coefficient; NaN if all edges join vertices of one and the same label, or there is no edge.

    Raises
    ------
    KeyError
        If there is no such graph or column.
    TypeError
        If `data` is neither an AnnData or MuData object nor a matrix.
    ValueError
        If the matrix is not square or not symmetric, a weight is negative or not finite, or labels are too few, too
        many or all missing.

    References
    ----------
    :cite:t:`Newman2003`, Eq. 2.

    Examples
    --------
    >>> import kronax as kx
    >>> import numpy as np
    >>> ring = np.roll(np.eye(4), 1, axis=0) + np.roll(np.eye(4), -1, axis=0)
    >>> kx.metrics.assortativity(ring, labels=["a", "b", "a", "b"])
    -1.0
    """
    checks.one_of(weighted, (True, False), "weighted")
    graph = read_graph(data, neighbors_key, axis)
    codes = read_labels(data, labels, axis, graph.shape[0])
    edges = graph.tocoo()
    known = (codes[edges.row] >= 0) & (codes[edges.col] >= 0)
    pairs = codes[edges.row[known]], codes[edges.col[known]]
    weights = edges.data[known] if weighted else np.ones(known.sum())
    mixing = sparse.coo_array((weights, pairs), shape=(codes.max() + 1,) * 2)
    ends = mixing.sum(axis=1)
    if np.count_nonzero(ends) < 2:
        return float("nan")
    total = float(ends.sum())
    by_chance = float(np.sum((ends / total) ** 2))
    within = float(mixing.tocsr().trace()) / total
    return (within - by_chance) / (1.0 - by_chance)
