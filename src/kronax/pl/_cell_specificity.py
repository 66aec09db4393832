from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from mudata import MuData

from kronax.metrics._cell_specificity import cell_specificity as measure
from kronax.metrics._compared_methods import TRUTH
from kronax.metrics._cross_validate import CrossValidation
from kronax.pl._canvas import axes, hand_over, ink, legend, plain
from kronax.pl._methods import DASHED, MARKERS, styles_of
from kronax.pl._names import short
from kronax.pl._results import chosen_methods
from kronax.solvers import checks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_BINS = 40


def cell_specificity(
    data: MuData | CrossValidation,
    *,
    layer: str | None = None,
    methods: str | Iterable[str] | None = None,
    highlight: Iterable[str] = (),
    ax: Axes | None = None,
    save: str | Path | None = None,
    show: bool = False,
    return_fig: bool = True,
) -> Figure | None:
    """Show how cell-specific treatments are, measured and predicted.

    The cell-specificity of a treatment is the mean cosine distance of its profiles, see
    :func:`kronax.metrics.cell_specificity`. Of a tensor, a histogram is shown; of a cross-validation, the cumulative
    distributions for the held-out profiles and for every method's predictions of them. A method without predictions has
    none.

    Parameters
    ----------
    data
        Contexts as modalities, each treatments × genes; or the result of :func:`kronax.metrics.cross_validate`.
    layer
        Layer of every modality to read; `X` if None.
    methods
        Those of a cross-validation to compare, at most 7; all if None.
    highlight
        Treatments to point out, at most 7, by vertical lines with markers, where they were measured. Those without two profiles
        have none.
    ax
        Axes to draw into; if None, a figure is made. Give their figure ``layout="constrained"``, which makes room for the
        legend on the right.
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
        If there is no such layer, method or treatment.
    TypeError
        If `data` is neither a MuData object nor a cross-validation.
    ValueError
        If no treatment has two profiles, there is too much to tell apart by colour, or `methods` are named of a MuData
        object.

    References
    ----------
    :cite:t:`Hodos2018`, Fig. 1.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=50)
    >>> figure = kx.pl.cell_specificity(mdata, highlight=["drug3"])
    """
    sized = ax is None
    table = _table(data, layer, methods)
    first, *compared = table.columns
    styles = styles_of(compared)
    highlight = checks.texts(highlight, "highlight", "treatments")
    for name in highlight:
        checks.known(name, table.index, "treatment")
    if len(highlight) > len(MARKERS):
        msg = f"At most {len(MARKERS)} treatments can be pointed out, found {len(highlight)}."
        raise ValueError(msg)
    ax = axes((4.0, 2.6), show=show) if sized else ax
    values = table.to_numpy()
    if table[first].isna().all():
        msg = "No treatment has two profiles to compare."
        raise ValueError(msg)
    if not styles:
        _histogram(ax, values[~np.isnan(values)])
    else:
        ax.ecdf(table[first].dropna(), color=ink(ax.get_facecolor()), linewidth=1.5, label=first)
        for method, label in zip(compared, short(compared), strict=True):
            if table[method].notna().any():
                ax.ecdf(table[method].dropna(), **styles[method].line, label=label)
        ax.set_ylabel("share of treatments up to there")
    _point_out(ax, table.loc[highlight, first].dropna())
    ax.set_xlabel("cell-specificity (mean cosine distance)")
    plain(ax)
    if ax.get_legend_handles_labels()[0]:
        legend(ax, handlelength=DASHED)
    return hand_over(ax.figure, sized=sized, save=save, show=show, return_fig=return_fig)


def _histogram(ax: Axes, values: np.ndarray) -> None:
    """Draw bars whose number grows with that of the treatments."""
    n_bins = int(np.clip(2 * np.sqrt(len(values)), 8, _MOST_BINS))
    ax.hist(values, n_bins, color="0.75")
    ax.yaxis.get_major_locator().set_params(integer=True)
    ax.set_ylabel("treatments")


def _point_out(ax: Axes, places: pd.Series) -> None:
    """Draw a vertical line for each place, in grey as the colours are the methods', with a marker at a height of its own."""
    for i, (name, place) in enumerate(zip(short(places.index), places, strict=True)):
        ax.plot(
            [place] * 3,
            [0, 0.95 - 0.1 * i, 1],
            transform=ax.get_xaxis_transform(),
            color="0.35",
            linewidth=1,
            marker=MARKERS[i],
            markersize=5,
            markevery=[1],
            label=f"{name}: {place:.2f}",
        )


def _table(data: MuData | CrossValidation, layer: str | None, methods: str | Iterable[str] | None) -> pd.DataFrame:
    """Return a table: treatments × what is shown."""
    if isinstance(data, CrossValidation):
        return data.cell_specificity[[TRUTH, *chosen_methods(data, methods)]]
    if methods is not None:
        msg = "`methods` are those of a cross-validation; of a tensor, name the `layer` that a method completed."
        raise ValueError(msg)
    return measure(data, layer=layer)[["cell_specificity"]]
