import numpy as np
from scipy import sparse

from kronax._data import keys
from kronax._data.stored_graph import Axis
from kronax.metrics._read import Holder, Matrix, read_graph
from kronax.solvers import checks


def top_k_agreement(
    first: Holder | Matrix,
    second: Holder | Matrix,
    *,
    k: int = 15,
    neighbors_key: str | tuple[str, str] = keys.MED_MAGMA,
    axis: Axis = "obs",
) -> np.ndarray:
    """Compute the share of every vertex's k strongest neighbours that two graphs have in common.

    The strongest neighbours of a vertex are those with the largest edge weights; ties go to the vertex that comes
    first. If a vertex has fewer than k neighbours in both graphs, the larger of the two numbers replaces k.

    Parameters
    ----------
    first, second
        AnnData objects with a graph, MuData objects with a cell graph, or the graphs themselves: symmetric matrices
        of weights, of the same vertices in the same order. To compare two graphs of one object, pass it twice with two
        `neighbors_key`.
    k
        Number of neighbours to compare.
    neighbors_key
        Key in ``uns`` that describes the graph; a pair if it differs between the two.
    axis
        ``"obs"`` for graphs of cells, ``"var"`` for graphs of genes.

    Returns
    -------
    A share from 0 to 1 for every vertex, (n,); NaN for a vertex without neighbours in either graph. Its mean,
    :func:`numpy.nanmean`, compares the graphs as a whole.

    Raises
    ------
    KeyError
        If there is no such graph.
    TypeError
        If an argument is neither an AnnData or MuData object nor a matrix.
    ValueError
        If the graphs have different numbers of vertices, are not square or not symmetric, or have a weight that is
        negative or not finite; or if two objects name their cells (genes) differently.

    References
    ----------
    :cite:t:`Cooley2019` compare neighbourhoods in the same spirit, by Jaccard distance.

    Examples
    --------
    >>> import kronax as kx
    >>> import numpy as np
    >>> ring = np.roll(np.eye(5), 1, axis=0) + np.roll(np.eye(5), -1, axis=0)
    >>> star = ring @ ring - 2 * np.eye(5)  # joins what lies two steps apart
    >>> kx.metrics.top_k_agreement(ring, ring + star, k=4)
    array([0.5, 0.5, 0.5, 0.5, 0.5])
    """
    checks.integer(k, "k", low=1)
    keys = (neighbors_key, neighbors_key) if isinstance(neighbors_key, str) else tuple(neighbors_key)
    if len(keys) != 2:
        msg = f"`neighbors_key` must be a str or a pair of them, found {neighbors_key!r}."
        raise ValueError(msg)
    graphs = [read_graph(data, key, axis) for data, key in zip((first, second), keys, strict=True)]
    if graphs[0].shape != graphs[1].shape:
        msg = f"The graphs have {graphs[0].shape[0]} and {graphs[1].shape[0]} vertices; they must have the same ones."
        raise ValueError(msg)
    if isinstance(first, Holder) and isinstance(second, Holder):
        names = [getattr(data, f"{axis}_names") for data in (first, second)]
        if not names[0].equals(names[1]):
            msg = f"`first.{axis}_names` and `second.{axis}_names` differ. Bring both into the same order."
            raise ValueError(msg)
    strongest = [_strongest(graph, k) for graph in graphs]
    shared = strongest[0].multiply(strongest[1]).sum(axis=1)
    chosen = np.maximum(*(np.diff(graph.indptr) for graph in strongest))
    return np.divide(shared, chosen, out=np.full(len(chosen), np.nan), where=chosen > 0)


def _strongest(graph: sparse.csr_matrix, k: int) -> sparse.csr_array:
    """Return the matrix that holds a 1 at the k largest weights of every row."""
    row = np.repeat(np.arange(graph.shape[0]), np.diff(graph.indptr))
    order = np.lexsort((graph.indices, -graph.data, row))
    rank = np.arange(graph.nnz) - graph.indptr[row]  # within a row; sorting keeps rows together
    chosen = order[rank < k]
    return sparse.csr_array((np.ones(len(chosen)), (row[chosen], graph.indices[chosen])), shape=graph.shape)
