import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.utils import make_index_unique
from mudata import MuData

from kronax._data import keys
from kronax._data import tensor as tensors


def profiles(mdata: MuData, *, layer: str | None = keys.COMPLETED) -> AnnData:
    """Get the profiles of all contexts as one long AnnData object, ready for scanpy.

    Parameters
    ----------
    mdata
        One modality per context: treatments × genes. Not changed.
    layer
        Layer to read: that of :func:`kronax.tl.complete_tensor`, or None for `X`, with NaN where nothing was measured.

    Returns
    -------
    AnnData, profiles × genes, with one row for every row of every modality, context after context, named
    ``treatment:context``. X is dense and has the genes that all contexts share. ``obs`` has these columns, then those
    common to all modalities:

    ``treatment``, ``context`` : categorical
        The treatment and context of the profile.
    ``measured`` : bool
        False for profiles that were predicted as a whole or, before completion, are missing.
    ``completion_confidence`` : float64
        Of profiles with predicted values, including single ones, if the method provides it; NaN where nothing was
        missing.

    ``var`` has the columns on which all modalities agree.

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
    The format is that of :cite:t:`Virshup2024`.

    Examples
    --------
    >>> import kronax as kx
    >>> import scanpy as sc
    >>> mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=50)
    >>> kx.tl.complete_tensor(mdata)
    >>> profiles = kx.get.profiles(mdata)
    >>> profiles.shape
    (80, 50)
    >>> sc.pp.pca(profiles, n_comps=10)
    """
    contexts = tensors.check(mdata)
    genes = tensors.shared_genes(mdata)
    blocks, tables = [], []
    for context in contexts:
        adata = mdata.mod[context]
        block = tensors.matrix(adata, layer, f"mdata[{context!r}]")[:, adata.var_names.get_indexer(genes)]
        blocks.append(block if isinstance(block, np.ndarray) else block.toarray())
        tables.append(_described(adata, context, tensors.has_value(blocks[-1])))
    obs = pd.concat(tables, join="inner")
    for key in obs:
        if all(isinstance(table[key].dtype, pd.CategoricalDtype) for table in tables):
            obs[key] = pd.Categorical(obs[key])  # categories differ between contexts
    for key, names in (("treatment", tensors.union(mdata)), ("context", contexts)):
        obs[key] = pd.Categorical(obs[key], categories=names)
    obs.index = make_index_unique(obs.index)  # "a:b" in "c" and "a" in "b:c"
    return AnnData(np.concatenate(blocks), obs=obs, var=_common(mdata, genes))


def _described(adata: AnnData, context: str, has_value: np.ndarray) -> pd.DataFrame:
    """Give obs of a modality's profiles: ours first."""
    obs = adata.obs
    first = {
        "treatment": adata.obs_names,
        "context": context,
        keys.MEASURED: obs[keys.MEASURED].to_numpy(bool) if keys.MEASURED in obs else has_value,
        keys.CONFIDENCE: obs[keys.CONFIDENCE].to_numpy() if keys.CONFIDENCE in obs else np.nan,
    }
    others = obs.drop(columns=[key for key in first if key in obs])
    names = [f"{treatment}:{context}" for treatment in adata.obs_names]
    return pd.concat([pd.DataFrame(first, index=adata.obs_names), others], axis=1).set_axis(names)


def _common(mdata: MuData, genes: pd.Index) -> pd.DataFrame:
    """Give the columns of var on which all modalities agree."""
    first, *others = (adata.var.reindex(genes) for adata in mdata.mod.values())
    agreed = [key for key in first if all(key in other and first[key].equals(other[key]) for other in others)]
    return first[agreed].copy()
