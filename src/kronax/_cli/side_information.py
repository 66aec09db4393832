"""Similarities and coordinates from tables in files, for ``python -m kronax complete``."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from mudata import MuData
from pandas.api.types import is_numeric_dtype

from kronax._cli import tables
from kronax._cli.refusals import InputError, in_words, refused
from kronax._cli.terminal import note
from kronax._data import keys
from kronax._data import tensor as tensors
from kronax._data.aside import free_name
from kronax.solvers import checks
from kronax.solvers.tensor.method import Options
from kronax.solvers.tensor.wiener.options import KroneckerOptions

_CONTEXT_SIMILARITY = "context_similarity"


def add(mdata: MuData, options: Options, similarities: Sequence[Path], contexts: Path | None) -> Options:
    """Put tables into the object, and return options that name them."""
    with refused():
        tensors.check(mdata)
    if not similarities and contexts is None:
        return options
    if not isinstance(options, KroneckerOptions):
        msg = "--similarity and --contexts are for --method kronecker: other methods know nothing of similarities."
        raise InputError(msg)
    for path in similarities:
        options = _add_similarity(mdata, options, path)
    return options if contexts is None else _add_contexts(mdata, options, contexts)


def as_files(options: Options, similarities: Sequence[Path], contexts: Path | None) -> dict[str, str]:
    """Name the file of what errors call by its place in the object, and leave code for such an object out."""
    found: dict[str, Path] = {}
    if similarities:
        added = options.similarities[-len(similarities) :]
        found |= {f"mdata.obsp[{key!r}]": path for key, path in zip(added, similarities, strict=True)}
    if contexts is not None:
        found |= {f"mdata.uns[{key!r}]": contexts for key in (keys.CONTEXTS, _CONTEXT_SIMILARITY)}
    return {re.escape(place): str(path) for place, path in found.items()} | {", `[^`]* / 2`,": ""}


def _add_similarity(mdata: MuData, options: KroneckerOptions, path: Path) -> KroneckerOptions:
    """Put a similarity of treatments into obsp, under the name of its file."""
    treatments = mdata.obs_names
    if not treatments.is_unique:
        msg = "--similarity: the modalities of the file do not share treatments. Make it with `mudata.MuData(modalities, axis=-1)`."
        raise InputError(msg)
    key = free_name(path.stem, mdata.obsp) if path.stem in mdata.obsp else path.stem
    if not checks.savable(key):
        key = "similarity"
    mdata.obsp[key] = _square(_table(path), list(treatments), "treatments", path)
    return replace(options, treatment_similarity=(*options.similarities, key))


def _add_contexts(mdata: MuData, options: KroneckerOptions, path: Path) -> KroneckerOptions:
    """Put a similarity of contexts, or coordinates, into uns: a table whose columns are contexts is a similarity."""
    table, contexts = _table(path), list(mdata.mod)
    if set(contexts) <= set(table.columns):
        found = pd.DataFrame(_square(table, contexts, "contexts", path), index=contexts, columns=contexts)
        _keep(mdata, _CONTEXT_SIMILARITY)
        mdata.uns[_CONTEXT_SIMILARITY] = found
        return replace(options, context_similarity=_CONTEXT_SIMILARITY)
    _require(contexts, table.index, "rows", "contexts", path)
    _keep(mdata, keys.CONTEXTS)
    mdata.uns[keys.CONTEXTS] = table.loc[contexts]
    scales = options.context_coordinates or {
        column: "rank" if is_numeric_dtype(table[column]) else "category" for column in table
    }
    with refused():
        return replace(options, context_coordinates=scales)


def _table(path: Path) -> pd.DataFrame:
    """Read a table whose first column holds names."""
    table = tables.read(path, of_names={0})
    if table.shape[1] == 1:
        msg = f"{path} has names in its first column and nothing beside them; commas, semicolons or tabs separate columns."
        raise InputError(msg)
    table = table.set_index(table.columns[0]).rename_axis(None)
    table = table[table.index.notna()]
    if not table.index.is_unique:
        msg = f"{path} has more than one row for {checks.listed(list(table.index[table.index.duplicated()].unique()))}."
        raise InputError(msg)
    return table


def _square(table: pd.DataFrame, names: list[str], what: str, path: Path) -> np.ndarray:
    """Return the rows and columns of names, all of which there must be."""
    for kind, found in (("rows", table.index), ("columns", table.columns)):
        _require(names, found, kind, what, path)
    if more := len(table.index.difference(names)):
        note(f"{path.name}: {more} rows are of other {what}, and not used.")
    try:
        return table.loc[names, names].to_numpy(np.float64)
    except ValueError as error:
        msg = f"{path} must hold numbers: {in_words(error)}."
        raise InputError(msg) from error


def _require(names: list[str], found: pd.Index, kind: str, what: str, path: Path) -> None:
    if missing := [name for name in names if name not in found]:
        msg = f"{path} has no {kind} for {len(missing)} {what}: {checks.listed(missing)}. It needs one for each."
        raise InputError(msg)


def _keep(mdata: MuData, key: str) -> None:
    """Give what the file has under a name another one."""
    if key in mdata.uns:
        new = free_name(key, mdata.uns)
        mdata.uns[new] = mdata.uns.pop(key)
        note(f"kept: uns[{key!r}] of the file is now uns[{new!r}].")
