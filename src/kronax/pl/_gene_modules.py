from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from kronax._data import keys, objects
from kronax._data.chunks import read_any
from kronax._data.modules import (
    NO_MODULES,
    categorical,
    gene_names,
    graph_of,
    hubs,
    learnt_from,
    mean_activity,
    noise_among,
    require_few,
)
from kronax._data.stored_graph import stored_graph
from kronax.pl._canvas import axes, bare, beside, color_bar, hand_over, length, whole
from kronax.pl._group_colors import draw_strip, group_colors
from kronax.pl._names import COLUMN, TEXT, inches, name_columns, name_fields, one_in, short, width
from kronax.solvers import checks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW = 0.27  # of the heat map, inches
_STRIP, _GAP = 0.08, 0.03  # width of the groups' colours, and their distance from the heat map, inches
_ASIDE = 0.5  # share of the axes' width that hubs take up at most, where a layout engine makes room for them
_HINTED = 1.04  # a text at some resolutions, times its width
_LIMITS = 0.5, 2.0  # standard deviations at the ends of the colour bar, at least and at most
_MISSING = "0.8"  # grey
_NOISE = ", noise"
_PALE, _FAINT = 0.65, "0.6"  # of what is noise: how much is hidden, and the colour of names
_ORDERS = ("groups", "modules")


def gene_modules(
    adata: AnnData,
    *,
    groupby: str,
    modules: str = keys.GENE_MODULE,
    neighbors_key: str | None = None,
    layer: str | None = None,
    n_hubs: int = 3,
    order: Literal["groups", "modules"] = "groups",
    min_genes: int = 1,
    gene_symbols: str | None = None,
    ax: Axes | None = None,
    save: str | Path | None = None,
    show: bool = False,
    return_fig: bool = True,
) -> Figure | None:
    """Show how active every gene module is in every group of cells.

    A module's activity in a cell is its genes' share of the cell's total. It is standardised over all cells, and a
    field of the heat map shows its mean over the cells of a group: 1 means one standard deviation above the average
    cell. Groups stand in the order of their categories; modules, unless `order` says otherwise, in the order of the groups in which
    they are most active, so that groups and their modules lie along the diagonal. Modules that :func:`kronax.tl.gene_modules`
    takes for noise stand below the others, pale and marked. A group whose cells have no counts is grey. The colours
    below the columns are those of ``adata.uns[f"{groupby}_colors"]``, if there are any. The colour bar ends at 0.5
    standard deviations at least, so that groups that hardly differ look alike, and at 2 at most.

    Every module is named by its hubs, the genes with the largest weighted degree in it (:func:`kronax.get.modules`), its number and,
    in brackets, its size, the number of its genes. Long names are cut. If there are more groups or modules than there
    is room for, only every second, third, … is named.

    Parameters
    ----------
    adata
        Cells × genes, with the result of :func:`kronax.tl.gene_modules`.
    groupby
        Column of ``obs`` with at most 100 groups. Cells with a missing value count in the average, but have no column.
    modules
        Column of ``var`` that holds the modules. Genes with a missing value are left out.
    neighbors_key
        Key in ``uns`` of the gene graph whose hubs are named; if None, that in which :func:`kronax.tl.gene_modules`
        found the modules.
    layer
        Layer to read, counts or log-normalised. If None, the matrix the graph was learnt from: the layer that
        ``adata.uns[neighbors_key]["params"]`` names, or `adata.X` if it names none that is there.
    n_hubs
        Hub genes named for every module.
    order
        Order of the modules: that of the ``"groups"`` in which they are most active, or that of the ``"modules"`` themselves, which
        is by size. Noise is last in both.
    min_genes
        Fewest genes of a module to draw it. Graphs of significant edges have many modules of two or three.
    gene_symbols
        Column of ``var`` with the names to show; ``adata.var_names`` if None, and for genes whose name is missing.
    ax
        Axes to draw into; if None, a figure is made whose size fits. As many hubs are named as there is room for on
        the left of the axes. Give their figure ``layout="constrained"``, which makes room for them, up to half of the axes.
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
        If a column, the layer or the gene graph does not exist.
    ValueError
        If `order` is another one, no cell is in a group, no module has `min_genes` genes, there are more than 100 groups, or the
        matrix has negative, NaN or infinite values.

    References
    ----------
    :cite:t:`Andrew2026`, section 4.3.

    Examples
    --------
    >>> import kronax as kx
    >>> import scanpy as sc
    >>> adata = sc.datasets.pbmc68k_reduced().raw.to_adata()
    >>> kx.tl.med_magma(adata)
    >>> kx.tl.gene_modules(adata)
    >>> figure = kx.pl.gene_modules(adata, groupby="bulk_labels")
    """
    objects.is_anndata(adata, backed=True)
    objects.key_in(groupby, adata.obs, "adata.obs")
    objects.key_in(modules, adata.var, "adata.var", NO_MODULES)
    if gene_symbols is not None:
        objects.key_in(gene_symbols, adata.var, "adata.var")
    checks.integer(n_hubs, "n_hubs", low=1)
    checks.one_of(order, _ORDERS, "order")
    checks.integer(min_genes, "min_genes", low=1)
    neighbors_key = graph_of(adata, modules, neighbors_key)
    graph = stored_graph(adata, neighbors_key, "var")
    group_of = categorical(adata.obs[groupby], f"adata.obs[{groupby!r}]")
    require_few(group_of, f"adata.obs[{groupby!r}]")
    module_of = categorical(adata.var[modules], f"adata.var[{modules!r}]")
    n_genes = module_of.value_counts()
    if n_genes.max() < min_genes:
        msg = f"No module has {min_genes:,} genes; the largest has {n_genes.max():,}. Name fewer with `min_genes=…`."
        raise ValueError(msg)
    if layer is None:
        layer = learnt_from(adata, neighbors_key)

    table = mean_activity(read_any(adata, layer), module_of, group_of)
    table = table[n_genes[table.index] >= min_genes]
    noise = noise_among(adata, modules, module_of) & set(table.index)
    table = table.iloc[_order(table, noise, order)]
    named = _shortened(hubs(graph, module_of, gene_names(adata, gene_symbols), n_hubs))
    rows = {f"{module} ({n_genes[module]}){_NOISE if module in noise else ''}": named[module] for module in table.index}
    colors = group_colors(adata.uns, groupby, adata.obs[groupby], group_of)
    sized = ax is None
    if sized:
        ax = axes((length(table.shape[1], COLUMN), length(table.shape[0], _ROW)), show=show)
    _draw(ax, table, rows=rows, groupby=groupby, colors=colors, sized=sized)
    _fade(ax, len(table) - len(noise), len(table))
    return hand_over(ax.figure, sized=sized, save=save, show=show, return_fig=return_fig)


def _order(table: pd.DataFrame, noise: set[str], order: str) -> np.ndarray:
    """Order the modules, those of noise last."""
    is_noise = table.index.isin(noise)
    group = table.fillna(-np.inf).to_numpy().argmax(axis=1)
    return np.lexsort((group, is_noise)) if order == "groups" else np.argsort(is_noise, kind="stable")


def _fade(ax: Axes, start: int, end: int) -> None:
    """Make the rows of noise pale: fields and names."""
    if start == end:
        return
    ax.axhspan(start, end, facecolor=ax.get_facecolor(), alpha=_PALE, linewidth=0)
    for text in [*ax.get_yticklabels(), *ax.texts]:
        place = text.get_position()[1] if text in ax.get_yticklabels() else text.xy[1]
        if start < place < end:
            text.set_color(_FAINT)


def _shortened(found: dict[str, list[str]]) -> dict[str, list[str]]:
    """Cut long names of hubs, such that different ones stay different."""
    chosen = sorted({name for names in found.values() for name in names})
    label = dict(zip(chosen, short(chosen), strict=True))
    return {module: [label[name] for name in names] for module, names in found.items()}


def _draw(
    ax: Axes, table: pd.DataFrame, *, rows: dict[str, list[str]], groupby: str, colors: list[str] | None, sized: bool
) -> None:
    """Draw the heat map; `rows` holds the hub genes by what stands in the column beside them."""
    from matplotlib import colormaps

    largest = float(table.abs().fillna(0.0).to_numpy().max())
    limit = float(np.clip(largest, *_LIMITS))
    shades = colormaps["RdBu_r"].with_extremes(bad=_MISSING)
    rims = "white" if max(table.shape) * _ROW <= max(inches(ax)) else "none"
    image = ax.pcolormesh(table, cmap=shades, vmin=-limit, vmax=limit, edgecolors=rims, linewidth=0.6)
    ax.invert_yaxis()
    bare(ax)
    ax.set_xlabel(groupby, fontsize=TEXT + 1, parse_math=False)
    bar = color_bar(
        ax, image, "", **({"cax": beside(ax)} if sized else {}), extend="both" if largest > limit else "neither"
    )
    label = "mean standardised activity"
    bar.set_label(label if width(label) <= inches(bar.ax)[1] else label.replace("ised ", "ised\n"), fontsize=TEXT)
    _name_columns(ax, table)
    _name_rows(
        ax, rows, np.inf if sized else 72 * _room(ax)
    )  # after the colour bar, for which the user's axes may move
    step = _name_columns(ax, table)
    ax.set_xlabel(f"{groupby}{one_in(step)}", fontsize=TEXT + 1, parse_math=False)
    if colors is not None:
        bounds = np.linspace(0, 1, table.shape[1] + 1)
        high = inches(ax)[1]
        draw_strip(ax, "x", colors, bounds, gap=_GAP / high, wide=_STRIP / high)
        ax.tick_params(axis="x", pad=72 * (2 * _GAP + _STRIP))


def _name_columns(ax: Axes, table: pd.DataFrame) -> int:
    """Name the groups; say which have no counts."""
    without = table.isna().all()
    names = short(table.columns)
    names = [f"{name} (no counts)" if without[group] else name for group, name in zip(table, names, strict=True)]
    return name_columns(ax, names)


def _name_rows(ax: Axes, rows: dict[str, list[str]], room: float) -> None:
    """Write two columns to the left of the heat map: hubs, and the module with its size; in so many points."""
    step = name_fields(ax, "y", [""] * len(rows))
    title = "module (size)" if _HINTED * _points("module (size)") + 3 <= room else "module\n(size)"
    title += one_in(step).replace(", ", ",\n")
    named = dict(list(rows.items())[::step])
    aside = 3 + max(map(_points, [*title.split("\n"), *named])) + 8  # where the hubs end, in points from the heat map
    hubs = [_that_fit(names, room - aside - 2) for names in named.values()]
    places = np.arange(len(rows))[::step] + 0.5
    ax.set_yticks(places, hubs, fontsize=TEXT, parse_math=False)
    ax.tick_params(axis="y", pad=aside)
    style = {"textcoords": "offset points", "ha": "right", "fontsize": TEXT}
    for place, module in zip(places, named, strict=True):
        ax.annotate(
            module,
            (0, place),
            (-3, 0),
            xycoords=("axes fraction", "data"),
            va="center_baseline",
            parse_math=False,
            **style,
        )
    for text, offset in ((title, 3), ("hubs" if any(hubs) else "", aside)):
        ax.annotate(text, (0, 1), (-offset, 4), xycoords="axes fraction", color="0.5", **style)


def _that_fit(names: list[str], room: float) -> str:
    """Name the first ones, as many as there is room for."""
    if np.isinf(room):
        return ", ".join(names)
    lines = [", ".join(names[:n]) for n in range(len(names), 0, -1)]
    return next((line for line in lines if _HINTED * _points(line) <= room), "")


def _points(text: str) -> float:
    return 72 * width(text)


def _room(ax: Axes) -> float:
    """Measure the room on the left of the user's axes, in inches, or what a layout engine shall make there."""
    figure = whole(ax.figure)
    if figure.get_layout_engine() is not None:
        return _ASIDE * inches(ax)[0]
    mine = ax.get_window_extent()
    others = [other.get_window_extent() for other in figure.axes if other is not ax]
    ends = [box.x1 for box in others if box.x1 <= mine.x0 and box.y0 < mine.y1 and box.y1 > mine.y0]
    return (mine.x0 - max(ends, default=0.0)) / figure.dpi
