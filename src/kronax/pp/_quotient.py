import numpy as np
from anndata import AnnData
from scipy import sparse

from kronax._data import keys, objects
from kronax._data.aside import set_aside, tell
from kronax._data.chunks import mapped, read_any
from kronax._data.isolated import expand, warn_of_isolated
from kronax._data.matrix import find_matrix
from kronax._data.written import of_quotient
from kronax._logging import shows_progress
from kronax.solvers import checks
from kronax.solvers.scales.quotient import divided, scales
from kronax.solvers.scales.quotient import quotient as solve

_ACCEPTED = 1e-6  # mean logarithm of a row or column of the quotient


def quotient(
    adata: AnnData, *, layer: str | None = None, key_added: str = keys.QUOTIENT, copy: bool = False
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
        without non-zero values.

    Raises
    ------
    FloatingPointError
        If the scales cannot be found in double precision. Nothing is written in that case.
    KeyError
        If there is no such layer.
    TypeError
        If the matrix is not numeric and real.
    ValueError
        If `adata` is backed, or the matrix has masked, NaN or infinite values, or fewer than two cells or genes with non-zero
        values.

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
    found = solve(counts.matrix) if counts.in_memory else scales(counts.rows, progress=shows_progress())
    if not found.residual < _ACCEPTED:
        msg = (
            f"The scales were not found: the logarithms of a gene still average to {found.residual:.2g}. Nothing was "
            "written. Values that differ by very many orders of magnitude can be the cause; look for outliers."
        )
        raise FloatingPointError(msg)

    adata = adata.copy() if copy else adata
    warn_of_isolated(adata, counts)
    array, _ = find_matrix(adata, layer)
    places = of_quotient(key_added)
    if not all(name in getattr(adata, part) for part, name in places):  # else it is an earlier quotient
        tell(set_aside([adata], places))
    n, p = counts.shape
    if counts.in_memory:
        coo = found.matrix.tocoo()
        rows, cols = coo.coords
        adata.layers[key_added] = sparse.csr_matrix((coo.data, (counts.cells[rows], counts.genes[cols])), shape=(n, p))
    else:
        adata.layers[key_added] = mapped(array, divided, counts.genes, found.log_cols, p)
    adata.obs[keys.log_scale(key_added)] = expand(found.log_rows, counts.cells, n, fill=np.nan)
    adata.var[keys.log_scale(key_added)] = expand(found.log_cols, counts.genes, p, fill=np.nan)
    return adata if copy else None
