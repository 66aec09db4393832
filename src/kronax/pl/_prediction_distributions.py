from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kronax._data import named, objects
from kronax._data.named import NamedArray
from kronax.metrics._cross_validate import CrossValidation
from kronax.pl._canvas import canvas, hand_over, legend, plain
from kronax.pl._fiber_map import most_first
from kronax.pl._methods import COLORS, DASHED, styles_of
from kronax.pl._names import TEXT, short
from kronax.pl._results import chosen_methods, contexts_of
from kronax.solvers import checks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PANEL = (1.7, 1.3)  # inches
_COLUMNS = 4
_MOST = 40  # panels
_BINS = (8, 60)  # at least and at most
_FINER = 0.65  # lines than in the figures of one panel


def prediction_distributions(
    truth: np.ndarray | NamedArray | CrossValidation,
    predicted: Mapping[str, np.ndarray | NamedArray] | str | Iterable[str] | None = None,
    *,
    contexts: Sequence[str] | None = None,
    save: str | Path | None = None,
    show: bool = False,
    return_fig: bool = True,
) -> Figure | None:
    """Show how predictions are distributed beside the truth, context by context.

    Where predictions crowd around zero and the truth does not, a method tends to the centre. Counts have a logarithmic
    axis, since the large values are few. The axis of values reaches from the smallest to the largest value, predicted or true, but
    not beyond the 99.9th percentile of the true sizes: larger values are in the last bins, and the legend says so. The number
    of bins grows with that of the entries.

    Parameters
    ----------
    truth
        Measured values, treatments × contexts × genes, as from :func:`kronax.get.array`. NaN where not measured. Or the
        result of :func:`kronax.metrics.cross_validate`, for what was held out.
    predicted
        Predictions, of the same shape, by the name of the method; at most seven. NaN where there is no prediction.
        Only entries that neither `truth` nor any method misses are compared. A method without a prediction for any measured
        entry is left out. Of a cross-validation, the methods; all if None.
    contexts
        Names of the contexts. If None, those of `truth` where it has names, else their numbers.
    save
        File to write, in a folder that is made if need be; its ending chooses the format.
    show
        Open a window. A notebook shows the figure that is returned.
    return_fig
        Return the figure. False spares a notebook a second picture after ``show=True``.

    Returns
    -------
    The figure, with a panel for every context that has entries to compare, or the 40 with the most; None if `return_fig` is
    False.

    Raises
    ------
    KeyError
        If the cross-validation has no such method.
    TypeError
        If something else is handed in.
    ValueError
        If the shapes differ, there are no predictions or more than seven, or no entries to compare.

    References
    ----------
    :cite:t:`ToxiTenCompl2025`, Figures 4 and 5.

    Examples
    --------
    >>> import kronax as kx
    >>> import numpy as np
    >>> truth = np.random.default_rng(0).normal(size=(20, 3, 30))
    >>> figure = kx.pl.prediction_distributions(truth, {"half": truth / 2})
    """
    if isinstance(truth, CrossValidation):
        truth, predicted = _held_out(truth, predicted)
    if contexts is None and isinstance(truth, NamedArray):
        contexts = truth.contexts
    if not isinstance(predicted, Mapping):
        msg = f"`predicted` must be a mapping from names of methods to arrays, found {checks.type_of(predicted)}."
        raise TypeError(msg)
    predicted = {name: named.in_order(values, truth) for name, values in predicted.items()}
    truth = objects.array(truth, "truth")
    predicted = {name: objects.array(values, f"predicted[{name!r}]") for name, values in predicted.items()}
    checks.integer(len(predicted), "len(predicted)", low=1, high=len(COLORS))
    if truth.ndim != 3 or any(values.shape != truth.shape for values in predicted.values()):
        shapes = ", ".join(str(values.shape) for values in (truth, *predicted.values()))
        msg = f"All must have the same shape, treatments × contexts × genes; found {shapes}."
        raise ValueError(msg)
    names = list(map(str, range(truth.shape[1]) if contexts is None else contexts))
    if len(names) != truth.shape[1]:
        msg = f"`contexts` names {len(names)} contexts; `truth` has {truth.shape[1]}."
        raise ValueError(msg)
    styles = styles_of(predicted)
    predicted = {name: values for name, values in predicted.items() if not np.isnan(truth + values).all()}
    both = np.logical_and.reduce([~np.isnan(values) for values in (truth, *predicted.values())])
    count = both.sum(axis=(0, 2))
    drawn = np.sort(most_first(count)[: min(_MOST, int((count > 0).sum()))])
    if not predicted or not len(drawn):
        msg = "There is nothing to compare: no entry has both a measured and a predicted value."
        raise ValueError(msg)
    shown = [truth[both], *(values[both] for values in predicted.values())]
    edges = _edges(*shown, n_bins=int(np.clip(2 * np.sqrt(np.median(count[drawn])), *_BINS)))
    labels = dict(zip(predicted, short(named.beside(list(predicted), ["truth"], "method")), strict=True))
    titles = dict(zip(drawn, short([names[c] for c in drawn]), strict=True))
    figure, panels = _panels(len(drawn), show=show)
    for ax, c in zip(panels, drawn, strict=True):
        here = both[:, c]
        ax.stairs(_counts(truth[:, c][here], edges), edges, fill=True, color="0.8", label="truth")
        for name, values in predicted.items():
            line = {**styles[name].line, "linewidth": _FINER * styles[name].width}
            ax.stairs(_counts(values[:, c][here], edges), edges, **line, label=labels[name])
        ax.set_yscale("log")
        ax.set_ylim(bottom=0.5)
        ax.set_title(titles[c], fontsize=TEXT, parse_math=False)
        plain(ax)
    for ax in panels[::_COLUMNS]:
        ax.set_ylabel("entries")
    for ax in panels[-min(_COLUMNS, len(panels)) :]:
        ax.set_xlabel("value")
    n_with = int((count > 0).sum())
    notes = [f"{len(drawn)} of {n_with} contexts,\nthose with the most entries"] if len(drawn) < n_with else []
    if any(values.min() < edges[0] or values.max() > edges[-1] for values in shown):
        notes.append("last bins: all values beyond")
    place = panels[min(_COLUMNS, len(panels)) - 1]
    legend(place, title="\n".join(notes) or None, handlelength=DASHED)
    return hand_over(figure, sized=True, save=save, show=show, return_fig=return_fig)


def _held_out(result: CrossValidation, methods: str | Iterable[str] | None) -> tuple[NamedArray, dict[str, NamedArray]]:
    """Return the held-out values, and the predictions of the methods."""
    methods = styles_of(chosen_methods(result, methods), "predicted")
    truth, *predicted = (_arranged(result, method) for method in (None, *methods))
    return truth, dict(zip(methods, predicted, strict=True))


def _arranged(result: CrossValidation, method: str | None) -> NamedArray:
    """Return held-out values, or predictions of them, with contexts in the order of all figures."""
    found, contexts = named.of_held_out(result.profiles, method), contexts_of(result).index
    values = found.values[:, found.contexts.get_indexer(contexts)]
    return replace(found, values=values, contexts=contexts)


def _edges(truth: np.ndarray, *others: np.ndarray, n_bins: int) -> np.ndarray:
    """Return the limits of bins over the range of all values, cut at the 99.9% quantile of the true sizes."""
    reach = np.quantile(np.abs(truth), 0.999)
    low = max(-reach, min(values.min() for values in (truth, *others)))
    high = min(reach, max(values.max() for values in (truth, *others)))
    return np.linspace(low, high, n_bins + 1) if low < high else np.linspace(low - 1, low + 1, n_bins + 1)


def _counts(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]


def _panels(n: int, *, show: bool) -> tuple[Figure, list[Axes]]:
    """Make a figure with so many panels, row by row."""
    n_columns = min(n, _COLUMNS)
    n_rows = -(-n // n_columns)
    wide, high = _PANEL[0] + 0.45, _PANEL[1] + 0.5
    size = n_columns * wide, n_rows * high
    figure = canvas(size, show=show)
    panels = []
    for i in range(n):
        row, column = divmod(i, n_columns)
        corner = column * wide / size[0], 1 - (row * high + _PANEL[1]) / size[1]
        panels.append(figure.add_axes((*corner, _PANEL[0] / size[0], _PANEL[1] / size[1])))
    return figure, panels
