from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from mudata import MuData

from kronax.pl._canvas import axes, hand_over, legend, plain
from kronax.pl._completion import completion_of
from kronax.pl._names import TEXT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIZE = (3.4, 2.2)  # inches


def training(
    mdata: MuData,
    *,
    ax: Axes | None = None,
    save: str | Path | None = None,
    show: bool = False,
    return_fig: bool = True,
) -> Figure | None:
    """Show the loss of the training and of the held-out fibers at every epoch.

    The dotted line marks the chosen epoch, where the held-out fibers' loss was lowest. The factors are trained for as many epochs.

    Parameters
    ----------
    mdata
        With the result of :func:`kronax.tl.complete_tensor` by ``"mf"``, ``"cp"`` or ``"attention_cp"``.
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
    The figure, None if `return_fig` is False. Nothing is written to `mdata`. Losses are in squared units of the scaled values.

    Raises
    ------
    KeyError
        If there is no such result.

    References
    ----------
    :cite:t:`Prechelt1998`, for stopping where held-out data say so.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.skewed_response(n_treatments=40, n_genes=30)
    >>> options = kx.tl.FactorizationOptions(max_epochs=20, patience=20)
    >>> kx.tl.complete_tensor(mdata, method="cp", options=options)
    >>> figure = kx.pl.training(mdata)
    """
    found = completion_of(mdata, "held_out_loss")
    sized = ax is None
    ax = axes(_SIZE, show=show) if sized else ax
    epochs = np.arange(1, len(found["objective"]) + 1)
    ax.plot(epochs, found["objective"], color="#0072B2", label="training")
    if np.isfinite(found["held_out_loss"]).any():
        ax.plot(epochs, found["held_out_loss"], color="#D55E00", label="held-out fibers")
        ax.axvline(found["chosen"]["n_best"], color="0.4", linestyle=":", linewidth=1, label="chosen epoch")
    _scale(ax, np.r_[found["objective"], found["held_out_loss"]])
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss (scaled values squared)")
    ax.tick_params(labelsize=TEXT, which="both")
    plain(ax)
    legend(ax)
    return hand_over(ax.figure, sized=sized, save=save, show=show, return_fig=return_fig)


def _scale(ax: Axes, losses: np.ndarray) -> None:
    """Choose a logarithmic axis if it can be, with plain numbers where these span less than a decade."""
    from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator, ScalarFormatter

    low, high = np.nanmin(losses), np.nanmax(losses)
    ax.set_yscale("log" if low > 0 else "linear")
    if 0 < low and high < 10 * low:
        ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        ax.yaxis.set_major_formatter(ScalarFormatter())
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_minor_formatter(NullFormatter())
