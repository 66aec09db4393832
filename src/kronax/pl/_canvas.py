"""What figures share: axes of a given size, legends and colour bars, and how a figure is handed over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kronax.pl._figure import new_figure, save_and_show, shrink_wrap, whole
from kronax.pl._names import LINE, MOST_NAMES, TEXT

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure

LARGEST = MOST_NAMES * LINE  # inches of an axis with fields, at most
_HANDLE = 2.0  # length of the legend's handles in font sizes, whatever the user's style says
_BAR = (0.12, 0.9, 1.8)  # width of a colour bar, and its least and largest height, inches


def axes(size: tuple[float, float], *, show: bool) -> Axes:
    """Make a figure that the axes fill."""
    return canvas(size, show=show).add_axes((0, 0, 1, 1))


def canvas(size: tuple[float, float], *, show: bool) -> Figure:
    """Make an empty figure; see :func:`kronax.pl._figure.new_figure`."""
    return new_figure(show=show, figsize=size)


def hand_over(figure: Figure, *, sized: bool, save: str | Path | None, show: bool, return_fig: bool) -> Figure | None:
    """Fit the figure to its labels, unless it is the user's, and save, show and return it."""
    figure = whole(figure)
    if sized:
        shrink_wrap(figure)
    cut_off = not sized and figure.get_layout_engine() is None
    return save_and_show(figure, save=save, show=show, return_fig=return_fig, tight=cut_off)


def legend(ax: Axes, **arguments) -> None:
    """Put the legend beside the axes, where it hides nothing, or at another place that is named."""
    style = {"loc": "upper left", "bbox_to_anchor": (1.02, 1), "borderaxespad": 0, "handlelength": _HANDLE}
    look = {"frameon": False, "fontsize": TEXT, "title_fontsize": TEXT, "alignment": "left"}
    found = ax.legend(**{**style, **look, **arguments})
    for text in found.get_texts():
        text.set_parse_math(False)


def plain(ax: Axes) -> None:
    """Remove two spines and large labels, which show no data."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=TEXT)
    ax.xaxis.label.set_size(TEXT + 1)
    ax.yaxis.label.set_size(TEXT + 1)


def bare(ax: Axes) -> None:
    """Remove from a map what would lie on or around its fields, whatever the user's style."""
    ax.grid(visible=False, which="both")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, which="both")


def ink(background: str | tuple[float, ...]) -> str:
    """Choose the colour that is seen best on another one: white on dark colours, black on others."""
    from matplotlib.colors import to_rgb

    return "black" if np.mean(to_rgb(background)) > 0.5 else "white"


def color_bar(ax: Axes, image: Artist, label: str, **arguments) -> Colorbar:
    """Draw what the colours of a map mean, beside the axes or in axes of its own, `cax`."""
    place = {} if "cax" in arguments else {"ax": ax}
    bar = ax.figure.colorbar(image, **place, **arguments)
    bar.set_label(label, fontsize=TEXT)
    bar.ax.grid(visible=False, which="both")
    bar.ax.tick_params(labelsize=TEXT, which="both")
    bar.outline.set_visible(False)
    return bar


def beside(ax: Axes) -> Axes:
    """Make axes for the colour bar, on the right of those that fill the figure."""
    wide, high = ax.figure.get_size_inches()
    width, least, most = _BAR
    bar = min(max(high, least), most)
    return ax.figure.add_axes((1 + 0.2 / wide, 1 - bar / high, width / wide, bar / high))


def length(n: int, field: float) -> float:
    """Return the length, in inches, of an axis with so many fields."""
    return min(n * field, LARGEST)
