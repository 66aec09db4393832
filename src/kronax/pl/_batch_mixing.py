from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from anndata import AnnData
from mudata import MuData

from kronax._data import keys, objects
from kronax._data.modules import categorical, require_few
from kronax.metrics._batch_mixing import read_mixing
from kronax.pl._canvas import axes, bare, beside, color_bar, hand_over, ink, length
from kronax.pl._names import COLUMN, TEXT, inches, name_columns, name_fields, one_in, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

_ROW = 0.27  # of the heat map, inches
_NUMBER = 0.3, 0.16  # inches of a field that has room for a number
_APART = 4  # points between the column of all batches and the others
_MISSING = "0.8"  # grey
_MEANING = "neighbours from other batches,\nobserved / expected"


def batch_mixing(
    data: AnnData | MuData,
    *,
    label_key: str,
    batch_key: str,
    neighbors_key: str = keys.MED_MAGMA,
    weighted: bool = False,
    ax: Axes | None = None,
    save: str | Path | None = None,
    show: bool = False,
    return_fig: bool = True,
) -> Figure | None:
    """Show how well a cell graph mixes the batches of every label.

    A field shows, for the cells of a label in a batch, the share of their neighbours that are from other batches, divided
    by the share expected if batches make no difference. Only neighbours with the same label count. 1 means as mixed as
    by chance, 0 apart from all other batches. The first column is that of all batches together. Fields without cells,
    without edges or without another batch are grey. The title gives the ratio over all cells, that of
    :func:`kronax.metrics.batch_mixing`.

    Labels and batches stand in the order of their categories, labels with their number of cells in brackets. Long names
    are cut. If there are more than there is room for, only every second, third, … is named. Values are written into the
    fields if these have room.

    Parameters
    ----------
    data
        AnnData object with a cell graph, or MuData object.
    label_key
        Column of ``obs`` with at most 100 labels, such as cell types.
    batch_key
        Column of ``obs`` with at most 100 batches.
    neighbors_key
        Key in ``uns`` that describes the graph.
    weighted
        Whether neighbours count by the weight of the edge; otherwise all count equally.
    ax
        Axes to draw into; if None, a figure is made whose size fits. Give their figure ``layout="constrained"``, which
        makes room for the labels.
    save
        File to write, in a folder that is made if need be; its ending chooses the format.
    show
        Open a window. A notebook shows the figure that is returned.
    return_fig
        Return the figure. False spares a notebook a second picture after ``show=True``.

    Returns
    -------
    The figure, None if `return_fig` is False. Nothing is written to `data`.

    Raises
    ------
    KeyError
        If there is no such graph or column.
    ValueError
        If no label is found in two batches, there are more than 100 labels or batches, or a weight of
        the graph is negative or not finite.

    References
    ----------
    :cite:t:`Buettner2019` compare the batches of neighbours with those of all cells; here, with those of the same label.

    Examples
    --------
    >>> import kronax as kx
    >>> import scanpy as sc
    >>> adata = sc.datasets.pbmc68k_reduced().raw.to_adata()
    >>> kx.tl.med_magma(adata)
    >>> figure = kx.pl.batch_mixing(adata, label_key="bulk_labels", batch_key="phase")
    """
    objects.holds_graph(data, "obs")
    for key in (label_key, batch_key):
        objects.key_in(key, data.obs, f"{objects.called(data)}.obs")
        require_few(categorical(data.obs[key], f"obs[{key!r}]"), f"obs[{key!r}]")
    mixing = read_mixing(data, label_key, batch_key, neighbors_key, weighted=weighted)
    values = np.column_stack([mixing.by_label()["mixing"], mixing.by_batch()])
    sized = ax is None
    if sized:
        ax = axes((length(values.shape[1], COLUMN), length(values.shape[0], _ROW)), show=show)
    ax.set_title(f"mixing of batches: {mixing.overall():.2f}", fontsize=TEXT + 1, loc="left")
    image = _draw(ax, values)
    color_bar(ax, image, _MEANING, **({"cax": beside(ax)} if sized else {}), extend=_extends(values))
    labels = [f"{name} ({n:,})" for name, n in zip(short(mixing.label), mixing.size.sum(axis=1), strict=True)]
    batches = ["all", *short(mixing.batch)]
    for _ in range(2):  # names below may leave less room for those on the left
        ax.set_ylabel(f"{label_key}{one_in(name_fields(ax, 'y', labels))}", fontsize=TEXT + 1, parse_math=False)
        ax.set_xlabel(f"{batch_key}{one_in(name_columns(ax, batches))}", fontsize=TEXT + 1, parse_math=False)
    _write(ax, values, image)
    return hand_over(ax.figure, sized=sized, save=save, show=show, return_fig=return_fig)


def _draw(ax: Axes, values: np.ndarray) -> QuadMesh:
    """Draw the fields, labels × batches, those of all batches a little apart."""
    from matplotlib import colormaps

    shades = colormaps["viridis"].with_extremes(bad=_MISSING)
    background = ax.get_facecolor()
    rims = background if max(values.shape) * _ROW <= max(inches(ax)) else "none"
    image = ax.pcolormesh(values, cmap=shades, vmin=0, vmax=1, edgecolors=rims, linewidth=0.6)
    ax.axvline(1, color=background, linewidth=_APART)
    ax.invert_yaxis()
    bare(ax)
    return image


def _extends(values: np.ndarray) -> Literal["max", "neither"]:
    return "max" if np.nanmax(values) > 1 else "neither"


def _write(ax: Axes, values: np.ndarray, image: QuadMesh) -> None:
    """Write the values into the fields, if there is room."""
    if (inches(ax) / values.shape[::-1] < _NUMBER).any():
        return
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            style = {"ha": "center", "va": "center_baseline", "fontsize": TEXT - 1}
            ax.text(column + 0.5, row + 0.5, f"{value:.2f}", color=ink(image.to_rgba(value)[:3]), **style)
