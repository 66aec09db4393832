from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.utils import make_index_unique
from mudata import MuData
from scipy import sparse

from kronax._data import keys
from kronax._data import measured as marks
from kronax._data import tensor as tensors
from kronax._data.treatments import with_missing


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
        Whether the value was measured, as a completion has written; only if some of the layer's values were predicted.

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
        empty or its treatments, genes or columns are not unique; the modalities share no gene; or a value is infinite.

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
    blocks = {context: tensors.matrix(adata, layer, f"mdata[{context!r}]") for context, adata in mdata.mod.items()}
    values = np.concatenate([_laid_out(mdata.mod[c], blocks[c], treatments, genes, np.nan) for c in contexts])
    measured = ~np.isnan(values) & np.concatenate(
        [_known(mdata, c, blocks[c].shape, layer, treatments, genes) for c in contexts]
    )
    layers = {} if measured[~np.isnan(values)].all() else {keys.MEASURED: measured}
    labels = pd.MultiIndex.from_product([contexts, genes], names=["context", "gene"])
    names = [f"{context}:{gene}" for context, gene in labels]
    obs = pd.DataFrame(
        {
            "context": pd.Categorical(labels.get_level_values(0), categories=contexts),
            "gene": pd.Categorical(labels.get_level_values(1), categories=genes),
        },
        index=make_index_unique(pd.Index(names)),  # "a:b" of "c" and "a" of "b:c"
    )
    return AnnData(values, obs=obs, var=_common(mdata, treatments), layers=layers)


def _known(
    mdata: MuData, context: str, shape: tuple[int, int], layer: str | None, treatments: pd.Index, genes: pd.Index
) -> np.ndarray:
    """Mark the entries of a modality that are not known to be predictions, genes × treatments."""
    predicted = marks.predicted_of(mdata, context, layer)
    known = np.ones(shape, bool) if predicted is None else np.broadcast_to(~predicted, shape)
    return _laid_out(mdata.mod[context], known, treatments, genes, False)


def _laid_out(
    adata: AnnData,
    found: np.ndarray | sparse.csr_matrix | sparse.csr_array,
    treatments: pd.Index,
    genes: pd.Index,
    fill: Any,
) -> np.ndarray:
    """Return a modality's values, genes × treatments; ``fill`` where it lacks the treatment."""
    block = found[:, adata.var_names.get_indexer(genes)]
    block = block.toarray() if sparse.issparse(block) else block
    rows = adata.obs_names.get_indexer(treatments)
    values = np.full((len(treatments), len(genes)), fill, bool if fill is False else tensors.floating(block.dtype))
    values[rows >= 0] = block[rows[rows >= 0]]
    return values.T


def _common(mdata: MuData, treatments: pd.Index) -> pd.DataFrame:
    """Return the columns of obs on which all modalities agree, without what is said of single profiles."""
    first, *others = (with_missing(adata.obs, treatments) for adata in mdata.mod.values())
    agreed = [key for key in first if all(key in other and first[key].equals(other[key]) for other in others)]
    return first[agreed].drop(columns=list(keys.OF_PROFILES), errors="ignore")
