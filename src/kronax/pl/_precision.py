from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from kronax import _keys, _validate
from kronax._module_shares import categorical, require_few
from kronax._partial_correlations import partial_correlations
from kronax._stored_graph import AXES
from kronax.pl._canvas import LINE, MOST_NAMES, TEXT, apart, axes, called, hand_over, inches, short, spaced

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIDE = 4.0  # of the heat map, inches; larger where that many names need it
_MOST_FIELDS = 400  # along a side; beyond, neighbouring rows and columns share one
_LIMIT = 99  # percentile of the absolute values at the ends of the colour bar
_WITHOUT = "no label"  # name of those with a missing value
_STRIP = 0.03  # width of the groups' colours, share of the side
_PAD, _LEADER = 0.05, 0.2  # between the fields and a name, and width of the lines that lead to names, inches


def precision(
    data: AnnData | MuData,
    *,
    groupby: str,
    axis: Literal["obs", "var"] = "obs",
    neighbors_key: str = _keys.MED_MAGMA,
    ax: Axes | None = None,
    save: str | Path | None = None,
    show: bool = False,
    return_fig: bool = True,
) -> Figure | None:
    """Show the signed precision of cells or genes as a heat map, ordered by groups.

    What is drawn are partial correlations, the precision's entries at unit scale and with the sign reversed: purple
    where two cells (genes) go together given all others, orange where they exclude each other. Along the diagonal lie the groups,
    in the order of their categories; within a group, those with the strongest ties to it come first. A good clustering
    has its colour in the blocks. Up to 60 groups are all named, in a figure that grows with them: lines lead to the names
    of those too narrow for one. With more than 400 cells (genes), a field shows the largest absolute value of those that
    share it, and the colour bar says so.

    Parameters
    ----------
    data
        Cells × genes, with the result of :func:`kronax.tl.med_magma`; for the cells of several modalities, the MuData
        object. The graph of nearest neighbours has few
        entries; ``n_neighbors=None`` keeps them all.
    groupby
        Column of ``obs`` (``var`` for ``axis="var"``), such as ``"leiden"`` or ``"gene_module"``. Those with a missing
        value stand at the end, under "no label".
    axis
        ``"obs"`` for the cells, ``"var"`` for the genes.
    neighbors_key
        Where in ``uns`` the graph is described.
    ax
        Axes to draw into, with room for the names on the left; if None, a figure is made.
    save
        File to write, in a folder that is made if need be; its ending chooses the format.
    show
        Open a window. A notebook shows the figure that is returned.
    return_fig
        Return the figure. False spares a notebook a second picture after ``show=True``.

    Returns
    -------
    The figure, None if `return_fig` is False. Nothing is written to `data`. The colours beside the groups are those of
    ``data.uns[f"{groupby}_colors"]``, where they are.

    Raises
    ------
    KeyError
        If the column or the precision matrix does not exist.
    ValueError
        If `data` is backed, or all values of the column are missing, or it holds more than 100 different numbers.

    References
    ----------
    :cite:t:`Andrew2024`.

    Examples
    --------
    >>> import kronax as kx
    >>> adata = kx.datasets.kronecker_sum(60, 50)
    >>> kx.tl.med_magma(adata, n_neighbors=5)
    >>> kx.tl.gene_modules(adata)
    >>> figure = kx.pl.precision(adata, groupby="gene_module", axis="var")
    """
    _validate.one_of(axis, AXES, "axis")
    _validate.holds_graph(data, axis)
    table, of = getattr(data, axis), _validate.called(data)
    _validate.key_in(groupby, table, f"{of}.{axis}")
    group_of = categorical(table[groupby], f"{of}.{axis}[{groupby!r}]")
    if pd.api.types.is_numeric_dtype(table[groupby]):
        require_few(group_of, f"{of}.{axis}[{groupby!r}]")
    found = partial_correlations(data, neighbors_key, axis)

    order, bounds = _ordered(found, group_of)
    sized = ax is None
    names = [*group_of.categories, *[_WITHOUT] * bool((group_of.codes < 0).any())]
    side = max(_SIDE, LINE * len(names)) if len(names) <= MOST_NAMES else _SIDE
    ax = axes((side, side), show=show) if sized else ax
    image = _draw(ax, found[order][:, order])
    for bound in bounds[1:-1]:
        ax.axhline(bound, color="0.6", linewidth=0.4)
        ax.axvline(bound, color="0.6", linewidth=0.4)
    _name_groups(ax, names, bounds, _colors(data.uns, groupby, table[groupby], group_of))
    what = "cells" if axis == "obs" else called(data.var)
    ax.set_xlabel(f"{len(order):,} {what}, by {groupby}", fontsize=TEXT + 1, parse_math=False)
    place = {"cax": _beside(ax)} if sized else {"ax": ax}
    bar = ax.figure.colorbar(image, **place, extend="both")
    shared = len(order) > _MOST_FIELDS
    bar.set_label("partial correlation" + "\n(largest of each field)" * shared, fontsize=TEXT)
    bar.ax.tick_params(labelsize=TEXT)
    bar.outline.set_visible(False)
    return hand_over(ax.figure, sized=sized, save=save, show=show, return_fig=return_fig)


def _ordered(found: sparse.csr_array, group_of: pd.Categorical) -> tuple[np.ndarray, np.ndarray]:
    """Order by group, and within it by the ties to it: positions, and where groups begin and end."""
    code = np.where(group_of.codes < 0, len(group_of.categories), group_of.codes)
    edges = found.tocoo()
    within = code[edges.row] == code[edges.col]
    ties = np.bincount(edges.row[within], weights=edges.data[within], minlength=len(code))
    order = np.lexsort((-ties, code))
    return order, np.concatenate([[0], np.cumsum(np.bincount(code, minlength=len(group_of.categories)))])


def _draw(ax: Axes, found: sparse.csr_array):
    """Draw a field for every entry, or for several."""
    n = found.shape[0]
    n_fields = min(n, _MOST_FIELDS)
    edges = found.tocoo()
    row, col = (index.astype(np.int64) * n_fields // n for index in (edges.row, edges.col))
    fields = np.zeros((n_fields, n_fields))
    by_size = np.argsort(np.abs(edges.data), kind="stable")  # of several entries, the largest is written last
    fields[row[by_size], col[by_size]] = edges.data[by_size]
    limit = np.percentile(np.abs(edges.data), _LIMIT) if edges.nnz else 1.0
    image = ax.imshow(
        fields, cmap="PuOr", vmin=-limit, vmax=limit, extent=(0, n, n, 0), interpolation="nearest", aspect="equal"
    )
    ax.spines[:].set_color("0.6")
    ax.set_xticks([])
    return image


def _name_groups(ax: Axes, names: list[str], bounds: np.ndarray, colors: list[str] | None) -> None:
    """Write the groups' names on the left, beside their colours; lines lead to those that have no room at their place."""
    n = bounds[-1]
    centres = (bounds[: len(names)] + bounds[1 : len(names) + 1]) / 2
    width, height = inches(ax)
    line = LINE * n / height
    named = np.arange(len(names)) if len(names) <= MOST_NAMES else spaced(centres, line)
    places = apart(centres[named], line, n)
    moved = np.abs(places - centres[named]).max() > 0.01 * line
    edge = -_PAD / width - (0 if colors is None else 1.3 * _STRIP)
    begin = edge - (_LEADER + _PAD / 2) / width if moved else edge
    ax.set_yticks([])
    beside = ax.get_yaxis_transform()
    for group, place in zip(named, places, strict=True):
        style = {"fontsize": TEXT, "parse_math": False, "ha": "right", "va": "center", "transform": beside}
        ax.text(begin, place, short(names[group]), **style)
        if moved:
            ends = [edge, edge - _LEADER / width], [centres[group], place]
            ax.plot(*ends, color="0.6", linewidth=0.5, transform=beside, clip_on=False, scalex=False, scaley=False)
    if colors is not None:
        for color, low, high in zip(colors, bounds, bounds[1:], strict=False):
            ax.add_patch(_strip(ax, color, low / n, high / n))


def _strip(ax: Axes, color: str, low: float, high: float):
    from matplotlib.patches import Rectangle

    corner = (-1.3 * _STRIP, 1 - high)
    return Rectangle(corner, _STRIP, high - low, transform=ax.transAxes, clip_on=False, facecolor=color, linewidth=0)


def _colors(uns: Mapping, groupby: str, column: pd.Series, group_of: pd.Categorical) -> list[str] | None:
    """Find the groups' colours, which stand in the order of all categories, used or not."""
    stored = uns.get(f"{groupby}_colors")
    names = [str(name) for name in pd.Categorical(column).categories]
    if stored is None or len(stored) < len(names):
        return None
    of = dict(zip(names, map(str, stored), strict=False))
    return [of[name] for name in group_of.categories]


def _beside(ax: Axes) -> Axes:
    """Make axes for the colour bar, on the right."""
    return ax.figure.add_axes((1.05, 0.55, 0.03, 0.45))
