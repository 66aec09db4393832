"""Figures as large as their content, so that no label is cut off or lies upon another."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

_SAVED = 150  # dots per inch, unless the user's settings give a number
_MARGIN = 0.08  # around everything, inches
_DPI = (72, 100, 150, 200, 300)  # hinting makes a text up to 4% wider at one resolution than at another


def new_figure(*, show: bool, **options: Any) -> Figure:
    """Make an empty figure, one that pyplot knows of if a window shall open."""
    from matplotlib import pyplot as plt
    from matplotlib.figure import Figure

    options = {"layout": "none", **options}
    if show:
        return plt.figure(**options)
    if "ipykernel" in sys.modules:
        plt.draw_if_interactive()  # loads pyplot's backend, without which a notebook shows figures as a line of text
    return Figure(**options)  # a notebook would show an open pyplot figure once more


def whole(figure: Figure) -> Figure:
    """Return the figure that a subfigure is part of."""
    return figure.canvas.figure


def shrink_wrap(figure: Figure) -> None:
    """Resize the figure such that all labels fit, and leave the axes as large as they are."""
    from matplotlib.transforms import Bbox

    figure.set_layout_engine("none")
    box = Bbox.union([_extent(figure, dpi) for dpi in _DPI])
    before, after = figure.get_size_inches(), np.array([box.width, box.height]) + 2 * _MARGIN
    for axes in figure.axes:
        place = axes.get_position()
        corner = place.min * before - box.min + _MARGIN
        axes.set_position((*(corner / after), *(place.size * before / after)))
    figure.set_size_inches(after)


def save_and_show(
    figure: Figure, *, save: str | Path | None, show: bool, return_fig: bool, tight: bool = False
) -> Figure | None:
    """Write the figure, into a folder that is made if need be, open a window, and return it.

    `tight` saves it as large as what is in it, where labels may reach beyond.
    """
    from matplotlib import rcParams

    if save is not None:
        if not isinstance(save, str | os.PathLike):
            msg = f"`save` must be the name of a file, such as 'figure.png', found {save!r}."
            raise TypeError(msg)
        Path(save).parent.mkdir(parents=True, exist_ok=True)
        dpi = rcParams["savefig.dpi"]
        options = {"bbox_inches": "tight"} if tight else {}
        figure.savefig(save, dpi=_SAVED if isinstance(dpi, str) else dpi, **options)
    if show:
        import matplotlib.pyplot as plt

        plt.show()
    return figure if return_fig else None


def _extent(figure: Figure, dpi: float) -> Bbox:
    """Measure the box around all that is drawn at a resolution, in inches."""
    from matplotlib.transforms import Bbox

    before = figure.dpi
    figure.set_dpi(dpi)
    box = figure.get_tightbbox()
    # older versions of matplotlib leave out what of a label is longer than its axis
    labels = [axis.label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
    boxes = [label.get_window_extent() for label in labels if label.get_visible() and label.get_text()]
    inches = [Bbox(found.extents.reshape(2, 2) / dpi) for found in boxes]
    figure.set_dpi(before)
    return Bbox.union([box, *inches])
