from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kronax._data.named import beside
from kronax.metrics._cross_validate import CrossValidation
from kronax.pl._canvas import hand_over
from kronax.pl._fiber_map import draw_map
from kronax.pl._methods import styles_of
from kronax.pl._names import short
from kronax.pl._results import chosen_methods

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TIE, _UNDEFINED, _NOT_HELD_OUT = "#111111", "#C6C6C6", "#F2F2F2"  # the colour-blind see no method like these
_ROUNDING = 1e-9  # between correlations of the same prediction


def best_method(
    result: CrossValidation,
    *,
    methods: str | Iterable[str] | None = None,
    ax: Axes | None = None,
    save: str | Path | None = None,
    show: bool = False,
    return_fig: bool = True,
) -> Figure | None:
    """Show which method predicted each fiber best.

    The best method has the largest correlation with the measured profile. If several reach it, for example because all fall
    back to the same mean, there is a tie. Treatments with the most measured contexts are at the top, contexts with the most
    measured treatments on the left, so most is known at the top left. The legend gives the share of the fibers in which each
    method alone was the best, and the share of ties. Treatments without a held-out fiber are left out. If fields have room,
    each method also has the marker that it has in other figures.

    Parameters
    ----------
    result
        Of :func:`kronax.metrics.cross_validate`.
    methods
        Those to compare, at most 7; all if None.
    ax
        Axes to draw into; if None, a figure is made whose size fits. Give their figure ``layout="constrained"``, which
        makes room for the labels.
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
        If there are more than 7 methods, or no correlation is defined.

    References
    ----------
    :cite:t:`Hodos2018`, Fig. 3B.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=50)
    >>> result = kx.metrics.cross_validate(mdata, methods=["dnpp", "mean_1d"], n_folds=4)
    >>> figure = kx.pl.best_method(result)
    """
    sized = ax is None
    styles = styles_of(chosen_methods(result, methods))
    colors = {method: style.color for method, style in styles.items()}
    correlation = result.fibers[list(colors)].to_numpy()
    defined = ~np.isnan(correlation).all(axis=1)
    if not defined.any():
        msg = "No fiber has a correlation with its prediction: its values, or the predictions, are all alike."
        raise ValueError(msg)
    correlation = np.where(np.isnan(correlation), -np.inf, correlation)[defined]
    reached = correlation >= correlation.max(axis=1, keepdims=True) - _ROUNDING
    tie, undefined, not_held_out = range(len(colors), len(colors) + 3)
    best = np.where(reached.sum(axis=1) > 1, tie, reached.argmax(axis=1))
    obs = result.profiles.obs
    per_treatment = obs.groupby("treatment", observed=True)["n_contexts"].first()
    per_context = obs.groupby("context", observed=True)["n_treatments"].first()
    rows, cols = per_treatment.index.get_indexer(obs["treatment"]), per_context.index.get_indexer(obs["context"])
    code = np.full((len(per_treatment), len(per_context)), not_held_out)
    code[rows, cols] = undefined
    code[rows[defined], cols[defined]] = best
    share = np.bincount(best, minlength=undefined) / len(best)
    labels = [
        f"{name} ({part:.0%})"
        for name, part in zip([*short(beside(list(colors), ["tie"], "method")), "tie"], share, strict=True)
    ]
    named = dict(zip(labels, [*colors.values(), _TIE], strict=True))
    named |= {"no correlation": _UNDEFINED, "not held out": _NOT_HELD_OUT}
    shown = [i for i in range(len(named)) if i < tie or (code == i).any()]
    ax = draw_map(
        np.searchsorted(shown, code),
        {name: color for i, (name, color) in enumerate(named.items()) if i in shown},
        treatments=list(per_treatment.index),
        contexts=list(per_context.index),
        per_treatment=per_treatment.to_numpy(),
        per_context=per_context.to_numpy(),
        ax=ax,
        show=show,
        markers=dict(zip(labels, [style.marker for style in styles.values()], strict=False)),
    )
    return hand_over(ax.figure, sized=sized, save=save, show=show, return_fig=return_fig)
