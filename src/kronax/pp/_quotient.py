from typing import NamedTuple

import numpy as np
from anndata import AnnData
from scipy import sparse

from kronax._data import batches, keys, objects
from kronax._data.aside import set_aside, tell
from kronax._data.chunks import mapped, read_any
from kronax._data.isolated import expand, warn_of_isolated
from kronax._data.matrix import Counts, find_matrix
from kronax._data.whole import whole_or_nothing
from kronax._data.written import of_quotient
from kronax._logging import shows_progress
from kronax.solvers import checks
from kronax.solvers.rows.batches import apart
from kronax.solvers.rows.batches import counts as count_in_batches
from kronax.solvers.rows.block import like
from kronax.solvers.scales.quotient import of_rows, scales
from kronax.solvers.scales.quotient import quotient as solve

_ACCEPTED = 1e-6  # mean logarithm of a row or column of the quotient


def quotient(
    adata: AnnData,
    *,
    layer: str | None = None,
    batch_key: str | None = None,
    key_added: str = keys.QUOTIENT,
    copy: bool = False,
) -> AnnData | None:
    """Remove the unknown scale of every cell and every gene.

    Multiplicative noise, such as the capture efficiency of cells and the capture bias of genes, multiplies row ``i``
    of the matrix by ``r_i`` and column ``j`` by ``c_j``. The quotient ``Y = sign(X)·exp(log|X| − α_i − β_j)``, with
    ``α`` and ``β`` the least-squares two-way fit of ``log|X|`` on the non-zero entries, is the same for all ``r`` and
    ``c``. Zeros and signs are kept.

    Parameters
    ----------
    adata
        Cells × genes. Dense or sparse, any real dtype, or a dask array of either in chunks of whole rows.
    layer
        Layer to read; `adata.X` if None.
    batch_key
        Column of `adata.obs` with the batch of every cell. Every batch then is a matrix of its own, in which every gene has a scale of its
        own, so that multiplying any gene of any batch by any positive number changes nothing either.
    key_added
        Name of the results.
    copy
        Return a copy and leave `adata` unchanged.

    Returns
    -------
    None, or with ``copy=True`` the AnnData object with the results:

    ``adata.layers[key_added]`` : CSR matrix, cells × genes, float64
        The quotient ``Y``; of a dask array another one, computed when it is asked for.
    ``adata.obs[key_added + "_log_scale"]`` : float64
        ``α``, natural logarithm of the scale of each cell, in units of the matrix. NaN for a cell without non-zero
        values.
    ``adata.var[key_added + "_log_scale"]`` : float64
        ``β``, natural logarithm of the scale of each gene; its average over the non-zero entries is 0. NaN for a gene
        without non-zero values. With `batch_key`, the mean over the non-zero entries of all batches.
    ``adata.varm[key_added + "_log_scale"]`` : DataFrame, genes × batches
        With `batch_key`: ``β`` of every batch, NaN where a gene has no non-zero value in a batch.

    Raises
    ------
    FloatingPointError
        If the scales cannot be found in double precision. Nothing is written in that case.
    KeyError
        If there is no such layer, or no such column in `adata.obs`.
    TypeError
        If the matrix is not numeric and real.
    ValueError
        If `adata` is backed, or the matrix has masked, NaN or infinite values, or fewer than two cells or genes with non-zero
        values; or a cell has no batch, or most batches are a single cell.

    References
    ----------
    :cite:t:`Andrew2026`, section 3.2 and Appendix C. The single pass of row and column means given there is invariant
    only for matrices without zeros; the two-way fit is invariant for all.

    Examples
    --------
    >>> import anndata as ad
    >>> import kronax as kx
    >>> import numpy as np
    >>> counts = np.array([[2.0, 0.0, 1.0], [3.0, 5.0, 0.0], [0.0, 2.0, 7.0]])
    >>> adata, noisy = ad.AnnData(counts), ad.AnnData(counts * [[10.0], [1.0], [0.1]])
    >>> kx.pp.quotient(adata)
    >>> kx.pp.quotient(noisy)
    >>> bool(np.allclose(adata.layers["quotient"].data, noisy.layers["quotient"].data))
    True
    """
    objects.is_anndata(adata)
    checks.name(key_added, "key_added")
    counts = read_any(adata, layer)
    named = batches.read_one(adata, batch_key, counts)
    found = _solved(counts, named)
    if not found.residual < _ACCEPTED:
        msg = (
            f"The scales were not found: the logarithms of a gene still average to {found.residual:.2g}. Nothing was "
            "written. Values that differ by very many orders of magnitude can be the cause; look for outliers."
        )
        raise FloatingPointError(msg)

    adata = adata.copy() if copy else adata
    with whole_or_nothing(adata):
        warn_of_isolated(adata, counts)
        batches.warn_of(named, None)
        array, _ = find_matrix(adata, layer)
        key = keys.log_scale(key_added)
        places = of_quotient(key_added)
        if all(name in getattr(adata, part) for part, name in places):  # an earlier quotient
            adata.varm.pop(key, None)
        else:
            tell(set_aside([adata], [*places, *([("varm", key)] if named else [])]))
        n, p = counts.shape
        if found.matrix is not None:
            coo = found.matrix.tocoo()
            rows, cols = coo.coords
            adata.layers[key_added] = sparse.csr_matrix(
                (coo.data, (counts.cells[rows], counts.genes[cols])), shape=(n, p)
            )
        else:
            codes = expand(named.batches.codes, counts.cells, n).astype(np.intp) if named else np.zeros(n, np.intp)
            adata.layers[key_added] = mapped(array, of_rows, counts.genes, found.in_batches, p, of_rows=codes)
        n_entries = found.n_entries
        mean = (n_entries / n_entries.sum(axis=0) * found.in_batches).sum(axis=0)
        adata.obs[key] = expand(found.log_rows, counts.cells, n, fill=np.nan)
        adata.var[key] = expand(mean, counts.genes, p, fill=np.nan)
        if named:
            adata.varm[key] = batches.table(adata, counts, named, np.where(n_entries > 0, found.in_batches, np.nan))
    return adata if copy else None


class _Solved(NamedTuple):
    """The quotient, if it is held in memory, the scales of cells, of genes in every batch, and the numbers of their entries."""

    matrix: sparse.csr_array | None
    log_rows: np.ndarray
    in_batches: np.ndarray
    n_entries: np.ndarray
    residual: float


def _solved(counts: Counts, named: batches.Named | None) -> _Solved:
    """Find the quotient of every batch by itself; without batches, all cells are one."""
    rows, n_entries = counts.rows, counts.rows.col_counts[None]
    if named and named.batches.n > 1:
        n_entries = count_in_batches(rows, named.batches)
        rows = apart(rows, named.batches, n_entries)
    found = solve(rows.matrix) if counts.in_memory else scales(rows, progress=shows_progress())
    there = n_entries > 0
    in_batches = np.zeros(there.shape)
    in_batches[there] = found.log_cols
    matrix = like(counts.matrix, found.matrix.data) if counts.in_memory else None
    return _Solved(matrix, found.log_rows, in_batches, n_entries, found.residual)
