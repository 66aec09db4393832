import numpy as np
import pandas as pd
from anndata import AnnData

from kronax._data import keys, objects, selection
from kronax._data import modules as of
from kronax._data.chunks import read_any
from kronax._data.stored_graph import holds, stored_graph, stored_matrix
from kronax.solvers import checks


def modules(
    adata: AnnData,
    *,
    modules: str = keys.GENE_MODULE,
    neighbors_key: str | None = None,
    layer: str | None = None,
    min_cells: int = 10,
    gene_symbols: str | None = None,
) -> pd.DataFrame:
    r"""Get the genes of all modules as a table, the hubs of every module first; decoupler takes it as a network.

    A hub is a gene with many edges in its module. Of the weight of each of its edges, no more counts than

    .. math:: c_m = \operatorname{median}_{i ∈ m} \max_{l ∈ m} w_{il},

    the strongest edge of a typical gene of the module :math:`m`, so that one strong pair does not lead.

    Parameters
    ----------
    adata
        Cells × genes, with the result of :func:`kronax.tl.gene_modules`. Not changed.
    modules
        Column of ``var`` that holds the modules.
    neighbors_key
        Key in ``uns`` of the gene graph; if None, that in which :func:`kronax.tl.gene_modules` found the modules.
    layer
        Layer in which genes are looked for. If None, the matrix the graph was learnt from: the layer that
        ``adata.uns[neighbors_key]["params"]`` names, or `adata.X` if it names none that is there.
    min_cells
        Genes seen in fewer cells are marked as rare: where they go is decided by a few cells.
    gene_symbols
        Column of ``var`` with the names to give; ``adata.var_names`` if None, and for genes whose name is missing.

    Returns
    -------
    Genes in modules × columns, module after module:

    ``module`` : categorical
        The module.
    ``gene`` : str
        The gene.
    ``rank`` : int
        Place of the gene in its module by weighted degree, from 1 on.
    ``weighted_degree`` : float64
        :math:`d_j = \sum_{l ∈ m} \min(w_{jl}, c_m)`, over the gene's edges within its module.
    ``q_value`` : float64
        Smallest :math:`q` value of the gene's edges within its module, if the graph has them; NaN without an edge there. A gene without a small one may
        be in the module by chance: every gene with an edge is in some module.
    ``q_value_all_cells`` : float64
        Where groups of cells were found: the same in all cells alone, by which modules are judged.
    ``stability`` : float64
        How often a gene is with another gene of its module in a single run; if :func:`kronax.tl.gene_modules` found them.
    ``share_of_cells`` : float64
        Share of the cells in which the gene has a value other than zero.
    ``rare`` : bool
        Whether these are fewer than `min_cells`.
    ``noise`` : bool
        Whether the module is taken for noise; if :func:`kronax.tl.gene_modules` found it, and under this name.
    ``source``, ``target`` : str
        The module and the gene once more, and
    ``weight`` : float64
        the weighted degree in units of the largest in the module: the columns of a network in decoupler.

    Raises
    ------
    KeyError
        If a column, the layer or the gene graph does not exist.
    TypeError
        If `adata` is not an AnnData object.
    ValueError
        If `min_cells` is negative, no gene is in a module, or the matrix has NaN or infinite values.

    References
    ----------
    :cite:t:`Andrew2026`, section 4.3; :cite:t:`Benjamini1995`.

    Examples
    --------
    >>> import kronax as kx
    >>> import scanpy as sc
    >>> adata = sc.datasets.pbmc68k_reduced().raw.to_adata()
    >>> kx.tl.med_magma(adata)
    >>> kx.tl.gene_modules(adata)
    >>> table = kx.get.modules(adata)
    >>> table[table["rank"] == 1]["module"].tolist() == list(adata.var["gene_module"].cat.categories)
    True
    """
    objects.is_anndata(adata, backed=True)
    objects.key_in(modules, adata.var, "adata.var", of.NO_MODULES)
    if gene_symbols is not None:
        objects.key_in(gene_symbols, adata.var, "adata.var")
    checks.integer(min_cells, "min_cells", low=0)
    neighbors_key = of.graph_of(adata, modules, neighbors_key)
    graph = stored_graph(adata, neighbors_key, "var")
    module_of = of.categorical(adata.var[modules], f"adata.var[{modules!r}]")
    n_cells = selection.n_cells_detected(read_any(adata, layer or of.learnt_from(adata, neighbors_key)))

    degree = of.weighted_degree(graph, module_of)
    order = of.ranking(graph, module_of, degree)
    module = module_of[order]
    degree = degree[order]
    table = pd.DataFrame({"module": module, "gene": of.gene_names(adata, gene_symbols)[order].astype(object)})
    by_module = table.groupby("module", observed=True)
    largest = pd.Series(degree).groupby(module, observed=True).transform("max").to_numpy()
    table = table.assign(rank=by_module.cumcount() + 1, weighted_degree=degree)
    for what in of.Q_VALUES:
        if holds(adata, neighbors_key, "var", what):
            q_values, _ = stored_matrix(adata, neighbors_key, "var", what)
            table[what] = of.smallest_q(graph, module_of, q_values)[order]
    if (stability := keys.stability(modules)) in adata.var:
        table["stability"] = adata.var[stability].to_numpy()[order]
    table = table.assign(share_of_cells=n_cells[order] / adata.n_obs, rare=n_cells[order] < min_cells)
    if (described := of.table_of(adata, modules, module_of)) is not None:
        table["noise"] = described["noise"].reindex(table["module"]).to_numpy()
    return table.assign(
        source=module.astype(str).astype(object),
        target=table["gene"],
        weight=np.divide(degree, largest, out=np.ones(len(degree)), where=largest > 0),
    )
