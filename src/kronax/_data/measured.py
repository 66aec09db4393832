"""What was measured, and what a completion predicted: every function asks here.

A completion marks what was measured in a layer beside its own: ``layers["completed_measured"]`` beside ``layers["completed"]``. The
mark stays with the values in files, in MuData objects made anew and through `anndata.concat`. In a table with completed values in
X, the mark is ``layers["measured"]``, or ``obs["measured"]`` where whole profiles were predicted.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from kronax._data import keys
from kronax._logging import warn
from kronax.solvers import checks

_ROUNDED = 0.01  # of its profile's root mean square, by which a prediction that was rounded may differ
_FEW = 3  # values of a profile that may agree by chance: then only equal ones are copies
_TRUE, _FALSE = ("true", "yes", "1", "1.0"), ("false", "no", "0", "0.0")  # as files bring them


def flags(values: Any) -> np.ndarray | None:
    """Return a marker of true and false, of any dtype, as bool; None if that is not what it holds.

    A missing value is True: nothing says that it was predicted.
    """
    if sparse.issparse(values):
        values = values.toarray()
    missing = np.ma.getmaskarray(values) if np.ma.isMaskedArray(values) else False
    found = np.asarray(values)
    if found.dtype == bool:
        return found | missing
    flat = pd.Series(found.ravel(), dtype=None if found.dtype.kind in "iuf" else object)
    codes, distinct = pd.factorize(flat)
    meanings = [_meaning(value) for value in distinct]
    if None in meanings:
        return None
    return np.array([*meanings, True], bool)[codes].reshape(found.shape) | missing


def _meaning(value: Any) -> bool | None:
    text = str(value).strip().lower()
    return True if text in _TRUE else False if text in _FALSE else None


def mark(layer: str | None) -> str:
    """Name the layer that marks what was measured of a layer, or of X."""
    return keys.MEASURED if layer is None else f"{layer}_{keys.MEASURED}"


def require_no_mark(key_added: str) -> None:
    """Require a name for a completed layer under which no layer's mark stands."""
    if key_added == mark(None) or key_added.endswith(mark("")):
        msg = (
            f"`layers[{key_added!r}]` would mark what was measured of another layer, as names that end with {mark('')!r} do. "
            "Choose another `key_added`."
        )
        raise ValueError(msg)


def completed(adata: AnnData) -> list[str]:
    """Name the layers that a completion wrote."""
    return [
        key
        for key in adata.layers
        if key is not None and mark(key) in adata.layers and flags(adata.layers[mark(key)]) is not None
    ]


def description(mdata: MuData) -> Mapping[str, Any]:
    """Return what the latest completion wrote in uns; nothing where the user owns that place, or none was run."""
    found = mdata.uns.get(keys.COMPLETION)
    ours = isinstance(found, Mapping) and isinstance(found.get("params"), Mapping) and "method" in found
    return found if ours else {}


def is_completed(mdata: MuData, layer: str | None) -> bool:
    """Return whether a completion wrote a layer: a mark stands beside it, or the latest completion names it."""
    marked = all(mark(layer) in adata.layers for adata in mdata.mod.values())
    return marked or layer is not None and description(mdata).get("params", {}).get("key_added") == layer


def predicted(adata: AnnData, layer: str | None, of: str = "adata") -> np.ndarray | None:
    """Mark the entries of X or a layer that are predictions, by the layer that says so; None if there is none."""
    key = mark(layer)
    if key not in adata.layers:
        return None
    known = flags(adata.layers[key])
    if known is None:
        warn(_not_understood(adata.layers[key], f"{of}.layers[{key!r}]"))
        return None
    return None if known.all() else ~known


def predicted_profiles(adata: AnnData, of: str = "adata") -> np.ndarray:
    """Mark the rows that are predictions by ``obs["measured"]``; none, with a warning, if that means something else."""
    if keys.MEASURED not in adata.obs:
        return np.zeros(adata.n_obs, bool)
    known = flags(adata.obs[keys.MEASURED])
    if known is None:
        warn(_not_understood(adata.obs[keys.MEASURED], f"{of}.obs[{keys.MEASURED!r}]"))
        return np.zeros(adata.n_obs, bool)
    return ~known


def n_not_told(obs: pd.DataFrame) -> int:
    """Count the single predictions in rows of a table that the command line wrote: it says how many, not which."""
    if not {keys.MEASURED, keys.PREDICTED_VALUES} <= set(obs):
        return 0
    return int(pd.to_numeric(obs[keys.PREDICTED_VALUES], errors="coerce").sum())


def predictions(adata: AnnData, layer: str | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Mark the rows of a long table that are not measured, and the entries of X or a layer, if another layer says which."""
    of_another = layer is not None and completed(adata)  # then the column is that of the completed layers
    rows = np.zeros(adata.n_obs, bool) if of_another else predicted_profiles(adata)
    return rows, predicted(adata, layer)


def warn_of_left_out(
    adata: AnnData, layer: str | None, rows: np.ndarray, entries: np.ndarray | None, kind: str = "predictions"
) -> None:
    """Warn of rows that are left out because they were not measured, and of the entries of others."""
    columns = [f"`adata.obs[{keys.MEASURED!r}]`"] * (keys.MEASURED in adata.obs)
    columns += [f"`adata.layers[{mark(layer)!r}]`"] * (entries is not None)
    n_single = 0 if entries is None else int(entries[~rows].sum())
    more = f", and so are {n_single:,} values of others" if n_single else ""
    what = "column" if len(columns) == 1 and entries is None else "marker" if len(columns) == 1 else "pair"
    warn(
        f"{int(rows.sum()):,} of {adata.n_obs:,} rows are {kind} ({' and '.join(columns)}: False) and are left out{more}. "
        f"To use them as if they had been measured, delete that {what}."
    )


def predicted_of(mdata: MuData, context: str, layer: str | None) -> np.ndarray | None:
    """Mark the entries of a modality that are predictions, `(n, p)` or `(n, 1)`; None if nothing says so.

    The layer's mark decides; without one, as earlier versions wrote, the latest completion if it wrote the layer. Elsewhere, profiles that
    equal those of a completed layer are predictions; where no such layer is left, those of which ``obs["measured"]`` is False.
    """
    adata, of = mdata.mod[context], f"mdata[{context!r}]"
    if mark(layer) in adata.layers:
        return predicted(adata, layer, of)
    params = description(mdata).get("params", {})
    if layer is not None and params.get("key_added") == layer:
        source = params.get("layer")
        read = adata.X if source is None else adata.layers.get(source)
        return None if read is None else np.isnan(read.toarray() if sparse.issparse(read) else read)
    if completed(adata):
        found = adata.X if layer is None else adata.layers.get(layer)
        return None if found is None else _copied(adata, found)
    return _marked(mdata, context)


def require_measured(mdata: MuData, layer: str | None, matrices: Mapping[str, Any]) -> None:
    """Require that a layer or X, as read, holds no predictions of a completion: these are no measurements."""
    n = sum(_n_predicted(mdata, context, layer, found) for context, found in matrices.items())
    n_rows = (
        0 if layer is not None or n else sum(_n_marked(mdata, context, found) for context, found in matrices.items())
    )
    if n_rows and not all(keys.CONFIDENCE in adata.obs for adata in mdata.mod.values()):
        warn(
            f"{n_rows:,} values of `X` are in profiles of which `obs[{keys.MEASURED!r}]` is False. They count as measured. If they "
            "are predictions, set them to NaN first."
        )
        n_rows = 0  # the column may be the user's own
    if n + n_rows:
        where = "`X`" if layer is None else f"`layers[{layer!r}]`"
        msg = (
            f"{where} is a result of kx.tl.complete_tensor, with {n + n_rows:,} values that nobody measured. Name the layer of the "
            "measured values, or none for X."
        )
        raise ValueError(msg)


def _marked(mdata: MuData, context: str) -> np.ndarray | None:
    """Mark the rows that ``obs["measured"]`` says are predictions, as in parts of :func:`kronax.get.profiles`, (n, 1), if this is about X."""
    obs, of_another = mdata.mod[context].obs, "layer" in description(mdata).get("params", {})
    if of_another or keys.MEASURED not in obs:
        return None
    known = flags(obs[keys.MEASURED])
    return None if known is None or known.all() else ~known[:, None]


def _n_marked(mdata: MuData, context: str, found: Any) -> int:
    """Count the values of X in such rows, unless the completed layer is there: what X has of it is known, and the rest was measured since."""
    if completed(mdata.mod[context]):
        return 0
    gaps = _marked(mdata, context)
    return 0 if gaps is None else int((gaps & ~np.isnan(_dense(found))).sum())


def _n_predicted(mdata: MuData, context: str, layer: str | None, found: Any) -> int:
    """Count the values of a modality that a completion predicted: by its mark, or as copies of those in a completed layer."""
    adata = mdata.mod[context]
    if mark(layer) not in adata.layers:
        params = description(mdata).get("params", {})
        if layer is not None and params.get("key_added") == layer:
            return int(description(mdata).get("n_entries", 0)) if context == next(iter(mdata.mod)) else 0
        copied = _copied(adata, found)
        return 0 if copied is None else int(copied.sum())
    gaps = predicted(adata, layer, f"mdata[{context!r}]")
    return 0 if gaps is None else int((gaps & ~np.isnan(_dense(found))).sum())


def _copied(adata: AnnData, found: Any) -> np.ndarray | None:
    """Mark the entries that are predictions of a completed layer, maybe rounded; None if there are none."""
    copies = [copy for key in completed(adata) if (copy := _copied_from(adata, key, _dense(found))) is not None]
    either = np.logical_or.reduce(copies) if copies else np.zeros(1, bool)
    return either if either.any() else None


def _copied_from(adata: AnnData, key: str, found: np.ndarray) -> np.ndarray | None:
    """Mark the predictions of one layer, in profiles of which all stand in what was found; None if the layer has none.

    Predictions of no effect may be measured as well: profiles of nothing else are copies only if all profiles are.
    """
    gaps = predicted(adata, key)
    if gaps is None:
        return None
    whole = _dense(adata.layers[key]).astype(np.float64)
    gaps &= ~np.isnan(whole)
    n, own = gaps.sum(axis=1), np.where(gaps, whole, 0.0)
    size = np.sqrt((own**2).sum(axis=1) / np.maximum(n, 1))
    tolerance = np.where(n < _FEW, 0.0, _ROUNDED * size)
    expected = whole.astype(found.dtype) if found.dtype.kind == "f" else whole
    copied = ~(gaps & ~(np.abs(found - expected) <= tolerance[:, None])).any(axis=1)
    if not copied[n > 0].all():
        varies = (np.where(gaps, whole, -np.inf).max(axis=1) > np.where(gaps, whole, np.inf).min(axis=1)) | (n < _FEW)
        copied &= varies & (size > 0)
    return gaps & copied[:, None]


def _dense(found: Any) -> np.ndarray:
    return found.toarray() if sparse.issparse(found) else found


def _not_understood(values: Any, where: str) -> str:
    """Return a warning that a column or layer of that name is no marker."""
    values = values.data if sparse.issparse(values) else np.asarray(values)
    found = checks.listed([repr(str(value)) for value in pd.unique(values.ravel())], 3)
    return (
        f"`{where}` holds {found}, neither true nor false. It says nothing about what was measured: every value that is "
        "not NaN counts as measured."
    )
