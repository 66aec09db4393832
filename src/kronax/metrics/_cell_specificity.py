import pandas as pd
from mudata import MuData

from kronax._data import tensor as tensors
from kronax.metrics._tensor_scores import mean_cosine_distance


def cell_specificity(mdata: MuData, *, layer: str | None = None) -> pd.DataFrame:
    """Measure how differently each treatment acts in different contexts.

    The cell-specificity of a treatment is the mean cosine distance of all pairs of its profiles: 0 if they are all
    alike up to their size, 1 if they have nothing in common, 2 if they are opposites. How well predictions preserve it
    is part of :func:`kronax.metrics.cross_validate`.

    Parameters
    ----------
    mdata
        One modality per context, each treatments × genes. Not changed.
    layer
        Layer of every modality to read; `X` if None. In a completed layer, predicted profiles count too.

    Returns
    -------
    Treatments × (``cell_specificity``, ``n_contexts``): the mean distance, NaN without a pair of non-zero profiles, and
    the number of profiles.

    Raises
    ------
    KeyError
        If there is no such layer.
    TypeError
        If `mdata` is not a MuData object of numeric AnnData objects in memory.
    ValueError
        If the modalities do not form a tensor.

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
    tensor = tensors.read(mdata, layer)
    return pd.DataFrame(
        {
            "cell_specificity": [mean_cosine_distance(fibers) for fibers in tensor.values],
            "n_contexts": tensor.measured.sum(axis=1),
        },
        index=tensor.treatments,
    )
