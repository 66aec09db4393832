"""What a MuData object knows besides its tensor: similarities of treatments and contexts, coordinates, precisions.

Everything is checked before any work: a similarity is a matrix of finite numbers, symmetric, with a row for every name. One that is
not positive semi-definite is replaced by the nearest that is, and that is told.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from mudata import MuData
from scipy import sparse

from kronax._data import keys, objects
from kronax._data.tensor import Tensor, unmasked
from kronax._logging import warn
from kronax.solvers import checks
from kronax.solvers.tensor.method import Sought
from kronax.solvers.tensor.side import Links, Side

_ASYMMETRY = 1e-6  # of the largest entry: more than rounding
_NEGATIVE = 1e-6  # the same, of eigenvalues


def read(mdata: MuData, tensor: Tensor, sought: Sought) -> Side | None:
    """Read what options name; None if they name nothing."""
    if sought == Sought():
        return None
    return Side(
        treatments={key: _of_treatments(mdata, tensor, key) for key in sought.treatment_similarities},
        contexts=_of_contexts(mdata, tensor, sought),
        weights=_weights(mdata, tensor, sought),
    )


def _of_treatments(mdata: MuData, tensor: Tensor, key: str) -> np.ndarray:
    objects.key_in(key, mdata.obsp, "mdata.obsp", "kx.pp.treatment_similarity makes one from labels.")
    names = mdata.obs_names
    if not names.is_unique:
        msg = (
            f"`mdata.obsp[{key!r}]` has a row for every profile, because the modalities do not share treatments. Make the object "
            "with `mudata.MuData(mdata.mod, axis=-1)`, and put a similarity of treatments × treatments in its obsp."
        )
        raise ValueError(msg)
    return similarity(mdata.obsp[key], names, tensor.treatments, f"mdata.obsp[{key!r}]")


def similarity(found: Any, names: Sequence[str], wanted: Sequence[str], where: str) -> np.ndarray:
    """Return a similarity with the wanted rows and columns, positive semi-definite with unit diagonal."""
    matrix = found.toarray() if sparse.issparse(found) else unmasked(np.asanyarray(found))
    if matrix.shape != (len(names), len(names)) or matrix.dtype.kind not in "biuf":
        msg = f"`{where}` must be a matrix of numbers, {len(names)} × {len(names)}; found {matrix.shape} of {matrix.dtype}."
        raise ValueError(msg)
    places = pd.Index(names).get_indexer(wanted)
    matrix = matrix[np.ix_(places, places)].astype(np.float64)
    odd = ~np.isfinite(matrix).all(axis=1)
    if odd.any():
        msg = (
            f"`{where}` has values that are not finite, in the rows of {_some(wanted, odd)}. Write 0 where nothing is known "
            "of a pair."
        )
        raise ValueError(msg)
    difference = np.abs(matrix - matrix.T)
    largest = np.abs(matrix).max(initial=0.0)
    if difference.max(initial=0.0) > _ASYMMETRY * largest:
        i, j = np.unravel_index(difference.argmax(), matrix.shape)
        msg = (
            f"`{where}` is not symmetric: {matrix[i, j]:g} for {wanted[i]!r} and {wanted[j]!r}, {matrix[j, i]:g} the other "
            "way round. Take the mean of both, `(S + S.T) / 2`, if they mean the same."
        )
        raise ValueError(msg)
    if (negative := np.diag(matrix) < 0).any():
        msg = f"`{where}` has negative values on its diagonal, for {_some(wanted, negative)}. The diagonal is a size."
        raise ValueError(msg)
    return _unit_diagonal(_semi_definite((matrix + matrix.T) / 2, where))


def _semi_definite(matrix: np.ndarray, where: str) -> np.ndarray:
    """Set negative eigenvalues to 0; what this takes away is told, unless it is rounding."""
    values, vectors = np.linalg.eigh(matrix)
    if values.min(initial=0.0) >= -_NEGATIVE * np.abs(values).max(initial=0.0):
        return matrix
    share = -values[values < 0].sum() / np.abs(values).sum()
    warn(
        f"`{where}` is no similarity in the strict sense: it has negative eigenvalues, {share:.1%} of the sum of all sizes. They were "
        "set to 0."
    )
    return (vectors * np.maximum(values, 0.0)) @ vectors.T


def _unit_diagonal(matrix: np.ndarray) -> np.ndarray:
    """Divide by the roots of the diagonal; one that resembles nothing, not even itself, resembles itself alone."""
    diagonal = np.diag(matrix)
    root = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    found = matrix / np.outer(root, root)
    np.fill_diagonal(found, 1.0)
    return found


def _of_contexts(mdata: MuData, tensor: Tensor, sought: Sought) -> Links | None:
    key = sought.context_similarity
    if key is None and not sought.context_coordinates:
        return None
    given = None
    if key is not None:
        where = f"mdata.uns[{key!r}]"
        table = _table(mdata, key, tensor.contexts)
        table = table.set_axis(objects.texts(table.columns.to_numpy()), axis=1)
        if missing := [c for c in tensor.contexts if c not in table.columns]:
            msg = f"`{where}` has no columns for the contexts {checks.listed(missing)}. It needs a row and a column for each."
            raise ValueError(msg)
        given = similarity(
            table.loc[list(tensor.contexts), list(tensor.contexts)], tensor.contexts, tensor.contexts, where
        )
    if not sought.context_coordinates:
        return Links(given)
    table = _table(mdata, keys.CONTEXTS, tensor.contexts)
    distances = {}
    for column, scale in sought.context_coordinates.items():
        objects.key_in(column, table.columns, f"mdata.uns[{keys.CONTEXTS!r}]")
        distances[column] = _distances(table[column].loc[list(tensor.contexts)], scale)
    return Links(given, distances)


def _table(mdata: MuData, key: str, contexts: Sequence[str]) -> pd.DataFrame:
    """Return a table in uns with a row for every context."""
    objects.key_in(key, mdata.uns, "mdata.uns")
    table = mdata.uns[key]
    if not isinstance(table, pd.DataFrame):
        msg = f"`mdata.uns[{key!r}]` must be a pandas.DataFrame with the contexts as index, found {checks.type_of(table)}."
        raise TypeError(msg)
    objects.unique_columns(table, f"mdata.uns[{key!r}]")
    table = table.set_axis(objects.texts(table.index.to_numpy()))
    if missing := [c for c in contexts if c not in table.index]:
        msg = f"`mdata.uns[{key!r}]` has no rows for the contexts {checks.listed(missing)}; its index: {checks.listed(list(table.index))}."
        raise ValueError(msg)
    if not table.index.is_unique:
        repeated = checks.listed(list(table.index[table.index.duplicated()].unique()))
        msg = f"`mdata.uns[{key!r}]` has more than one row for the contexts {repeated}."
        raise ValueError(msg)
    return table


def _distances(column: pd.Series, scale: str) -> np.ndarray:
    """Return squared distances of contexts along a coordinate, in the units of its scale."""
    where = f"mdata.uns[{keys.CONTEXTS!r}][{column.name!r}]"
    absent = column.isna().to_numpy()
    if absent.any():
        msg = f"`{where}` has no value for the contexts {_some(column.index, absent)}."
        raise ValueError(msg)
    if scale == "category":
        codes = pd.factorize(column.astype(str))[0]
        return (codes[:, None] != codes).astype(np.float64)
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    odd = ~np.isfinite(numbers) | (numbers <= 0 if scale == "log" else False)
    if odd.any():
        what = "positive numbers, for their logarithms" if scale == "log" else "finite numbers"
        msg = f"`{where}` must hold {what}; found {str(column.iloc[int(odd.argmax())])!r} for {column.index[int(odd.argmax())]!r}."
        msg += " Use the scale 'rank' or 'linear' for 0." if scale == "log" else " Use the scale 'category' for names."
        raise ValueError(msg)
    if scale == "log":
        numbers = np.log(numbers)
    elif scale == "rank":
        numbers = np.unique(numbers, return_inverse=True)[1].astype(np.float64)
    return np.square(numbers[:, None] - numbers)


def _weights(mdata: MuData, tensor: Tensor, sought: Sought) -> np.ndarray | None:
    """Return precisions ``(D, C, 1)`` or ``(D, C, G)``; 1 where nothing was measured."""
    if sought.weights is None and sought.standard_errors is None:
        return None
    shape = tensor.values.shape if sought.weights is None else (*tensor.values.shape[:2], 1)
    measured = ~np.isnan(tensor.values)
    weights = np.ones(shape)
    for c, context in enumerate(tensor.contexts):
        adata, rows = mdata.mod[context], tensor.rows[:, c]
        if sought.weights is not None:
            where = f"mdata[{context!r}].obs[{sought.weights!r}]"
            objects.key_in(sought.weights, adata.obs, f"mdata[{context!r}].obs")
            found = pd.to_numeric(adata.obs[sought.weights], errors="coerce").to_numpy(np.float64)[rows][:, None]
            known = measured[:, c].any(axis=1, keepdims=True)
        else:
            where = f"mdata[{context!r}].layers[{sought.standard_errors!r}]"
            objects.key_in(sought.standard_errors, adata.layers, f"mdata[{context!r}].layers")
            layer = adata.layers[sought.standard_errors]
            layer = layer.toarray() if sparse.issparse(layer) else unmasked(np.asanyarray(layer))
            found, known = layer[rows][:, tensor.columns[c]].astype(np.float64), measured[:, c]
        odd = known & ~(np.isfinite(found) & (found > 0))
        if odd.any():
            msg = (
                f"`{where}` must be positive and finite for every measured value; it is not for {_some(tensor.treatments, odd.any(axis=1))}. "
                "To leave a profile out, set its row of the matrix to NaN."
            )
            raise ValueError(msg)
        precise = found if sought.weights is not None else 1.0 / np.square(np.where(known, found, 1.0))
        weights[:, c] = np.where(known, precise, 1.0)
    return weights


def _some(names: Sequence[str], marked: np.ndarray) -> str:
    return checks.listed([names[i] for i in np.flatnonzero(marked)])
