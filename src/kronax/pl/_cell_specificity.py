from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from mudata import MuData

from kronax import _validate
from kronax.metrics._cell_specificity import cell_specificity as measure
from kronax.metrics._cross_validate import CrossValidation
from kronax.pl._canvas import COLORS, axes, colors_of, hand_over, legend, plain, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BINS = 40


def cell_specificity(
    data: MuData | CrossValidation,
    *,
    layer: str | None = None,
    highlight: Iterable[str] = (),
    ax: Axes | None = None,
    save: str | Path | None = None,
    show: bool = False,
) -> Figure:
    """Show how cell-specific treatments are, measured and predicted.

    The cell-specificity of a treatment is the mean cosine distance of its profiles, see
    :func:`kronax.metrics.cell_specificity`. For a cross-validation, that of the held-out profiles is shown beside that of
    every method's predictions of the same profiles.

    Parameters
    ----------
    data
        Contexts as modalities, each treatments × genes; or the result of :func:`kronax.metrics.cross_validate`, with at
        most 6 methods.
    layer
        Layer of every modality to read; `X` if None.
    highlight
        Treatments to point out, at most 7.
    ax
        Axes to draw into, with room for the legend on the right; if None, a figure is made.
    save
        File to write; its ending chooses the format.
    show
        Open a window. A notebook shows the figure that is returned.

    Returns
    -------
    The figure. Nothing is written to `data`.

    Raises
    ------
    KeyError
        If there is no such layer or treatment.
    TypeError
        If `data` is neither a MuData object nor a cross-validation.
    ValueError
        If no treatment has two profiles, or there is too much to tell apart by colour.

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
    table = _table(data, layer)
    colors = colors_of(table.columns)
    highlight = [highlight] if isinstance(highlight, str) else list(highlight)
    for name in highlight:
        _validate.key_in(name, table.index, "treatments")
    if len(highlight) > len(COLORS):
        msg = f"At most {len(COLORS)} treatments can be pointed out, found {len(highlight)}."
        raise ValueError(msg)
    ax = axes((4.0, 2.6), show=show) if sized else ax
    values = table.to_numpy()
    if np.isnan(values).all():
        msg = "No treatment has two profiles to compare."
        raise ValueError(msg)
    edges = np.linspace(np.nanmin(values), max(np.nanmax(values), np.nanmin(values) + 1e-3), _BINS + 1)
    for column, color in colors.items():
        found = table[column].dropna()
        if len(table.columns) == 1:
            ax.hist(found, edges, color="0.75")
        else:
            ax.hist(found, edges, color=color, histtype="step", linewidth=1.5, label=short(column))
    for style, name in enumerate(highlight):
        place, line = table.loc[name].iloc[0], ("-", "--", "-.", ":")[style % 4]
        ax.axvline(place, color=COLORS[style], linestyle=line, linewidth=1.5, label=f"{short(name)}: {place:.2f}")
    ax.set(xlabel="cell-specificity (mean cosine distance)", ylabel="treatments")
    plain(ax)
    if highlight or len(table.columns) > 1:
        legend(ax)
    return hand_over(ax.figure, sized=sized, save=save, show=show)


def _table(data: MuData | CrossValidation, layer: str | None) -> pd.DataFrame:
    """Give treatments × what is shown."""
    if isinstance(data, CrossValidation):
        return data.cell_specificity
    return measure(data, layer=layer)[["cell_specificity"]]
