"""What the figures of tensors share: axes of a given size, colours, names, and how a figure is handed over."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kronax.pl._figure import new_figure, save_and_show, shrink_wrap

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.figure import Figure

TEXT = 8  # points
LINE = 1.6 * TEXT / 72  # inches between the lines of a text
MOST_NAMES = 60  # along an axis; beyond, counts stand there
LARGEST = MOST_NAMES * LINE  # inches of an axis with fields, at most
NAME = 30  # characters of a name before it is cut
_HEAD, _MIDDLE, _TAIL = 7, 14, 6  # characters kept of one that is cut twice
_HANDLE = 2.0  # length of the legend's handles in font sizes, whatever the user's style says
_BAR = (0.12, 0.9, 1.8)  # width of a colour bar, and its least and largest height, inches

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
    figure = whole(figure)
    if sized:
        shrink_wrap(figure)
    cut_off = not sized and figure.get_layout_engine() is None
    return save_and_show(figure, save=save, show=show, return_fig=return_fig, tight=cut_off)


def whole(figure: Figure) -> Figure:
    """Give the figure that a subfigure is part of."""
    return figure.canvas.figure


def legend(ax: Axes, **arguments) -> None:
    """Put the legend beside the axes, where it hides nothing, or at another place that is named."""
    style = {"loc": "upper left", "bbox_to_anchor": (1.02, 1), "borderaxespad": 0, "handlelength": _HANDLE}
    look = {"frameon": False, "fontsize": TEXT, "title_fontsize": TEXT, "alignment": "left"}
    found = ax.legend(**{**style, **look, **arguments})
    for text in found.get_texts():
        text.set_parse_math(False)


def plain(ax: Axes) -> None:
    """Leave out what is no data: two of the spines, large labels."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=TEXT)
    ax.xaxis.label.set_size(TEXT + 1)
    ax.yaxis.label.set_size(TEXT + 1)


def bare(ax: Axes) -> None:
    """Leave out of a map what would lie upon its fields or around them, whatever the user's style says."""
    ax.grid(visible=False, which="both")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, which="both")


def ink(background: str | tuple[float, ...]) -> str:
    """Give the colour that is seen best upon another one: black, or white where that is dark."""
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


def called(var: pd.DataFrame) -> str:
    """Name what the columns of a matrix are: genes, unless the column that readers of 10x files write says otherwise."""
    kinds = var["feature_types"].dropna().unique() if "feature_types" in var else ["Gene Expression"]
    return _KINDS.get(str(kinds[0]), "features") if len(kinds) == 1 else "features"


def short(names: Iterable[str]) -> list[str]:
    """Cut long names, different ones such that they stay so: in the middle, or around what tells them from others."""
    names = list(names)
    labels = {name: name if len(name) <= NAME else _cut(name) for name in names}
    for alike in _alike(labels):
        labels |= _told_apart([name for name in alike if len(name) > NAME])
    for alike in _alike(labels):
        labels |= {name: name for name in alike}
    return [labels[name] for name in names]


def _cut(name: str) -> str:
    return f"{name[: NAME // 2]}…{name[NAME // 2 + 1 - NAME :]}"


def _alike(labels: dict[str, str]) -> list[list[str]]:
    """Collect the names that have the same label."""
    having: dict[str, list[str]] = {}
    for name, label in labels.items():
        having.setdefault(label, []).append(name)
    return [names for names in having.values() if len(names) > 1]


def _told_apart(names: list[str]) -> dict[str, str]:
    """Cut long names before and after the first stretch in which they differ; those still alike, further on."""
    start = len(os.path.commonprefix(names)) - 1
    labels = {}
    for name in names:
        rest = len(name) - start - _MIDDLE
        end = f"{name[start : start + _MIDDLE]}…{name[-_TAIL:]}" if rest > _TAIL else name[-_MIDDLE - _TAIL - 2 :]
        labels[name] = f"{name[:_HEAD]}…{end}"
    for alike in _alike(labels):
        labels |= _told_apart(alike) if len(alike) < len(names) else {name: name for name in alike}
    return labels


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
    """Measure a line of text as it is drawn, without mathematics between dollar signs; in inches."""
    from matplotlib.textpath import TextPath

    if not text.strip():
        return 0.0
    return np.ptp(TextPath((0, 0), text.replace("$", r"\$"), size=size).vertices[:, 0]) / 72


def inches(ax: Axes) -> np.ndarray:
    """Give width and height of the axes as they will be drawn: laid out, and of the shape that they keep."""
    figure = whole(ax.figure)
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
    ax.apply_aspect()
    window = ax.get_window_extent()
    return np.array([window.width, window.height]) / figure.dpi


def length(n: int, field: float) -> float:
    """Give the inches of an axis with so many fields."""
    return min(n * field, LARGEST)


def name_fields(ax: Axes, which: Literal["x", "y"], names: list[str], *, least: float = LINE, **style) -> int:
    """Name the fields along an axis, all or one in so many, which is returned: as many as have room."""
    axis = ax.xaxis if which == "x" else ax.yaxis
    places = np.arange(len(names)) + 0.5
    for _ in range(2):  # a layout engine may make the axes smaller, to make room for the names
        room = inches(ax)["xy".index(which)]
        step = max(1, int(np.ceil(least * len(names) / room - 1e-6)))
        axis.set_ticks(places[::step], names[::step], fontsize=TEXT, parse_math=False, **style)
    return step


def one_in(step: int) -> str:
    """Say how many fields are named."""
    return f", 1 in {step} named" if step > 1 else ""


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
