"""Modalities with the same treatments in the same order: new rows hold NaN and what is known of their treatment."""

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from pandas.api.types import is_object_dtype
from scipy import sparse

from kronax._data import keys
from kronax._data import tensor as tensors
from kronax._data import treatments as treatment_columns
from kronax._data.aside import Place, set_aside, tell
from kronax._data.measured import completed, flags, mark
from kronax._logging import logger


def aligned(mdata: MuData, treatments: pd.Index, measured: Mapping[str, np.ndarray]) -> dict[str, AnnData]:
    """Copy the modalities with these rows, and mark those that were measured."""
    descriptions = treatment_columns.agreed(mdata, treatments)
    found = {context: _aligned(adata, treatments, descriptions) for context, adata in mdata.mod.items()}
    write_measured(found, measured)
    return found


def _aligned(adata: AnnData, treatments: pd.Index, descriptions: dict[str, treatment_columns.Description]) -> AnnData:
    """Copy a modality with these rows.

    X, layers and raw have NaN in new rows, and the least floating dtype that holds both NaN and what was there; sparse
    ones stay sparse. Arrays in obsm have missing values there; so have columns of obs, except for what
    ``descriptions`` holds. obsp has no entries.
    """
    rows = adata.obs_names.get_indexer(treatments)
    adata = tensors.with_masks(adata)
    found = AnnData(
        None if adata.X is None else _taken(adata.X, rows),
        obs=treatment_columns.reindexed(adata, treatments, descriptions),
        var=adata.var.copy(),
        uns=deepcopy(dict(adata.uns)),
        obsm={key: _taken(value, rows, treatments) for key, value in adata.obsm.items()},
        varm={key: value.copy() for key, value in adata.varm.items()},
        layers={key: _taken(value, rows) for key, value in adata.layers.items() if key is not None},
    )
    for key, value in adata.obsp.items():
        found.obsp[key] = _pairs(value, rows)
    for key, value in adata.varp.items():
        found.varp[key] = value.copy()
    if adata.raw is not None:
        varm = {key: value.copy() for key, value in adata.raw.varm.items()}
        raw = _taken(adata.raw.X, rows)
        found.raw = AnnData(raw, obs=pd.DataFrame(index=treatments), var=adata.raw.var.copy(), varm=varm)
    for key in completed(adata):
        found.layers[mark(key)] = np.where((rows >= 0)[:, None], flags(adata.layers[mark(key)])[rows], False)
    return found


def write_measured(modalities: Mapping[str, AnnData], measured: Mapping[str, np.ndarray]) -> None:
    """Write which profiles were measured; columns of that name with another meaning are kept under another name."""
    parts = list(modalities.values())
    tell(set_aside(parts, other_meanings(parts, ("obs", keys.MEASURED))))
    for context, adata in modalities.items():
        adata.obs[keys.MEASURED] = measured[context]


def other_meanings(parts: Iterable[AnnData], *markers: Place) -> list[Place]:
    """Name the markers of what was measured that mean something else in some modality."""
    found = [(part, key, getattr(adata, part)) for adata in parts for part, key in markers]
    other = {(part, key) for part, key, content in found if key in content and flags(content[key]) is None}
    other |= {(part, key) for part, key, content in found if part == "obs" and content.index.name == key}
    return [place for place in markers if place in other]


def replace(mdata: MuData, modalities: dict[str, AnnData]) -> None:
    """Put new objects in the place of all modalities."""
    with tensors.without_pulling():
        for context, adata in modalities.items():
            mdata.mod[context] = adata
        mdata.update()


def log_new(mdata: MuData, treatments: pd.Index) -> None:
    """Log how many rows become how many."""
    new = {context: len(treatments) - adata.n_obs for context, adata in mdata.mod.items()}
    counts = ", ".join(f"{n} in {context!r}" for context, n in new.items() if n) or "none"
    logger.info("align: %d treatments in each of %d contexts; new rows: %s", len(treatments), len(new), counts)


def copied(mdata: MuData) -> MuData:
    """Copy a MuData."""
    with tensors.without_pulling():
        return mdata.copy()


def _taken(value: Any, rows: np.ndarray, names: pd.Index | None = None) -> Any:
    """Return rows of a matrix or table, NaN where the row is -1."""
    if isinstance(value, pd.DataFrame):
        found = treatment_columns.with_missing(value, names)
        text = [
            key for key, dtype in found.dtypes.items() if is_object_dtype(dtype) or isinstance(dtype, pd.StringDtype)
        ]
        return found.astype(dict.fromkeys(text, "category"))  # text with gaps cannot be saved
    if isinstance(value, np.ndarray):
        value = tensors.unmasked(value)
    if not (rows < 0).any():
        return value[rows].copy()
    dtype = tensors.floating(value.dtype)
    if sparse.issparse(value):
        empty = type(value)(np.full((1, value.shape[1]), np.nan, dtype))
        return sparse.vstack([value.astype(dtype), empty], format="csr")[rows].asformat(value.format)
    taken = np.full((len(rows), *value.shape[1:]), np.nan, dtype)
    taken[rows >= 0] = value[rows[rows >= 0]]
    return taken


def _pairs(value: Any, rows: np.ndarray) -> Any:
    """Return rows and columns of a square matrix, 0 where the row is -1."""
    old = np.flatnonzero(rows >= 0)
    place = sparse.csr_matrix((np.ones(len(old), np.int8), (old, rows[old])), shape=(len(rows), value.shape[0]))
    if sparse.issparse(value):
        return sparse.csr_matrix(place.astype(value.dtype) @ value @ place.T.astype(value.dtype))
    taken = np.zeros((len(rows), len(rows)), value.dtype)
    taken[np.ix_(old, old)] = value[np.ix_(rows[old], rows[old])]
    return taken
