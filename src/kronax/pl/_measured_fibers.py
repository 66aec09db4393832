from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from mudata import MuData

from kronax._data import tensor as tensors
from kronax.pl._canvas import hand_over
from kronax.pl._fiber_map import draw_map

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = {"measured": "#0072B2", "measured in part": "#E69F00", "missing": "#E6E6E6"}


def measured_fibers(
    mdata: MuData,
    *,
    layer: str | None = None,
    ax: Axes | None = None,
    save: str | Path | None = None,
    show: bool = False,
    return_fig: bool = True,
) -> Figure | None:
    """Show which treatments were measured in which contexts.

    Treatments with the most measured contexts stand at the top, contexts with the most measured treatments on the left.
    They are named at the axes, with the number of measured fibers in brackets; of 61 to 120, every second one. If there are more, or no
    room for the names, only the numbers are given, where they change.

    Parameters
    ----------
    mdata
        Contexts as modalities, each treatments × genes. A treatment that a modality does not have, or whose row is NaN,
        was not measured there.
    layer
        Layer of every modality to read; `X` if None.
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
        If there is no such layer.
    TypeError
        If `mdata` is no MuData object with numbers.
    ValueError
        If the modalities do not make a tensor.

    References
    ----------
    :cite:t:`Hodos2018`, for tensors of this kind.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=50)
    >>> figure = kx.pl.measured_fibers(mdata)
    """
    sized = ax is None
    tensor = tensors.without_predictions(mdata, tensors.read(mdata, layer))
    has = ~np.isnan(tensor.values)
    in_part = has.any(axis=2) & ~has.all(axis=2)
    code = np.where(in_part, 1, np.where(has.any(axis=2), 0, 2))
    kept = [name for i, name in enumerate(_COLORS) if (code == i).any()]
    code = np.searchsorted([list(_COLORS).index(name) for name in kept], code)
    ax = draw_map(
        code,
        {name: _COLORS[name] for name in kept},
        treatments=list(tensor.treatments),
        contexts=list(tensor.contexts),
        per_treatment=tensor.measured.sum(axis=1),
        per_context=tensor.measured.sum(axis=0),
        ax=ax,
        show=show,
    )
    return hand_over(ax.figure, sized=sized, save=save, show=show, return_fig=return_fig)
