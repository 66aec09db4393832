"""Names of fields: cut so that they stay different, and as many as there is room for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import numpy as np

from kronax.pl._figure import whole

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

TEXT = 8  # points
LINE = 1.6 * TEXT / 72  # inches between the lines of a text
COLUMN = 0.36  # inches of a column of a heat map
MOST_NAMES = 60  # along an axis; beyond, counts stand there
NAME = 30  # characters of a name before it is cut
_FEW = 3  # characters that a column has room for
_SLANTED = 1.5 * LINE  # between columns with slanted names, inches
_HEAD, _MIDDLE, _TAIL = 7, 14, 6  # characters kept of one that is cut twice
_KINDS = {"Gene Expression": "genes", "Antibody Capture": "proteins", "Peaks": "peaks"}


def called(var: pd.DataFrame) -> str:
    """Return what the columns of a matrix are: genes, unless the column from readers of 10x files says otherwise."""
    kinds = var["feature_types"].dropna().unique() if "feature_types" in var else ["Gene Expression"]
    return _KINDS.get(str(kinds[0]), "features") if len(kinds) == 1 else "features"


def short(names: Iterable[str]) -> list[str]:
    """Cut long names so that different ones stay different: in the middle, or around the part that differs.

    A blank goes before an underscore, with which a name would be left out of legends.
    """
    names = list(names)
    labels = {name: name if len(name) <= NAME else _cut(name) for name in names}
    for alike in _alike(labels):
        labels |= _told_apart([name for name in alike if len(name) > NAME])
    for alike in _alike(labels):
        labels |= {name: name for name in alike}
    return [f" {label}" if label.startswith("_") else label for label in map(labels.__getitem__, names)]


def _cut(name: str) -> str:
    return f"{name[: NAME // 2]}…{name[NAME // 2 + 1 - NAME :]}"


def _alike(labels: dict[str, str]) -> list[list[str]]:
    """Collect the names that have the same label."""
    having: dict[str, list[str]] = {}
    for name, label in labels.items():
        having.setdefault(label, []).append(name)
    return [names for names in having.values() if len(names) > 1]


def _told_apart(names: list[str]) -> dict[str, str]:
    """Cut long names before and after the first part in which they differ; if still alike, at a later one."""
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
    """Measure width and height of the axes, in inches, after layout and with a fixed aspect applied."""
    figure = whole(ax.figure)
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
    ax.apply_aspect()
    window = ax.get_window_extent()
    return np.array([window.width, window.height]) / figure.dpi


def name_fields(ax: Axes, which: Literal["x", "y"], names: list[str], *, least: float = LINE, **style) -> int:
    """Name the fields along an axis, as many as there is room for; return n if one in n is named."""
    axis = ax.xaxis if which == "x" else ax.yaxis
    places = np.arange(len(names)) + 0.5
    for _ in range(2):  # a layout engine may make the axes smaller, to make room for the names
        room = inches(ax)["xy".index(which)]
        step = max(1, int(np.ceil(least * len(names) / room - 1e-6)))
        axis.set_ticks(places[::step], names[::step], fontsize=TEXT, parse_math=False, **style)
    return step


def name_columns(ax: Axes, names: list[str]) -> int:
    """Name the fields of the x axis: level if all names are short, else slanted, or upright where that takes less room."""
    field = inches(ax)[0] / len(names)
    if max(map(len, names)) <= _FEW and field >= COLUMN * (1 - 1e-6):
        return name_fields(ax, "x", names, rotation=0)
    if field >= _SLANTED:
        return name_fields(ax, "x", names, rotation=45, ha="right", rotation_mode="anchor")
    return name_fields(ax, "x", names, rotation=90, ha="center", rotation_mode="default")


def one_in(step: int) -> str:
    """Return a remark on how many fields are named; empty if all are."""
    return f", 1 in {step} named" if step > 1 else ""


def apart(places: np.ndarray, least: float, length: float) -> np.ndarray:
    """Move ascending places as little as possible to be this far apart, within the length if they fit."""
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
