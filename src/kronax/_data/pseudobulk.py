"""Sums of the rows of every group, in one pass over a matrix that need not be in memory."""

from typing import Any

import numpy as np
from anndata import AnnData
from scipy import sparse

from kronax._data import objects
from kronax._data.chunks import in_chunks, is_dask
from kronax._data.matrix import find_matrix, raw_instead, require_no_mask, require_real
from kronax._logging import warn
from kronax.solvers import checks
from kronax.solvers.rows.block import rows_of
from kronax.solvers.rows.rows import Arrays, add_arrays, added

_ENTRIES = 2**23  # at a time, at least
_LARGE = 30.0  # no logarithm of a count is as large


def sums(adata: AnnData, layer: str | None, codes: np.ndarray, n_groups: int, *, counts: bool) -> np.ndarray:
    """Sum the rows of every group.

    Parameters
    ----------
    adata, layer
        Where the matrix is: dense or sparse, in memory, in the file that backs the object, or a dask array.
    codes
        Group of every row; negative for none.
    n_groups
        Number of groups ``G``.
    counts
        Whether the values must be counts.

    Returns
    -------
    (G, p), float64.
    """
    found, where = find_matrix(adata, layer)
    require_no_mask(found, where)
    require_real(found.dtype, where, raw_instead(adata))
    objects.memory(8 * 4 * n_groups * adata.n_vars, "Leave genes out first, or treatments with few cells.")
    values, tally = _total(found, codes, n_groups, chunked=in_chunks(adata, found))
    _require_values(tally, where, counts=counts, raw=raw_instead(adata))
    return values


def _total(found: Any, codes: np.ndarray, n_groups: int, *, chunked: bool) -> Arrays:
    """Sum all rows, a part of the matrix at a time."""
    if chunked and is_dask(found):
        import dask
        from dask.delayed import delayed

        found = found.rechunk({1: -1})
        ends = np.cumsum(found.chunks[0])
        parts = [
            delayed(_of_rows, pure=False)(chunk, codes[end - n : end], n_groups)
            for chunk, end, n in zip(found.to_delayed().ravel(), ends, found.chunks[0], strict=True)
        ]
        return dask.compute(*added(parts, delayed(add_arrays, pure=False, nout=2)))
    n, p = found.shape
    n_entries = found.nnz if sparse.issparse(found) else n * p
    size = max(1, n * max(_ENTRIES, n_groups * p) // max(n_entries, 1))
    views = sparse.issparse(found) and found.format == "csr"
    slices = (slice(start, min(start + size, n)) for start in range(0, n, size))
    return added(_of_rows(rows_of(found, rows) if views else found[rows], codes[rows], n_groups) for rows in slices)


def _of_rows(rows: Any, codes: np.ndarray, n_groups: int) -> Arrays:
    """Sum rows, (G, p), and count values: NaN or infinite ones, negative ones, broken ones, and large ones; rows without group are skipped."""
    matrix = sparse.csr_array(rows, dtype=np.float64 if rows.dtype.kind == "f" else rows.dtype)
    if (codes < 0).any():
        matrix, codes = matrix[codes >= 0], codes[codes >= 0]
    values, p = matrix.data, matrix.shape[1]
    place = np.repeat(codes.astype(np.int64) * p, np.diff(matrix.indptr))
    place += matrix.indices
    found = np.bincount(place, weights=values, minlength=n_groups * p).reshape(n_groups, p)
    if values.dtype.kind in "bu":
        return found, np.array([0, 0, 0, np.count_nonzero(values > _LARGE)], float)
    broken = 0 if values.dtype.kind == "i" else np.count_nonzero(values != np.rint(values))
    bad = np.count_nonzero(~np.isfinite(values))
    return found, np.array([bad, np.count_nonzero(values < 0), broken, np.count_nonzero(values > _LARGE)], float)


def _require_values(tally: np.ndarray, where: str, *, counts: bool, raw: str) -> None:
    """Require finite numbers and, where sums and logarithms are taken, counts."""
    n_bad, n_negative, n_broken, n_large = map(int, tally)
    if n_bad:
        msg = (
            f"{where} has {checks.number(n_bad, 'NaN or infinite value')}. Replace them, or leave out the cells or genes "
            f"that hold them.{raw}"
        )
        raise ValueError(msg)
    if not counts and not n_negative and not n_broken and n_large:
        warn(
            f"{where} looks like counts: no value is negative, and all are whole numbers. They are averaged as they are, so that "
            "differences in depth look like effects. Leave `log` at True for counts."
        )
    if counts and n_negative:
        msg = (
            f"{where} has {checks.number(n_negative, 'negative value')}; counts are needed, which are summed before logarithms "
            f"are taken. Name the layer of counts with `layer=…`; or, if values are logarithms already, pass `log=False`.{raw}"
        )
        raise ValueError(msg)
    if counts and n_broken and not n_large:
        msg = (
            f"{where} looks like logarithms: {n_broken:,} values are no whole numbers, and none is above {_LARGE:g}. "
            "Counts are needed, which are summed before logarithms are taken. Name the layer of counts with `layer=…`; or, "
            f"to average the values as they are, pass `log=False`.{raw}"
        )
        raise ValueError(msg)
