from collections.abc import Sequence

import numpy as np
import pandas as pd
from mudata import MuData
from scipy import sparse

from kronax._data import align, objects
from kronax._data import tensor as tensors
from kronax._logging import logger
from kronax.solvers import checks


def treatment_similarity(
    mdata: MuData,
    *,
    labels: str | Sequence[str],
    sep: str | None = "|",
    key_added: str = "annotation",
    copy: bool = False,
) -> MuData | None:
    """Compare treatments by labels, such as their mechanism of action and their targets.

    Two treatments are as similar as their sets of labels: the number that both have, divided by the number that either has
    (Jaccard). With several columns, it is the mean over these. A treatment without a label in a column resembles no
    other there.

    Parameters
    ----------
    mdata
        One modality per context, each treatments × genes.
    labels
        Columns of ``obs``: of any modality, or of `mdata` itself. What several modalities say of a treatment counts together.
    sep
        What separates the labels in a cell, as in ``"EGFR|ERBB2"``; None if every cell holds one.
    key_added
        Key of ``mdata.obsp``. A matrix that is there and differs is never replaced.
    copy
        Return a copy and leave `mdata` unchanged.

    Returns
    -------
    None, or with ``copy=True`` the MuData object with the result:

    ``obsp[key_added]`` : sparse, treatments × treatments
        Similarities in [0, 1], 1 on the diagonal, in the order of ``mdata.obs_names``. Positive semi-definite. Name it in
        ``kx.tl.KroneckerOptions(treatment_similarity=key_added)``.

    Raises
    ------
    KeyError
        If no modality has one of the columns.
    TypeError
        If `mdata` is not a MuData object of AnnData objects.
    ValueError
        If `mdata` is backed or a view, its modalities do not share treatments, no treatment has a label, or
        ``obsp[key_added]`` is another matrix.

    References
    ----------
    :cite:t:`Ralaivola2005`, for the index as a kernel.

    Examples
    --------
    >>> import kronax as kx
    >>> mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=50)
    >>> mdata["line0"].obs["moa"] = ["MEK|RAF", "MEK"] * 10
    >>> kx.pp.treatment_similarity(mdata, labels="moa")
    >>> mdata.obsp["annotation"][:2, :2].toarray()
    array([[1. , 0.5],
           [0.5, 1. ]])
    """
    columns = checks.texts(labels, "labels", "columns of obs")
    if sep is not None:
        checks.text(sep, "sep", "what separates labels")
    checks.name(key_added, "key_added")
    if not columns:
        msg = "`labels` is empty; name columns of obs, such as 'moa'."
        raise ValueError(msg)
    tensors.check(mdata)
    tensors.require_actual(mdata, copy=copy)
    treatments = mdata.obs_names
    if not treatments.is_unique:
        msg = "The modalities do not share treatments. Make the object with `mudata.MuData(mdata.mod, axis=-1)`."
        raise ValueError(msg)
    found = sparse.csr_matrix((len(treatments), len(treatments)))
    for column in columns:
        found = found + _jaccard(_incidence(mdata, column, sep, treatments)) / len(columns)
    found = found.tolil()
    found.setdiag(1.0)
    found = found.tocsr()
    _require_room(mdata, key_added, found)
    mdata = align.copied(mdata) if copy else mdata
    mdata.obsp[key_added] = found
    return mdata if copy else None


def _require_room(mdata: MuData, key_added: str, found: sparse.csr_matrix) -> None:
    """Require that no other matrix would be lost: one of the user's cannot be told from one of an earlier call."""
    if key_added in mdata.obsp and (sparse.csr_matrix(mdata.obsp[key_added]) != found).nnz:
        msg = (
            f"`mdata.obsp[{key_added!r}]` is another matrix, which would be lost. Name another key with `key_added=…`, or "
            f"delete it: `del mdata.obsp[{key_added!r}]`."
        )
        raise ValueError(msg)


def _incidence(mdata: MuData, column: str, sep: str | None, treatments: pd.Index) -> sparse.csr_matrix:
    """Mark which labels a treatment has, treatments × labels."""
    tables = [adata.obs for adata in mdata.mod.values() if column in adata.obs]
    if column in mdata.obs:
        objects.key_in(column, mdata.obs, "mdata.obs")
        tables.append(mdata.obs)
    if not tables:
        available = {key: None for adata in mdata.mod.values() for key in adata.obs}
        objects.key_in(column, available, "obs of any modality")
    cells = pd.concat([table[column].astype(object) for table in tables]).dropna().astype(str)
    words = (cells.str.split(sep, regex=False) if sep else cells.map(lambda cell: [cell])).explode().str.strip()
    words = words[words != ""]
    if words.empty:
        msg = f"No treatment has a label in the column {column!r} of obs."
        raise ValueError(msg)
    codes, names = pd.factorize(words)
    rows = treatments.get_indexer(words.index)
    marks = sparse.csr_matrix((np.ones(len(rows)), (rows, codes)), shape=(len(treatments), len(names)))
    marks.sum_duplicates()  # SciPy 1.13 leaves them
    marks.data[:] = 1.0
    without = len(treatments) - len(np.unique(rows))
    logger.info("%s: %d labels; %d of %d treatments have none", column, len(names), without, len(treatments))
    return marks


def _jaccard(marks: sparse.csr_matrix) -> sparse.csr_matrix:
    """Divide how many labels two treatments share by how many either has."""
    both = (marks @ marks.T).tocoo()
    n = np.asarray(marks.sum(axis=1)).ravel()
    return sparse.csr_matrix((both.data / (n[both.row] + n[both.col] - both.data), (both.row, both.col)), both.shape)
