from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from mudata import MuData
from scipy.cluster.hierarchy import dendrogram, linkage

from kronax._data import keys
from kronax.pl._canvas import axes, bare, beside, color_bar, hand_over, length
from kronax.pl._completion import completion_of
from kronax.pl._names import TEXT, inches, name_fields, one_in, short, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FIELD = 0.24  # inches
_MOST = 50  # components drawn
_NUMBER = 0.22  # room for a component's number, inches
_LABEL = 0.8  # room for the longest word of the components' label, inches


def context_factors(
    mdata: MuData,
    *,
    ax: Axes | None = None,
    save: str | Path | None = None,
    show: bool = False,
    return_fig: bool = True,
) -> Figure | None:
    """Show how the contexts relate: their factors, with similar contexts beside each other.

    A row is a context, a column a component, the strongest first; of more than 50, the 50 strongest. Their numbers are those
    of the columns of ``obsm["X_completion"]``, ``varm["completion"]`` and the context factors, from 0. Components have no
    scale of their own: each is divided by its largest absolute value. Contexts are in the order of the leaves of average
    linkage by cosine distance; if there is no room for all names, every second, third, … is shown. Easiest to read if ``options.non_negative`` contains ``"context"``.

    Parameters
    ----------
    mdata
        With the result of :func:`kronax.tl.complete_tensor` by ``"cp"`` or ``"attention_cp"``.
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
    The figure, None if `return_fig` is False. Nothing is written to `mdata`.

    Raises
    ------
    KeyError
        If there is no such result.

    References
    ----------
    :cite:t:`ToxiTenCompl2025`, on the non-negative variant.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.skewed_response(n_treatments=40, n_genes=30)
    >>> options = kx.tl.FactorizationOptions(max_epochs=20, patience=20, non_negative=("context",))
    >>> kx.tl.complete_tensor(mdata, method="cp", options=options)
    >>> figure = kx.pl.context_factors(mdata)
    """
    found = completion_of(mdata, "context_factors")
    factors = np.asarray(found["context_factors"], np.float64)
    contexts = list(found["contexts"])
    strength = _strengths(mdata, contexts, factors)
    components = np.argsort(-strength, kind="stable")[:_MOST]
    factors = factors[:, components]
    size = np.abs(factors).max(axis=0)
    shown = np.divide(factors, size, out=np.zeros_like(factors), where=size > 0)
    order = _leaves(shown)
    signed = shown.min() < 0
    sized = ax is None
    if sized:
        ax = axes((shown.shape[1] * _FIELD, length(len(order), _FIELD)), show=show)
    image = ax.pcolormesh(shown[order], cmap="RdBu_r" if signed else "cividis", vmin=-1.0 if signed else 0.0, vmax=1.0)
    ax.invert_yaxis()
    bare(ax)
    color_bar(ax, image, "relative factor", **({"cax": beside(ax)} if sized else {}))
    step = name_fields(ax, "y", short([contexts[i] for i in order]))
    if step > 1:
        ax.set_ylabel(f"{len(order)} contexts{one_in(step)}", fontsize=TEXT + 1)
    name_fields(ax, "x", [str(i) for i in components], least=_NUMBER)
    label = wrapped("components, strongest first", max(inches(ax)[0], _LABEL))
    ax.set_xlabel(label, fontsize=TEXT + 1)
    return hand_over(ax.figure, sized=sized, save=save, show=show, return_fig=return_fig)


def _strengths(mdata: MuData, contexts: list[str], factors: np.ndarray) -> np.ndarray:
    """Compute the product of the norms of every component's three factors."""
    adata = mdata.mod[contexts[0]]
    others = adata.obsm[keys.TREATMENT_FACTORS], np.nan_to_num(adata.varm[keys.GENE_FACTORS])
    return np.prod([np.linalg.norm(np.asarray(f, np.float64), axis=0) for f in (factors, *others)], axis=0)


def _leaves(factors: np.ndarray) -> list[int]:
    """Return an order of the contexts in which similar ones are neighbours; those without factors come last."""
    has = np.flatnonzero(factors.any(axis=1))
    rest = np.flatnonzero(~factors.any(axis=1))
    if len(has) > 2:
        tree = linkage(factors[has], "average", metric="cosine", optimal_ordering=True)
        has = has[dendrogram(tree, no_plot=True)["leaves"]]
    return [int(i) for i in (*has, *rest)]
