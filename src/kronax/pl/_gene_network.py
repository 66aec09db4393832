from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from kronax import _keys, _validate
from kronax._module_shares import categorical
from kronax._partial_correlations import partial_correlations
from kronax.pl._canvas import TEXT, axes, called, hand_over, short, width
from kronax.pl._spread import spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_GENES = 300
_SIGNS = {1: ("positive", "#0072B2", "-"), -1: ("negative", "#D55E00", (0, (2, 1.2)))}
_WIDEST, _NARROWEST = 3.0, 0.4  # of the edges, points
_PAD = np.array([0.12, 0.09])  # around a name, inches
_BELOW = 0.15  # from the graph to the genes without edges, inches
_FILLED = 0.22  # share of the drawing that names take up before they are moved apart


def gene_network(
    adata: AnnData,
    *,
    module: str | None = None,
    modules: str = _keys.GENE_MODULE,
    n_genes: int = 30,
    gene_symbols: str | None = None,
    random_state: int = 0,
    ax: Axes | None = None,
    save: str | Path | None = None,
    show: bool = False,
    return_fig: bool = True,
) -> Figure | None:
    r"""Draw the graph of a gene module, with the signs of its edges.

    An edge is a partial correlation: what two genes tell of each other, given all other genes. Solid blue edges are
    positive, dashed orange ones negative; the wider, the stronger. Graphs of nearest neighbours have positive edges alone;
    both signs are in complete ones, as with ``n_neighbors=None``. Of a complete graph, as many edges are drawn as three
    for every gene, the strongest. Genes without an edge to any other that is drawn stand in rows below.

    Parameters
    ----------
    adata
        Cells × genes, with the result of :func:`kronax.tl.gene_modules`.
    module
        Name of the module; the one with most genes if None.
    modules
        Column of ``var`` that holds the modules.
    n_genes
        Most genes to draw, up to 300: the hubs, those with the largest sum of absolute partial correlations within the
        module.
    gene_symbols
        Column of ``var`` with the names to show; ``adata.var_names`` if None, and for genes whose name is missing.
    random_state
        Seed of the layout.
    ax
        Axes to draw into, with room for the names; if None, a figure is made in which none hides another.
    save
        File to write, in a folder that is made if need be; its ending chooses the format.
    show
        Open a window. A notebook shows the figure that is returned.
    return_fig
        Return the figure. False spares a notebook a second picture after ``show=True``.

    Returns
    -------
    The figure, None if `return_fig` is False. Nothing is written to `adata`.

    Raises
    ------
    KeyError
        If a column, the module or the gene graph does not exist.
    ValueError
        If `adata` is backed, or `n_genes` is out of range.

    References
    ----------
    :cite:t:`Andrew2026`, section 4.3; laid out after :cite:t:`Fruchterman1991`.

    Examples
    --------
    >>> import kronax as kx
    >>> adata = kx.datasets.kronecker_sum(60, 50)
    >>> kx.tl.med_magma(adata, n_neighbors=5)
    >>> kx.tl.gene_modules(adata)
    >>> figure = kx.pl.gene_network(adata)
    """
    _validate.is_anndata(adata)
    _validate.key_in(modules, adata.var, "adata.var", "Run kx.tl.gene_modules first.")
    _validate.key_in(modules, adata.uns, "adata.uns", "Run kx.tl.gene_modules first.")
    if gene_symbols is not None:
        _validate.key_in(gene_symbols, adata.var, "adata.var")
    _validate.integer(n_genes, "n_genes", low=1, high=MOST_GENES)
    _validate.integer(random_state, "random_state", low=0)
    module_of = categorical(adata.var[modules], f"adata.var[{modules!r}]")
    if module is None:
        module = module_of.value_counts().idxmax()
    _validate.key_in(str(module), list(module_of.categories), f"adata.var[{modules!r}]")
    whole = partial_correlations(adata, adata.uns[modules]["params"]["neighbors_key"], "var")

    members = np.flatnonzero(module_of == str(module))
    degree = np.asarray(abs(whole[members][:, members]).sum(axis=1)).ravel()
    genes = members[np.argsort(-degree, kind="stable")[:n_genes]]
    graph = _strongest(whole[genes][:, genes])
    names = _names(adata, genes, gene_symbols)

    sized = ax is None
    sizes = np.array([_size(name) for name in names]) + _PAD
    places, n_alone = _places(graph, sizes, random_state)
    low, high = (places - sizes / 2).min(axis=0), (places + sizes / 2).max(axis=0)
    ax = axes(tuple(high - low), show=show) if sized else ax
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    ax.set_aspect("equal")
    ax.set_axis_off()
    _draw_edges(ax, graph, places)
    box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "0.75", "linewidth": 0.6}
    for name, place in zip(names, places, strict=True):
        ax.text(*place, name, fontsize=TEXT, ha="center", va="center", parse_math=False, bbox=box)
    shown = f"{len(genes)} of {len(members)}" if len(genes) < len(members) else f"{len(members)}"
    alone = f", {n_alone} without an edge" if n_alone else ""
    ax.set_title(f"module {module}: {shown} {called(adata.var)}{alone}", fontsize=TEXT + 1, parse_math=False)
    return hand_over(ax.figure, sized=sized, save=save, show=show, return_fig=return_fig)


def _strongest(graph: sparse.csr_array) -> sparse.coo_array:
    """Keep the upper triangle, of a complete graph three edges for every gene."""
    edges = sparse.triu(graph, k=1).tocoo()
    n = graph.shape[0]
    if edges.nnz < n * (n - 1) / 2:
        return edges
    kept = np.argsort(-np.abs(edges.data), kind="stable")[: 3 * n]
    return sparse.coo_array((edges.data[kept], (edges.row[kept], edges.col[kept])), shape=graph.shape)


def _names(adata: AnnData, genes: np.ndarray, gene_symbols: str | None) -> list[str]:
    names = adata.var_names.to_numpy(dtype=object)[genes]
    if gene_symbols is not None:
        symbols = adata.var[gene_symbols].to_numpy(dtype=object)[genes]
        names = np.where(pd.isna(symbols), names, symbols)
    return [short(str(name)) for name in names]


def _size(name: str) -> np.ndarray:
    """Measure a name, in inches."""
    return np.array([width(name), TEXT * 1.3 / 72])


def _places(graph: sparse.coo_array, sizes: np.ndarray, random_state: int) -> tuple[np.ndarray, int]:
    """Place genes where none hides another, those without edges in rows below; also count these."""
    tied = np.union1d(graph.row, graph.col)
    alone = np.setdiff1d(np.arange(len(sizes)), tied)
    places = np.zeros((len(sizes), 2))
    low, across = np.zeros(2), _side(sizes[alone])
    if len(tied):
        found = spread(_layout(graph.tocsr()[tied][:, tied].tocoo(), sizes[tied], random_state), sizes[tied])
        low, high = (found - sizes[tied] / 2).min(axis=0), (found + sizes[tied] / 2).max(axis=0)
        places[tied], across = found, high[0] - low[0]
    if len(alone):
        rows = _in_rows(sizes[alone], across)
        places[alone] = rows + [low[0] + across / 2, low[1] - _BELOW]
    return places, len(alone)


def _in_rows(sizes: np.ndarray, across: float) -> np.ndarray:
    """Place boxes in rows that are at most so wide, centred about 0, the first right below 0."""
    rows: list[list[int]] = [[]]
    for i, size in enumerate(sizes):
        if rows[-1] and sizes[rows[-1], 0].sum() + size[0] > across:
            rows.append([])
        rows[-1].append(i)
    places = np.empty_like(sizes)
    for number, row in enumerate(rows):
        ends = np.cumsum(sizes[row, 0])
        places[row, 0] = ends - sizes[row, 0] / 2 - ends[-1] / 2
        places[row, 1] = -(number + 0.5) * sizes[:, 1].max()
    return places


def _side(sizes: np.ndarray) -> float:
    """Give the side of a square with room for the boxes and edges between them."""
    return np.sqrt(np.prod(sizes, axis=1).sum() / _FILLED)


def _layout(graph: sparse.coo_array, sizes: np.ndarray, random_state: int) -> np.ndarray:
    """Place the genes by the forces between them, in inches, with room for their names."""
    import igraph

    from kronax._igraph import seeded

    n = graph.shape[0]
    network = igraph.Graph(n, list(zip(graph.row.tolist(), graph.col.tolist(), strict=True)))
    start = np.random.default_rng(random_state).normal(size=(n, 2)) * np.sqrt(n)
    with seeded(random_state):
        layout = network.layout_fruchterman_reingold(
            weights=np.abs(graph.data).tolist() or None, seed=start, niter=1000
        )
    found = np.array(layout.coords).reshape(n, 2)
    found = found - found.mean(axis=0)
    extent = np.ptp(found, axis=0).max() or 1.0
    return found * _side(sizes) / extent


def _draw_edges(ax: Axes, graph: sparse.coo_array, places: np.ndarray) -> None:
    from matplotlib.collections import LineCollection
    from matplotlib.lines import Line2D

    largest = np.abs(graph.data).max(initial=0.0) or 1.0
    lines = []
    for sign, (label, color, style) in _SIGNS.items():
        of = np.flatnonzero(np.sign(graph.data) == sign)
        if not len(of):
            continue
        width = np.maximum(_WIDEST * np.abs(graph.data[of]) / largest, _NARROWEST)
        segments = np.stack([places[graph.row[of]], places[graph.col[of]]], axis=1)
        ax.add_collection(
            LineCollection(segments, colors=color, linestyles=[style], linewidths=width, alpha=0.7, zorder=0)
        )
        lines.append(Line2D([], [], color=color, linestyle=style, label=f"{label} partial correlation"))
    if lines:
        ax.legend(
            handles=lines, loc="upper left", bbox_to_anchor=(0, 0), borderaxespad=0.3, frameon=False, fontsize=TEXT
        )
