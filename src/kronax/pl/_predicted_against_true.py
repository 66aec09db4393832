from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kronax.metrics._cross_validate import CrossValidation
from kronax.pl._canvas import axes, color_bar, hand_over, plain
from kronax.pl._names import TEXT, short
from kronax.pl._results import is_cross_validation
from kronax.solvers import checks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TAIL = 0.001  # share of the values at either end that may lie far out
_FURTHER = 0.5  # how far the axes reach beyond the others, in their range
_RIM = 0.03  # beyond the largest value, in the axes' range


def predicted_against_true(
    result: CrossValidation,
    *,
    method: str | None = None,
    ax: Axes | None = None,
    save: str | Path | None = None,
    show: bool = False,
    return_fig: bool = True,
) -> Figure | None:
    """Show all held-out values against their predictions, as a density.

    The dashed line is where they are equal; the full one is the regression of measured on predicted values, whose slope
    is the calibration slope. Both axes have the same ends. A few extreme values do not stretch them: those that lie
    beyond the other 99.8% by more than half the range of these are drawn at the edge, and counted in the title.

    Parameters
    ----------
    result
        Of :func:`kronax.metrics.cross_validate`.
    method
        Whose predictions; if None, those of the method with the largest correlation.
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
        If there is no such method.
    TypeError
        If `result` is not that of a cross-validation.
    ValueError
        If the method predicted nothing.

    References
    ----------
    :cite:t:`Hodos2018`, Fig. 3A.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=50)
    >>> result = kx.metrics.cross_validate(mdata, methods=["dnpp", "mean_1d"], n_folds=4)
    >>> figure = kx.pl.predicted_against_true(result, method="dnpp")
    """
    sized = ax is None
    is_cross_validation(result)
    if method is None:
        method = result.table["pct"].fillna(-np.inf).idxmax()
    checks.known(method, result.methods, "method")
    truth, predicted = result.profiles.X, result.profiles.layers[method]
    both = ~(np.isnan(truth) | np.isnan(predicted))
    if not both.any():
        msg = f"{method} predicted none of the held-out fibers."
        raise ValueError(msg)
    truth, predicted = truth[both], predicted[both]
    ax = axes((3.2, 3.2), show=show) if sized else ax
    low, high = _range(truth, predicted)
    rim = _RIM * (high - low)
    ends = low - rim, high + rim
    beyond = (np.minimum(truth, predicted) < low) | (np.maximum(truth, predicted) > high)
    image = ax.hexbin(
        *(np.clip(predicted, low, high), np.clip(truth, low, high)),
        gridsize=70,
        bins="log",
        extent=(*ends, *ends),
        cmap="cividis",
        linewidths=0,
    )
    image.set_rasterized(True)
    row = result.table.loc[method]
    ax.plot(ends, ends, color="0.35", linestyle="--", linewidth=1)
    slope = row["calibration_slope"]
    if np.isfinite(slope):
        x = np.clip([predicted.min(), predicted.max()], low, high)
        ax.plot(x, truth.mean() + slope * (x - predicted.mean()), color="#D55E00", linewidth=1.5)
    ax.set(xlim=ends, ylim=ends, xlabel="predicted", ylabel="measured", aspect="equal")
    text = f"{short([method])[0]}\ncorrelation {row['pct']:.2f}, slope {slope:.2f}"
    if beyond.any():
        text += f"\n{beyond.sum():,} of {len(truth):,} values beyond, drawn at the edges"
    ax.set_title(text, fontsize=TEXT + 1, parse_math=False)
    plain(ax)
    ax.grid(visible=False, which="both")
    place = {"cax": ax.figure.add_axes((1.04, 0.25, 0.035, 0.5))} if sized else {"shrink": 0.5}
    color_bar(ax, image, "number of values", **place)
    return hand_over(ax.figure, sized=sized, save=save, show=show, return_fig=return_fig)


def _range(*values: np.ndarray) -> tuple[float, float]:
    """Find where the values lie, but for a few far out."""
    tail = min(max(_TAIL, 2 / len(values[0])), 0.25)
    low = min(np.quantile(x, tail) for x in values)
    high = max(np.quantile(x, 1 - tail) for x in values)
    further = _FURTHER * (high - low)
    low, high = max(low - further, min(map(np.min, values))), min(high + further, max(map(np.max, values)))
    return (low, high) if low < high else (low - 1.0, high + 1.0)
