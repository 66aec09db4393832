import numpy as np
import pandas as pd
from anndata import AnnData

from kronax._data import edges, keys, noise_modules, objects
from kronax._data import modules as of
from kronax._data.aside import tell
from kronax._data.stored_graph import stored_graph
from kronax._data.whole import whole_or_nothing
from kronax._data.written import clear, of_modules, without_none
from kronax._logging import logger, shows_progress, warn
from kronax.solvers import checks
from kronax.solvers.communities.consensus import N_ITERATIONS, consensus


def gene_modules(
    adata: AnnData,
    *,
    resolution: float = 1.0,
    n_runs: int = 100,
    q_max: float | None = None,
    neighbors_key: str = keys.MED_MAGMA,
    key_added: str = keys.GENE_MODULE,
    random_state: int = 0,
    copy: bool = False,
) -> AnnData | None:
    """Group the genes into modules: communities of the gene graph.

    Modules are found by the Leiden algorithm (igraph's implementation, two iterations, weighted modularity), as
    :func:`scanpy.tl.leiden` does for cells. Communities of genes are weak, and runs with different seeds differ
    considerably. Modules are therefore a consensus of many runs: edges are reweighted by the share of runs in which
    both ends are in one community, and the graph is clustered again, until all runs agree.

    Noise has communities too. A module is marked as noise, but not left out, if none of the edges in it has :math:`q ≤ 0.2`: then nothing
    in it is shown to be more than chance. Where the graph has no q-values, it is marked if it is no more cohesive than the communities of
    random graphs, or a pair of genes. :doc:`/judging` has the figures from data whose modules are known.

    Parameters
    ----------
    adata
        Cells × genes, with a gene graph: the result of :func:`kronax.tl.med_magma` or :func:`kronax.tl.gmgm`.
    resolution
        Resolution of the Leiden algorithm. Higher values give more and smaller modules.
    n_runs
        Number of Leiden runs on the gene graph. Each of the few consensus rounds takes a fifth of that, at least 20.
        About two seconds for 2,000 genes in a graph of nearest neighbours, twice that without q-values, for the random graphs; in a
        complete graph, seconds for each run. 1 for a single run, without a consensus.
    q_max
        Only edges whose :math:`q` value is at most this, from 0 (excluded) to 1, belong to the graph; genes that have none are in
        no module, often most of them. Modules are then little more than the pieces that the edges join, so that agreement and stability
        are near 1 and say nothing. None takes all edges. Needs the q-values of :func:`kronax.tl.med_magma`.
    neighbors_key
        Key in ``uns`` that describes the graph; its weights are in ``varp``, under the name given there as
        ``connectivities_key``.
    key_added
        Name of the results.
    random_state
        Seed.
    copy
        Return a copy and leave `adata` unchanged.

    Returns
    -------
    None, or with ``copy=True`` the AnnData object with the results:

    ``adata.var[key_added]`` : categorical
        The module of every gene, numbered by size: ``"0"`` is the largest. Missing for a gene without a positive edge, which
        belongs to no module.
    ``adata.var[f"{key_added}_stability"]`` : float
        How often a gene is in one community with another gene of its module in a single run, averaged over these genes;
        in [0, 1]. NaN for a gene without a positive edge.
    ``adata.uns[key_added]`` : dict
        ``agreement``: adjusted mutual information of a single run and the modules, averaged over the runs; ``table``, see below;
        ``params``: `resolution`, `n_runs`, `neighbors_key`, `random_state`, ``n_iterations`` and, if given, `q_max`.

    The table has one row per module:

    ``n_genes`` : int
        Number of genes.
    ``stability`` : float
        Mean stability of its genes.
    ``significant`` : float
        Share of its genes with an edge in it that has :math:`q ≤ 0.2`, in all cells where groups were found; if the graph has q-values.
    ``cohesion`` : float
        The share of the weight of its genes' edges that stays in the module, beyond the module's share of the genes; in units of
        the largest among the communities of ten random graphs with the same degrees and weights. Only if the graph has no q-values.
        NaN for a single module, where these have no communities, and in graphs with fewer than three edges per gene, where random
        graphs fall apart.
    ``noise`` : bool
        Whether noise may form it as well.

    Raises
    ------
    KeyError
        If there is no such graph, or `q_max` is given and it has no q-values.
    ValueError
        If `adata` is backed and a copy is asked for, `resolution` or `n_runs` is not positive, `q_max` is out of range, `key_added` equals `neighbors_key`, or the graph
        has no edges, none with so small a :math:`q`, or a weight that is negative or not finite.

    References
    ----------
    :cite:t:`Traag2019`, applied to the gene graph in :cite:t:`Andrew2026`, section 4.3; the consensus is that of
    :cite:t:`Lancichinetti2012`, on the edges alone as in :cite:t:`Tandon2019`.

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
    objects.is_anndata(adata, backed=True)
    objects.writable(adata, copy=copy)
    checks.name(key_added, "key_added")
    checks.positive(resolution, "resolution")
    checks.integer(n_runs, "n_runs", low=1)
    checks.integer(random_state, "random_state", low=0)
    if key_added == neighbors_key:
        msg = f"`key_added` must differ from `neighbors_key`, {neighbors_key!r}, whose entry in `adata.uns` would be lost."
        raise ValueError(msg)
    stored = stored_graph(adata, neighbors_key, "var")
    graph = stored.maximum(stored.T).tocsr()
    graph.setdiag(0)
    graph.eliminate_zeros()
    if q_max is not None:
        graph = edges.significant(adata, neighbors_key, graph, q_max)
    connected = np.flatnonzero(np.diff(graph.indptr))
    if not len(connected):
        such = "" if q_max is None else f" with q ≤ {q_max:g}"
        msg = f"The gene graph of {neighbors_key!r} has no edges{such}, so it has no modules."
        raise ValueError(msg)
    found = consensus(graph[connected][:, connected], resolution, n_runs, random_state, progress=shows_progress())
    modules, stability = np.full(adata.n_vars, -1), np.full(adata.n_vars, np.nan)
    modules[connected], stability[connected] = found.communities, found.stability
    module_of = pd.Categorical.from_codes(modules, categories=[str(module) for module in range(modules.max() + 1)])
    q_values = of.q_values(adata, neighbors_key)
    table = noise_modules.table(graph, module_of, stability, q_values, resolution, random_state)
    logger.info(
        "gene_modules: %d genes in %d modules, %d of them noise%s; agreement with a single run: AMI %.2f",
        len(connected),
        len(table),
        table["noise"].sum(),
        f"; {alone:,} genes without a positive edge are in none" if (alone := adata.n_vars - len(connected)) else "",
        found.agreement,
    )

    adata = adata.copy() if copy else adata
    with whole_or_nothing(adata):
        tell(clear(adata, key_added, of_modules(key_added)))
        adata.var[key_added] = module_of
        adata.var[keys.stability(key_added)] = stability
        adata.uns[key_added] = {
            "agreement": found.agreement,
            "table": table,
            "params": without_none(
                {
                    "resolution": float(resolution),
                    "n_runs": int(n_runs),
                    "q_max": None if q_max is None else float(q_max),
                    "neighbors_key": neighbors_key,
                    "random_state": int(random_state),
                    "n_iterations": N_ITERATIONS,
                }
            ),
        }
        if table["noise"].all():
            msg = (
                f"No module is more than noise may form: see `adata.uns[{key_added!r}]['table']`. The gene graph shows no modules; "
                "rare genes can be the reason, which sc.pp.filter_genes leaves out, or too few cells."
            )
            warn(msg)
    return adata if copy else None
