import warnings
from typing import Literal, get_args

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from kronax._data import keys, objects
from kronax._data import tensor as tensors
from kronax._logging import logger
from kronax.solvers import checks

Aggregate = Literal["mean", "sum", "median"]


def tensor(
    adata: AnnData,
    *,
    obs_key: str,
    context_key: str,
    layer: str | None = None,
    aggregate: Aggregate = "mean",
) -> MuData:
    """Arrange profiles by treatment and context: from one long table to one modality per context.

    The numbers of treatments and contexts are logged. Warnings are given if there are more contexts than treatments,
    for what look like raw counts, which can no longer be recognised once they are averaged, and if rows are predictions,
    as in the result of :func:`kronax.get.profiles`: these are left out.

    Parameters
    ----------
    adata
        Profiles or cells × genes, dense or sparse. Not changed.
    obs_key
        Column of ``obs`` with the treatments: drugs, donors, whatever is repeated in each context.
    context_key
        Column of ``obs`` with the contexts: cell lines, tissues, doses.
    layer
        Layer to read; `adata.X` if None.
    aggregate
        How rows (replicates or cells) that share a treatment and a context are combined: ``"mean"``, ``"sum"`` or
        ``"median"``, by :func:`scanpy.get.aggregate`. If any of them is NaN, so is the result.

    Returns
    -------
    MuData with one modality per context, in the order of the categories, or sorted. Both axes are shared (``axis=-1``):
    ``mdata.obs_names`` are all treatments, ``mdata.var_names`` the genes. In each modality:

    ``X`` : float64, dense
        Treatments × genes, with the treatments that were measured in the context.
    ``obs["n_profiles"]`` : int
        How many rows were combined.

    Columns of ``adata.obs`` that have one value for all rows of a treatment, such as its mechanism of action, are kept
    in ``obs``; others are dropped.

    Raises
    ------
    KeyError
        If there is no such column or layer.
    TypeError
        If the matrix is not numeric and real, or not in memory.
    ValueError
        If `adata` is backed, a value is infinite, genes are not unique, there are fewer than two contexts, or one whose
        name cannot be saved.

    References
    ----------
    :cite:t:`Hodos2018`, for tensors of this kind; :cite:t:`Wolf2018`, for the aggregation.

    Examples
    --------
    >>> import anndata as ad
    >>> import kronax as kx
    >>> import numpy as np
    >>> import pandas as pd
    >>> obs = pd.DataFrame({"drug": ["a", "a", "b", "a"], "line": ["X", "X", "X", "Y"]}, index=list("1234"))
    >>> long = ad.AnnData(np.array([[1.0, -2.0], [3.0, -4.0], [5.0, 6.0], [7.0, 8.0]]), obs=obs)
    >>> mdata = kx.pp.tensor(long, obs_key="drug", context_key="line")
    >>> mdata["X"].to_df()
         0    1
    a  2.0 -3.0
    b  5.0  6.0
    """
    objects.is_anndata(adata)
    checks.one_of(aggregate, get_args(Aggregate), "aggregate")
    for key in (obs_key, context_key):
        objects.key_in(key, adata.obs, "adata.obs")
    if obs_key == context_key:
        msg = f"`obs_key` and `context_key` must differ, both are {obs_key!r}."
        raise ValueError(msg)
    if (predicted := _predicted(adata.obs)).any():
        msg = (
            f"{int(predicted.sum()):,} of {adata.n_obs:,} rows are predictions (`adata.obs[{keys.MEASURED!r}]` is False) and are "
            "left out. To use them as if they had been measured, delete that column."
        )
        warnings.warn(msg, UserWarning, stacklevel=2)
        adata = adata[~predicted]
    matrix = tensors.matrix(adata, layer, "adata")
    tensors.require_unique(adata.var_names, "genes (var_names)", "Run `adata.var_names_make_unique()` first.", "adata")
    treatments, contexts = (_categories(adata.obs[key]) for key in (obs_key, context_key))
    tensors.require_names(list(contexts.categories), context_key)
    if len(contexts.categories) < 2:
        msg = f"A tensor needs at least 2 contexts; `adata.obs[{context_key!r}]` has {len(contexts.categories)}."
        raise ValueError(msg)
    named = (treatments.codes >= 0) & (contexts.codes >= 0)
    if not named.all():
        logger.info("tensor: %d of %d rows without a treatment or a context are left out", (~named).sum(), len(named))

    tensors.warn_of_counts(matrix, stacklevel=2)
    _report_size(len(treatments.categories), len(contexts.categories), obs_key, context_key)

    pair = contexts.codes.astype(np.int64) * len(treatments.categories) + treatments.codes
    pairs, group, counts = np.unique(pair[named], return_inverse=True, return_counts=True)
    long = AnnData(
        matrix if named.all() else matrix[named],
        obs=pd.DataFrame({"group": pd.Categorical(group.astype(str))}, index=adata.obs_names[named]),
    )
    values = _aggregated(long, len(pairs), aggregate)
    described = _of_treatments(adata.obs[named].drop(columns=[obs_key, context_key]), treatments[named])
    modalities = {}
    for c, context in enumerate(contexts.categories):
        here = pairs // len(treatments.categories) == c
        names = treatments.categories[pairs[here] % len(treatments.categories)]
        obs = pd.DataFrame({keys.N_PROFILES: counts[here]}, index=names).join(described)
        modalities[context] = AnnData(values[here], obs=obs, var=adata.var.copy())
    with tensors.without_pulling():
        return MuData(modalities, axis=-1)


def _predicted(obs: pd.DataFrame) -> np.ndarray:
    """Mark the rows that a completion has predicted, as in the result of :func:`kronax.get.profiles`."""
    completed = keys.MEASURED in obs and keys.CONFIDENCE in obs and obs[keys.MEASURED].dtype == bool
    return ~obs[keys.MEASURED].to_numpy() if completed else np.zeros(len(obs), bool)


def _report_size(n: int, c: int, obs_key: str, context_key: str) -> None:
    """Log how large the tensor is, and warn where its axes may be swapped."""
    logger.info("tensor: %d treatments × %d contexts", n, c)
    if c > n:
        msg = (
            f"There are more contexts ({c}, {context_key!r}) than treatments ({n}, {obs_key!r}). If they are swapped, use "
            f"obs_key={context_key!r}, context_key={obs_key!r}."
        )
        warnings.warn(msg, UserWarning, stacklevel=3)


def _of_treatments(table: pd.DataFrame, treatments: pd.Categorical) -> pd.DataFrame:
    """Give the columns that do not vary between the rows of any treatment, a row for each treatment."""
    codes, first, number = np.unique(treatments.codes, return_index=True, return_inverse=True)
    table = table.drop(columns=[keys.N_PROFILES, *keys.OF_PROFILES], errors="ignore").reset_index(drop=True)
    alike = table.iloc[first[number]].reset_index(drop=True)
    same = [key for key in table if table[key].equals(alike[key])]
    return table.iloc[first][same].set_axis(treatments.categories[codes])


def _categories(column: pd.Series) -> pd.Categorical:
    """Give a column as categories with plain names: those in use, in their order, or sorted."""
    found = pd.Categorical(column).remove_unused_categories()
    names = [str(name) for name in found.categories.to_numpy()]  # of its own precision: 0.1, not 0.10000000149011612
    if len(set(names)) < len(names):
        msg = f"Different values in `adata.obs[{column.name!r}]` have the same name as text: {checks.listed(names)}."
        raise ValueError(msg)
    return found.rename_categories(names)


def _aggregated(long: AnnData, n_groups: int, how: Aggregate) -> np.ndarray:
    """Aggregate rows by group: groups × genes, in the order of their numbers."""
    import scanpy as sc

    found = sc.get.aggregate(long, by="group", func=how)
    order = found.obs_names.get_indexer(pd.RangeIndex(n_groups).astype(str))
    return np.asarray(found.layers[how], np.float64)[order]
