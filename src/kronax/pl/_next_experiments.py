from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from mudata import MuData

from kronax._data import keys, objects
from kronax._data import tensor as tensors
from kronax.pl._canvas import hand_over
from kronax.pl._fiber_map import draw_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = {"measured": "#0072B2", "missing": "#E6E6E6", "to measure next": "#D55E00"}


def next_experiments(
    mdata: MuData,
    *,
    ax: Axes | None = None,
    save: str | Path | None = None,
    show: bool = False,
    return_fig: bool = True,
) -> Figure | None:
    """Show which profiles to measure next, among those that were measured and those that are missing.

    Treatments with the most measured contexts stand at the top, contexts with the most measured treatments on the left, as in
    :func:`kronax.pl.measured_fibers`.

    Parameters
    ----------
    mdata
        With the results of :func:`kronax.tl.next_experiments`.
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
        If there are no such results.
    TypeError
        If `mdata` is no MuData object with numbers.
    ValueError
        If the modalities do not make a tensor.

    References
    ----------
    :cite:t:`Seo2000`, for the criterion.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=50)
    >>> kx.tl.complete_tensor(mdata)
    >>> kx.tl.next_experiments(mdata, n=5)
    >>> figure = kx.pl.next_experiments(mdata)
    """
    sized = ax is None
    contexts = tensors.check(mdata)
    for context in contexts:
        where = f"mdata[{context!r}].obs"
        objects.key_in(keys.NEXT, mdata.mod[context].obs, where, "Run kx.tl.next_experiments first.")
    treatments = tensors.union(mdata)
    tables = [mdata.mod[context].obs.reindex(treatments) for context in contexts]
    measured = np.stack([table[keys.MEASURED].to_numpy(bool) for table in tables], axis=1)
    chosen = np.stack([table[keys.NEXT].notna().to_numpy() for table in tables], axis=1)
    ax = draw_map(
        np.where(chosen, 2, np.where(measured, 0, 1)),
        _COLORS,
        treatments=list(treatments),
        contexts=list(contexts),
        per_treatment=measured.sum(axis=1),
        per_context=measured.sum(axis=0),
        ax=ax,
        show=show,
    )
    return hand_over(ax.figure, sized=sized, save=save, show=show, return_fig=return_fig)
