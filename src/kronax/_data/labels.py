"""A column of ``obs`` that says which group every row belongs to: the batch or type of a cell, the treatment or context of a profile."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from pandas.api.types import is_hashable

from kronax._data import objects
from kronax._data.graph_in import modalities
from kronax.solvers import checks

Column = tuple[Any, str]  # its values, and where it stands


def columns(data: AnnData | MuData, key: str) -> dict[str, Column]:
    """Return the column for the cells of every modality.

    That of a MuData object is in its own ``obs``, or else in the ``obs`` of every modality.
    """
    parts = modalities(data)
    if not isinstance(data, MuData):
        objects.key_in(key, data.obs, "adata.obs")
        return {"": (data.obs[key], f"`adata.obs[{key!r}]`")}
    if isinstance(key, str) and key in data.obs:
        objects.key_in(key, data.obs, "mdata.obs")
        column, where = data.obs[key], f"`mdata.obs[{key!r}]`"
        return {name: (column.iloc[data.obs_names.get_indexer(part.obs_names)], where) for name, part in parts.items()}
    lacking = [name for name, part in parts.items() if key not in part.obs]
    if lacking:
        remedy = f"It is neither there nor in the `obs` of {checks.listed([repr(name) for name in lacking])}."
        objects.key_in(key, data.obs, "mdata.obs", remedy)
    for name, part in parts.items():
        objects.key_in(key, part.obs, f"mdata[{name!r}].obs")
    return {name: (part.obs[key], f"`mdata[{name!r}].obs[{key!r}]`") for name, part in parts.items()}


def categories(column: Column, cells: np.ndarray, kind: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the number of the group of some cells, (cells,), and the names of the groups that they are in.

    ``kind`` is what a group is, such as a batch. The column may be one that is read lazily.
    """
    values, where = column
    values = series(values).iloc[cells]
    missing = values.isna() | (values.astype(str) == "")
    if n_missing := int(missing.sum()):
        msg = (
            f"{where} is missing in {n_missing:,} of {checks.number(len(values), 'cell')}; every cell needs a {kind}. Fill the "
            "column, or leave these cells out."
        )
        raise ValueError(msg)
    found = values.astype("category").cat.remove_unused_categories().cat
    return found.codes.to_numpy().astype(np.intp), different(found.categories, where)


def different(values: Iterable[Any], where: str) -> tuple[str, ...]:
    """Return different values as texts; refuse some that are written alike."""
    names = tuple(objects.texts(values))
    if len(set(names)) < len(names):
        repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        msg = f"{where} has different values that are written alike ({checks.listed(repeated, 3)}): make them one, or rename them."
        raise ValueError(msg)
    return names


def series(column: Any) -> pd.Series:
    """Return a list or a column of a table, which may be one that is read lazily."""
    return (
        column if isinstance(column, pd.Series) else pd.Series(column.to_numpy() if hasattr(column, "dims") else column)
    )


def texts(column: Any) -> np.ndarray:
    """Return the values of a column as texts, NaN where they are missing."""
    values = series(column).astype(object)
    return values.map(str, na_action="ignore").where(values.notna(), np.nan).to_numpy()


def named(column: pd.Series) -> pd.Categorical:
    """Return a column of ``adata.obs`` as categories with plain names: those in use, in their order, or sorted."""
    where = f"`adata.obs[{column.name!r}]`"
    try:
        found = pd.Categorical(column).remove_unused_categories()
    except TypeError as error:
        odd = next(value for value in column if not is_hashable(value))
        msg = f"{where} must hold names, found {checks.type_of(odd)}. Make texts of its values, e.g. with `.map(str)`."
        raise TypeError(msg) from error
    # of its own precision: 0.1, not 0.10000000149011612
    return found.rename_categories(different(found.categories.to_numpy(), where))
