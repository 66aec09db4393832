"""Columns of obs that describe treatments: new rows get what other contexts say of the treatment."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from pandas.api.types import is_object_dtype

from kronax._data import keys


@dataclass(frozen=True)
class Description:
    """What all contexts agree on.

    Attributes
    ----------
    values
        By treatment; None where no context has a value.
    dtype
        Holds the values of every context. Categorical columns keep their own.
    """

    values: pd.Series
    dtype: np.dtype | pd.api.extensions.ExtensionDtype


def agreed(mdata: MuData, treatments: pd.Index) -> dict[str, Description]:
    """Find the columns on which, for every treatment, all contexts with a value agree.

    At least two contexts must have a value for the same treatment; otherwise, nothing shows what the column describes. What describes
    a measurement, such as its number of cells, holds for no other, alike or not.
    """
    of_measurements = {keys.N_PROFILES, *keys.OF_PROFILES, *keys.OF_EFFECTS}
    tables = [adata.obs for adata in mdata.mod.values()]
    names = dict.fromkeys(key for table in tables for key in table if key not in of_measurements)
    found = {key: _description([table[key] for table in tables if key in table], treatments) for key in names}
    return {key: description for key, description in found.items() if description is not None}


def _description(columns: list[pd.Series], treatments: pd.Index) -> Description | None:
    columns = [column for column in columns if column.notna().any()]
    plain = [pd.Series(np.asarray(c), c.index) if _is_categorical(c) else c for c in columns]
    if len(columns) < 2 or not _go_together(columns, plain):
        return None
    values, shared = pd.Series(None, treatments, dtype=object), False
    for column in plain:
        own = column.dropna().astype(object)
        both = own.index.intersection(values.index[values.notna()])
        if not own[both].equals(values[both]):  # arrays, too
            return None
        shared |= len(both) > 0
        values[own.index] = own
    return Description(values, pd.concat(plain).dtype) if shared else None


def _go_together(columns: list[pd.Series], plain: list[pd.Series]) -> bool:
    """Return whether one column can hold all values: they are of one kind, and an order, if any, includes them all."""
    ordered = [column.dtype for column in columns if _is_categorical(column) and column.cat.ordered]
    if ordered and any(column.dtype != ordered[0] for column in columns):
        return False
    kinds = {pd.api.types.infer_dtype(column, skipna=True) for column in plain}
    return len(kinds) == 1 or not is_object_dtype(pd.concat(plain).dtype)


def _is_categorical(column: pd.Series) -> bool:
    return isinstance(column.dtype, pd.CategoricalDtype)


def reindexed(adata: AnnData, treatments: pd.Index, descriptions: dict[str, Description]) -> pd.DataFrame:
    """Return obs with a row for every treatment; new rows hold what is known of it, no profile, or missing values."""
    table = with_missing(adata.obs, treatments)
    if len(treatments.difference(adata.obs_names)):
        for key in table.columns.intersection(list(descriptions)):
            table[key] = _completed(adata.obs[key], descriptions[key])
        if keys.N_PROFILES in table and adata.obs[keys.N_PROFILES].dtype.kind in "iu":
            table[keys.N_PROFILES] = table[keys.N_PROFILES].fillna(0).astype(adata.obs[keys.N_PROFILES].dtype)
    return table


def _completed(column: pd.Series, known: Description) -> pd.Series:
    """Add rows; a column without a missing value keeps its dtype, or has that of all contexts."""
    new = known.values.index.difference(column.index, sort=False)
    values = column.astype(object).reindex(known.values.index)
    values[new] = known.values[new]
    if _is_categorical(column):
        more = pd.Index(known.values[new].dropna().unique()).difference(column.cat.categories)
        return values.astype(column.cat.add_categories(more).dtype)
    dtype = column.dtype if is_object_dtype(known.dtype) and column.notna().any() else known.dtype
    return values.astype(_holding_missing(dtype) if values.isna().any() else dtype)


def _holding_missing(dtype: np.dtype | pd.api.extensions.ExtensionDtype):
    """Choose the dtype in which a column can hold missing values and still be saved."""
    return pd.BooleanDtype() if dtype == np.bool_ else pd.Series(dtype=dtype, index=[]).reindex([0]).dtype


def with_missing(table: pd.DataFrame, names: pd.Index) -> pd.DataFrame:
    """Return rows by name, new ones with missing values, in columns that can still be saved."""
    if len(names.difference(table.index)):
        table = table.assign(
            **{key: column.astype(pd.BooleanDtype()) for key, column in table.items() if column.dtype == bool}
        )
    return table.reindex(names)
