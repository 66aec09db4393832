"""What the figures of tensors share: axes of a given size, colours, names, and how a figure is handed over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kronax.pl._figure import new_figure, save_and_show, shrink_wrap

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEXT = 8  # points
LINE = 1.6 * TEXT / 72  # inches between the lines of a text
MOST_NAMES = 60  # along an axis; beyond, counts stand there
NAME = 30  # characters of a name before it is cut

_KINDS = {"Gene Expression": "genes", "Antibody Capture": "proteins", "Peaks": "peaks"}

# Okabe and Ito's colours, with an indigo for the yellow, which is hard to see on white, and the black, kept for the truth
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#332288")
MARKERS = "osD^vPX"
# Each line lies upon those before it. What it hides of them shows in its gaps, or beside it where it is narrower.
DASHES = ("-", (0, (7, 2)), (0, (4, 2)), (0, (2, 1.3)), (0, (6, 2, 1.5, 2)), (0, (3, 3)), (0, (1, 2.5)))
WIDTHS = (1.6, 2.4, 2.1, 1.9, 1.7, 1.5, 1.5)
DASHED = 3.4  # length of the legend's lines in font sizes, such that dashes can be told apart
# The seven that are most often compared have a place of their own among these; the others one that is free as a rule
_PLACES = {
    **{"kronecker": 0, "falrtc": 1, "mean_2d": 2, "dnpp": 3, "mean_1d": 4, "halrtc": 5, "silrtc": 6},
    **{"cp": 6, "attention_cp": 5, "mf": 4},
}


@dataclass(frozen=True)
class Style:
    """How a method is drawn, in every figure."""

    color: str
    dashes: str | tuple[int, tuple[float, ...]]
    width: float
    marker: str
    layer: float

    @property
    def line(self) -> dict[str, Any]:
        """What matplotlib has to know of a line."""
        return {"color": self.color, "linestyle": self.dashes, "linewidth": self.width, "zorder": self.layer}


def styles_of(names: Iterable[str], argument: str = "methods") -> dict[str, Style]:
    """Give every method a colour and a line: kronax's own always the same, others what is left of them.

    The argument that chooses some of the methods is the remedy for too many.
    """
    names = list(names)
    if len(names) > len(COLORS):
        msg = (
            f"{len(names)} methods are too many to tell apart by colour; compare at most {len(COLORS)}, named with "
            f"`{argument}=`."
        )
        raise ValueError(msg)
    place: dict[str, int] = {}
    for name, own in _PLACES.items():
        if name in names and own not in place.values():
            place[name] = own
    free = (i for i in range(len(COLORS)) if i not in set(place.values()))
    place |= {name: next(free) for name in names if name not in place}
    looks = [Style(*parts, 2 + 0.01 * i) for i, parts in enumerate(zip(COLORS, DASHES, WIDTHS, MARKERS, strict=True))]
    return {name: looks[place[name]] for name in names}


def axes(size: tuple[float, float], *, show: bool) -> Axes:
    """Make a figure that the axes fill."""
    return canvas(size, show=show).add_axes((0, 0, 1, 1))


def canvas(size: tuple[float, float], *, show: bool) -> Figure:
    """Make an empty figure; see :func:`kronax.pl._figure.new_figure`."""
    return new_figure(show=show, figsize=size)


def hand_over(figure: Figure, *, sized: bool, save: str | Path | None, show: bool, return_fig: bool) -> Figure | None:
    """Fit the figure to its labels, unless it is the user's, and save, show and return it."""
    if sized:
        shrink_wrap(figure)
    return save_and_show(figure, save=save, show=show, return_fig=return_fig)


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


def called(var: pd.DataFrame) -> str:
    """Name what the columns of a matrix are: genes, unless the column that readers of 10x files write says otherwise."""
    kinds = var["feature_types"].dropna().unique() if "feature_types" in var else ["Gene Expression"]
    return _KINDS.get(str(kinds[0]), "features") if len(kinds) == 1 else "features"


def short(name: str) -> str:
    """Cut a long name in the middle."""
    head, tail = NAME // 2, NAME - NAME // 2 - 1
    return name if len(name) <= NAME else f"{name[:head]}…{name[-tail:]}"


def wrapped(text: str, inches: float, size: float = TEXT + 1) -> str:
    """Break a text between words, such that no line is longer than this unless a single word is."""
    first, *rest = text.split(" ")
    lines = [first]
    for word in rest:
        if width(longer := f"{lines[-1]} {word}", size) <= inches:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)


def width(text: str, size: float = TEXT) -> float:
    """Measure a line of text, in inches."""
    from matplotlib.textpath import TextPath

    return TextPath((0, 0), text, size=size).get_extents().width / 72


def inches(ax: Axes) -> np.ndarray:
    """Give width and height of the axes."""
    window = ax.get_window_extent()
    return np.array([window.width, window.height]) / ax.figure.dpi


def apart(places: np.ndarray, least: float, length: float) -> np.ndarray:
    """Move ascending places as little as makes them so far apart, within the length if they fit there."""
    from scipy.optimize import isotonic_regression

    steps = least * np.arange(len(places))
    free = length - least * len(places)  # negative where they reach beyond both ends
    starts = isotonic_regression(places - steps).x  # of places that stand together, all the same
    return steps + least / 2 + np.clip(starts - least / 2, min(0, free / 2), max(free, free / 2))


def spaced(places: np.ndarray, least: float) -> np.ndarray:
    """Choose ascending places that are at least so far apart: positions in `places`."""
    chosen: list[int] = []
    for i, place in enumerate(places):
        if not chosen or place - places[chosen[-1]] >= least:
            chosen.append(i)
    return np.array(chosen, int)
