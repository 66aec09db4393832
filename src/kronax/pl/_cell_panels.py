"""Cells in the plane, once for every column of obs that colours them; the legends lie beside the points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from kronax.pl._figure import shrink_wrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

_PANEL, _GAP = 3.6, 0.3  # side of a panel and what is free beside its legend, inches


def cell_panels(adata: AnnData, basis: str, titles: Mapping[str, str]) -> Figure:
    """Draw the cells at ``obsm[basis]`` once for every column of obs; ``titles`` has the columns' titles."""
    from matplotlib.figure import Figure

    figure = Figure((_PANEL, _PANEL))
    left = 0.0
    for column, title in titles.items():
        ax = figure.add_axes((left / _PANEL, 0, 1, 1))
        legend = _panel(ax, adata.obsm[basis], pd.Categorical(adata.obs[column]), adata.uns.get(f"{column}_colors"))
        ax.set_title(title, fontsize=10, parse_math=False)
        left += _PANEL + legend.get_window_extent().width / figure.dpi + _GAP
    shrink_wrap(figure)
    return figure


def _panel(ax: Axes, places: np.ndarray, groups: pd.Categorical, colours: Sequence[str] | None) -> Legend:
    """Draw cells in the colours of their groups, and the legend on the right."""
    from matplotlib.colors import to_rgba_array
    from matplotlib.lines import Line2D
    from scanpy.plotting import palettes

    names = [str(name) for name in groups.categories]
    if colours is None or len(colours) != len(names):
        colours = palettes.default_20 if len(names) <= 20 else palettes.default_102
    rgba = to_rgba_array([*(colours[i % len(colours)] for i in range(len(names))), "lightgrey"])
    mixed = np.random.default_rng(0).permutation(len(groups))  # no group lies upon the others
    ax.scatter(*places[mixed].T, c=rgba[groups.codes[mixed]], s=min(14, 30_000 / len(groups)), linewidths=0)
    ax.set_axis_off()
    dots = [Line2D([], [], linestyle="", marker="o", markersize=5, color=colour) for colour in rgba[:-1]]
    legend = ax.legend(
        dots,
        names,
        loc="center left",
        bbox_to_anchor=(1, 0.5),
        ncols=-(-len(names) // 20),
        frameon=False,
        fontsize=8,
        handletextpad=0.1,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return legend
