from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from kronax import _keys, _validate
from kronax._module_shares import categorical, indicator, learnt_from, require_few, shares
from kronax._stored_graph import stored_graph
from kronax.pl._figure import new_figure, save_and_show, shrink_wrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMN, _ROW = 0.36, 0.27  # of the heat map, inches
_NAME = 30  # characters of a name before it is cut
_TEXT = 8  # points
_HINTED = 1.04  # a text at some resolutions, times its width
_LIMIT = 2.0  # standard deviations at the ends of the colour bar, at most
_MISSING = "0.8"  # grey


def gene_modules(
    adata: AnnData,
    *,
    groupby: str,
    modules: str = _keys.GENE_MODULE,
    layer: str | None = None,
    n_hubs: int = 3,
    gene_symbols: str | None = None,
    ax: Axes | None = None,
    save: str | Path | None = None,
    show: bool = False,
    return_fig: bool = True,
) -> Figure | None:
    """Show how active every gene module is in every group of cells.

    A module's activity in a cell is its genes' share of the cell's total. It is standardised over all cells, and a
    field of the heat map shows its mean over the cells of a group: 1 means one standard deviation above the average
    cell. Groups stand in the order of their categories; modules in the order of the groups in which they are most
    active, so that what belongs together lies along the diagonal. A group whose cells have no counts is grey.

    Every module is named by its hubs, the genes with the largest sum of edge weights within the module, its number and,
    in brackets, its size, the number of its genes. Long names are cut in the middle.

    Parameters
    ----------
    adata
        Cells × genes, with the result of :func:`kronax.tl.gene_modules`.
    groupby
        Column of ``obs`` with at most 100 groups. Cells with a missing value count in the average, but have no column.
    modules
        Column of ``var`` that holds the modules. Genes with a missing value are left out.
    layer
        Layer to read, counts or log-normalised. If None, the matrix the graph was learnt from: the layer that
        ``adata.uns[neighbors_key]["params"]`` names, or `adata.X` if it names none that is there.
    n_hubs
        Hub genes named for every module.
    gene_symbols
        Column of ``var`` with the names to show; ``adata.var_names`` if None, and for genes whose name is missing.
    ax
        Axes to draw into; if None, a figure is made whose size fits. Of the hubs, as many are named as there is room for on
        the left of the axes; all of them where the figure has a layout engine, such as ``layout="constrained"``.
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
        If `adata` is backed, no cell is in a group or no gene in a module, there are more than 100 groups, or the
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
    _validate.is_anndata(adata)
    _validate.key_in(groupby, adata.obs, "adata.obs")
    _validate.key_in(modules, adata.var, "adata.var", "Run kx.tl.gene_modules first.")
    _validate.key_in(modules, adata.uns, "adata.uns", "Run kx.tl.gene_modules first.")
    if gene_symbols is not None:
        _validate.key_in(gene_symbols, adata.var, "adata.var")
    _validate.integer(n_hubs, "n_hubs", low=1)
    neighbors_key = adata.uns[modules]["params"]["neighbors_key"]
    graph = stored_graph(adata, neighbors_key, "var")
    group_of = categorical(adata.obs[groupby], f"adata.obs[{groupby!r}]")
    require_few(group_of, f"adata.obs[{groupby!r}]")
    module_of = categorical(adata.var[modules], f"adata.var[{modules!r}]")
    names = adata.var_names.to_numpy(dtype=object)
    if gene_symbols is not None:
        symbols = adata.var[gene_symbols].to_numpy(dtype=object)
        names = np.where(pd.isna(symbols), names, symbols)
    if layer is None:
        layer = learnt_from(adata, neighbors_key)

    table = _mean_activity(adata, layer, module_of, group_of)
    table = table.iloc[np.argsort(table.fillna(-np.inf).to_numpy().argmax(axis=1), kind="stable")]
    hubs = _hubs(graph, module_of, names.astype(str), n_hubs)
    n_genes = module_of.value_counts()
    rows = {f"{module} ({n_genes[module]})": hubs[module] for module in table.index}
    figure = _draw(table, rows=rows, groupby=groupby, ax=ax, show=show)
    return save_and_show(figure, save=save, show=show, return_fig=return_fig)


def _mean_activity(
    adata: AnnData, layer: str | None, module_of: pd.Categorical, group_of: pd.Categorical
) -> pd.DataFrame:
    """Average the standardised activity of every module over every group: modules × groups, NaN without counts."""
    counts = _validate.counts(adata, layer)
    activity = shares(counts, module_of)
    spread = activity.std(axis=0)
    constant = spread <= 1e-12 * activity.max(axis=0)  # one module has all of every cell
    activity = np.where(constant, 0.0, (activity - activity.mean(axis=0)) / np.where(constant, 1.0, spread))
    group = indicator(group_of)[counts.cells]
    size = group.sum(axis=0)
    mean = np.divide((group.T @ activity).T, size, out=np.full((activity.shape[1], len(size)), np.nan), where=size > 0)
    return pd.DataFrame(mean, index=module_of.categories, columns=group_of.categories)


def _hubs(graph: sparse.csr_matrix, module_of: pd.Categorical, names: np.ndarray, n_hubs: int) -> dict[str, list[str]]:
    """Name the genes of every module with the largest sum of weights within it."""
    found = {}
    for code, module in enumerate(module_of.categories):
        genes = np.flatnonzero(module_of.codes == code)
        degree = np.asarray(graph[genes][:, genes].sum(axis=1)).ravel()
        top = genes[np.argsort(-degree, kind="stable")[:n_hubs]]
        found[module] = [_short(name) for name in names[top]]
    return found


def _short(name: str) -> str:
    head, tail = _NAME // 2, _NAME - _NAME // 2 - 1
    return name if len(name) <= _NAME else f"{name[:head]}…{name[-tail:]}"


def _width(text: str) -> float:
    """Measure a line, in points."""
    from matplotlib.textpath import TextPath

    return TextPath((0, 0), text, size=_TEXT).get_extents().width


def _draw(table: pd.DataFrame, *, rows: dict[str, list[str]], groupby: str, ax: Axes | None, show: bool) -> Figure:
    """Draw the heat map; `rows` holds the hub genes by what stands in the column beside them."""
    from matplotlib import colormaps

    sized = ax is None
    ax = _axes(table.shape, show=show) if sized else ax
    largest = float(table.abs().fillna(0.0).to_numpy().max())
    limit = min(largest, _LIMIT) or 1.0
    colors = colormaps["RdBu_r"].with_extremes(bad=_MISSING)
    image = ax.pcolormesh(table, cmap=colors, vmin=-limit, vmax=limit, edgecolors="white", linewidth=0.6)
    ax.invert_yaxis()
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    columns = [_short(group) for group in table.columns]
    if len(set(columns)) < len(columns):
        columns = list(table.columns)
    without = table.isna().all()
    columns = [f"{name} (no counts)" if without[group] else name for group, name in zip(table, columns, strict=True)]
    slant = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if max(map(len, columns)) > 3 else {}
    ax.set_xticks(np.arange(len(columns)) + 0.5, columns, fontsize=_TEXT, parse_math=False, **slant)
    ax.set_xlabel(groupby, fontsize=9, parse_math=False)
    place = {"cax": _beside(ax)} if sized else {"ax": ax}
    bar = ax.figure.colorbar(image, **place, extend="both" if largest > limit else "neither")
    label = "mean standardised activity"
    fits = _width(label) <= 72 * bar.ax.get_window_extent().height / ax.figure.dpi
    bar.set_label(label if fits else label.replace("ised ", "ised\n"), fontsize=_TEXT)
    bar.ax.tick_params(labelsize=_TEXT)
    bar.outline.set_visible(False)
    _name_rows(ax, rows, np.inf if sized else _room(ax))  # after the colour bar, for which the user's axes may move
    if sized:
        shrink_wrap(ax.figure)
    return ax.figure


def _name_rows(ax: Axes, rows: dict[str, list[str]], room: float) -> None:
    """Write two columns to the left of the heat map: hubs, and the module with its size; in so many points."""
    title = "module (size)"
    title = title if _HINTED * _width(title) + 3 <= room else title.replace(" ", "\n")
    aside = 3 + max(map(_width, [*title.split("\n"), *rows])) + 8  # where the hubs end, in points from the heat map
    hubs = [_that_fit(names, room - aside - 2) for names in rows.values()]
    ax.set_yticks(np.arange(len(rows)) + 0.5, hubs, fontsize=_TEXT, parse_math=False)
    ax.tick_params(axis="y", pad=aside)
    style = {"textcoords": "offset points", "ha": "right", "fontsize": _TEXT}
    for place, module in enumerate(rows):
        ax.annotate(
            module,
            (0, place + 0.5),
            (-3, 0),
            xycoords=("axes fraction", "data"),
            va="center_baseline",
            parse_math=False,
            **style,
        )
    for text, offset in ((title, 3), ("hubs" if any(hubs) else "", aside)):
        ax.annotate(text, (0, 1), (-offset, 4), xycoords="axes fraction", color="0.4", **style)


def _that_fit(names: list[str], room: float) -> str:
    """Name the first ones, as many as there is room for."""
    lines = [", ".join(names[:n]) for n in range(len(names), 0, -1)]
    return next((line for line in lines if _HINTED * _width(line) <= room), "")


def _room(ax: Axes) -> float:
    """Measure what is free on the left of the user's axes, in points, unless a layout engine makes room."""
    if ax.figure.get_layout_engine() is not None:
        return np.inf
    mine = ax.get_window_extent()
    others = [other.get_window_extent() for other in ax.figure.axes if other is not ax]
    ends = [box.x1 for box in others if box.x1 <= mine.x0 and box.y0 < mine.y1 and box.y1 > mine.y0]
    return 72 * (mine.x0 - max(ends, default=0.0)) / ax.figure.dpi


def _axes(shape: tuple[int, int], *, show: bool) -> Axes:
    """Make a figure that the axes fill, every field of the heat map as large as the next figure's."""
    size = (shape[1] * _COLUMN, shape[0] * _ROW)
    return new_figure(show=show, figsize=size).add_axes((0, 0, 1, 1))


def _beside(ax: Axes) -> Axes:
    """Make axes for the colour bar, on the right."""
    width, height = ax.figure.get_size_inches()
    bar = min(max(height, 0.9), 1.8)
    return ax.figure.add_axes((1 + 0.2 / width, 1 - bar / height, 0.12 / width, bar / height))
