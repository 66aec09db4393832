import pandas as pd
from mudata import MuData

from kronax import _tensor
from kronax.metrics._tensor_scores import mean_cosine_distance


def cell_specificity(mdata: MuData, *, layer: str | None = None) -> pd.DataFrame:
    """Tell how differently each treatment acts in different contexts.

    The cell-specificity of a treatment is the mean cosine distance of all pairs of its profiles: 0 where they are all
    alike up to their size, 1 where they have nothing in common, 2 where they are opposites.

    :func:`kronax.metrics.cross_validate` tells how well predictions keep it.

    Parameters
    ----------
    mdata
        Contexts as modalities, each treatments × genes.
    layer
        Layer of every modality to read; `X` if None. With a completed one, predicted profiles count too.

    Returns
    -------
    Treatments × (``cell_specificity``, ``n_contexts``): the mean distance, NaN where there is no pair of profiles other
    than 0, and the number of profiles. Nothing is written to `mdata`.

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
    :cite:t:`Hodos2018`, Fig. 1.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=50, noise=0.1)
    >>> found = kx.metrics.cell_specificity(mdata)
    >>> kind = mdata["line0"].obs["cell_specific"]
    >>> bool(found["cell_specificity"][kind].mean() > found["cell_specificity"][~kind].mean())
    True
    """
    tensor = _tensor.read(mdata, layer)
    return pd.DataFrame(
        {
            "cell_specificity": [mean_cosine_distance(fibers) for fibers in tensor.values],
            "n_contexts": tensor.measured.sum(axis=1),
        },
        index=tensor.treatments,
    )
