"""A map of treatments × contexts, those with the most measured fibers first."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np

from kronax.pl._canvas import axes, bare, ink, legend, length
from kronax.pl._names import LINE, MOST_NAMES, TEXT, inches, name_fields, one_in, short, spaced, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NAMED_IN_PART = 2  # one name in so many is enough, of more than MOST_NAMES
_SMALLEST = 0.8  # inches of an axis, such that its label's longest word fits
_MARKED = 0.1  # inches of a field that has room for a marker
_MARKER = 0.4  # size of markers, share of the field's side


def draw_map(
    code: np.ndarray,
    colors: dict[str, str],
    *,
    treatments: list[str],
    contexts: list[str],
    per_treatment: np.ndarray,
    per_context: np.ndarray,
    ax: Axes | None,
    show: bool,
    markers: Mapping[str, str] = MappingProxyType({}),
) -> Axes:
    """Draw codes ``(D, C)``, positions in `colors`, as fields; the axes say how many fibers were measured.

    Treatments and contexts are sorted by how many of their fibers were measured. `markers` tell fields apart where colours do
    not, if there is room for them.
    """
    from matplotlib.colors import ListedColormap

    rows, cols = most_first(per_treatment), most_first(per_context)
    ax = axes((_length(len(cols), 0.3), _length(len(rows), LINE)), show=show) if ax is None else ax
    code = code[np.ix_(rows, cols)]
    ax.pcolormesh(
        code,
        cmap=ListedColormap(list(colors.values())),
        vmin=-0.5,
        vmax=len(colors) - 0.5,
        edgecolors="white" if max(code.shape) <= MOST_NAMES else "none",
        linewidth=0.4,
        rasterized=True,
    )
    ax.invert_yaxis()
    bare(ax)
    ax.tick_params(length=2)
    legend(ax, handles=_handles(colors, markers), labels=list(colors))
    treatments, contexts = short([treatments[i] for i in rows]), short([contexts[i] for i in cols])
    for _ in range(2):  # names below may leave less room for those on the left
        _label(ax, "y", treatments, per_treatment[rows], "treatments", "contexts")
        _label(ax, "x", contexts, per_context[cols], "contexts", "treatments")
    field = (inches(ax) / code.shape[::-1]).min()
    if field >= _MARKED:
        _mark(ax, code, colors, markers, 72 * _MARKER * min(field, LINE))
    return ax


def most_first(counts: np.ndarray) -> np.ndarray:
    """Return the order of treatments, or of contexts, in every figure: by how many of their fibers were measured, the most first."""
    return np.argsort(-np.asarray(counts), kind="stable")


def _handles(colors: dict[str, str], markers: Mapping[str, str]) -> list:
    """Return the legend's fields, with their markers upon them."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    style = {"linestyle": "none", "markeredgewidth": 0, "markersize": 72 * _MARKER * LINE}
    return [
        (Patch(color=color), Line2D([], [], marker=markers.get(name, "none"), color=ink(color), **style))
        for name, color in colors.items()
    ]


def _mark(ax: Axes, code: np.ndarray, colors: dict[str, str], markers: Mapping[str, str], size: float) -> None:
    for i, (name, color) in enumerate(colors.items()):
        if name in markers:
            y, x = np.nonzero(code == i)
            ax.plot(x + 0.5, y + 0.5, markers[name], color=ink(color), markersize=size, markeredgewidth=0)


def _length(n: int, field: float) -> float:
    """Return the length, in inches, of an axis with so many fields."""
    return max(length(n, field), _SMALLEST)


def _label(ax: Axes, which: Literal["x", "y"], names: list[str], counts: np.ndarray, what: str, of: str) -> None:
    """Write names and counts where there is room for all, or for every second; else counts alone, where they change."""
    axis = ax.yaxis if which == "y" else ax.xaxis
    texts = [f"{name} ({n})" for name, n in zip(names, counts, strict=True)]
    if len(names) <= _NAMED_IN_PART * MOST_NAMES:
        step = name_fields(ax, which, texts, rotation=0 if which == "y" else 90)
        if step <= (1 if len(names) <= MOST_NAMES else _NAMED_IN_PART):
            room = inches(ax)["xy".index(which)]
            axis.set_label_text(wrapped(f"{what} (number of {of}){one_in(step)}", room), fontsize=TEXT + 1)
            return
    room = inches(ax)["xy".index(which)]
    first = np.flatnonzero(np.diff(counts, prepend=counts[0] + 1))
    least = 1.3 * LINE if which == "y" else 3 * LINE
    kept = first[spaced(first * room / len(names), least)]
    axis.set_ticks(kept, [str(n) for n in counts[kept]], fontsize=TEXT, rotation=0)
    axis.set_label_text(wrapped(f"{len(names)} {what}, by their number of {of}", room), fontsize=TEXT + 1)
