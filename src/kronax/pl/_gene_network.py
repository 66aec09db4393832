from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from kronax import _keys, _validate
from kronax._module_shares import categorical
from kronax._partial_correlations import partial_correlations
from kronax.pl._canvas import axes, hand_over, ink, legend
from kronax.pl._names import LINE, TEXT, called, inches, short, width
from kronax.pl._spread import spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_GENES = 300
_SIGNS = {1: ("positive", "#0072B2", "-", 0.4), -1: ("negative", "#D55E00", (0, (2, 1.2)), 0.8)}  # and least width
_WIDEST = 3.0  # of the edges, points
_DOT = 0.045  # radius of a gene, inches
_CLEAR = 0.06  # that edges of others keep from its centre
_NAME = np.array([0.06, 0.1])  # what a gene takes up beyond the size of its name, inches
_LARGEST = 11.0  # inches of a side; where names need more, all is drawn smaller
_FULL_SIZE = 60  # genes whose names are as large as in other figures; of more, they are smaller
_SMALLEST = 0.6  # size of the names of many, in that of the others
_BELOW = 0.15  # from the graph to the genes without edges, inches
_FILLED = 0.22  # share of the drawing that names take up before they are moved apart
_INSIDE = 0.9  # of the axes' room is used before names are moved apart
_FEWER = 0.85  # genes, where there is no room for all


@dataclass(frozen=True)
class _Drawing:
    """Where genes stand, in inches, and on which side of them their names do."""

    places: np.ndarray  # (n, 2)
    aside: np.ndarray  # (n, 2), to the centre of what a gene takes up
    sizes: np.ndarray  # (n, 2), of what a gene takes up
    scale: float  # of names and dots

    @property
    def ends(self) -> np.ndarray:
        """The lower left and the upper right corner."""
        centres = self.places + self.aside
        return np.array([(centres - self.sizes / 2).min(axis=0), (centres + self.sizes / 2).max(axis=0)])

    @property
    def extent(self) -> np.ndarray:
        return np.ptp(self.ends, axis=0)

    def scaled(self, factor: float) -> _Drawing:
        return _Drawing(*(factor * part for part in (self.places, self.aside, self.sizes, self.scale)))


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

    A dot is a gene, its name above or below it. An edge is a partial correlation: what two genes tell of each other,
    given all other genes. Solid blue edges are positive, dashed orange ones negative; the wider, the stronger, and the legend
    gives the strongest. Edges end at dots, and lead past those of other genes where that is possible. Graphs of nearest
    neighbours have positive edges alone; both signs are in complete ones, as with ``n_neighbors=None``. Of a complete graph,
    as many edges are drawn as three for every gene, the strongest; the title says of how many. Genes without an edge to any
    other that is drawn stand in rows below.

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
        module. More than 60 have smaller names.
    gene_symbols
        Column of ``var`` with the names to show; ``adata.var_names`` if None, and for genes whose name is missing.
    random_state
        Seed of the layout.
    ax
        Axes to draw into; if None, a figure is made whose size fits. Of the hubs, as many are drawn as the axes have room
        for. Make their figure with ``layout="constrained"``.
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
    names = _names(adata, genes, gene_symbols)
    found, what = whole[genes][:, genes], called(adata.var)

    sized = ax is None
    if sized:
        graph, drawing = _fitted(found, names, random_state)
        ax = axes(tuple(drawing.extent + [0, _strip(graph)]), show=show)
    else:
        _write_title(ax, str(module), found, len(members), what)  # takes room where the axes are laid out
        graph, drawing = _in_room(found, names, random_state, inches(ax))
    _write_title(ax, str(module), found[: graph.shape[0]][:, : graph.shape[0]], len(members), what)
    _frame(ax, drawing, _strip(graph), None if sized else inches(ax))
    _draw_edges(ax, graph, drawing)
    _draw_genes(ax, names[: graph.shape[0]], drawing)
    return hand_over(ax.figure, sized=sized, save=save, show=show, return_fig=return_fig)


def _write_title(ax: Axes, module: str, found: sparse.csr_array, n_members: int, what: str) -> None:
    """Say which genes and edges are drawn, of how many."""
    n = found.shape[0]
    n_edges, graph = sparse.triu(found, k=1).nnz, _strongest(found)
    title = f"module {module}: {n:,} of {n_members:,} {what}" if n < n_members else f"module {module}: {n:,} {what}"
    if graph.nnz < n_edges:
        title += f",\nthe {graph.nnz:,} strongest of {n_edges:,} edges"
    elif n_alone := n - len(_tied(graph)):
        title += f", {n_alone:,} without an edge"
    ax.set_title(title, fontsize=TEXT + 1, parse_math=False)


def _strongest(graph: sparse.csr_array) -> sparse.coo_array:
    """Keep the upper triangle, of a complete graph three edges for every gene."""
    edges = sparse.triu(graph, k=1).tocoo()
    n = graph.shape[0]
    if edges.nnz < n * (n - 1) / 2:
        return edges
    kept = np.argsort(-np.abs(edges.data), kind="stable")[: 3 * n]
    return sparse.coo_array((edges.data[kept], (edges.row[kept], edges.col[kept])), shape=graph.shape)


def _tied(graph: sparse.coo_array) -> np.ndarray:
    """Find the genes with an edge."""
    return np.union1d(graph.row, graph.col)


def _names(adata: AnnData, genes: np.ndarray, gene_symbols: str | None) -> list[str]:
    names = adata.var_names.to_numpy(dtype=object)[genes]
    if gene_symbols is not None:
        symbols = adata.var[gene_symbols].to_numpy(dtype=object)[genes]
        names = np.where(pd.isna(symbols), names, symbols)
    return short(map(str, names))


def _fitted(found: sparse.csr_array, names: list[str], random_state: int) -> tuple[sparse.coo_array, _Drawing]:
    """Place all genes, in a drawing of a size that can be looked at."""
    graph = _strongest(found)
    drawing = _placed(graph, names, random_state, None)
    return graph, drawing.scaled(min(1.0, _LARGEST / drawing.extent.max()))


def _in_room(
    found: sparse.csr_array, names: list[str], random_state: int, room: np.ndarray
) -> tuple[sparse.coo_array, _Drawing]:
    """Place as many of the first genes as there is room for."""
    areas = np.prod(_sizes(names), axis=1)
    n = max(1, int((np.cumsum(areas) < np.prod(room)).sum()))
    while True:
        graph = _strongest(found[:n][:, :n])
        left = room - [0, _strip(graph)]
        drawing = _placed(graph, names[:n], random_state, left)
        if n == 1 or (drawing.extent <= left).all():
            return graph, drawing
        n = max(1, int(_FEWER * n))


def _sizes(names: list[str]) -> np.ndarray:
    """Measure what genes take up, in inches, ``(n, 2)``."""
    return np.array([[width(name), TEXT * 1.3 / 72] for name in names]) + _NAME


def _placed(graph: sparse.coo_array, names: list[str], random_state: int, room: np.ndarray | None) -> _Drawing:
    """Place genes where no name hides another, those without edges in rows below."""
    scale = max(_SMALLEST, min(1.0, (_FULL_SIZE / len(names)) ** 0.5))
    sizes = scale * _sizes(names)
    places, aside = np.zeros((len(sizes), 2)), np.zeros((len(sizes), 2))
    aside[:, 1] = _DOT * scale - sizes[:, 1] / 2
    tied = _tied(graph)
    alone = np.setdiff1d(np.arange(len(sizes)), tied)
    across = _side(sizes[alone]) if room is None else room[0]
    low = np.zeros(2)
    if len(tied):
        if room is not None and len(alone):
            room = room - [0, _BELOW * scale + np.ptp(_in_rows(sizes[alone], across)[:, 1]) + sizes[:, 1].max()]
        within = graph.tocsr()[tied][:, tied].tocoo()
        wanted = _layout(within, sizes[tied], random_state, room)
        aside[tied, 1] *= _away_from_neighbours(within, wanted[:, 1])
        edges = np.stack([within.row, within.col], axis=1)
        places[tied] = spread(wanted, sizes[tied], edges, aside=aside[tied], dot=_CLEAR * scale)
        low, high = _Drawing(places[tied], aside[tied], sizes[tied], scale).ends
        low[0], across = (low[0] + high[0]) / 2, across if room is not None else high[0] - low[0]
    if len(alone):
        places[alone] = _in_rows(sizes[alone], across) + low - [0, _BELOW * scale] - aside[alone]
    return _Drawing(places, aside, sizes, scale)


def _away_from_neighbours(graph: sparse.coo_array, height: np.ndarray) -> np.ndarray:
    """Choose where names stand: 1 below genes whose neighbours are above on average, -1 above the others."""
    weights = abs(graph) + abs(graph).T
    return np.where(weights @ height >= weights.sum(axis=1) * height, 1, -1)


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


def _layout(graph: sparse.coo_array, sizes: np.ndarray, random_state: int, room: np.ndarray | None) -> np.ndarray:
    """Place the genes by the forces between them, in inches, with room for their names or in the room there is."""
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
    extent = np.ptp(found, axis=0)
    if room is None:
        return found * _side(sizes) / (extent.max() or 1.0)
    taken = sizes.max(axis=0) * [1, 2]  # names stand above or below
    return found * np.maximum(_INSIDE * (room - taken), 0.1) / np.where(extent > 0, extent, 1.0)


def _strip(graph: sparse.coo_array) -> float:
    """Give the height of the legend, in inches."""
    return LINE * (len(np.unique(np.sign(graph.data))) + 1) if graph.nnz else 0.0


def _frame(ax: Axes, drawing: _Drawing, strip: float, room: np.ndarray | None) -> None:
    """Make the units of the axes inches, with the legend's strip at the bottom."""
    low, high = drawing.ends - [[0, strip], [0, 0]]
    spare = np.zeros(2) if room is None else (room - (high - low)) / 2
    ax.set(xlim=(low[0] - spare[0], high[0] + spare[0]), ylim=(low[1] - spare[1], high[1] + spare[1]))
    ax.set_aspect("equal")
    ax.set_axis_off()


def _draw_genes(ax: Axes, names: list[str], drawing: _Drawing) -> None:
    from matplotlib.patheffects import withStroke

    color = ink(ax.get_facecolor())
    halo = [withStroke(linewidth=2 * drawing.scale, foreground="white" if color == "black" else "black", alpha=0.8)]
    ax.plot(*drawing.places.T, "o", markersize=2 * 72 * _DOT * drawing.scale, color=color, markeredgewidth=0)
    for name, place, aside in zip(names, drawing.places, drawing.aside, strict=True):
        side = int(np.sign(aside[1]))
        ax.annotate(
            name,
            place,
            (0, side * 72 * (_DOT + 0.01) * drawing.scale),
            textcoords="offset points",
            fontsize=TEXT * drawing.scale,
            ha="center",
            va="top" if side < 0 else "bottom",
            color=color,
            parse_math=False,
            path_effects=halo,
        )


def _draw_edges(ax: Axes, graph: sparse.coo_array, drawing: _Drawing) -> None:
    from matplotlib.collections import LineCollection
    from matplotlib.lines import Line2D

    largest = np.abs(graph.data).max(initial=0.0)
    widest = _WIDEST * drawing.scale
    lines = []
    for sign, (label, color, style, narrowest) in _SIGNS.items():
        of = np.flatnonzero(np.sign(graph.data) == sign)
        if not len(of):
            continue
        wide = np.maximum(widest * np.abs(graph.data[of]) / largest, narrowest)
        segments = drawing.places[np.stack([graph.row[of], graph.col[of]], axis=1)]
        ax.add_collection(
            LineCollection(segments, colors=color, linestyles=[style], linewidths=wide, alpha=0.7, zorder=0)
        )
        lines.append(Line2D([], [], color=color, linestyle=style, linewidth=1.5, label=f"{label} partial correlation"))
    if lines:
        lines.append(Line2D([], [], color="0.5", linewidth=widest, label=f"{largest:.2g}, the strongest"))
        legend(ax, handles=lines, loc="lower left", bbox_to_anchor=(0, 0), handlelength=2.5, labelspacing=0.3)
