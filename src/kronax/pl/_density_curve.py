from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kronax._data import objects
from kronax.metrics._density_curve import DensityCurve
from kronax.pl._canvas import axes, hand_over, legend, plain
from kronax.pl._methods import DASHED, styles_of
from kronax.pl._names import short
from kronax.pl._results import chosen_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CAP, _WIDER = 2.0, 1.1  # of the first method's error bars, and how much wider each further one's are, points
_MOST_TICKS = 8


def density_curve(
    curve: DensityCurve,
    *,
    methods: str | Iterable[str] | None = None,
    ax: Axes | None = None,
    save: str | Path | None = None,
    show: bool = False,
    return_fig: bool = True,
) -> Figure | None:
    """Show how accuracy depends on the share of fibers that were measured.

    Error bars are one standard deviation over repeats. The ends are wider for each further method, so that all
    can be seen where they overlap.

    Parameters
    ----------
    curve
        Of :func:`kronax.metrics.density_curve`.
    methods
        Those to compare, at most 7; all if None.
    ax
        Axes to draw into; if None, a figure is made. Give their figure ``layout="constrained"``, which makes room for the
        legend on the right.
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
        If `curve` is something else.
    ValueError
        If there are more than 7 methods.

    References
    ----------
    :cite:t:`Hodos2018`, Fig. 3C.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=5, n_genes=50, missing=0.1)
    >>> curve = kx.metrics.density_curve(mdata, methods=["mean_1d", "mean_2d"], densities=[0.2, 0.4, 0.6])
    >>> figure = kx.pl.density_curve(curve)
    """
    objects.result_of(curve, DensityCurve, "kx.metrics.density_curve")
    sized = ax is None
    summary = curve.summary
    styles = styles_of(chosen_of(list(summary.index.unique("method")), methods))
    ax = axes((4.0, 3.0), show=show) if sized else ax
    densities = 100 * np.unique(summary.index.get_level_values("density"))
    for i, (method, label, style) in enumerate(zip(styles, short(styles), styles.values(), strict=True)):
        found = summary.loc[method]
        ax.errorbar(
            *(100 * found.index.to_numpy(), found["mean"].to_numpy()),
            yerr=found["std"].fillna(0).to_numpy(),
            **style.line,
            marker=style.marker,
            markersize=4,
            elinewidth=0.8,
            capsize=_CAP + i * _WIDER,
            label=label,
        )
    if len(densities) <= _MOST_TICKS:
        ax.set_xticks(densities, [f"{density:.3g}" for density in densities])
    ax.set(xlabel="fibers in training, % of the tensor", ylabel="correlation with the truth")
    plain(ax)
    legend(ax, title="mean ± 1 SD of repeats", handlelength=DASHED)
    return hand_over(ax.figure, sized=sized, save=save, show=show, return_fig=return_fig)
