from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from kronax._data import keys, objects
from kronax._data.edges import significant
from kronax._data.modules import NO_MODULES, categorical, gene_names, graph_of, noise_among, ranking, weighted_degree
from kronax._data.partial_correlations import partial_correlations
from kronax.pl._canvas import axes, hand_over, ink, legend
from kronax.pl._names import TEXT, called, inches, short
from kronax.pl._network_layout import DOT, Drawing, fitted, in_room, legend_height, strengths, strongest, tied
from kronax.solvers import checks

if TYPE_CHECKING:
    from collections.abc import Collection

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_GENES = 300
_SIGNS = {1: ("positive", "#0072B2", "-", 0.4), -1: ("negative", "#D55E00", (0, (2, 1.2)), 0.8)}  # and least width
_NARROWEST, _WIDEST = 0.4, 3.5  # of the edges, points
_FAINTEST, _DARKEST = 0.4, 0.8  # opacity of the same


def gene_network(
    adata: AnnData,
    *,
    module: str | None = None,
    modules: str = keys.GENE_MODULE,
    neighbors_key: str | None = None,
    n_genes: int = 30,
    q_max: float | None = None,
    gene_symbols: str | None = None,
    random_state: int = 0,
    ax: Axes | None = None,
    save: str | Path | None = None,
    show: bool = False,
    return_fig: bool = True,
) -> Figure | None:
    r"""Draw the graph of a gene module, with the signs of its edges.

    A dot is a gene, its name above or below it. An edge is a partial correlation: how two genes depend on each other,
    given all other genes. Solid blue edges are positive, dashed orange ones negative. Wider and darker edges are stronger, on a
    logarithmic scale from the weakest to the strongest that are drawn; the legend gives their values. Edges end at dots, and lead
    past those of other genes if possible. Graphs of nearest neighbours have hardly any negative edges; those of significant edges, and
    complete ones, as with ``n_neighbors=None``, have both signs. Of many edges, three for every gene are drawn on average: the strongest one of each gene,
    then the strongest of all; the title gives the number of all. Genes without an edge to another drawn gene stand in rows below.

    Parameters
    ----------
    adata
        Cells × genes, with the result of :func:`kronax.tl.gene_modules`.
    module
        Name of the module; if None, the one with most genes among those that are not noise, or with `q_max` most genes that have such an edge in it.
    modules
        Column of ``var`` that holds the modules.
    neighbors_key
        Key in ``uns`` of the gene graph whose edges are drawn, such as a complete one, which has both signs; if None, that
        in which :func:`kronax.tl.gene_modules` found the modules.
    n_genes
        Most genes to draw, up to 300: the hubs, those with the largest weighted degree within the module (:func:`kronax.get.modules`),
        by absolute partial correlations. More than 60 have smaller names.
    q_max
        Draw only edges whose :math:`q` value is at most this, from 0 (excluded) to 1, and the genes that have one; all genes of a module
        without such an edge. None draws all edges.
    gene_symbols
        Column of ``var`` with the names to show; ``adata.var_names`` if None, and for genes whose name is missing.
    random_state
        Seed of the layout.
    ax
        Axes to draw into; if None, a figure is made whose size fits. As many hubs are drawn as the axes have room
        for. Give their figure ``layout="constrained"``, and draw the other panels first: what needs more room later makes
        these axes smaller, and names lie on one another.
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
        If a column, the module or the gene graph does not exist, or `q_max` is given and the graph has no q-values.
    ValueError
        If `n_genes` or `q_max` is out of range.

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
    objects.is_anndata(adata, backed=True)
    objects.key_in(modules, adata.var, "adata.var", NO_MODULES)
    if gene_symbols is not None:
        objects.key_in(gene_symbols, adata.var, "adata.var")
    checks.integer(n_genes, "n_genes", low=1, high=MOST_GENES)
    checks.integer(random_state, "random_state", low=0)
    module_of = categorical(adata.var[modules], f"adata.var[{modules!r}]")
    noise = noise_among(adata, modules, module_of)
    if module is not None:
        objects.key_in(str(module), list(module_of.categories), f"adata.var[{modules!r}]")
    graph_key = graph_of(adata, modules, neighbors_key)
    whole = partial_correlations(adata, graph_key, "var")
    if q_max is not None:
        whole = significant(adata, graph_key, whole, q_max)
    module = _module_with_most(whole, module_of, noise, all_genes=q_max is None) if module is None else str(module)

    order = ranking(abs(whole), module_of, weighted_degree(abs(whole), module_of))
    members = order[module_of.codes[order] == module_of.categories.get_loc(module)]
    genes = members if q_max is None else _with_edges(whole, members)
    genes = genes[:n_genes]
    names = short(gene_names(adata, gene_symbols)[genes])
    found, what = whole[genes][:, genes], _called(adata.var, q_max)
    if module in noise:
        module += " (noise)"

    sized = ax is None
    if sized:
        graph, drawing = fitted(found, names, random_state)
        ax = axes(tuple(drawing.extent + [0, legend_height(graph)]), show=show)
    else:
        _write_title(ax, module, found, len(members), what)  # takes room where the axes are laid out
        graph, drawing = in_room(found, names, random_state, inches(ax))
    _write_title(ax, module, found[: graph.shape[0]][:, : graph.shape[0]], len(members), what)
    _frame(ax, drawing, legend_height(graph), None if sized else inches(ax))
    _draw_edges(ax, graph, drawing)
    _draw_genes(ax, names[: graph.shape[0]], drawing)
    return hand_over(ax.figure, sized=sized, save=save, show=show, return_fig=return_fig)


def _with_edges(graph: sparse.csr_array, members: np.ndarray) -> np.ndarray:
    """Choose the members with an edge to another one; all of them if there is no edge."""
    within = graph[members][:, members]
    with_edges = members[tied(sparse.triu(within, k=1).tocoo())]
    return with_edges if len(with_edges) else members


def _module_with_most(
    whole: sparse.csr_array, module_of: pd.Categorical, noise: Collection[str], *, all_genes: bool
) -> str:
    """Return the module with most genes, or most that have an edge in it: one that is not noise, if there is any."""
    codes, edges = module_of.codes, whole.tocoo()
    inside = (codes[edges.row] == codes[edges.col]) & (codes[edges.row] >= 0)
    genes = np.flatnonzero(codes >= 0) if all_genes else np.unique(edges.row[inside])
    n_genes_of = np.bincount(codes[genes], minlength=len(module_of.categories))
    is_noise = module_of.categories.isin(noise)
    return str(module_of.categories[np.argmax(np.where(is_noise & ~is_noise.all(), -1, n_genes_of))])


def _write_title(ax: Axes, module: str, found: sparse.csr_array, n_members: int, what: str) -> None:
    """Write as title how many genes and edges are drawn, and of how many."""
    n = found.shape[0]
    n_edges, graph = sparse.triu(found, k=1).nnz, strongest(found)
    title = f"module {module}: {n:,} of {n_members:,} {what}" if n < n_members else f"module {module}: {n:,} {what}"
    if graph.nnz < n_edges:
        title += f",\nthe {graph.nnz:,} strongest of {n_edges:,} edges"
    elif n_alone := n - len(tied(graph)):
        title += f", {n_alone:,} without an edge"
    ax.set_title(title, fontsize=TEXT + 1, parse_math=False)


def _called(var: pd.DataFrame, q_max: float | None) -> str:
    """Return what is drawn, and which of its edges."""
    return called(var) if q_max is None else f"{called(var)}, edges with q ≤ {q_max:g}"


def _frame(ax: Axes, drawing: Drawing, strip: float, room: np.ndarray | None) -> None:
    """Make the units of the axes inches, with the legend's strip at the bottom."""
    low, high = drawing.ends - [[0, strip], [0, 0]]
    spare = np.zeros(2) if room is None else (room - (high - low)) / 2
    ax.set(xlim=(low[0] - spare[0], high[0] + spare[0]), ylim=(low[1] - spare[1], high[1] + spare[1]))
    ax.set_aspect("equal")
    ax.set_axis_off()


def _draw_genes(ax: Axes, names: list[str], drawing: Drawing) -> None:
    from matplotlib.patheffects import withStroke

    color = ink(ax.get_facecolor())
    halo = [withStroke(linewidth=2 * drawing.scale, foreground="white" if color == "black" else "black", alpha=0.8)]
    ax.plot(*drawing.places.T, "o", markersize=2 * 72 * DOT * drawing.scale, color=color, markeredgewidth=0)
    for name, place, aside in zip(names, drawing.places, drawing.aside, strict=True):
        side = int(np.sign(aside[1]))
        ax.annotate(
            name,
            place,
            (0, side * 72 * (DOT + 0.01) * drawing.scale),
            textcoords="offset points",
            fontsize=TEXT * drawing.scale,
            ha="center",
            va="top" if side < 0 else "bottom",
            color=color,
            parse_math=False,
            path_effects=halo,
        )


def _draw_edges(ax: Axes, graph: sparse.coo_array, drawing: Drawing) -> None:
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba
    from matplotlib.lines import Line2D

    shown = strengths(graph)
    lines = []
    for sign, (label, color, style, narrowest) in _SIGNS.items():
        of = np.flatnonzero(np.sign(graph.data) == sign)
        if not len(of):
            continue
        share = _share(np.abs(graph.data[of]), shown)
        wide = np.maximum(drawing.scale * _between(_NARROWEST, _WIDEST, share), narrowest)
        colors = [to_rgba(color, alpha) for alpha in _between(_FAINTEST, _DARKEST, share)]
        segments = drawing.places[np.stack([graph.row[of], graph.col[of]], axis=1)]
        order = np.argsort(share, kind="stable")  # the strongest above the others
        ax.add_collection(
            LineCollection(
                segments[order],
                colors=[colors[i] for i in order],
                linestyles=[style],
                linewidths=wide[order],
                zorder=0,
            )
        )
        lines.append(Line2D([], [], color=color, linestyle=style, linewidth=1.5, label=f"{label} partial correlation"))
    for strength, remark in zip(shown, _remarks(graph, shown), strict=True):
        wide = drawing.scale * _between(_NARROWEST, _WIDEST, _share(strength, shown))
        lines.append(Line2D([], [], color="0.5", linewidth=float(wide), label=f"{strength:.2g}{remark}"))
    if lines:
        legend(ax, handles=lines, loc="lower left", bbox_to_anchor=(0, 0), handlelength=2.5, labelspacing=0.3)


def _share(strength: np.ndarray | float, shown: np.ndarray) -> np.ndarray:
    """Place strengths between the smallest (0) and the largest (1) of those shown, on a logarithmic scale; 1 if all are alike."""
    if len(shown) < 2:
        return np.ones(np.shape(strength))
    return np.log(np.maximum(strength, shown[-1]) / shown[-1]) / np.log(shown[0] / shown[-1])


def _between(low: float, high: float, share: np.ndarray) -> np.ndarray:
    return low + (high - low) * share


def _remarks(graph: sparse.coo_array, shown: np.ndarray) -> list[str]:
    """Say which of the strengths in the legend are the extremes."""
    if len(shown) < 2:
        return [", the strongest"] * len(shown)
    weaker = np.abs(graph.data).min() < shown[-1]
    return [", the strongest", "", " or weaker" if weaker else ", the weakest"]
