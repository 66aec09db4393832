"""Checks of what users hand in, and the sentences that say what was found and what to do about it."""

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scipy import sparse


def is_anndata(
    adata: Any, expected: str = "an AnnData object", made_by: str = "of the matrix, cells × genes: `anndata.AnnData(X)`"
) -> None:
    """Require an AnnData object in memory; ``expected`` is what the caller takes, ``made_by`` how a matrix becomes one."""
    if not isinstance(adata, AnnData):
        msg = f"Expected {expected}, found {type(adata).__module__}.{type(adata).__qualname__}."
        if isinstance(adata, MuData):
            msg += f" Pass one of its modalities, such as `mdata[{next(iter(adata.mod), 'name')!r}]`."
        elif isinstance(adata, str | os.PathLike):
            msg += " Read the file first, e.g. with `scanpy.read_h5ad(path)`."
        elif isinstance(adata, np.ndarray | pd.DataFrame) or sparse.issparse(adata):
            msg += f" Make one {made_by}."
        raise TypeError(msg)
    if adata.isbacked:
        msg = f"The AnnData object is backed by {str(adata.filename)!r}. Run `adata = adata.to_memory()` first."
        raise ValueError(msg)


def holds_graph(data: Any, axis: str) -> None:
    """Require an AnnData object in memory; for a graph of the cells, a MuData object will do."""
    if axis == "var":
        is_anndata(data)
    elif not isinstance(data, MuData):
        is_anndata(data, "an AnnData or MuData object")


def called(data: AnnData | MuData) -> str:
    """Give the name that messages have for an object."""
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
        name(modality, "name of a modality")
        if not isinstance(adata, AnnData):
            msg = f"`mdata[{modality!r}]` is a {type(adata).__qualname__}; AnnData objects are needed."
            raise TypeError(msg)
        repeated = adata.obs_names[adata.obs_names.duplicated()].unique()
        if len(repeated):
            msg = (
                f"`mdata[{modality!r}]` has {number(len(repeated), 'cell name')} more than once "
                f"({', '.join(repeated[:3])}); cells are matched by name. Run `obs_names_make_unique()`."
            )
            raise ValueError(msg)
        if not adata.obs_names.isin(mdata.obs_names).all():
            msg = f"Some cells of `mdata[{modality!r}]` are not in `mdata.obs_names`. Run `mdata.update()` first."
            raise ValueError(msg)
    _cells_are_shared({modality: adata.obs_names for modality, adata in mdata.mod.items() if adata.n_obs})


def _cells_are_shared(names: Mapping[str, pd.Index]) -> None:
    """Require of every modality, if there are several, that it shares a cell with another one."""
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


def key_in(key: str, mapping: Mapping, name: str, remedy: str = "") -> None:
    """Require a key in a part of an AnnData object, such as ``adata.layers``."""
    if key not in mapping:
        available = sorted((str(k) for k in mapping if k is not None), key=_numbers_in_order)
        msg = f"Key {key!r} not found in `{name}`. Available keys: {available}. {remedy}".rstrip()
        raise KeyError(msg)


def _numbers_in_order(text: str) -> list[str | int]:
    """Give the key by which texts are sorted such that "2" stands before "10"."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]


def known(name: Any, names: Iterable[str], what: str, *, most: int = 5) -> None:
    """Require one of perhaps many names; if it is none, give those that are most like it, or the first few, or `most`."""
    names = list(map(str, names))
    if name not in names:
        hint = _did_you_mean(name, names) or f" There are {listed(names, most)}."
        msg = f"There is no {what} {name!r}.{hint}"
        raise KeyError(msg)


def _did_you_mean(name: Any, names: list) -> str:
    """Ask whether one of the names that are most alike was meant."""
    texts = [text for text in names if isinstance(text, str)]
    alike = difflib.get_close_matches(name, texts) if isinstance(name, str) else []
    return f" Did you mean {' or '.join(map(repr, alike))}?" if alike else ""


def listed(names: Sequence[Any], most: int = 5) -> str:
    """Write the first few of many names."""
    return ", ".join(map(str, names[:most])) + (", …" if len(names) > most else "")


def number(n: int, noun: str) -> str:
    """Count things."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def type_of(value: Any) -> str:
    """Name the type of what was found; of a class, say that it is one."""
    return f"the class {value.__qualname__}" if isinstance(value, type) else type(value).__qualname__


def result_of(value: Any, kind: type, function: str) -> None:
    """Require what a function returns."""
    if not isinstance(value, kind):
        msg = f"Expected the result of {function}, found {type_of(value)}."
        raise TypeError(msg)


def array(value: Any, name: str, axes: str = "treatments × contexts × genes") -> np.ndarray:
    """Give numbers as an array in float64; ``axes`` is what the caller takes."""
    if isinstance(value, list | tuple) or hasattr(value, "__array__"):
        try:
            return np.asarray(value, np.float64)
        except (TypeError, ValueError) as error:
            msg = f"`{name}` must be an array of numbers, {axes}: {error}."
            raise TypeError(msg) from error
    msg = f"`{name}` must be an array, {axes}, found {type_of(value)}. {_way_to_array(value)}"
    raise TypeError(msg.rstrip())


def _way_to_array(value: Any) -> str:
    """Say how an array is made of something."""
    if isinstance(value, MuData):
        return "Get one with kx.get.array(mdata), or of predictions with kx.get.array(mdata, layer='completed')."
    if isinstance(value, AnnData):
        return "Take its `.X` or one of its `.layers`; of a tensor in a MuData object, kx.get.array(mdata)."
    if hasattr(value, "profiles") and hasattr(value, "methods"):
        return "Get one with kx.get.array(result), or of predictions with kx.get.array(result, layer=method)."
    return "Make it dense with `.toarray()`." if sparse.issparse(value) else ""


def one_of(value: Any, allowed: Iterable, name: str) -> None:
    """Require one of a few values."""
    allowed = list(allowed)
    if value not in allowed:
        msg = f"`{name}` must be one of {allowed}, found {value!r}.{_did_you_mean(value, allowed)}"
        raise ValueError(msg)


def integer(value: Any, name: str, *, low: int, high: int | None = None, why: str = "") -> None:
    """Require an integer between two bounds, both included."""
    span = f"an integer of at least {low}" if high is None else f"an integer from {low} to {high}"
    ok = (
        isinstance(value, Integral) and not isinstance(value, bool) and value >= low and (high is None or value <= high)
    )
    if not ok:
        msg = f"`{name}` must be {span}{why}, found {value!r}."
        raise ValueError(msg)


def name(value: Any, argument: str) -> None:
    """Require a name that can be a key in a file."""
    if not isinstance(value, str) or not value or "/" in value:
        msg = f"`{argument}` must be a non-empty str without '/', found {value!r}."
        raise ValueError(msg)


def positive(value: Any, name: str, *, high: float = np.inf) -> None:
    """Require a positive finite number, at most ``high``."""
    ok = isinstance(value, Real) and not isinstance(value, bool) and 0 < value < np.inf and value <= high
    if not ok:
        limit = f" of at most {high:g}" if np.isfinite(high) else ""
        msg = f"`{name}` must be a positive number{limit}, found {value!r}."
        raise ValueError(msg)


def not_negative(value: Any, name: str, *, below: float = np.inf) -> None:
    """Require a finite number of at least 0, and less than ``below``."""
    ok = isinstance(value, Real) and not isinstance(value, bool) and 0 <= value < below
    if not ok:
        limit = f" and less than {below:g}" if np.isfinite(below) else ""
        msg = f"`{name}` must be a number of at least 0{limit}, found {value!r}."
        raise ValueError(msg)


def share(value: Any, name: str) -> None:
    """Require a number from 0 to 1."""
    if not (isinstance(value, Real) and not isinstance(value, bool) and 0 <= value <= 1):
        msg = f"`{name}` must be a number from 0 to 1, found {value!r}."
        raise ValueError(msg)


def boolean(value: Any, name: str) -> None:
    """Require True or False."""
    if not isinstance(value, bool | np.bool_):
        msg = f"`{name}` must be True or False, found {value!r}."
        raise ValueError(msg)


def auto_or_boolean(value: Any, name: str) -> None:
    """Require True, False or ``"auto"``."""
    if not (isinstance(value, bool | np.bool_) or isinstance(value, str) and value == "auto"):
        msg = f"`{name}` must be 'auto', True or False, found {value!r}."
        raise ValueError(msg)


@dataclass(frozen=True)
class Counts:
    """A matrix without its empty rows and columns.

    Attributes
    ----------
    matrix
        CSR, float64, a copy, no stored zeros; a non-zero entry in every row and column.
    cells, genes
        Positions of its rows and columns in the AnnData object.
    shape
        Shape of the AnnData object.
    """

    matrix: sparse.csr_array
    cells: np.ndarray
    genes: np.ndarray
    shape: tuple[int, int]


def counts(adata: AnnData, layer: str | None, of: str = "adata") -> Counts:
    """Read a matrix of at least two cells and two genes that have non-zero values."""
    matrix, where = stored_matrix(adata, layer, of)
    if min(matrix.shape) < 2:
        n, p = matrix.shape
        msg = f"{where} has {number(n, 'cell')} and {number(p, 'gene')}; at least 2 of each are needed."
        raise ValueError(msg)
    cells = np.flatnonzero(np.diff(matrix.indptr))
    genes = np.flatnonzero(np.bincount(matrix.indices, minlength=matrix.shape[1]))
    if min(len(cells), len(genes)) < 2:
        msg = (
            f"{where} has non-zero values in {len(cells)} of {number(matrix.shape[0], 'cell')} and {len(genes)} of "
            f"{number(matrix.shape[1], 'gene')}; at least 2 of each are needed. Check that the right layer was named."
        )
        raise ValueError(msg)
    return Counts(sparse.csr_array(matrix[cells][:, genes]), cells, genes, matrix.shape)


def stored_matrix(adata: AnnData, layer: str | None, of: str = "adata") -> tuple[sparse.csr_array, str]:
    """Read X or a layer, all of it, and say where it stands; ``of`` is what the user calls the object."""
    where = place(layer, of)
    if layer is not None:
        key_in(layer, adata.layers, f"{of}.layers")
    found = adata.X if layer is None else adata.layers[layer]
    if found is None:
        msg = (
            f"{where} is None. Name the layer to use with `layer=…`; available: {sorted(k for k in adata.layers if k)}."
        )
        raise ValueError(msg)
    return real_matrix(found, where), where


def place(layer: str | None, of: str = "adata") -> str:
    """Say where X or a layer stands; ``of`` is what the user calls the object."""
    return f"`{of}.X`" if layer is None else f"`{of}.layers[{layer!r}]`"


def real_matrix(found: Any, where: str) -> sparse.csr_array:
    """Copy a dense or sparse matrix to CSR in float64, without stored zeros; require finite numbers."""
    if not (isinstance(found, np.ndarray) or sparse.issparse(found)):
        msg = (
            f"{where} is a {type(found).__module__}.{type(found).__qualname__}, which is not in memory. "
            "Run `adata = adata.to_memory()` first."
        )
        raise TypeError(msg)
    if not (np.issubdtype(found.dtype, np.bool_) or np.isrealobj(found) and np.issubdtype(found.dtype, np.number)):
        msg = f"{where} has dtype {found.dtype}; real numbers are needed. Convert it, e.g. with `.astype('float32')`."
        raise TypeError(msg)
    matrix = sparse.csr_array(found.astype(np.float64))
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    finite = np.isfinite(matrix.data)
    if not finite.all():
        msg = (
            f"{where} has {int((~finite).sum())} NaN or infinite values. "
            "Replace them, or remove the cells or genes that hold them."
        )
        raise ValueError(msg)
    return matrix


def memory(needed: int, remedy: str) -> None:
    """Require that so many bytes are free."""
    free = _free_bytes()
    if needed > free:
        msg = f"About {needed / 2**30:.1f} GiB are needed and {free / 2**30:.1f} GiB are free. {remedy}"
        raise MemoryError(msg)


def _free_bytes() -> float:
    """Give the memory that can be had without swapping; infinity where the system does not tell."""
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
