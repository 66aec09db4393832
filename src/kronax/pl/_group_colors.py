"""The colours that scanpy has given to groups, beside what is drawn of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from kronax._data import labels
from kronax._logging import warn

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def group_colors(uns: Mapping, groupby: str, column: pd.Series, group_of: pd.Categorical) -> list[str] | None:
    """Find the groups' colours, which stand in the order of all categories, used or not; None without a colour for each."""
    from matplotlib.colors import to_hex

    key = f"{groupby}_colors"
    stored = uns.get(key)
    names = [str(name) for name in pd.Categorical(labels.series(column)).categories]
    if stored is None or len(stored) < len(names):
        return None
    try:
        of = dict(zip(names, map(to_hex, stored), strict=False))
    except ValueError:
        msg = (
            f"`uns[{key!r}]` holds something that matplotlib does not know as a colour for each group, found "
            f"{list(stored)[:3]}; the groups' colours are left out. Store names or hexadecimal codes."
        )
        warn(msg)
        return None
    return [of[name] for name in group_of.categories]


def draw_strip(
    ax: Axes, which: Literal["x", "y"], colors: list[str], bounds: np.ndarray, *, gap: float, wide: float
) -> None:
    """Draw the groups' colours along an axis, outside of the axes.

    `bounds` are shares of the axis, from its start in the data; `gap` and `wide` are shares of the other axis.
    """
    from matplotlib.patches import Rectangle

    for color, low, high in zip(colors, bounds, bounds[1:], strict=False):
        corner, size = (
            ((low, -gap - wide), (high - low, wide)) if which == "x" else ((-gap - wide, 1 - high), (wide, high - low))
        )
        style = {"clip_on": False, "facecolor": color, "linewidth": 0}
        ax.add_patch(Rectangle(corner, *size, transform=ax.transAxes, **style))
