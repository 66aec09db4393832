"""Checks of AnnData and MuData objects, and of the memory that a job needs."""

import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from kronax.solvers import checks


def is_anndata(
    adata: Any,
    expected: str = "an AnnData object",
    made_by: str = "of the matrix, cells × genes: `anndata.AnnData(X)`",
    *,
    backed: bool = False,
) -> None:
    """Require an AnnData object; ``expected`` is what the caller takes, ``made_by`` converts a matrix.

    ``backed`` tells whether its matrix may be in a file.
    """
    if not isinstance(adata, AnnData):
        msg = f"Expected {expected}, found {type(adata).__module__}.{type(adata).__qualname__}."
        if isinstance(adata, MuData):
            msg += f" Pass one of its modalities, such as `mdata[{next(iter(adata.mod), 'name')!r}]`."
        elif isinstance(adata, str | os.PathLike):
            msg += " Read the file first, e.g. with `scanpy.read_h5ad(path)`."
        elif isinstance(adata, np.ndarray | pd.DataFrame) or sparse.issparse(adata):
            msg += f" Make one {made_by}."
        raise TypeError(msg)
    if adata.isbacked and not backed:
        msg = f"The AnnData object is backed by {str(adata.filename)!r}. Run `adata = adata.to_memory()` first."
        raise ValueError(msg)


def holds_graph(data: Any, axis: str) -> None:
    """Require an AnnData object, whose matrix may be in a file; for a graph of the cells, a MuData object will do."""
    if axis == "var":
        is_anndata(data, backed=True)
    elif not isinstance(data, MuData):
        is_anndata(data, "an AnnData or MuData object", backed=True)


def writable(data: AnnData | MuData, *, copy: bool) -> None:
    """Require that results can be written to an object whose matrix is in a file: anndata copies such objects to files alone."""
    if isinstance(data, AnnData) and data.isbacked and (copy or data.is_view):
        what = "copy=True copies it" if copy else "this part of it would have to be copied"
        msg = f"The AnnData object is backed by {str(data.filename)!r}, and {what}. Run `adata = adata.to_memory()` first."
        raise ValueError(msg)


def called(data: AnnData | MuData) -> str:
    """Name an object as messages do."""
    return "mdata" if isinstance(data, MuData) else "adata"


def is_multimodal(mdata: MuData) -> None:
    """Require a MuData object in memory whose modalities share cells, each with a name of its own."""
    if mdata.isbacked:
        msg = f"The MuData object is backed by {str(mdata.filename)!r}. Read it without `backed` first."
        raise ValueError(msg)
    if mdata.axis != 0 or not mdata.mod:
        msg = f"The modalities must share cells (`axis=0`), found {len(mdata.mod)} modalities and axis={mdata.axis}."
        raise ValueError(msg)
    for modality, adata in mdata.mod.items():
        checks.name(modality, "name of a modality")
        if not isinstance(adata, AnnData):
            msg = f"`mdata[{modality!r}]` is a {type(adata).__qualname__}; AnnData objects are needed."
            raise TypeError(msg)
        if n_unnamed := int(adata.obs_names.isna().sum()):
            msg = (
                f"`mdata[{modality!r}]` has {checks.number(n_unnamed, 'cell')} without a name; cells are matched by name. Give "
                "every cell its own in `obs_names`, then make the MuData object."
            )
            raise ValueError(msg)
        repeated = adata.obs_names[adata.obs_names.duplicated()].unique()
        if len(repeated):
            msg = (
                f"`mdata[{modality!r}]` has {checks.number(len(repeated), 'cell name')} more than once "
                f"({checks.listed(repeated, 3)}); cells are matched by name. Run `obs_names_make_unique()`."
            )
            raise ValueError(msg)
        if not adata.obs_names.isin(mdata.obs_names).all():
            msg = f"Some cells of `mdata[{modality!r}]` are not in `mdata.obs_names`. Run `mdata.update()` first."
            raise ValueError(msg)
    _cells_are_shared({modality: adata.obs_names for modality, adata in mdata.mod.items() if adata.n_obs})


def _cells_are_shared(names: Mapping[str, pd.Index]) -> None:
    """Require that every modality, if there are several, shares a cell with another one."""
    for modality, mine in names.items():
        others = {other: theirs for other, theirs in names.items() if other != modality}
        if others and not any(mine.isin(theirs).any() for theirs in others.values()):
            other, theirs = next(iter(others.items()))
            msg = (
                f"`mdata[{modality!r}]` shares no cell with another modality; cells are matched by name. Its cells are "
                f"called like {mine[0]!r}, those of `mdata[{other!r}]` like {theirs[0]!r}. Make the `obs_names` of the "
                "modalities agree, then make the MuData object."
            )
            raise ValueError(msg)


def text(name: Any) -> str:
    """Return a name as text; h5py reads texts as bytes."""
    return name.decode(errors="backslashreplace") if isinstance(name, bytes) else str(name)


def texts(names: Iterable) -> list[str]:
    """Return names as text: an index may also hold NaN, dates or numbers.

    Floats that are all whole are written as the integers that they were before pandas marked a gap among them.
    """
    names = list(names)
    whole = all(isinstance(name, float | np.floating) and name.is_integer() for name in names)
    return [text(int(name) if whole else name) for name in names]


def key_in(key: str, mapping: Mapping, name: str, remedy: str = "") -> None:
    """Require a key in a part of an AnnData object, such as ``adata.layers``; in a table, one column of that name."""
    if not isinstance(key, str):
        msg = f"A key of `{name}` must be a str, found {checks.type_of(key)}."
        raise TypeError(msg)
    if key not in mapping:
        available = sorted((str(k) for k in mapping if k is not None), key=_numbers_in_order)
        hint = checks.did_you_mean(key, available)
        msg = f"Key {key!r} not found in `{name}`.{hint} Available keys: {available}. {remedy}".rstrip()
        raise KeyError(msg)
    if isinstance(mapping, pd.DataFrame) and isinstance(mapping[key], pd.DataFrame):
        unique_columns(mapping, name)


def unique_columns(table: pd.DataFrame, where: str) -> None:
    """Require a name of its own for every column of a table, such as ``adata.obs``."""
    columns = table.columns
    if not columns.is_unique:
        repeated = checks.listed([repr(name) for name in columns[columns.duplicated()].unique()])
        msg = (
            f"`{where}` has more than one column called {repeated}. Rename all but one or, to keep the first, run "
            f"`{where} = {where}.loc[:, ~{where}.columns.duplicated()]`."
        )
        raise ValueError(msg)


def entry(data: Any, key: str, field: str | None, remedy: str) -> Mapping:
    """Return what a function wrote under a key of uns; ``field`` is a name that all of its results have."""
    where = f"{called(data)}.uns"
    key_in(key, data.uns, where, remedy)
    found = data.uns[key]
    if not isinstance(found, Mapping) or field is not None and field not in found:
        msg = f"`{where}[{key!r}]` is something else, {checks.type_of(found)}. {remedy}"
        raise KeyError(msg)
    return found


def _numbers_in_order(text: str) -> list[str | int]:
    """Return a key that sorts "2" before "10"."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]


def result_of(value: Any, kind: type, function: str) -> None:
    """Require what a function returns."""
    if not isinstance(value, kind):
        msg = f"Expected the result of {function}, found {checks.type_of(value)}."
        raise TypeError(msg)


def array(value: Any, name: str, axes: str = "treatments × contexts × genes") -> np.ndarray:
    """Return numbers as a float64 array; ``axes`` names the axes that the caller takes."""
    if isinstance(value, list | tuple) or hasattr(value, "__array__"):
        try:
            return (
                np.ma.filled(np.ma.asarray(value, np.float64), np.nan)
                if np.ma.isMaskedArray(value)
                else np.asarray(value, np.float64)
            )
        except (TypeError, ValueError) as error:
            msg = f"`{name}` must be an array of numbers, {axes}: {error}."
            raise TypeError(msg) from error
    msg = f"`{name}` must be an array, {axes}, found {checks.type_of(value)}. {_way_to_array(value)}"
    raise TypeError(msg.rstrip())


def _way_to_array(value: Any) -> str:
    """Return a sentence on how to make an array of what was passed."""
    if isinstance(value, MuData):
        return "Get one with kx.get.array(mdata), or of predictions with kx.get.array(mdata, layer='completed')."
    if isinstance(value, AnnData):
        return "Take its `.X` or one of its `.layers`; of a tensor in a MuData object, kx.get.array(mdata)."
    if hasattr(value, "profiles") and hasattr(value, "methods"):
        return "Get one with kx.get.array(result), or of predictions with kx.get.array(result, layer=method)."
    return "Make it dense with `.toarray()`." if sparse.issparse(value) else ""


def memory(needed: int, remedy: str) -> None:
    """Require that so many bytes are free."""
    free = _free_bytes()
    if needed > free:
        msg = f"About {needed / 2**30:.1f} GiB are needed and {free / 2**30:.1f} GiB are free. {remedy}"
        raise MemoryError(msg)


def how_many(size: int, *, beside: int) -> float:
    """Return how many pieces of work of ``size`` bytes fit into half of the free memory, ``beside`` other bytes; at least 1."""
    return max(1.0, (0.5 * _free_bytes() - beside) // size)


def _free_bytes() -> float:
    """Return the bytes of memory available without swapping; infinity where the system does not tell."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            sizes = dict(line.split(":", 1) for line in file)
        return 1024.0 * int(sizes["MemAvailable"].split()[0])
    except (OSError, KeyError):
        pass
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return np.inf
