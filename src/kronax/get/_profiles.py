import numpy as np
import pandas as pd
from anndata import AnnData
from anndata.utils import make_index_unique
from mudata import MuData

from kronax._data import keys
from kronax._data import measured as marks
from kronax._data import tensor as tensors
from kronax._data.aside import free_name


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
        missing, and for layers other than that of the latest completion.

    A column of the modalities that has one of the first three names, and says something else, is kept as
    ``treatment_before``, and so on. Columns whose kinds differ between contexts, such as texts and numbers, become
    text. If single values of measured profiles were predicted, there is also

    ``layers["measured"]`` : bool
        Whether the value was measured.

    ``var`` has the columns on which all modalities agree.

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
    blocks, known, tables = [], [], []
    for context in contexts:
        adata = mdata.mod[context]
        found = tensors.matrix(adata, layer, f"mdata[{context!r}]")[:, adata.var_names.get_indexer(genes)]
        blocks.append(found if isinstance(found, np.ndarray) else found.toarray())
        known.append(~np.isnan(blocks[-1]) & _known(mdata, context, layer, genes))
        tables.append(_obs_of(adata, context, known[-1].any(axis=1), _is_latest(mdata, layer)))
    obs = pd.concat(tables, join="inner")
    for key in obs:
        obs[key] = _of_one_kind(obs[key], [table[key] for table in tables])
    for key, names in (("treatment", tensors.union(mdata)), ("context", contexts)):
        obs[key] = pd.Categorical(obs[key], categories=names)
    obs.index = make_index_unique(obs.index)  # "a:b" in "c" and "a" in "b:c"
    values, measured = np.concatenate(blocks), np.concatenate(known)
    single = (measured.any(axis=1) & (~measured & ~np.isnan(values)).any(axis=1)).any()
    layers = {keys.MEASURED: measured} if single else {}
    return AnnData(values, obs=obs, var=_common(mdata, genes), layers=layers)


def _known(mdata: MuData, context: str, layer: str | None, genes: pd.Index) -> np.ndarray:
    """Mark the entries of a modality that are not known to be predictions, treatments × genes."""
    adata = mdata.mod[context]
    predicted = marks.predicted_of(mdata, context, layer)
    if predicted is None:
        return np.ones((adata.n_obs, len(genes)), bool)
    return ~predicted if predicted.shape[1] == 1 else ~predicted[:, adata.var_names.get_indexer(genes)]


def _is_latest(mdata: MuData, layer: str | None) -> bool:
    """Return whether the columns that the latest completion wrote belong to this layer."""
    if params := marks.description(mdata).get("params"):
        return layer is None or params.get("key_added") == layer
    return all(marks.completed(adata) in ([], [layer]) for adata in mdata.mod.values())


def _obs_of(adata: AnnData, context: str, measured: np.ndarray, is_latest: bool) -> pd.DataFrame:
    """Return obs of a modality's profiles, with kronax's own columns first."""
    obs = adata.obs if is_latest else adata.obs.drop(columns=[*keys.OF_PROFILES[1:]], errors="ignore")
    first = {
        "treatment": adata.obs_names,
        "context": context,
        keys.MEASURED: measured,
        keys.CONFIDENCE: obs[keys.CONFIDENCE].to_numpy() if keys.CONFIDENCE in obs else np.nan,
    }
    own = [key for key in ("treatment", "context") if key in obs and not (obs[key].astype(str) == first[key]).all()]
    if keys.MEASURED in obs and marks.flags(obs[keys.MEASURED]) is None:
        own.append(keys.MEASURED)
    others = obs.rename(columns={key: free_name(key, obs) for key in own})
    others = others.drop(columns=[key for key in first if key in others])
    names = [f"{treatment}:{context}" for treatment in adata.obs_names]
    return pd.concat([pd.DataFrame(first, index=adata.obs_names), others], axis=1).set_axis(names)


def _of_one_kind(column: pd.Series, parts: list[pd.Series]) -> pd.Series | pd.Categorical:
    """Return a column of all contexts such that it can be saved: categories together, and text where kinds differ."""
    kind = pd.api.types.infer_dtype(column, skipna=True) if column.dtype == object else ""
    if kind.startswith("mixed"):
        column = column.map(str, na_action="ignore")
    if all(isinstance(part.dtype, pd.CategoricalDtype) for part in parts):
        return pd.Categorical(column)  # categories differ between contexts
    return column.astype(pd.BooleanDtype()) if kind == "boolean" else column.infer_objects()


def _common(mdata: MuData, genes: pd.Index) -> pd.DataFrame:
    """Return the columns of var on which all modalities agree."""
    first, *others = (adata.var.reindex(genes) for adata in mdata.mod.values())
    agreed = [key for key in first if all(key in other and first[key].equals(other[key]) for other in others)]
    return first[agreed].copy()
