"""Figures as large as their content, so that no label is cut off or lies upon another."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

_SAVED = 150  # dots per inch, unless the user's settings give a number
_MARGIN = 0.08  # around everything, inches
_DPI = (72, 100, 150)  # hinting makes a text up to 4% wider at one of them; what it adds elsewhere, the margin holds
_VARIES = 0.1  # of its size, by which no part of a figure reaches farther at another resolution


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
    figure.set_layout_engine("none")
    box = _extent(figure)
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


def _extent(figure: Figure) -> Bbox:
    """Measure the box around all that is drawn, at any resolution, in inches."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.transforms import Bbox

    parts = [part for part in figure.get_children() if part.get_visible() and part.get_in_layout()]
    found: list[Bbox] = []
    before = figure.dpi
    for dpi in _DPI:
        figure.set_dpi(dpi)
        renderer = RendererAgg(1, 1, dpi)  # one for all parts: it remembers the texts that it has measured
        boxes = [_box(part, renderer) for part in parts]
        found += [box for box in boxes if box.width or box.height]
        whole = Bbox.union(found)
        parts = [part for part, box in zip(parts, boxes, strict=True) if _may_stick_out(box, whole)]
    figure.set_dpi(before)
    return whole


def _box(part: Artist, renderer: RendererAgg) -> Bbox:
    """Measure an artist as it is drawn at the figure's resolution, in inches."""
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

    boxes = [part.get_tightbbox(renderer)]
    if isinstance(part, Axes):  # older versions of matplotlib leave out what of a label is longer than its axis
        labels = [axis.label for axis in (part.xaxis, part.yaxis)]
        boxes += [label.get_window_extent(renderer) for label in labels if label.get_visible() and label.get_text()]
    return Bbox(Bbox.union(boxes).extents.reshape(2, 2) / renderer.dpi)


def _may_stick_out(box: Bbox, whole: Bbox) -> bool:
    """Tell whether what has this box may reach beyond the whole at another resolution."""
    grown = box.padded(_VARIES * box.width, _VARIES * box.height)
    return not (whole.contains(*grown.min) and whole.contains(*grown.max))
