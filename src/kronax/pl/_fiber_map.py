"""A map of treatments × contexts, those with the most measured fibers first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kronax.pl._canvas import LINE, MOST_NAMES, TEXT, axes, inches, legend, short, spaced, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LARGEST = 6.0  # inches of an axis without names
_SMALLEST = 0.8  # of any, such that its label's longest word fits


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
) -> Axes:
    """Draw codes ``(D, C)``, positions in `colors`, as fields; the axes say how many fibers were measured.

    Treatments and contexts are sorted by how many of their fibers were measured.
    """
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    rows = np.argsort(-per_treatment, kind="stable")
    cols = np.argsort(-per_context, kind="stable")
    ax = axes((_length(len(cols), 0.3), _length(len(rows), LINE)), show=show) if ax is None else ax
    ax.pcolormesh(
        code[np.ix_(rows, cols)],
        cmap=ListedColormap(list(colors.values())),
        vmin=-0.5,
        vmax=len(colors) - 0.5,
        edgecolors="white" if max(code.shape) <= MOST_NAMES else "none",
        linewidth=0.4,
        rasterized=True,
    )
    ax.invert_yaxis()
    ax.spines[:].set_visible(False)
    ax.tick_params(length=2)
    _label(ax, "y", [treatments[i] for i in rows], per_treatment[rows], "treatments", "contexts")
    _label(ax, "x", [contexts[i] for i in cols], per_context[cols], "contexts", "treatments")
    legend(ax, handles=[Patch(color=color, label=name) for name, color in colors.items()])
    return ax


def _length(n: int, field: float) -> float:
    """Give the inches of an axis with so many fields."""
    return max(n * field, _SMALLEST) if n <= MOST_NAMES else _LARGEST


def _label(ax: Axes, which: str, names: list[str], counts: np.ndarray, what: str, of: str) -> None:
    """Write names and counts where there is room, else counts alone, where they change."""
    axis = ax.yaxis if which == "y" else ax.xaxis
    room = inches(ax)[1 if which == "y" else 0]
    if len(names) <= MOST_NAMES:
        texts = [f"{short(str(name))} ({n})" for name, n in zip(names, counts, strict=True)]
        slant = {} if which == "y" else {"rotation": 90}
        axis.set_ticks(np.arange(len(names)) + 0.5, texts, fontsize=TEXT, parse_math=False, **slant)
        axis.set_label_text(wrapped(f"{what} (number of {of})", room), fontsize=TEXT + 1)
        return
    first = np.flatnonzero(np.diff(counts, prepend=counts[0] + 1))
    least = 1.3 * LINE if which == "y" else 3 * LINE
    kept = first[spaced(first * room / len(names), least)]
    axis.set_ticks(kept, [str(n) for n in counts[kept]], fontsize=TEXT)
    axis.set_label_text(wrapped(f"{len(names)} {what}, by their number of {of}", room), fontsize=TEXT + 1)
