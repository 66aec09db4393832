"""How a method of completion is drawn, in every figure: its colour, line and marker."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# Okabe and Ito's colours, with an indigo for the yellow, which is hard to see on white, and the black, kept for the truth
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#332288")
MARKERS = "osD^vPX"
# Each line is drawn over those before it, which show in its gaps or, where it is narrower, beside it.
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
        """The options of a line for matplotlib."""
        return {"color": self.color, "linestyle": self.dashes, "linewidth": self.width, "zorder": self.layer}


def styles_of(names: Iterable[str], argument: str = "methods") -> dict[str, Style]:
    """Choose a colour and a line for every method: kronax's own always the same, the others from those that are left.

    ``argument`` is the option that selects methods; the error about too many names it.
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
