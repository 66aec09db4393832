from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData
from mudata import MuData

from kronax._data import keys, objects
from kronax.pl._canvas import axes, hand_over, legend, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LABELS = {
    "vi": "variation of information / log n\n(0: clusters unchanged)",
    "ami": "adjusted mutual information\n(1: clusters unchanged)",
}
_LINES = (("graph", "this graph", "#0072B2", "-", "o"), ("random", "random, same degrees", "#D55E00", "--", "s"))
_BAND = (5, 95)  # per cent of the repeats lie below


def graph_robustness(
    data: AnnData | MuData,
    *,
    key: str = keys.GRAPH_ROBUSTNESS,
    ax: Axes | None = None,
    save: str | Path | None = None,
    show: bool = False,
    return_fig: bool = True,
) -> Figure | None:
    """Show how the clusters of a graph change when more and more of its edges change places.

    Lines are means over repeats, bands hold the middle 90% of them. The space between the lines is due to
    the graph's communities, beyond its degrees.

    Parameters
    ----------
    data
        AnnData or MuData object with the result of :func:`kronax.tl.graph_robustness`.
    key
        Key in ``uns`` of the result.
    ax
        Axes to draw into; if None, a figure is made. Give their figure ``layout="constrained"``.
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
        If there is no such result.
    TypeError
        If `data` is neither an AnnData nor a MuData object.

    References
    ----------
    :cite:t:`Policastro2021`.

    Examples
    --------
    >>> import kronax as kx
    >>> import scanpy as sc
    >>> adata = sc.datasets.pbmc68k_reduced().raw.to_adata()
    >>> kx.tl.med_magma(adata)
    >>> kx.tl.graph_robustness(adata, shares=[0, 0.2, 0.4])
    >>> figure = kx.pl.graph_robustness(adata)
    """
    objects.holds_graph(data, "obs")
    remedy = "Run kx.tl.graph_robustness first."
    found = objects.entry(data, key, None, remedy)
    for part in ("shares", "graph", "random", "params"):
        objects.key_in(part, found, f"{objects.called(data)}.uns[{key!r}]", remedy)
    sized = ax is None
    ax = axes((3.4, 2.4), show=show) if sized else ax
    percent = 100 * np.asarray(found["shares"])
    for name, label, color, style, marker in _LINES:
        values = np.asarray(found[name])
        low, high = np.percentile(values, _BAND, axis=0)
        ax.fill_between(percent, low, high, color=color, alpha=0.2, linewidth=0)
        marker = marker if len(percent) <= 25 else None
        ax.plot(percent, values.mean(axis=0), color=color, linestyle=style, marker=marker, markersize=4, label=label)
    ax.set(xlabel="edges that changed places (%)", ylabel=_LABELS[found["params"]["measure"]])
    plain(ax)
    title = f"mean, and where {_BAND[1] - _BAND[0]}% of the repeats are"
    legend(ax, title=title, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2, ncols=2)
    return hand_over(ax.figure, sized=sized, save=save, show=show, return_fig=return_fig)
