import numpy as np
import pandas as pd
from anndata import AnnData

from kronax import _keys, _validate
from kronax._leiden import N_ITERATIONS, leiden
from kronax._stored_graph import stored_graph


def gene_modules(
    adata: AnnData,
    *,
    resolution: float = 1.0,
    neighbors_key: str = _keys.MED_MAGMA,
    key_added: str = _keys.GENE_MODULE,
    random_state: int = 0,
    copy: bool = False,
) -> AnnData | None:
    """Group the genes into modules, the communities of the gene graph.

    The Leiden algorithm in igraph's implementation, two iterations, maximises weighted modularity, as
    :func:`scanpy.tl.leiden` does for cells.

    Parameters
    ----------
    adata
        Cells × genes, with a gene graph: the result of :func:`kronax.tl.med_magma`.
    resolution
        Higher values give more and smaller modules.
    neighbors_key
        Where in ``uns`` the graph is described; its weights are in ``varp``, under the name given there as
        ``connectivities_key``.
    key_added
        Name of what is written.
    random_state
        Seed of the Leiden algorithm.
    copy
        Return a copy and leave `adata` as it is.

    Returns
    -------
    None, or with ``copy=True`` the AnnData object that was written to:

    ``adata.var[key_added]`` : categorical
        The module of every gene: ``"0"`` the largest, ``"1"`` the next, and so on. A gene without an edge belongs to
        no module and has a missing value.
    ``adata.uns[key_added]`` : dict
        ``params``: `resolution`, `neighbors_key`, `random_state` and ``n_iterations``.

    Raises
    ------
    KeyError
        If there is no such graph.
    ValueError
        If `adata` is backed, `resolution` is not positive, `key_added` is `neighbors_key`, or the graph has no edges or
        a weight that is negative or not finite.

    References
    ----------
    :cite:t:`Traag2019`; applied to the gene graph in :cite:t:`Andrew2026`, section 4.3.

    Examples
    --------
    >>> import kronax as kx
    >>> import scanpy as sc
    >>> adata = sc.datasets.pbmc68k_reduced().raw.to_adata()
    >>> kx.tl.med_magma(adata)
    >>> kx.tl.gene_modules(adata)
    >>> adata.var["gene_module"].cat.categories[0]
    '0'
    """
    _validate.is_anndata(adata)
    _validate.name(key_added, "key_added")
    _validate.positive(resolution, "resolution")
    _validate.integer(random_state, "random_state", low=0)
    if key_added == neighbors_key:
        msg = f"`key_added` must differ from `neighbors_key`, {neighbors_key!r}, whose entry in `adata.uns` would be lost."
        raise ValueError(msg)
    graph = stored_graph(adata, neighbors_key, "var")
    graph.setdiag(0)
    graph.eliminate_zeros()
    connected = np.flatnonzero(graph.getnnz(axis=1) + graph.getnnz(axis=0))
    if not len(connected):
        msg = f"The gene graph of {neighbors_key!r} has no edges, so it has no modules."
        raise ValueError(msg)
    modules = np.full(adata.n_vars, -1)
    modules[connected] = _by_size(leiden(graph[connected][:, connected], resolution, random_state))

    adata = adata.copy() if copy else adata
    categories = [str(module) for module in range(modules.max() + 1)]
    adata.var[key_added] = pd.Categorical.from_codes(modules, categories=categories)
    adata.uns[key_added] = {
        "params": {
            "resolution": float(resolution),
            "neighbors_key": neighbors_key,
            "random_state": int(random_state),
            "n_iterations": N_ITERATIONS,
        }
    }
    return adata if copy else None


def _by_size(communities: np.ndarray) -> np.ndarray:
    """Number communities anew, the largest 0."""
    order = np.argsort(-np.bincount(communities), kind="stable")
    return np.argsort(order)[communities]
