"""What the figures of tensors share: axes of a given size, colours, names, and how a figure is handed over."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kronax.pl._figure import new_figure, save_and_show, shrink_wrap

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEXT = 8  # points
LINE = 1.6 * TEXT / 72  # inches between the lines of a text
MOST_NAMES = 60  # along an axis; beyond, counts stand there
NAME = 30  # characters of a name before it is cut

# Okabe and Ito's colours, with an indigo for the yellow, which is hard to see on white, and the black, kept for the truth
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#332288")
MARKERS = "osD^vPX"


def colors_of(names: Iterable[str], argument: str = "") -> dict[str, str]:
    """Give every method a colour; the argument that chooses some of them, if there is one, is the remedy."""
    names = list(names)
    if len(names) > len(COLORS):
        msg = f"{len(names)} methods are too many to tell apart by colour; compare at most {len(COLORS)}"
        msg += f", named with `{argument}=`." if argument else "."
        raise ValueError(msg)
    return dict(zip(names, COLORS, strict=False))


def axes(size: tuple[float, float], *, show: bool) -> Axes:
    """Make a figure that the axes fill."""
    return canvas(size, show=show).add_axes((0, 0, 1, 1))


def canvas(size: tuple[float, float], *, show: bool) -> Figure:
    """Make an empty figure; see :func:`kronax.pl._figure.new_figure`."""
    return new_figure(show=show, figsize=size)


def hand_over(figure: Figure, *, sized: bool, save: str | Path | None, show: bool) -> Figure:
    """Fit the figure to its labels, unless it is the user's, and save and show it."""
    if sized:
        shrink_wrap(figure)
    return save_and_show(figure, save=save, show=show)


def legend(ax: Axes, **arguments) -> None:
    """Put the legend beside the axes, where it hides nothing."""
    found = ax.legend(
        loc="upper left", bbox_to_anchor=(1.02, 1), borderaxespad=0, frameon=False, fontsize=TEXT, **arguments
    )
    for text in found.get_texts():
        text.set_parse_math(False)


def plain(ax: Axes) -> None:
    """Leave out what is no data: two of the spines, large labels."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=TEXT)
    ax.xaxis.label.set_size(TEXT + 1)
    ax.yaxis.label.set_size(TEXT + 1)


def short(name: str) -> str:
    """Cut a long name in the middle."""
    head, tail = NAME // 2, NAME - NAME // 2 - 1
    return name if len(name) <= NAME else f"{name[:head]}…{name[-tail:]}"


def spaced(places: np.ndarray, least: float) -> np.ndarray:
    """Choose ascending places that are at least so far apart: positions in `places`."""
    chosen: list[int] = []
    for i, place in enumerate(places):
        if not chosen or place - places[chosen[-1]] >= least:
            chosen.append(i)
    return np.array(chosen, int)
