"""A tensor of profiles between MuData and arrays: one modality per context, treatments × genes in each."""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import mudata
import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from kronax._data import gene_names, keys, measured, objects
from kronax._data.matrix import place
from kronax._logging import logger
from kronax.solvers import checks

_EXACT = 2**53  # integers up to here are float64 numbers
_AVERAGING = (
    'Average them: `long = anndata.concat(mdata.mod, label="context"); long.obs["treatment"] = long.obs_names; '
    'mdata = kx.pp.tensor(long, obs_key="treatment", context_key="context")`.'
)


@dataclass(frozen=True)
class Tensor:
    """The values of all modalities, and where each of them comes from.

    Attributes
    ----------
    values
        ``(D, C, G)``, float64, NaN where missing.
    treatments
        The treatments of all modalities, in the order in which they first appear, ``D``.
    contexts
        The modalities, ``C``.
    genes
        The genes that every modality has, in the order of the first, ``G``.
    rows
        ``(D, C)``: the row of a treatment in a modality, -1 where it has none.
    columns
        ``(C, G)``: the column of a gene in a modality.
    matrices
        What was read of each modality, rows and columns as they stand there; sparse ones as CSR.
    layer
        The layer that was read, None for X.
    """

    values: np.ndarray
    treatments: pd.Index
    contexts: tuple[str, ...]
    genes: pd.Index
    rows: np.ndarray
    columns: np.ndarray
    matrices: tuple[np.ndarray | sparse.csr_matrix | sparse.csr_array, ...]
    layer: str | None

    @property
    def measured(self) -> np.ndarray:
        """``(D, C)``: whether a profile has at least one measured value."""
        return ~np.isnan(self.values).all(axis=2)

    @property
    def missing_entries(self) -> int:
        """Number of entries without a value, those of missing profiles included."""
        return int(np.isnan(self.values).sum())


def read(mdata: MuData, layer: str | None = None) -> Tensor:
    """Read a layer, or X, of all modalities as one tensor; nothing is changed.

    A profile is missing where its treatment is absent from the modality, or its row is all NaN; a single entry where it
    is NaN. A zero that a sparse matrix does not store is a measured zero. Genes that some modality lacks are left out,
    and counted in the log.

    Raises
    ------
    KeyError
        If a modality lacks the layer.
    TypeError
        If this is no MuData of AnnData objects in memory, with numbers.
    ValueError
        If it is backed; there are fewer than two modalities, or one whose name cannot be saved; treatments or genes of a
        modality are not unique, or it has none; the modalities share no gene; every value is NaN, or one infinite.
    """
    contexts = check(mdata)
    matrices = tuple(matrix(mdata.mod[context], layer, f"mdata[{context!r}]") for context in contexts)
    treatments, genes = union(mdata), shared_genes(mdata)
    shape = len(treatments), len(contexts), len(genes)
    objects.memory(8 * int(np.prod(shape)), "Choose fewer genes or treatments.")
    rows = np.stack([mdata.mod[context].obs_names.get_indexer(treatments) for context in contexts], axis=1)
    columns = np.stack([mdata.mod[context].var_names.get_indexer(genes) for context in contexts])
    values = np.full(shape, np.nan)
    for c, whole in enumerate(matrices):
        here = np.flatnonzero(rows[:, c] >= 0)
        found = whole[rows[here, c]][:, columns[c]]
        values[here, c] = found.toarray() if sparse.issparse(found) else found
    tensor = Tensor(values, treatments, contexts, genes, rows, columns, matrices, layer)
    _require_values(tensor)
    _log_genes(mdata, tensor)
    return tensor


def read_measured(mdata: MuData, layer: str | None = None) -> Tensor:
    """Read a layer, or X, that holds measured values: one that a completion wrote is refused."""
    tensor = read(mdata, layer)
    measured.require_measured(mdata, layer, dict(zip(tensor.contexts, tensor.matrices, strict=True)))
    return tensor


def require_measured(mdata: MuData, layer: str | None) -> None:
    """Require a layer, or X, that holds measured values, without reading it as a tensor."""
    matrices = {context: matrix(adata, layer, f"mdata[{context!r}]") for context, adata in mdata.mod.items()}
    measured.require_measured(mdata, layer, matrices)


def without_predictions(mdata: MuData, tensor: Tensor) -> Tensor:
    """Return a layer as read, with NaN in place of predictions if it is a completed one."""
    if not measured.is_completed(mdata, tensor.layer):
        return tensor
    values = tensor.values.copy()
    for c, context in enumerate(tensor.contexts):
        if (gaps := measured.predicted_of(mdata, context, tensor.layer)) is not None:
            values[:, c][gaps[tensor.rows[:, c]][:, tensor.columns[c]]] = np.nan
    return replace(tensor, values=values)


def check(mdata: Any) -> tuple[str, ...]:
    """Require a MuData with one modality per context, in memory; return the contexts."""
    if not isinstance(mdata, MuData):
        msg = (
            f"Expected a MuData object with one modality per context, found {type(mdata).__module__}."
            f"{type(mdata).__qualname__}. {_way_to_mudata(mdata)}"
        )
        raise TypeError(msg)
    if mdata.isbacked:
        msg = f"The MuData object is backed by {str(mdata.filename)!r}. Read it without `backed` first."
        raise ValueError(msg)
    contexts = list(mdata.mod)
    require_names(contexts)
    if len(contexts) < 2:
        msg = f"A tensor needs at least 2 contexts, one modality each; found {len(contexts)}: {contexts}."
        raise ValueError(msg)
    for context in contexts:
        adata = mdata.mod[context]
        if not isinstance(adata, AnnData):
            msg = f"Modality {context!r} is a {type(adata).__qualname__}; an AnnData object is needed."
            raise TypeError(msg)
        for axis, names in (("obs_names", adata.obs_names), ("var_names", adata.var_names)):
            _require_texts(names, axis, context)
        require_unique(adata.obs_names, "treatments (obs_names)", _AVERAGING, f"Modality {context!r}")
        require_unique(
            adata.var_names, "genes (var_names)", "Run `.var_names_make_unique()` on it.", f"Modality {context!r}"
        )
        for axis, table in (("obs", adata.obs), ("var", adata.var)):
            objects.unique_columns(table, f"mdata[{context!r}].{axis}")
        if 0 in adata.shape:
            msg = f"Modality {context!r} has {adata.n_obs} treatments and {adata.n_vars} genes; remove it."
            raise ValueError(msg)
    return tuple(contexts)


def _way_to_mudata(found: Any) -> str:
    """Return a sentence on how to make a MuData object of what was passed."""
    if isinstance(found, str | os.PathLike):
        return f"Read the file first: `mudata.read_h5mu({os.fspath(found)!r})`."
    if isinstance(found, Mapping):
        return "Make one of its AnnData objects: `mudata.MuData(modalities, axis=-1)`."
    return "kx.pp.tensor makes one from a long AnnData object."


def _require_texts(names: pd.Index, axis: str, context: str) -> None:
    """Require names that are texts, by which rows and columns are matched."""
    odd = [name for name in names if not isinstance(name, str)]
    if odd:
        found = checks.listed([repr(name) for name in odd])
        msg = (
            f"The {axis} of modality {context!r} must be texts, found {found}. Missing ones need names; of others, run "
            f"`mdata[{context!r}].{axis} = mdata[{context!r}].{axis}.astype(str)`."
        )
        raise ValueError(msg)


def require_names(contexts: Sequence[Any], column: str | None = None) -> None:
    """Require names under which modalities can be saved; ``column`` of ``adata.obs`` is where they come from."""
    spoilt = [context for context in contexts if type(context) is not str or not checks.savable(context)]
    if spoilt:
        found = checks.listed([repr(context) for context in spoilt])
        remedy = _made_anew(spoilt, contexts) if column is None else _renaming(column, contexts)
        msg = (
            f"These modality names cannot be saved in a file: {found}. Each must be {checks.SAVABLE} (not a NumPy string). "
            f"{remedy}"
        )
        raise ValueError(msg)


def _made_anew(spoilt: Sequence[Any], contexts: Sequence[Any]) -> str:
    """Return code that gives modalities names under which they can be saved, and which stay distinct."""
    sign, other = _exchanged(list(map(str, contexts)))
    name = f"str(name).replace({sign!r}, {other!r})" if sign else "str(name)"
    names = [str(context).replace(sign, other) if sign else str(context) for context in contexts]
    if not all(map(checks.savable, names)):
        given = ", ".join(f"{context!r}: 'name_{number}'" for number, context in enumerate(spoilt, 1))
        name = f"{{{given}}}.get(name, name)"
    return f"Make the object anew: `mdata = MuData({{{name}: adata for name, adata in mdata.mod.items()}}, axis=-1)`."


def _renaming(column: str, contexts: Sequence[str]) -> str:
    """Return code that renames the contexts in a column so that they stay distinct."""
    sign, other = _exchanged(contexts)
    written = f"adata.obs[{column!r}]"
    return f"Run `{written} = {written}.str.replace({sign!r}, {other!r})`." if sign else f"Name them in `{written}`."


def _exchanged(contexts: Sequence[str]) -> tuple[str, str]:
    """Return the sign that names must not have, "" if there is none, and one in its place that keeps them distinct."""
    sign = next((sign for sign in "/\\" if any(sign in context for context in contexts)), "")
    kept = (other for other in "_-.|" if len({context.replace(sign, other) for context in contexts}) == len(contexts))
    return sign, next(kept, "_")


def require_unique(names: pd.Index, what: str, remedy: str, where: str) -> None:
    """Require names that occur once."""
    if not names.is_unique:
        repeated = [str(name) for name in names[names.duplicated()].unique()]
        msg = f"{where} has {len(repeated)} repeated {what}: {checks.listed(repeated)}. {remedy}"
        raise ValueError(msg)


def matrix(adata: AnnData, layer: str | None, name: str) -> np.ndarray | sparse.csr_matrix | sparse.csr_array:
    """Read X or a layer, real and in memory, without infinite values; sparse ones as CSR. NaN are allowed."""
    if not (layer is None or isinstance(layer, str)):
        kind = checks.type_of(layer)
        msg = f"`layer` must be a str or None, found {kind}. One name, or `X` for None, is read in all modalities."
        raise TypeError(msg)
    where = place(layer, name)
    if layer is not None:
        remedy = "Run kx.tl.complete_tensor first, or take `X` with `layer=None`." if layer == keys.COMPLETED else ""
        objects.key_in(layer, adata.layers, f"{name}.layers", remedy)
    adata = with_masks(adata, layer)
    found = adata.X if layer is None else adata.layers[layer]
    if found is None:
        msg = (
            f"{where} is None. Name the layer to use with `layer=…`; available: {sorted(k for k in adata.layers if k)}."
        )
        raise ValueError(msg)
    if not (isinstance(found, np.ndarray) or sparse.issparse(found)):
        msg = (
            f"{where} is a {type(found).__module__}.{type(found).__qualname__}, which is not in memory. "
            "Bring it into memory with `.to_memory()` first."
        )
        raise TypeError(msg)
    if not (np.issubdtype(found.dtype, np.bool_) or np.isrealobj(found) and np.issubdtype(found.dtype, np.number)):
        msg = f"{where} has dtype {found.dtype}; real numbers are needed. Convert it, e.g. with `.astype('float32')`."
        raise TypeError(msg)
    found = found.tocsr() if sparse.issparse(found) else unmasked(found)
    entries = found.data if sparse.issparse(found) else found
    if (
        np.issubdtype(entries.dtype, np.integer)
        and max(-int(entries.min(initial=0)), int(entries.max(initial=0))) > _EXACT
    ):
        msg = f"{where} has integers beyond 2**53, which are no float64 numbers. Divide them, or take logarithms."
        raise ValueError(msg)
    infinite = int(np.isinf(entries).sum()) if np.issubdtype(entries.dtype, np.floating) else 0
    if infinite:
        msg = f"{where} has {infinite} infinite values. Replace them; a missing value is NaN."
        raise ValueError(msg)
    return found


def has_value(matrix: np.ndarray | sparse.spmatrix | sparse.sparray) -> np.ndarray:
    """Mark the rows that have a value other than NaN."""
    if sparse.issparse(matrix):
        nan = matrix.tocsr(copy=True)
        nan.data = np.isnan(nan.data)
        return np.asarray(nan.sum(axis=1)).ravel() < matrix.shape[1]
    return ~np.isnan(matrix).all(axis=1)


def with_masks(adata: AnnData, layer: str | None = None) -> AnnData:
    """Return an object whose arrays have their masks: a view has lost them; before anndata 0.13, a copy has that of X again."""
    if not adata.is_view:
        return adata
    if np.ma.isMaskedArray(getattr(adata.layers, "parent_mapping", {}).get(layer)):  # X too, from anndata 0.13 on
        place = "X" if layer is None else f"layers[{layer!r}]"
        msg = (
            f"`{place}` is a masked array, and this object a view, which has forgotten the mask. Before taking a part, "
            f"run `adata.{place} = adata.{place}.astype(float).filled(np.nan)`."
        )
        raise ValueError(msg)
    return adata.copy() if np.ma.isMaskedArray(adata[:0].copy().X) else adata


def unmasked(found: np.ndarray) -> np.ndarray:
    """Return an array with NaN where it is masked; with such entries, in the smallest floating dtype for its values."""
    if not np.ma.isMaskedArray(found):
        return found
    if not np.ma.is_masked(found):
        return np.asarray(found.data)
    return found.astype(floating(found.dtype)).filled(np.nan)


def floating(dtype: np.dtype) -> np.dtype:
    """Return the smallest floating dtype, at least float32, that holds every value of another dtype, and NaN."""
    return dtype if np.issubdtype(dtype, np.inexact) else np.result_type(dtype, np.float32)


def union(mdata: MuData) -> pd.Index:
    """List the treatments of all modalities, in the order in which they first appear."""
    names = [adata.obs_names for adata in mdata.mod.values()]
    dtype = object if isinstance(names[0].dtype, pd.CategoricalDtype) else names[0].dtype
    return pd.Index(dict.fromkeys(name for index in names for name in index), dtype=dtype)


def shared_genes(mdata: MuData) -> pd.Index:
    """List the genes that every modality has, in the order of the first."""
    first, *others = (adata.var_names for adata in mdata.mod.values())
    shared = first[np.logical_and.reduce([first.isin(index) for index in others])] if others else first
    if not len(shared):
        counts = ", ".join(f"{context!r} has {adata.n_vars}" for context, adata in mdata.mod.items())
        msg = f"The modalities share no gene ({counts}). {gene_names.how_they_differ(_genes(mdata), 0)}"
        raise ValueError(msg)
    gene_names.warn_of_lost(_genes(mdata), len(shared))
    return shared


def _genes(mdata: MuData) -> dict[str, pd.Index]:
    return {context: adata.var_names for context, adata in mdata.mod.items()}


def _require_values(tensor: Tensor) -> None:
    if np.isnan(tensor.values).all():
        where = "`X`" if tensor.layer is None else f"`layers[{tensor.layer!r}]`"
        msg = f"Nothing was measured: every value in {where} of every modality, in the genes that all share, is NaN."
        raise ValueError(msg)


def _log_genes(mdata: MuData, tensor: Tensor) -> None:
    more = {context: mdata.mod[context].n_vars - len(tensor.genes) for context in tensor.contexts}
    if any(more.values()):
        left = ", ".join(f"{n} of {context!r}" for context, n in more.items() if n)
        logger.info("%d genes are shared by all %d contexts; left out: %s", len(tensor.genes), len(more), left)


def is_aligned(mdata: MuData) -> bool:
    """Return whether every modality has the same treatments in the same order."""
    first, *others = (adata.obs_names for adata in mdata.mod.values())
    return all(first.equals(index) for index in others)


def require_actual(mdata: MuData, *, copy: bool) -> None:
    """Require an object that can be written to."""
    if mdata.is_view and not copy:
        msg = "The MuData object is a view of another one. Run `mdata = mdata.copy()` first, or use `copy=True`."
        raise ValueError(msg)


@contextmanager
def without_pulling() -> Iterator[None]:
    """Let MuData make and update objects as version 0.4 does: columns stay where they are.

    Its advice to make names unique is silenced: the modalities of a tensor share them.
    """
    with warnings.catch_warnings(), _columns_stay():
        warnings.filterwarnings("ignore", message="(var|obs)_names are not unique", category=UserWarning)
        yield


@contextmanager
def _columns_stay() -> Iterator[None]:
    if not hasattr(mudata, "set_options"):  # from version 0.4 on, where it is only a question of the user's settings
        with mudata.settings.override(pull_on_update=False):
            yield
        return
    option = mudata.set_options(pull_on_update=False)
    try:
        yield
    finally:
        mudata.set_options(**option.opts)
