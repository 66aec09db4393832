"""Gene modules: how active they are in cells and groups of cells, and what they are called by."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from kronax._data import labels, objects
from kronax._data.edges import known
from kronax._data.matrix import Counts
from kronax._data.stored_graph import Graph, holds, stored_matrix
from kronax._data.written import params_of
from kronax._logging import warn
from kronax.solvers.rows.block import Block

MOST_GROUPS = 100  # in a figure
Q_VALUES = "q_value", "q_value_all_cells"  # of the edges of genes; the second, where there are some, judge modules
NO_MODULES = "Run kx.tl.gene_modules first; it finds none in a gene graph without edges."


def shares(counts: Counts, module_of: pd.Categorical, instead: str = "") -> np.ndarray:
    """Compute every module's share of every cell's total: cells with counts × modules.

    ``instead`` is the sentence that says what else the user could pass.
    """
    if counts.n_negative:
        msg = (
            f"Shares of a cell's total need a matrix without negative values. Name another one with `layer=…`.{instead}"
        )
        raise ValueError(msg)
    return counts.rows.each(_shares, indicator(module_of)[counts.genes])


def _shares(block: Block, members: sparse.csr_array) -> np.ndarray:
    return (block.matrix @ members).toarray() / block.matrix.sum(axis=1)[:, None]


def mean_activity(counts: Counts, module_of: pd.Categorical, group_of: pd.Categorical) -> pd.DataFrame:
    """Average the standardised activity of every module over every group: modules × groups, NaN without counts."""
    activity = shares(counts, module_of)
    spread = activity.std(axis=0)
    constant = spread <= 1e-12 * activity.max(axis=0)  # one module has all of every cell
    activity = np.where(constant, 0.0, (activity - activity.mean(axis=0)) / np.where(constant, 1.0, spread))
    group = indicator(group_of)[counts.cells]
    size = group.sum(axis=0)
    mean = np.divide((group.T @ activity).T, size, out=np.full((activity.shape[1], len(size)), np.nan), where=size > 0)
    return pd.DataFrame(mean, index=module_of.categories, columns=group_of.categories)


def weighted_degree(graph: Graph, module_of: pd.Categorical) -> np.ndarray:
    r"""Compute how much every gene is tied to the others of its module, by many edges: (p,), 0 for genes in none.

    With :math:`w` the weights, positive and symmetric, and :math:`m` the module of gene :math:`j`,

    .. math:: d_j = \sum_{l ∈ m} \min(w_{jl}, c_m), \qquad c_m = \operatorname{median}_{i ∈ m} \max_{l ∈ m} w_{il},

    so that no edge counts for more than the strongest one of a typical gene: one strong pair makes no hub.
    """
    edges, module = within(graph, module_of)
    strongest = np.zeros(graph.shape[0])
    for end in (edges.row, edges.col):
        np.maximum.at(strongest, end, edges.data)
    tied = np.flatnonzero(strongest)
    limit = pd.Series(strongest[tied]).groupby(module_of.codes[tied]).median().reindex(range(len(module_of.categories)))
    return _degree(edges, np.minimum(edges.data, limit.to_numpy()[module]))


def within(graph: Graph, module_of: pd.Categorical) -> tuple[sparse.coo_array, np.ndarray]:
    """Find the edges within modules, each once, and the module of each as its code."""
    edges = sparse.triu(graph.maximum(graph.T), k=1).tocoo()
    codes = np.asarray(module_of.codes)
    kept = (codes[edges.row] == codes[edges.col]) & (codes[edges.row] >= 0) & (edges.data > 0)
    row, col = edges.row[kept], edges.col[kept]
    return sparse.coo_array((edges.data[kept], (row, col)), shape=graph.shape), codes[row]


def q_values(adata: AnnData, neighbors_key: str) -> Graph | None:
    """Return the q-values by which modules of a gene graph are judged, if it has some: of the cells that the graph itself is of."""
    for what in reversed(Q_VALUES):
        if holds(adata, neighbors_key, "var", what):
            return stored_matrix(adata, neighbors_key, "var", what)[0]
    return None


def smallest_q(graph: Graph, module_of: pd.Categorical, q_values: Graph) -> np.ndarray:
    """Find the smallest q-value of every gene's edges within its module: (p,), NaN where none is known."""
    edges, _ = within(graph, module_of)
    found, of_edges = np.full(graph.shape[0], np.nan), known(q_values, edges.row, edges.col)
    for end in (edges.row, edges.col):
        np.fmin.at(found, end, of_edges)
    return found


def _degree(edges: sparse.coo_array, weights: np.ndarray) -> np.ndarray:
    """Sum the weights of every vertex' edges."""
    n = edges.shape[0]
    return np.bincount(edges.row, weights, n) + np.bincount(edges.col, weights, n)


def ranking(graph: Graph, module_of: pd.Categorical, degree: np.ndarray) -> np.ndarray:
    """Return the genes in modules, module after module, within each the hubs first: positions.

    Genes of equal weighted degree are told apart by the sum of their whole weights.
    """
    edges, _ = within(graph, module_of)
    order = np.lexsort((-_degree(edges, edges.data), -degree, module_of.codes))
    return order[module_of.codes[order] >= 0]


def hubs(graph: Graph, module_of: pd.Categorical, names: np.ndarray, n_hubs: int) -> dict[str, list[str]]:
    """Name the genes of every module with the largest weighted degree."""
    order = ranking(graph, module_of, weighted_degree(graph, module_of))
    codes = module_of.codes[order]
    return {module: list(names[order[codes == code][:n_hubs]]) for code, module in enumerate(module_of.categories)}


def noise_among(adata: AnnData, modules: str, module_of: pd.Categorical) -> set[str]:
    """Name the modules that :func:`kronax.tl.gene_modules` took for noise; none where it did not say."""
    table = table_of(adata, modules, module_of)
    return set() if table is None else set(table.index[table["noise"]]) & set(module_of.categories)


def table_of(adata: AnnData, modules: str, module_of: pd.Categorical) -> pd.DataFrame | None:
    """Return what :func:`kronax.tl.gene_modules` wrote of each module; None where it wrote nothing, or of others, which is told."""
    entry = adata.uns.get(modules)
    table = entry.get("table") if isinstance(entry, Mapping) else None
    if not isinstance(table, pd.DataFrame) or "noise" not in table:
        return None
    table = table.set_axis(table.index.astype(str)).astype({"noise": bool})
    n_genes = module_of.value_counts()  # fewer where some genes were left out
    described = table.get("n_genes", pd.Series(np.inf, table.index)).reindex(n_genes.index)
    if not (n_genes <= described).all():
        warn(
            f"`adata.var[{modules!r}]` holds other modules than `adata.uns[{modules!r}]['table']`: which of them are noise is not known. "
            "If they were renamed, rename the rows of the table too; otherwise run kx.tl.gene_modules."
        )
        return None
    return table


def gene_names(adata: AnnData, gene_symbols: str | None) -> np.ndarray:
    """Return the names to show: those of a column, where they are not missing, else the index."""
    names = np.array(objects.texts(adata.var_names), dtype=object)
    if gene_symbols is not None:
        symbols = adata.var[gene_symbols].to_numpy(dtype=object)
        blank = np.array([isinstance(symbol, str) and not symbol.strip() for symbol in symbols], bool)
        names = np.where(pd.isna(symbols) | blank, names, symbols)
    return names.astype(str)


def graph_of(adata: AnnData, modules: str, neighbors_key: str | None) -> str:
    """Name the graph that was asked for; if none was, the one in which the modules were found."""
    if neighbors_key is not None:
        return neighbors_key
    if "neighbors_key" not in (params := params_of(adata, modules)):
        msg = (
            f"`adata.uns` does not say in which graph the modules of `adata.var[{modules!r}]` were found. Name it with "
            "`neighbors_key=…`, or run kx.tl.gene_modules."
        )
        raise KeyError(msg)
    return params["neighbors_key"]


def learnt_from(adata: AnnData, neighbors_key: str) -> str | None:
    """Name the layer that a graph was learnt from, if it is there."""
    layer = params_of(adata, neighbors_key).get("layer")
    return layer if isinstance(layer, str) and layer in adata.layers else None


def categorical(column: pd.Series, name: str) -> pd.Categorical:
    """Return a column, which may be one that is read lazily, as a categorical whose categories all occur and are strings."""
    found = pd.Categorical(labels.series(column)).remove_unused_categories()
    if not len(found.categories):
        msg = f"All values of `{name}` are missing."
        raise ValueError(msg)
    return found.rename_categories(labels.different(found.categories, f"`{name}`"))


def require_few(groups: pd.Categorical, name: str) -> None:
    """Require as few groups as a figure has room for."""
    if (n_groups := len(groups.categories)) > MOST_GROUPS:
        msg = (
            f"`{name}` has {n_groups:,} groups; at most {MOST_GROUPS} can be drawn. "
            "Name a column with fewer, such as clusters or cell types, or merge some."
        )
        raise ValueError(msg)


def indicator(categories: pd.Categorical) -> sparse.csr_array:
    """Return the matrix, members × categories, that holds a 1 where a member is in a category."""
    member = np.flatnonzero(categories.codes >= 0)
    shape = (len(categories), len(categories.categories))
    return sparse.csr_array((np.ones(len(member)), (member, categories.codes[member])), shape=shape)
