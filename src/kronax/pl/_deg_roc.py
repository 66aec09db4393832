from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kronax.metrics._cross_validate import CrossValidation
from kronax.metrics._tensor_scores import deg_labels
from kronax.pl._canvas import axes, hand_over, legend, plain
from kronax.pl._methods import DASHED, styles_of
from kronax.pl._names import short
from kronax.pl._results import chosen_methods

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_POINTS = 500  # of a curve


def deg_roc(
    result: CrossValidation,
    *,
    methods: str | Iterable[str] | None = None,
    top: float = 0.01,
    ax: Axes | None = None,
    save: str | Path | None = None,
    show: bool = False,
    return_fig: bool = True,
) -> Figure | None:
    """Show how well predicted profiles tell which genes are differentially expressed, as ROC curves.

    See :func:`kronax.metrics.deg_auc` for what is called differentially expressed. The legend gives the areas under the
    curves. A method without predictions has none.

    Parameters
    ----------
    result
        Of :func:`kronax.metrics.cross_validate`.
    methods
        Those to compare, at most 7; all if None.
    top
        Share of a profile's genes that is called differentially expressed.
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
        If `result` is not that of a cross-validation.
    ValueError
        If there are more than 7 methods, `top` is not between 0 and 1, or no method predicted anything.

    References
    ----------
    :cite:t:`Hodos2018`, Fig. 3D.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=50)
    >>> result = kx.metrics.cross_validate(mdata, methods=["dnpp", "mean_1d"], n_folds=4)
    >>> figure = kx.pl.deg_roc(result, top=0.1)
    """
    from sklearn.metrics import auc, roc_curve

    sized = ax is None
    styles = styles_of(chosen_methods(result, methods))
    ax = axes((3.2, 3.2), show=show) if sized else ax
    ax.plot([0, 1], [0, 1], color="0.7", linestyle="--", linewidth=1)
    drawn = False
    for method, shown, style in zip(styles, short(styles), styles.values(), strict=True):
        label, score = deg_labels(result.profiles.X, result.profiles.layers[method], top=top)
        if not 0 < label.sum() < len(label):
            continue
        drawn = True
        false, true, _ = roc_curve(label, score)
        at = np.unique(np.linspace(0, len(false) - 1, _POINTS).astype(int))
        name = f"{shown} ({auc(false, true):.2f})"
        ax.plot(false[at], true[at], **style.line, label=name)
    if not drawn:
        msg = "There is no curve to draw: all measured values are 0, or no method predicted anything."
        raise ValueError(msg)
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    ax.set(xlabel="false positive rate", ylabel="true positive rate")
    plain(ax)
    title = f"top {100 * top:g}% of genes (AUC)"
    legend(ax, title=title, handlelength=DASHED)
    return hand_over(ax.figure, sized=sized, save=save, show=show, return_fig=return_fig)
