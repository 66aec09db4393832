from collections.abc import Sequence

import numpy as np
import pandas as pd

from kronax._data import keys
from kronax._data.stored_graph import Axis
from kronax.metrics._leiden import leiden
from kronax.metrics._read import Holder, Matrix, read_graph, read_labels
from kronax.solvers import checks

RESOLUTIONS = tuple(step / 10 for step in range(1, 21))


def ami_sweep(
    data: Holder | Matrix,
    *,
    labels: str | Sequence,
    resolutions: Sequence[float] = RESOLUTIONS,
    n_seeds: int = 1,
    neighbors_key: str = keys.MED_MAGMA,
    axis: Axis = "obs",
    random_state: int = 0,
) -> pd.DataFrame:
    """Compare a graph's clusters with labels, over a range of resolutions.

    Clusters are those of :func:`scanpy.tl.leiden` with ``flavor="igraph"`` and two iterations. The adjusted mutual
    information (AMI) is 1 if clusters and labels define the same groups, and 0 on average for random groups. The
    largest value over resolutions is a choice made with knowledge of the labels.

    Parameters
    ----------
    data
        AnnData object with a graph, MuData object with a cell graph, or the graph itself: a symmetric matrix of
        weights.
    labels
        Column of ``obs`` (``var`` for ``axis="var"``), or one label per vertex, found by name in a Series that has their names.
        Vertices with a missing label are
        clustered, but not compared.
    resolutions
        Resolutions of the Leiden algorithm; positive.
    n_seeds
        Number of runs at every resolution, with seeds `random_state`, `random_state` + 1, …
    neighbors_key
        Key in ``uns`` that describes the graph.
    axis
        ``"obs"`` for the graph of the cells, ``"var"`` for that of the genes.
    random_state
        First seed of the Leiden algorithm.

    Returns
    -------
    A table with one row per resolution and seed: ``resolution``, ``seed``, ``n_clusters`` and ``ami``.

    Raises
    ------
    KeyError
        If there is no such graph or column.
    TypeError
        If `data` is neither an AnnData or MuData object nor a matrix.
    ValueError
        If a resolution is not positive or none is given; if the matrix is not square or not symmetric, has no edges or
        has a weight that is negative or not finite; or if labels are too few, too many or all missing.

    References
    ----------
    :cite:t:`Vinh2010`; :cite:t:`Traag2019`; used in this way in :cite:t:`Andrew2026`, section 4.

    Examples
    --------
    >>> import kronax as kx
    >>> import numpy as np
    >>> two_groups = np.kron(np.eye(2), np.ones((6, 6)))
    >>> table = kx.metrics.ami_sweep(two_groups, labels=["a"] * 6 + ["b"] * 6, resolutions=[1.0])
    >>> float(table["ami"].max())
    1.0
    """
    from sklearn.metrics import adjusted_mutual_info_score

    resolutions = checks.numbers(resolutions, "resolutions")
    if not resolutions or not all(0 < resolution < np.inf for resolution in resolutions):
        msg = f"`resolutions` must hold positive numbers, at least one, found {resolutions}."
        raise ValueError(msg)
    checks.integer(n_seeds, "n_seeds", low=1)
    checks.integer(random_state, "random_state", low=0)
    graph = read_graph(data, neighbors_key, axis)
    codes = read_labels(data, labels, axis, graph.shape[0])
    if not graph.nnz:
        msg = "The graph has no edges, so it has no clusters."
        raise ValueError(msg)
    known = codes >= 0
    rows = []
    for resolution in resolutions:
        for seed in range(random_state, random_state + n_seeds):
            clusters = leiden(graph, resolution, seed)
            ami = adjusted_mutual_info_score(codes[known], clusters[known])
            rows.append((resolution, seed, int(clusters.max()) + 1, float(ami)))
    return pd.DataFrame(rows, columns=["resolution", "seed", "n_clusters", "ami"])
