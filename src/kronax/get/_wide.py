import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from kronax._data import keys
from kronax._data import tensor as tensors


def wide(mdata: MuData, *, layer: str | None = keys.COMPLETED) -> AnnData:
    """Get a tensor as a matrix with one row per context and gene and one column per treatment.

    The inverse is :func:`kronax.pp.from_wide`. For a layer with predictions, it returns the measured values as X and
    the layer as ``"completed"``.

    Parameters
    ----------
    mdata
        One modality per context: treatments × genes. Not changed.
    layer
        Layer to read: that of :func:`kronax.tl.complete_tensor`, or None for `X`, with NaN where nothing was measured.

    Returns
    -------
    AnnData, (context × gene) × treatments, context after context, rows named ``context:gene``. X is dense, with the
    genes that all contexts share and the treatments of all of them. Also:

    ``obs["context"]``, ``obs["gene"]`` : categorical
        The context and gene of the row.
    ``layers["measured"]`` : bool
        Whether `X` of the modality has a value; only if the layer has values where `X` has none, as a completed one
        does.

    ``var`` has the columns of ``obs`` on which all modalities agree, without those that
    :func:`kronax.tl.complete_tensor` writes for single profiles.

    Raises
    ------
    KeyError
        If a modality lacks the layer.
    TypeError
        If `mdata` is not a MuData object of numeric AnnData objects in memory.
    ValueError
        If `mdata` is backed; there are fewer than two modalities, or one whose name cannot be saved; a modality is
        empty or its treatments or genes are not unique; the modalities share no gene; or a value is infinite.

    References
    ----------
    :cite:t:`ToxiTenCompl2025`, section 3.1.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.skewed_response(n_treatments=40, n_genes=30)
    >>> kx.get.wide(mdata, layer=None).shape
    (240, 40)
    """
    contexts = tensors.check(mdata)
    genes, treatments = tensors.shared_genes(mdata), tensors.union(mdata)
    values = _laid_out(mdata, layer, treatments, genes)
    layers = {}
    if layer is not None and all(adata.X is not None for adata in mdata.mod.values()):
        measured = ~np.isnan(_laid_out(mdata, None, treatments, genes))
        if not measured[~np.isnan(values)].all():
            layers[keys.MEASURED] = measured
    labels = pd.MultiIndex.from_product([contexts, genes], names=["context", "gene"])
    obs = pd.DataFrame(
        {
            "context": pd.Categorical(labels.get_level_values(0), categories=contexts),
            "gene": pd.Categorical(labels.get_level_values(1), categories=genes),
        },
        index=[f"{context}:{gene}" for context, gene in labels],
    )
    return AnnData(values, obs=obs, var=_common(mdata, treatments), layers=layers)


def _laid_out(mdata: MuData, layer: str | None, treatments: pd.Index, genes: pd.Index) -> np.ndarray:
    """Give the values, (context × gene) × treatments."""
    blocks = []
    for context, adata in mdata.mod.items():
        found = tensors.matrix(adata, layer, f"mdata[{context!r}]")[:, adata.var_names.get_indexer(genes)]
        block = found if isinstance(found, np.ndarray) else found.toarray()
        rows = adata.obs_names.get_indexer(treatments)
        values = np.full((len(treatments), len(genes)), np.nan, np.result_type(block.dtype, np.float32))
        values[rows >= 0] = block[rows[rows >= 0]]
        blocks.append(values.T)
    return np.concatenate(blocks)


def _common(mdata: MuData, treatments: pd.Index) -> pd.DataFrame:
    """Give the columns of obs on which all modalities agree, without what is said of single profiles."""
    first, *others = (adata.obs.reindex(treatments) for adata in mdata.mod.values())
    agreed = [key for key in first if all(key in other and first[key].equals(other[key]) for other in others)]
    return first[agreed].drop(columns=list(keys.OF_PROFILES), errors="ignore")
