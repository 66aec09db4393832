from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from kronax._data import doubts, keys, labels, measured, objects
from kronax._data import tensor as tensors
from kronax._logging import logger, warn
from kronax.solvers import checks

Aggregate = Literal["mean", "sum", "median"]
_BETWEEN = "_"  # the parts of a name made of several columns


def tensor(
    adata: AnnData,
    *,
    obs_key: str | Sequence[str],
    context_key: str | Sequence[str],
    layer: str | None = None,
    aggregate: Aggregate = "mean",
) -> MuData:
    """Arrange profiles by treatment and context: from one long table to one modality per context.

    The numbers of treatments and contexts are logged. Predictions, as in the result of :func:`kronax.get.profiles`, are
    left out, with a warning. There are also warnings of what may be unintended: more contexts than treatments; raw counts,
    or levels of expression in place of differences; a control among the treatments; names that differ only by blanks or
    case; and doses or times that differ between rows that are combined.

    Parameters
    ----------
    adata
        Profiles or cells × genes, dense or sparse. Not changed.
    obs_key
        Column of ``obs`` with the treatments: drugs, donors, whatever is repeated in each context. With a list, such as
        ``["drug", "dose"]``, every combination is a treatment; its name joins the values with ``"_"``.
        Floats that are all whole have the names of integers, as in a column of numbers with a gap.
    context_key
        Column of ``obs`` with the contexts: cell lines, tissues, doses. A list as for `obs_key`, such as ``["cell_line", "dose"]``,
        is also written to ``mdata.uns["contexts"]``.
    layer
        Layer to read; `adata.X` if None.
    aggregate
        How rows (replicates or cells) that share a treatment and a context are combined: ``"mean"``, ``"sum"`` or
        ``"median"``. For each gene, the rows that have a value are combined, so a failed replicate costs nothing; if
        none has, the result is NaN. How many values were NaN is logged.

    Returns
    -------
    MuData with one modality per context, in the order of the categories, or sorted. Both axes are shared (``axis=-1``):
    ``mdata.obs_names`` are all treatments, ``mdata.var_names`` the genes. In each modality:

    ``X`` : float64, dense
        Treatments × genes, with the treatments that were measured in the context.
    ``obs["n_profiles"]`` : int
        How many rows were combined: those with at least one value. 0 where the profile is missing.

    ``uns["contexts"]`` : DataFrame
        Only if `context_key` is a list: its columns, one row for every context. ``kx.tl.KroneckerOptions(context_coordinates={"dose":
        "log"})`` then knows doses that are near one another.

    Columns of ``adata.obs`` that have one value for all rows that are combined, such as a drug's mechanism of action, the columns of
    a list `obs_key`, or numbers of cells, are kept in ``obs``; others are dropped.

    Raises
    ------
    KeyError
        If there is no such column or layer.
    TypeError
        If a key is neither a str nor a list of them, or its column holds values such as lists, or the matrix is not numeric and
        real, or not in memory.
    ValueError
        If `adata` is backed, a value is infinite, genes or columns are not unique, a key names a column twice, different values
        have the same name, there are fewer than two contexts, or one whose name cannot be saved.

    References
    ----------
    :cite:t:`Hodos2018`, for tensors of this kind.

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
    objects.unique_columns(adata.obs, "adata.obs")
    objects.unique_columns(adata.var, "adata.var")
    checks.one_of(aggregate, get_args(Aggregate), "aggregate")
    by_treatment, by_context = (_columns(adata, *key) for key in ((obs_key, "obs_key"), (context_key, "context_key")))
    if both := [key for key in by_treatment if key in by_context]:
        msg = f"`obs_key` and `context_key` must differ, both are or have {both[0]!r}."
        raise ValueError(msg)
    tensors.require_unique(adata.var_names, "genes (var_names)", "Run `adata.var_names_make_unique()` first.", "adata")
    matrix, kept = _measured(adata, layer, tensors.matrix(adata, layer, "adata"))
    table = adata.obs[kept]
    treatments, contexts = (_categories(table, key) for key in (by_treatment, by_context))
    tensors.require_names(list(contexts.categories), by_context[0] if len(by_context) == 1 else None)
    if len(contexts.categories) < 2:
        where = ", ".join(f"`adata.obs[{key!r}]`" for key in by_context)
        msg = f"A tensor needs at least 2 contexts; {where} has {len(contexts.categories)}."
        raise ValueError(msg)
    named = (treatments.codes >= 0) & (contexts.codes >= 0)
    if not named.all():
        logger.info("tensor: %d of %d rows without a treatment or a context are left out", (~named).sum(), len(named))
        matrix, table, treatments, contexts = matrix[named], table[named], treatments[named], contexts[named]

    pair = contexts.codes.astype(np.int64) * len(treatments.categories) + treatments.codes
    _tell(matrix, treatments, contexts, obs_key, context_key)
    doubts.of_controls(treatments.categories, {key: table[key].dropna().astype(str).unique() for key in by_treatment})
    doubts.of_averaged(table.drop(columns=[*by_treatment, *by_context]), pair, by_treatment, by_context, aggregate)

    pairs, first, group = np.unique(pair, return_index=True, return_inverse=True)
    values = _aggregated(matrix, group, len(pairs), aggregate)
    counts = np.bincount(group[tensors.has_value(matrix)], minlength=len(pairs))
    dropped = [*(by_treatment if len(by_treatment) == 1 else []), *by_context]
    properties = _alike(table.drop(columns=dropped), first, group)
    modalities = {}
    for c, context in enumerate(contexts.categories):
        here = pairs // len(treatments.categories) == c
        names = treatments.categories[pairs[here] % len(treatments.categories)]
        obs = pd.DataFrame({keys.N_PROFILES: counts[here]}, index=names)
        obs = obs.join(properties[here].set_axis(names))
        modalities[context] = AnnData(values[here], obs=obs, var=adata.var.copy())
    with tensors.without_pulling():
        mdata = MuData(modalities, axis=-1)
    if not isinstance(context_key, str):
        mdata.uns[keys.CONTEXTS] = _coordinates(table[by_context], contexts)
    return mdata


def _coordinates(table: pd.DataFrame, contexts: pd.Categorical) -> pd.DataFrame:
    """Return the columns that make the names of contexts, one row for each; of categories, their values."""
    _, first = np.unique(contexts.codes, return_index=True)
    return pd.DataFrame(
        {key: table[key].iloc[first].to_numpy() for key in table}, index=contexts.categories[contexts.codes[first]]
    )


def _columns(adata: AnnData, key: str | Sequence[str], argument: str) -> list[str]:
    """Return the columns of obs that a key names."""
    if isinstance(key, pd.Series):
        msg = f"`{argument}` must name a column of `adata.obs`, or several in a list; found the column itself, {key.name!r}."
        raise TypeError(msg)
    found = checks.texts(key, argument, "columns of `adata.obs`")
    for name in found:
        objects.key_in(name, adata.obs, "adata.obs")
    if not found or len(set(found)) < len(found):
        msg = f"`{argument}` must name columns of `adata.obs`, each once, found {found}."
        raise ValueError(msg)
    return found


def _measured(
    adata: AnnData, layer: str | None, matrix: np.ndarray | sparse.csr_matrix | sparse.csr_array
) -> tuple[np.ndarray | sparse.csr_matrix | sparse.csr_array, np.ndarray]:
    """Return the rows that hold measured values, with NaN where one is marked as a prediction, and which rows they are."""
    rows, entries = measured.predictions(adata, layer)
    rows &= tensors.has_value(matrix)
    if entries is not None:
        matrix = matrix.toarray() if sparse.issparse(matrix) else matrix
        entries &= ~np.isnan(matrix)
        matrix = np.where(entries, np.nan, matrix)
        rows |= entries.any(axis=1) & np.isnan(matrix).all(axis=1)
    if rows.any() or entries is not None and entries.any():
        measured.warn_of_left_out(adata, layer, rows, entries)
    if layer is None and entries is None and (unknown := measured.n_not_told(adata.obs[~rows])):
        warn(
            f"Measured rows hold {checks.number(unknown, 'predicted value')} (`adata.obs[{keys.PREDICTED_VALUES!r}]`). Nothing says which, "
            "so they count as measured; the .h5mu file that was written with such a table says it."
        )
    return matrix[~rows] if rows.any() else matrix, ~rows


def _tell(matrix, treatments: pd.Categorical, contexts: pd.Categorical, obs_key, context_key) -> None:
    """Log how large the tensor is, and warn of what may not be meant."""
    n, c = len(treatments.categories), len(contexts.categories)
    logger.info("tensor: %d treatments × %d contexts", n, c)
    if c > n:
        warn(
            f"There are more contexts ({c}, {context_key!r}) than treatments ({n}, {obs_key!r}). If they are swapped, use "
            f"obs_key={context_key!r}, context_key={obs_key!r}."
        )
    doubts.of_levels(matrix, doubts.controls(treatments.categories))
    doubts.of_names(treatments.categories, "treatments")
    doubts.of_names(contexts.categories, "contexts")


def _alike(table: pd.DataFrame, first: np.ndarray, group: np.ndarray) -> pd.DataFrame:
    """Return the columns that do not vary within any group of rows; one row, its ``first``, for each."""
    table = table.drop(
        columns=[keys.N_PROFILES, keys.PREDICTED_VALUES, *keys.OF_PROFILES], errors="ignore"
    ).reset_index(drop=True)
    alike = table.iloc[first[group]].reset_index(drop=True)
    return table.iloc[first][[key for key in table if table[key].equals(alike[key])]]


def _categories(table: pd.DataFrame, columns: list[str]) -> pd.Categorical:
    """Return columns as categories with plain names: those in use, in their order, or sorted; of several, the combinations."""
    parts = [labels.named(table[key]) for key in columns]
    if len(parts) == 1:
        return parts[0]
    codes = np.stack([part.codes for part in parts], axis=1)
    known = (codes >= 0).all(axis=1)
    distinct, number = np.unique(codes[known], axis=0, return_inverse=True)
    names = [_BETWEEN.join(part.categories[code] for part, code in zip(parts, row, strict=True)) for row in distinct]
    labels.different(names, f"`adata.obs[{columns!r}]`")
    joined = np.full(len(table), -1)
    joined[known] = number.ravel()
    return pd.Categorical.from_codes(joined, names)


def _aggregated(
    matrix: np.ndarray | sparse.csr_matrix | sparse.csr_array, group: np.ndarray, n_groups: int, how: Aggregate
) -> np.ndarray:
    """Aggregate rows by group, of each gene those that have a value: groups × genes, float64, NaN where none has."""
    n_missing = int(np.isnan(matrix.data if sparse.issparse(matrix) else matrix).sum())
    if n_missing:
        logger.info("tensor: %d values of rows are NaN, and left out when rows are combined by %s", n_missing, how)
    if how == "median":
        return np.stack([_median(rows) for rows in _rows_of_groups(matrix, group, n_groups)])
    ones = np.ones(len(group))
    member = sparse.csr_array((ones, (group, np.arange(len(group)))), shape=(n_groups, len(group)))
    if sparse.issparse(matrix):
        values = sparse.csr_array(matrix.astype(np.float64))
        missing = sparse.csr_array((np.isnan(values.data).astype(float), values.indices, values.indptr), values.shape)
        values.data[np.isnan(values.data)] = 0.0
        total, n_missing_here = (member @ values).toarray(), (member @ missing).toarray()
    else:
        gaps = np.isnan(matrix)
        total, n_missing_here = member @ np.where(gaps, 0.0, matrix.astype(np.float64)), member @ gaps.astype(float)
    n = member.sum(axis=1)[:, None] - n_missing_here
    divisor = n if how == "mean" else np.ones_like(n)
    return np.divide(total, divisor, out=np.full(total.shape, np.nan), where=n > 0)


def _rows_of_groups(matrix, group: np.ndarray, n_groups: int) -> Iterator[np.ndarray]:
    """Yield the rows of each group, dense."""
    order = np.argsort(group, kind="stable")
    for rows in np.split(order, np.cumsum(np.bincount(group, minlength=n_groups))[:-1]):
        found = matrix[rows]
        yield (found.toarray() if sparse.issparse(found) else found).astype(np.float64)


def _median(rows: np.ndarray) -> np.ndarray:
    """Compute the median of each column over its values, NaN where it has none."""
    has = ~np.isnan(rows).all(axis=0)
    found = np.full(rows.shape[1], np.nan)
    found[has] = np.nanmedian(rows[:, has], axis=0)
    return found
