from importlib.metadata import version
from typing import Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from kronax._data import graph_out, keys, neighbours, objects
from kronax._data.aside import tell
from kronax._data.graph_in import FEWEST_NEIGHBORS
from kronax._data.isolated import expand_square
from kronax._data.matrix import require_no_mask
from kronax._data.whole import whole_or_nothing
from kronax._data.written import clear, of_cells, without_none
from kronax._logging import shows_progress, warn
from kronax.solvers import checks, device
from kronax.solvers.graph.graph import without_weak
from kronax.solvers.graph.weights import affinity_graph


def neighbors(
    data: AnnData | MuData,
    use_rep: str,
    *,
    n_neighbors: int = 15,
    recall: float = neighbours.RECALL,
    transformer: neighbours.Transformer | Literal["pynndescent", "sklearn"] | None = None,
    key_added: str = keys.EMBEDDING,
    random_state: int = 0,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Make a cell graph of any embedding, as :func:`kronax.tl.med_magma` makes one of its own.

    Cells are connected to those whose coordinates have the largest cosines with theirs, with the edge weights of UMAP. The length of a
    cell's coordinates does not count.

    Parameters
    ----------
    data
        An object with the embedding in ``obsm``.
    use_rep
        Name of the embedding, such as that of ``obsm["X_med_magma"]`` corrected by Harmony: see :doc:`/batches`.
    n_neighbors
        Number of neighbours of every cell, itself not counted; from 2 to one less than the number of cells.
    recall, transformer
        How neighbours are found, as in :func:`kronax.tl.med_magma`.
    key_added
        Name of the results; ``key`` below. With ``"neighbors"``, graphs are written as ``connectivities`` and ``distances``, in place of
        those of :func:`scanpy.pp.neighbors`. An earlier result under the same name is removed.
    random_state
        For ``transformer="pynndescent"``, and stored for the scanpy functions that read it.
    copy
        Return a copy and leave `data` unchanged.

    Returns
    -------
    None, or with ``copy=True`` the object with the results:

    ``obsp["key_connectivities"]`` : CSR matrix, float64
        Edge weights in (0, 1], symmetric, no diagonal.
    ``obsp["key_distances"]`` : CSR matrix, float64
        On the same edges: the Euclidean distance of the coordinates scaled to unit length.
    ``uns["key"]`` : dict
        What scanpy's ``neighbors_key`` needs: ``connectivities_key``, ``distances_key``, ``params``; and ``version``.

    Cells whose coordinates are all 0 are left out, with a warning: they have no edges.

    Raises
    ------
    KeyError
        If there is no such embedding.
    TypeError
        If the embedding is not numeric and real, or `transformer` cannot find neighbours.
    ImportError
        If ``transformer="pynndescent"`` is not installed.
    ValueError
        If `data` is backed, the embedding has NaN or infinite values, or a parameter is out of range.

    See Also
    --------
    scanpy.pp.neighbors : Nearest by Euclidean distance.

    References
    ----------
    Edge weights: :cite:t:`McInnes2018`, section 3.1.

    Examples
    --------
    >>> import kronax as kx
    >>> import scanpy as sc
    >>> adata = sc.datasets.pbmc68k_reduced()
    >>> kx.pp.neighbors(adata, use_rep="X_pca")
    >>> sc.tl.leiden(adata, neighbors_key="embedding", flavor="igraph", n_iterations=2, directed=False)
    """
    objects.holds_graph(data, "obs")
    checks.name(key_added, "key_added")
    checks.integer(random_state, "random_state", low=0)
    neighbours.check(
        recall=recall, transformer=transformer, weights="affinity", graphs="cells", n_neighbors=n_neighbors
    )
    embedding = _embedding(data, use_rep)
    if keys.graph_keys(key_added).obsm == use_rep and key_added in data.uns:
        msg = (
            f"key_added={key_added!r} would remove the result that `obsm[{use_rep!r}]` belongs to. Choose another name, such as "
            f"{key_added + '_neighbors'!r}."
        )
        raise ValueError(msg)
    cells = np.flatnonzero((embedding != 0).any(axis=1))
    there = f"{checks.number(len(cells), 'cell')} of `obsm[{use_rep!r}]` {'has' if len(cells) == 1 else 'have'} coordinates other than 0"
    if len(cells) <= FEWEST_NEIGHBORS:
        msg = f"{there}; at least {FEWEST_NEIGHBORS + 1} are needed for {FEWEST_NEIGHBORS} neighbours of each."
        raise ValueError(msg)
    checks.integer(n_neighbors, "n_neighbors", low=FEWEST_NEIGHBORS, high=len(cells) - 1, why=f" ({there})")
    progress = shows_progress()
    with device.computing():
        search = neighbours.search(recall, transformer, random_state, progress=progress)
        graph = affinity_graph(embedding[cells], n_neighbors, search=search, progress=progress)
    graph = without_weak(graph, graph_out.epochs_of_umap(data.n_obs))

    data = data.copy() if copy else data
    with whole_or_nothing(data):
        tell(clear(data, key_added, of_cells(key_added, ("connectivities", "distances"))[:2]))
        names = keys.graph_keys(key_added)
        data.obsp[names.connectivities] = expand_square(graph.connectivities, cells, data.n_obs)
        data.obsp[names.distances] = expand_square(graph.distances, cells, data.n_obs)
        params = {
            "method": keys.EMBEDDING,
            "n_neighbors": int(n_neighbors),
            "metric": "cosine",
            "use_rep": use_rep,
            **neighbours.settings(recall, transformer, "affinity", "cells"),
            "random_state": int(random_state),
        }
        data.uns[names.uns] = {
            "connectivities_key": names.connectivities,
            "distances_key": names.distances,
            "params": without_none(params),
            "version": version("kronax"),
        }
        if n_left := data.n_obs - len(cells):
            left = data.obs_names.delete(cells)
            warn(
                f"{checks.number(n_left, 'cell')} ({checks.listed(left, 3)}) of `obsm[{use_rep!r}]` "
                f"{'has' if n_left == 1 else 'have'} only 0 for coordinates, and therefore no edge."
            )
    return data if copy else None


def _embedding(data: AnnData | MuData, use_rep: str) -> np.ndarray:
    """Read an embedding: (cells, k), float64."""
    where = f"{objects.called(data)}.obsm"
    remedy = "" if len(data.obsm) else "Run kx.tl.med_magma or sc.pp.pca first."
    objects.key_in(use_rep, data.obsm, where, remedy)
    found, where = data.obsm[use_rep], f"`{where}[{use_rep!r}]`"
    if isinstance(found, pd.DataFrame):
        found = found.to_numpy()
    require_no_mask(found, where)
    found = found.toarray() if sparse.issparse(found) else np.asarray(found)
    if not (np.issubdtype(found.dtype, np.integer) or np.issubdtype(found.dtype, np.floating)):
        msg = f"{where} has dtype {found.dtype}; real numbers are needed."
        raise TypeError(msg)
    if n_bad := int((~np.isfinite(found)).any(axis=1).sum()):
        msg = f"{where} has NaN or infinite values in {n_bad:,} of {checks.number(len(found), 'cell')}. Leave these cells out."
        raise ValueError(msg)
    embedding = np.array(found, dtype=np.float64).reshape(len(found), -1)
    _, exponent = np.frexp(np.abs(embedding).max(axis=1, keepdims=True, initial=0.0))
    return np.ldexp(
        embedding, -exponent
    )  # directions alone count; squares of very large or small values would not be numbers
