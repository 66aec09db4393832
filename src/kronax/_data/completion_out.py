"""Where a completion is written: layers and columns of obs in every modality, and one entry of the MuData's uns.

Two layers belong to every completion, under its ``key_added``: the values, and which of them were measured. Columns of obs, factors and uns
describe the latest completion; each replaces those of the one before.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from kronax._data import align, factors, keys, measured, written
from kronax._data import tensor as tensors
from kronax._data.aside import Place, set_aside, tell
from kronax._data.tensor import Tensor
from kronax.solvers.tensor.completion import Completion, Fallback


def write(mdata: MuData, tensor: Tensor, result: Completion, method: str, options: Any, key_added: str) -> None:
    """Write a completion of what was read. Everything is prepared before anything is written.

    Raises
    ------
    FloatingPointError
        If a prediction is not finite in the dtype of the layer.
    """
    layers = {context: _layer(tensor, result, c) for c, context in enumerate(tensor.contexts)}
    obs = {context: _obs_columns(tensor, result, c) for c, context in enumerate(tensor.contexts)}
    params = _storable({"layer": tensor.layer, "key_added": key_added}) | {"options": _storable(asdict(options))}
    uns = _summary(tensor, result, method, params) | factors.for_uns(tensor, result)
    modalities = _aligned(mdata, tensor)

    if modalities:
        align.replace(mdata, modalities)
    tell(set_own_aside(mdata, key_added, next(iter(obs.values())), factors=result.factors is not None))
    _remove_earlier(mdata)
    for c, context in enumerate(tensor.contexts):
        _write(
            mdata.mod[context], key_added, layers[context], _measured(tensor, c, layers[context].shape), obs[context]
        )
    factors.write(mdata, tensor, result)
    mdata.uns[keys.COMPLETION] = uns
    if written.params_of(mdata, keys.NEXT_EXPERIMENTS):
        del mdata.uns[keys.NEXT_EXPERIMENTS]


def _remove_earlier(mdata: MuData) -> None:
    """Remove what describes an earlier completion."""
    for adata in mdata.mod.values() if _was_completed(mdata) else ():
        for key in (keys.CONFIDENCE, keys.FALLBACK, keys.VARIANCE, keys.INFORMATION, keys.NEXT):
            if key in adata.obs:
                del adata.obs[key]
        adata.obsm.pop(keys.TREATMENT_FACTORS, None)
        adata.varm.pop(keys.GENE_FACTORS, None)


def _was_completed(mdata: MuData) -> bool:
    return bool(measured.description(mdata)) or any(measured.completed(adata) for adata in mdata.mod.values())


def set_own_aside(mdata: MuData, key_added: str, obs: Iterable[str], *, factors: bool) -> dict[Place, Place]:
    """Rename what the user has where a completion is written; return the old and the new names."""
    parts = list(mdata.mod.values())
    layer, mark = ("layers", key_added), ("layers", measured.mark(key_added))
    places = align.other_meanings(parts, mark, ("obs", keys.MEASURED))
    if measured.description(mdata).get("params", {}).get("key_added") != key_added and not any(
        key_added in measured.completed(adata) for adata in parts
    ):
        places.append(layer)
    if not _was_completed(mdata):
        places += [("obs", name) for name in obs if name != keys.MEASURED]
        places += [("obsm", keys.TREATMENT_FACTORS), ("varm", keys.GENE_FACTORS)] if factors else []
    entry = [] if measured.description(mdata) else [("uns", keys.COMPLETION)]
    return set_aside([mdata], entry) | set_aside(parts, places)


def not_finite() -> FloatingPointError:
    """Return the error for predictions that are not finite."""
    return FloatingPointError(
        "The predictions are not finite; nothing was written. Values that differ by very many orders of magnitude can "
        "be the cause: look for outliers, or divide all values by a constant."
    )


def fallbacks(tensor: Tensor, result: Completion) -> dict[str, int]:
    """Count the profiles with gaps by what they fell back to."""
    gaps = np.isnan(tensor.values).any(axis=2)
    return {_name(kind): int((gaps & (result.fallback == kind)).sum()) for kind in Fallback if kind != Fallback.NONE}


def _layer(tensor: Tensor, result: Completion, c: int) -> np.ndarray:
    """Return a modality's completed layer: values as they were read, and predictions of shared genes in the gaps."""
    found, rows, columns = tensor.matrices[c], tensor.rows[:, c], tensor.columns[c]
    layer = np.full((len(rows), found.shape[1]), np.nan, tensors.floating(found.dtype))
    here = rows >= 0
    layer[here] = found[rows[here]].toarray() if sparse.issparse(found) else found[rows[here]]
    missing = np.isnan(tensor.values[:, c])
    with np.errstate(over="ignore"):
        layer[:, columns] = np.where(missing, result.values[:, c].astype(layer.dtype), layer[:, columns])
    if not np.isfinite(layer[:, columns]).all():
        raise not_finite()
    return layer


def _obs_columns(tensor: Tensor, result: Completion, c: int) -> dict[str, Any]:
    """Return the columns of a modality's obs."""
    gaps = np.isnan(tensor.values[:, c]).any(axis=1)
    confidence = np.full(len(gaps), np.nan) if result.confidence is None else result.confidence[:, c]
    kinds = ["measured", *map(_name, Fallback)]
    codes = np.where(gaps, result.fallback[:, c] + 1, 0)
    columns: dict[str, Any] = {
        keys.MEASURED: tensor.measured[:, c],
        keys.CONFIDENCE: np.where(gaps, confidence, np.nan),
        keys.FALLBACK: pd.Categorical.from_codes(codes, kinds).remove_unused_categories(),
    }
    if result.variance is not None:
        columns[keys.VARIANCE] = result.variance[:, c]
    if result.information is not None:
        columns[keys.INFORMATION] = result.information
    return columns


def _aligned(mdata: MuData, tensor: Tensor) -> dict[str, AnnData]:
    """Return modalities with the same rows; nothing if they have these already."""
    if tensors.is_aligned(mdata):
        return {}
    align.log_new(mdata, tensor.treatments)
    return align.aligned(mdata, tensor.treatments, dict(zip(tensor.contexts, tensor.measured.T, strict=True)))


def _write(adata: AnnData, key_added: str, layer: np.ndarray, known: np.ndarray, obs: Mapping[str, Any]) -> None:
    adata.layers[key_added], adata.layers[measured.mark(key_added)] = layer, known
    for name, column in obs.items():
        adata.obs[name] = column


def _measured(tensor: Tensor, c: int, shape: tuple[int, int]) -> np.ndarray:
    """Mark the entries of a modality from which a value was read."""
    found, rows = tensor.matrices[c], tensor.rows[:, c]
    known, here = np.zeros(shape, bool), rows >= 0
    known[here] = ~np.isnan(found.toarray() if sparse.issparse(found) else found)[rows[here]]
    return known


def _name(fallback: Fallback) -> str:
    return fallback.name.lower()


def _summary(tensor: Tensor, result: Completion, method: str, params: dict[str, Any]) -> dict[str, Any]:
    """Return what is stored in uns."""
    return {
        "method": method,
        "params": params,
        "chosen": {key: value if isinstance(value, str) else float(value) for key, value in result.parameters.items()},
        **result.status.stored(),
        "n_predicted": int((~tensor.measured).sum()),
        "n_entries": tensor.missing_entries,
        "fallbacks": fallbacks(tensor, result),
        "version": version("kronax"),
    }


def _storable(options: dict[str, Any]) -> dict[str, Any]:
    """Return options that can be saved: no tuples, NumPy scalars or None, which not every version of anndata can read."""
    plain = {}
    for key, value in options.items():
        if value is None:
            continue
        if isinstance(value, Mapping):
            plain[key] = dict(value)
        elif isinstance(value, tuple | list | np.ndarray):
            plain[key] = np.asarray(value, str if any(isinstance(v, str) for v in value) else np.float64)
        else:
            plain[key] = value.item() if isinstance(value, np.generic) else value
    return plain
