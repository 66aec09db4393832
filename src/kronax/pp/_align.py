from collections.abc import Iterable

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from kronax._data import align as rows
from kronax._data import keys
from kronax._data import measured as marks
from kronax._data import tensor as tensors
from kronax.solvers import checks


def align(
    mdata: MuData,
    *,
    treatments: Iterable[str] = (),
    contexts: Iterable[str] = (),
    copy: bool = False,
) -> MuData | None:
    """Align the contexts: each gets a row for every treatment.

    Parameters
    ----------
    mdata
        One modality per context: treatments × genes.
    treatments
        Treatments that were never measured, to be predicted by similar ones; those that there are already may be among them.
    contexts
        Contexts that were never measured: each becomes a modality with the genes of the first one, all NaN.
    copy
        Return a copy and leave `mdata` unchanged.

    Returns
    -------
    None, or with ``copy=True`` the MuData object with the results. Every modality is replaced by one whose rows are
    the treatments of all modalities, in order of first appearance:

    With new treatments, ``mdata.obsp`` has rows without entries for them; similarities are put there after this.

    ``mdata[context].X``, ``layers``, ``raw``
        NaN in new rows. Integers become floating numbers if there are new rows; sparse matrices stay sparse. Genes are
        unchanged, including those that other contexts lack; completion ignores these.
    ``mdata[context].obs``
        Columns that describe treatments, such as a mechanism of action, are filled in for new rows: those on which, for
        every treatment, all contexts with a value agree. Others, and numbers that :func:`kronax.pp.effects` writes about a measurement,
        get missing values, and ``n_profiles`` 0. A column keeps its dtype unless a value is missing; categories of other contexts are
        added.
    ``mdata[context].obsm``, ``obsp``
        Missing values in new rows; no neighbours in ``obsp``.
    ``mdata[context].obs["measured"]`` : bool
        Whether the context had the treatment, with a value in its row of X, if there is an X. After a completion: as that
        has written, for the layer that it read. A column of that name that says neither true nor false is kept as
        ``obs["measured_before"]``, with a warning.

    Raises
    ------
    TypeError
        If `mdata` is not a MuData object of AnnData objects, or a name no text.
    ValueError
        If `mdata` is backed or a view; there are fewer than two modalities, or one whose name cannot be saved; or a
        modality is empty or its treatments, genes or columns are not unique.

    References
    ----------
    :cite:t:`Hodos2018`, for tensors of this kind.

    Examples
    --------
    >>> import anndata as ad
    >>> import kronax as kx
    >>> import numpy as np
    >>> import pandas as pd
    >>> obs = pd.DataFrame({"drug": ["a", "a", "b"], "line": ["X", "Y", "X"]}, index=list("123"))
    >>> long = ad.AnnData(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), obs=obs)
    >>> mdata = kx.pp.tensor(long, obs_key="drug", context_key="line")
    >>> kx.pp.align(mdata)
    >>> mdata["Y"].to_df()
         0    1
    a  3.0  4.0
    b  NaN  NaN
    """
    present = tensors.check(mdata)
    tensors.require_actual(mdata, copy=copy)
    names = tensors.union(mdata)
    names = names.append(_new(treatments, names, "treatments"))
    more = _new(contexts, pd.Index(present), "contexts")
    tensors.require_names([*present, *more])
    measured = {context: _present(mdata, context, names) for context in present}
    modalities = rows.aligned(mdata, names, measured)
    rows.log_new(mdata, names)
    modalities |= {context: _unmeasured(modalities[present[0]]) for context in more}

    mdata = rows.copied(mdata) if copy else mdata
    rows.replace(mdata, modalities)
    return mdata if copy else None


def _new(names: Iterable[str], there: pd.Index, argument: str) -> pd.Index:
    """Return the names that are not there yet."""
    names = checks.texts(names, argument, f"names of {argument}")
    return pd.Index([name for name in dict.fromkeys(names) if name not in there], dtype=there.dtype)


def _unmeasured(like: AnnData) -> AnnData:
    """Return a modality of which nothing was measured."""
    obs = pd.DataFrame({keys.MEASURED: np.zeros(like.n_obs, bool)}, index=like.obs_names)
    genes = pd.DataFrame(index=like.var_names)
    empty = {key: np.full(like.shape, np.nan, np.float32) for key in like.layers if key is not None}
    return AnnData(np.full(like.shape, np.nan, np.float32), obs=obs, var=genes, layers=empty)


def _present(mdata: MuData, context: str, treatments: pd.Index) -> np.ndarray:
    """Mark the treatments for which a modality has a row with a measured value."""
    adata = mdata.mod[context]
    rows = adata.obs_names.get_indexer(treatments)
    return (rows >= 0) & _has_measured(adata, f"mdata[{context!r}]")[rows]


def _has_measured(adata: AnnData, of: str) -> np.ndarray:
    """Mark the rows that have a measured value: as a completion has written, or else in X."""
    if marks.completed(adata) and keys.MEASURED in adata.obs:
        return ~marks.predicted_profiles(adata, of)
    if adata.X is None:
        return np.ones(adata.n_obs, bool)
    return tensors.has_value(tensors.matrix(adata, None, of))
