from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage

from kronax import _validate
from kronax.metrics._cross_validate import CrossValidation
from kronax.pl._canvas import LINE, MOST_NAMES, TEXT, canvas, hand_over, short, wrapped
from kronax.pl._results import chosen_methods

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GAP = 0.15  # between heat maps, inches
_HEIGHT = 4.0  # inches, where genes have no names
_SMALLEST = 1.2  # that the genes' label is given, inches
_TITLE = 0.105  # inches of a title's character


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

    Genes and contexts are in the same order everywhere, that of a hierarchical clustering of the measured profiles. Red
    is up, blue is down; the colours of all heat maps have the same scale.

    Parameters
    ----------
    result
        Of :func:`kronax.metrics.cross_validate`.
    treatment
        Which one.
    methods
        Whose predictions; those of all if None.
    n_genes
        Genes with the largest mean absolute value in the measured profiles. Up to 60 have their names written; of more,
        the label says how they were chosen.
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
        If `result` is none of a cross-validation.
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
    _validate.integer(n_genes, "n_genes", low=1)
    methods = chosen_methods(result, methods)
    _validate.known(treatment, result.profiles.obs["treatment"].cat.categories, "treatment")
    mine = result.profiles[(result.profiles.obs["treatment"] == treatment).to_numpy()]
    if not mine.n_obs:
        msg = f"No fiber of {treatment!r} was held out: it has only one, which has to stay in training."
        raise ValueError(msg)
    panels = {"measured": mine.X, **{method: mine.layers[method] for method in methods}}
    size = np.nanmean(np.where(np.isnan(mine.X), 0.0, np.abs(mine.X)), axis=0)
    genes = np.argsort(-size, kind="stable")[:n_genes]
    shown = np.nan_to_num(mine.X[:, genes])
    genes, order = genes[_clustered(shown.T)], _clustered(shown)
    panels = {name: x[np.ix_(order, genes)].T for name, x in panels.items()}
    contexts = [short(str(name)) for name in mine.obs["context"].iloc[order]]
    names = [short(str(name)) for name in result.profiles.var_names[genes]]
    label = f"{short(treatment)}: {len(genes)} of {mine.n_vars} genes"
    if len(genes) > MOST_NAMES and len(genes) < mine.n_vars:
        label += ", those of the largest mean absolute measured value"
    return hand_over(
        _draw(panels, contexts, names, label, show), sized=True, save=save, show=show, return_fig=return_fig
    )


def _clustered(rows: np.ndarray) -> np.ndarray:
    """Give an order in which similar rows stand beside each other."""
    return (
        leaves_list(linkage(rows, "average", optimal_ordering=len(rows) <= 500))
        if len(rows) > 2
        else np.arange(len(rows))
    )


def _draw(panels: dict[str, np.ndarray], contexts: list[str], genes: list[str], label: str, show: bool) -> Figure:
    """Draw one heat map beside the other."""
    limit = float(np.nanquantile(np.abs(panels["measured"]), 0.99)) or 1.0
    width = max(
        len(contexts) * (LINE if len(contexts) <= MOST_NAMES else 0.03), *(_TITLE * len(short(n)) for n in panels)
    )
    height = len(genes) * LINE if len(genes) <= MOST_NAMES else _HEIGHT
    total = len(panels) * (width + _GAP)
    figure = canvas((total, height), show=show)
    for i, (name, x) in enumerate(panels.items()):
        ax = figure.add_axes((i * (width + _GAP) / total, 0, width / total, 1))
        image = ax.pcolormesh(x, cmap="RdBu_r", vmin=-limit, vmax=limit, rasterized=True)
        ax.set_facecolor("0.85")  # shows where a value is missing
        ax.invert_yaxis()
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
        ax.set_title(short(name), fontsize=TEXT + 1, parse_math=False)
        if len(contexts) <= MOST_NAMES:
            ax.set_xticks(np.arange(len(contexts)) + 0.5, contexts, rotation=90, fontsize=TEXT, parse_math=False)
        else:
            ax.set_xticks([])
            ax.set_xlabel(f"{len(contexts)} contexts", fontsize=TEXT)
        ax.set_yticks([])
        if i == 0:
            ax.set_ylabel(wrapped(label, max(height, _SMALLEST)), fontsize=TEXT + 1, parse_math=False)
            if len(genes) <= MOST_NAMES:
                ax.set_yticks(np.arange(len(genes)) + 0.5, genes, fontsize=TEXT, parse_math=False)
    tall = min(height, 1.6)
    bar = figure.colorbar(
        image, cax=figure.add_axes((1.0, 1 - tall / height, 0.12 / total, tall / height)), extend="both"
    )
    bar.set_label("value", fontsize=TEXT)
    bar.ax.tick_params(labelsize=TEXT)
    bar.outline.set_visible(False)
    return figure
