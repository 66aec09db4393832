from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage

from kronax.metrics._cross_validate import CrossValidation
from kronax.pl._canvas import LARGEST, bare, beside, canvas, color_bar, hand_over
from kronax.pl._fiber_map import most_first
from kronax.pl._names import LINE, MOST_NAMES, TEXT, name_fields, one_in, short, width, wrapped
from kronax.pl._results import chosen_methods
from kronax.solvers import checks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GAP = 0.15  # between heat maps, inches
_HEIGHT = 4.0  # inches, where genes have no names
_SMALLEST = 1.2  # that the genes' label is given, inches
_UNNAMED = 0.03  # inches of a context, where there are too many to name all


def treatment_profiles(
    result: CrossValidation,
    treatment: str,
    *,
    methods: Iterable[str] | None = None,
    n_genes: int = 100,
    save: str | Path | None = None,
    show: bool = False,
    return_fig: bool = True,
) -> Figure | None:
    """Show the measured profiles of a treatment beside those that each method predicted without having seen them.

    Genes are in the same order everywhere, that of a hierarchical clustering of the measured profiles; contexts are in that of
    :func:`kronax.pl.measured_fibers`, those with the most measured treatments first. Red is up, blue is down; the colours of all heat
    maps have the same scale. If there is no room for all contexts' names, every second, third, … is shown.

    Parameters
    ----------
    result
        Of :func:`kronax.metrics.cross_validate`.
    treatment
        Which one.
    methods
        Whose predictions; those of all if None.
    n_genes
        Genes with the largest mean absolute value in the measured profiles. Of more than 60, the largest are named, as many as there
        is room for, and the label says how they were chosen.
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
        If there is no such treatment or method.
    TypeError
        If `result` is not that of a cross-validation.
    ValueError
        If none of the treatment's fibers was held out.

    References
    ----------
    :cite:t:`Hodos2018`, Fig. 4.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=50)
    >>> result = kx.metrics.cross_validate(mdata, methods=["dnpp", "mean_1d"], n_folds=4)
    >>> treatment = result.profiles.obs["treatment"].mode()[0]
    >>> figure = kx.pl.treatment_profiles(result, treatment)
    """
    checks.integer(n_genes, "n_genes", low=1)
    methods = chosen_methods(result, methods)
    checks.known(treatment, result.profiles.obs["treatment"].cat.categories, "treatment")
    mine = result.profiles[(result.profiles.obs["treatment"] == treatment).to_numpy()]
    if not mine.n_obs:
        msg = f"No fiber of {treatment!r} was held out: it has only one, which has to stay in training."
        raise ValueError(msg)
    panels = {"measured": mine.X, **{method: mine.layers[method] for method in methods}}
    size = np.nanmean(np.where(np.isnan(mine.X), 0.0, np.abs(mine.X)), axis=0)
    genes = np.argsort(-size, kind="stable")[:n_genes]
    genes = genes[_clustered(np.nan_to_num(mine.X[:, genes]).T)]
    order = most_first(mine.obs["n_treatments"].to_numpy())
    panels = {name: x[np.ix_(order, genes)].T for name, x in panels.items()}
    contexts = short(map(str, mine.obs["context"].iloc[order]))
    names = short(map(str, result.profiles.var_names[genes]))
    label = f"{short([treatment])[0]}: {len(genes)} of {mine.n_vars} genes"
    if len(genes) > MOST_NAMES and len(genes) < mine.n_vars:
        label += ", those of the largest mean absolute measured value"
    if len(genes) > MOST_NAMES:
        label += "; the largest are named"
    return hand_over(
        _draw(panels, contexts, names, size[genes], label, show),
        sized=True,
        save=save,
        show=show,
        return_fig=return_fig,
    )


def _clustered(rows: np.ndarray) -> np.ndarray:
    """Return an order of the rows in which similar ones are neighbours."""
    return (
        leaves_list(linkage(rows, "average", optimal_ordering=len(rows) <= 500))
        if len(rows) > 2
        else np.arange(len(rows))
    )


def _with_room(size: np.ndarray, field: float) -> np.ndarray:
    """Choose fields to name, the largest first, such that their names have room; each is ``field`` inches high."""
    chosen: list[int] = []
    for place in np.argsort(-size, kind="stable"):
        if all(abs(place - other) * field >= LINE for other in chosen):
            chosen.append(int(place))
    return np.sort(chosen)


def _draw(
    panels: dict[str, np.ndarray], contexts: list[str], genes: list[str], size: np.ndarray, label: str, show: bool
) -> Figure:
    """Draw one heat map beside the other."""
    limit = float(np.nanquantile(np.abs(panels["measured"]), 0.99)) or 1.0
    field = LINE if len(contexts) <= MOST_NAMES else _UNNAMED
    wide = min(len(contexts) * field, LARGEST / len(panels) - _GAP)
    titles = [wrapped(name, wide) for name in short(panels)]
    wide = max(wide, *(1.05 * width(line, TEXT + 1) for title in titles for line in title.split("\n")))
    height = len(genes) * LINE if len(genes) <= MOST_NAMES else _HEIGHT
    total = len(panels) * (wide + _GAP)
    figure = canvas((total, height), show=show)
    for i, (title, x) in enumerate(zip(titles, panels.values(), strict=True)):
        ax = figure.add_axes((i * (wide + _GAP) / total, 0, wide / total, 1))
        image = ax.pcolormesh(x, cmap="RdBu_r", vmin=-limit, vmax=limit, rasterized=True)
        ax.set_facecolor("0.85")  # shows where a value is missing
        ax.invert_yaxis()
        bare(ax)
        ax.set_title(title, fontsize=TEXT + 1, parse_math=False)
        step = name_fields(ax, "x", contexts, rotation=90)
        if step > 1:
            ax.set_xlabel(wrapped(f"{len(contexts)} contexts{one_in(step)}", wide, TEXT), fontsize=TEXT)
        ax.set_yticks([])
        if i == 0:
            ax.set_ylabel(wrapped(label, max(height, _SMALLEST)), fontsize=TEXT + 1, parse_math=False)
            if len(genes) <= MOST_NAMES:
                name_fields(ax, "y", genes)
            else:
                kept = _with_room(size, height / len(genes))
                ax.set_yticks(kept + 0.5, [genes[i] for i in kept], fontsize=TEXT, parse_math=False)
                ax.tick_params(axis="y", length=2)
    color_bar(ax, image, "value", cax=beside(ax), extend="both")
    return figure
