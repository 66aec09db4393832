from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from kronax._data import keys, objects
from kronax._data.modules import categorical, require_few
from kronax._data.partial_correlations import partial_correlations
from kronax._data.stored_graph import AXES
from kronax.pl._canvas import axes, bare, beside, color_bar, hand_over
from kronax.pl._group_colors import draw_strip, group_colors
from kronax.pl._names import LINE, MOST_NAMES, TEXT, apart, called, inches, short, spaced
from kronax.solvers import checks

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIDE = 4.0  # of the heat map, inches; larger where that many names need it
_MOST_FIELDS = 400  # along a side; beyond, neighbouring rows and columns share one
_COMPLETE = 0.5  # share of entries that are not zero, from which fields show means
_RULE, _RULED = 0.4, 10  # width of the lines between groups, points, and of how many groups; of more, they are narrower
_NARROW = 4  # points of a group that has no lines
_LIMIT = 99  # percentile of the absolute values at the ends of the colour bar
_WITHOUT = "no label"  # name of those with a missing value
_STRIP = 0.03  # width of the groups' colours, share of the side
_PAD, _LEADER = 0.05, 0.2  # between the fields and a name, and width of the lines that lead to names, inches


def precision(
    data: AnnData | MuData,
    *,
    groupby: str,
    axis: Literal["obs", "var"] = "obs",
    neighbors_key: str = keys.MED_MAGMA,
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
    of those too narrow for one. With more than 400 cells (genes), several entries share a field. It shows the largest
    absolute value; if most entries are not zero, the mean, because the largest would be noise. The colour bar says which.

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
        Key in ``uns`` of the graph.
    ax
        Axes to draw into; if None, a figure is made. Give their figure ``layout="constrained"``, which makes room for
        the names on the left. Groups are named as far as the axes have room.
    save
        File to write, in a folder that is made if need be; its ending chooses the format.
    show
        Open a window. A notebook shows the figure that is returned.
    return_fig
        Return the figure. False spares a notebook a second picture after ``show=True``.

    Returns
    -------
    The figure, None if `return_fig` is False. Nothing is written to `data`. The colours beside the groups are those of
    ``data.uns[f"{groupby}_colors"]``, if there are any; if those are not colours, there are none, with a warning.

    Raises
    ------
    KeyError
        If the column or the precision matrix does not exist.
    ValueError
        If all values of the column are missing, or it holds more than 100 different numbers.

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
    checks.one_of(axis, AXES, "axis")
    objects.holds_graph(data, axis)
    table, of = getattr(data, axis), objects.called(data)
    other = "var" if axis == "obs" else "obs"
    elsewhere = f"It is in {of}.{other}: pass `axis={other!r}`." if groupby in getattr(data, other) else ""
    objects.key_in(groupby, table, f"{of}.{axis}", elsewhere)
    group_of = categorical(table[groupby], f"{of}.{axis}[{groupby!r}]")
    if pd.api.types.is_numeric_dtype(table[groupby]):
        require_few(group_of, f"{of}.{axis}[{groupby!r}]")
    found = partial_correlations(data, neighbors_key, axis)

    order, bounds = _ordered(found, group_of)
    sized = ax is None
    names = [*group_of.categories, *[_WITHOUT] * bool((group_of.codes < 0).any())]
    side = max(_SIDE, LINE * len(names)) if len(names) <= MOST_NAMES else _SIDE
    ax = axes((side, side), show=show) if sized else ax
    what = "cells" if axis == "obs" else called(data.var)
    ax.set_xlabel(f"{len(order):,} {what}, by {groupby}", fontsize=TEXT + 1, parse_math=False)
    fields, shown = _fields(found[order][:, order])
    image = _draw(ax, fields, len(order))
    color_bar(ax, image, f"partial correlation{shown}", **({"cax": beside(ax)} if sized else {}), extend="both")
    colors = group_colors(data.uns, groupby, table[groupby], group_of)
    if colors is not None:
        draw_strip(ax, "y", colors, bounds / bounds[-1], gap=0.3 * _STRIP, wide=_STRIP)
    _draw_bounds(ax, bounds)
    _name_groups(ax, names, bounds, 0 if colors is None else 1.3 * _STRIP)
    return hand_over(ax.figure, sized=sized, save=save, show=show, return_fig=return_fig)


def _ordered(found: sparse.csr_array, group_of: pd.Categorical) -> tuple[np.ndarray, np.ndarray]:
    """Order by group, and within it by the ties to it: positions, and where groups begin and end."""
    code = np.where(group_of.codes < 0, len(group_of.categories), group_of.codes)
    edges = found.tocoo()
    within = code[edges.row] == code[edges.col]
    ties = np.bincount(edges.row[within], weights=edges.data[within], minlength=len(code))
    order = np.lexsort((-ties, code))
    return order, np.concatenate([[0], np.cumsum(np.bincount(code, minlength=len(group_of.categories)))])


def _fields(found: sparse.csr_array) -> tuple[np.ndarray, str]:
    """Return the fields' values, and how entries that share one are merged: mean of a complete graph, else largest."""
    n = found.shape[0]
    n_fields = min(n, _MOST_FIELDS)
    edges = found.tocoo()
    row, col = (index.astype(np.int64) * n_fields // n for index in (edges.row, edges.col))
    if n > n_fields and found.nnz > _COMPLETE * n**2:
        size = np.bincount(np.arange(n) * n_fields // n)
        total = np.bincount(row * n_fields + col, weights=edges.data, minlength=n_fields**2)
        return total.reshape(n_fields, n_fields) / np.outer(size, size), "\n(mean of each field)"
    fields = np.zeros((n_fields, n_fields))
    by_size = np.argsort(np.abs(edges.data), kind="stable")  # of several entries, the largest is written last
    fields[row[by_size], col[by_size]] = edges.data[by_size]
    return fields, "\n(largest of each field)" if n > n_fields else ""


def _draw(ax: Axes, fields: np.ndarray, n: int) -> Artist:
    """Draw the fields of so many cells or genes."""
    some = np.abs(fields[fields != 0])
    limit = np.percentile(some, _LIMIT) if len(some) else 1.0
    image = ax.imshow(
        fields, cmap="PuOr", vmin=-limit, vmax=limit, extent=(0, n, n, 0), interpolation="nearest", aspect="equal"
    )
    bare(ax)
    ax.spines[:].set(visible=True, color="0.6")
    ax.set_xticks([])
    ax.set_yticks([])
    return image


def _draw_bounds(ax: Axes, bounds: np.ndarray) -> None:
    """Draw lines between groups that are wide enough, the narrower the more groups there are."""
    wide = 72 * inches(ax)[1] * np.diff(bounds) / bounds[-1] >= _NARROW
    width = _RULE * min(1.0, (_RULED / len(wide)) ** 0.5)
    for bound in bounds[1:-1][wide[:-1] & wide[1:]]:
        ax.axhline(bound, color="0.6", linewidth=width)
        ax.axvline(bound, color="0.6", linewidth=width)


def _name_groups(ax: Axes, names: list[str], bounds: np.ndarray, strip: float) -> None:
    """Write the groups' names on the left, beside their colours; again, if a layout engine has made room for them."""
    drawn: list[Artist] = []
    for _ in range(2):
        size = inches(ax)
        for artist in drawn:
            artist.remove()
        drawn = _names_within(ax, size, short(names), bounds, strip)


def _names_within(ax: Axes, size: np.ndarray, names: list[str], bounds: np.ndarray, strip: float) -> list[Artist]:
    """Write the names for which axes of this size have room, with lines to those that had to move."""
    n = bounds[-1]
    centres = (bounds[: len(names)] + bounds[1 : len(names) + 1]) / 2
    width, height = size
    line = LINE * n / height
    named = np.arange(len(names)) if len(names) * line <= n * (1 + 1e-6) else spaced(centres, line)
    places = apart(centres[named], line, n)
    moved = np.abs(places - centres[named]).max() > 0.01 * line
    edge = -_PAD / width - strip
    begin = edge - (_LEADER + _PAD / 2) / width if moved else edge
    on_the_left = ax.get_yaxis_transform()
    drawn: list[Artist] = []
    for group, place in zip(named, places, strict=True):
        style = {"fontsize": TEXT, "parse_math": False, "ha": "right", "va": "center", "transform": on_the_left}
        drawn.append(ax.text(begin, place, names[group], **style))
        if moved:
            ends = [edge, edge - _LEADER / width], [centres[group], place]
            style = {"color": "0.6", "linewidth": 0.5, "clip_on": False, "scalex": False, "scaley": False}
            drawn += ax.plot(*ends, transform=on_the_left, **style)
    return drawn
