from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from kronax._data import objects
from kronax.pl._canvas import axes, hand_over, plain
from kronax.pl._names import LINE, TEXT, apart, inches, short
from kronax.solvers import checks

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Height = Literal["agreement", "p_value"]
_SIZE = (3.6, 3.0)
_SURE, _UNSURE = "#0072B2", "0.6"
_GAP = 0.04  # between the axes and the names beside them, of the axes' width
_LABEL = {"agreement": "agreement of replicates (mean cosine)", "p_value": "−log₁₀ p"}


def effects(
    adata: AnnData,
    *,
    y: Height = "agreement",
    p_max: float = 0.1,
    n_labels: int = 8,
    ax: Axes | None = None,
    save: str | Path | None = None,
    show: bool = False,
    return_fig: bool = True,
) -> Figure | None:
    """Show how large effects are, and how well their replicates agree: a point for every treatment in every context.

    Full points have a p-value of at most `p_max`, open ones a larger one. The surest are named; of those equally sure, the largest.
    The title counts the effects that have no replicates, and so no point.

    Parameters
    ----------
    adata
        Result of :func:`kronax.pp.effects`.
    y
        ``"agreement"``: mean cosine between the effects of the replicates, 1 − ``acd``. ``"p_value"``: −log₁₀ of the p-value.
    p_max
        Largest p-value of a full point.
    n_labels
        How many effects are named, if there is room for so many.
    ax
        Axes to draw into; if None, a figure is made. Give their figure ``layout="constrained"``.
    save
        File to write, in a folder that is made if need be; its ending chooses the format.
    show
        Open a window. A notebook shows the figure that is returned.
    return_fig
        Return the figure. False spares a notebook a second picture after ``show=True``.

    Returns
    -------
    The figure, None if `return_fig` is False.

    Raises
    ------
    KeyError
        If `adata` has no such columns.
    ValueError
        If no effect has replicates, or a parameter is out of range.

    References
    ----------
    :cite:t:`Hodos2018`, for the average cosine distance and its p-value.

    Examples
    --------
    >>> import kronax as kx
    >>> adata = kx.datasets.screen(n_treatments=12)
    >>> keys = {"treatment_key": "perturbation", "control": "control", "context_key": "cell_line"}
    >>> found = kx.pp.effects(adata, **keys, replicate_key="plate")
    >>> figure = kx.pl.effects(found)
    """
    sized = ax is None
    objects.is_anndata(adata, "the result of kx.pp.effects")
    checks.one_of(y, get_args(Height), "y")
    checks.share(p_max, "p_max")
    checks.integer(n_labels, "n_labels", low=0)
    for key in ("effect_size", "acd", "p_value"):
        objects.key_in(key, adata.obs, "adata.obs", "Pass the result of kx.pp.effects.")
    size, p = adata.obs["effect_size"].to_numpy(float), adata.obs["p_value"].to_numpy(float)
    height = 1.0 - adata.obs["acd"].to_numpy(float) if y == "agreement" else -np.log10(p)
    drawn = np.flatnonzero(np.isfinite(height) & np.isfinite(size))
    if not len(drawn):
        msg = "No effect has replicates that could be compared. Name them in kx.pp.effects with `replicate_key`."
        raise ValueError(msg)
    ax = axes(_SIZE, show=show) if sized else ax
    sure = p[drawn] <= p_max
    look = {"s": 14, "linewidths": 0.8}
    ax.scatter(size[drawn[~sure]], height[drawn[~sure]], facecolors="none", edgecolors=_UNSURE, **look)
    ax.scatter(size[drawn[sure]], height[drawn[sure]], color=_SURE, **look)
    ax.set(xlabel="size (root mean square log₂ fold change)", ylabel=_LABEL[y])
    missing = len(height) - len(drawn)
    title = f"{sure.sum():,} of {len(drawn):,} effects with p ≤ {p_max:g}"
    ax.set_title(title + (f"\n{missing:,} without replicates" if missing else ""), fontsize=TEXT + 1)
    plain(ax)
    named = drawn[np.lexsort((-size[drawn], p[drawn]))][: min(n_labels, int(inches(ax)[1] / LINE))]
    _name_beside(ax, size[named], height[named], short(adata.obs_names[named]))
    return hand_over(ax.figure, sized=sized, save=save, show=show, return_fig=return_fig)


def _name_beside(ax: Axes, x: np.ndarray, y: np.ndarray, names: list[str]) -> None:
    """Write names beside the axes, at the heights of their points as far as there is room, with lines to these."""
    if not names:
        return
    order = np.lexsort((-x, y))
    room = inches(ax)[1]
    low, high = ax.get_ylim()
    places = apart((y[order] - low) / (high - low) * room, LINE, room) / room
    for at, place in zip(order, places, strict=True):
        ax.annotate(
            names[at],
            (x[at], y[at]),
            (1 + _GAP, place),
            xycoords="data",
            textcoords="axes fraction",
            fontsize=TEXT,
            va="center",
            annotation_clip=False,
            parse_math=False,
            arrowprops={
                "arrowstyle": "-",
                "color": "0.7",
                "linewidth": 0.5,
                "shrinkA": 1,
                "shrinkB": 2,
                "relpos": (0.0, 0.5),
            },
        )
