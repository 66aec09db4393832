"""The matrix of an AnnData object: X or a layer, checked and copied."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData
from scipy import sparse

from kronax._data import objects
from kronax.solvers import checks


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


def read_counts(adata: AnnData, layer: str | None, of: str = "adata") -> Counts:
    """Read a matrix of at least two cells and two genes that have non-zero values."""
    matrix, where = read_matrix(adata, layer, of)
    raw = raw_instead(adata, of)
    if min(matrix.shape) < 2:
        n, p = matrix.shape
        msg = f"{where} has {checks.number(n, 'cell')} and {checks.number(p, 'gene')}; at least 2 of each are needed."
        raise ValueError(msg)
    cells = np.flatnonzero(np.diff(matrix.indptr))
    genes = np.flatnonzero(np.bincount(matrix.indices, minlength=matrix.shape[1]))
    if min(len(cells), len(genes)) < 2:
        msg = (
            f"{where} has non-zero values in {len(cells)} of {checks.number(matrix.shape[0], 'cell')} and {len(genes)} of "
            f"{checks.number(matrix.shape[1], 'gene')}; at least 2 of each are needed. Check that the right layer was named.{raw}"
        )
        raise ValueError(msg)
    return Counts(sparse.csr_array(matrix[cells][:, genes]), cells, genes, matrix.shape)


def read_matrix(adata: AnnData, layer: str | None, of: str = "adata") -> tuple[sparse.csr_array, str]:
    """Read X or a layer, and name its place; ``of`` is what the user calls the object."""
    where = place(layer, of)
    raw = raw_instead(adata, of)
    if layer is not None:
        objects.key_in(layer, adata.layers, f"{of}.layers", raw.strip())
    found = adata.X if layer is None else adata.layers[layer]
    if found is None:
        layers = sorted(str(name) for name in adata.layers if name is not None)
        msg = f"{where} is None. Name the layer to use with `layer=…`; available: {layers}.{raw}"
        raise ValueError(msg)
    return real_matrix(found, where, raw), where


def raw_instead(adata: AnnData, of: str = "adata") -> str:
    """Return advice on how to use the values in `raw`, if any; a graph must have the genes of its object."""
    if adata.raw is None:
        return ""
    n, p = adata.raw.shape
    return (
        f" `{of}.raw` holds values of {checks.number(n, 'cell')} and {checks.number(p, 'gene')}: to use them, pass "
        f"`{of}.raw.to_adata()`."
    )


def place(layer: str | None, of: str = "adata") -> str:
    """Name the place of X or a layer; ``of`` is what the user calls the object."""
    return f"`{of}.X`" if layer is None else f"`{of}.layers[{layer!r}]`"


def real_matrix(found: Any, where: str, instead: str = "") -> sparse.csr_array:
    """Copy a dense or sparse matrix to CSR in float64, without stored zeros; require finite numbers.

    ``instead`` is the sentence that says what else the user could pass.
    """
    require_no_mask(found, where)
    if not (isinstance(found, np.ndarray) or sparse.issparse(found)):
        msg = (
            f"{where} is a {type(found).__module__}.{type(found).__qualname__}, which is not in memory. "
            "Run `adata = adata.to_memory()` first."
        )
        raise TypeError(msg)
    if not (np.issubdtype(found.dtype, np.bool_) or np.isrealobj(found) and np.issubdtype(found.dtype, np.number)):
        msg = f"{where} has dtype {found.dtype}; real numbers are needed. Convert it, e.g. with `.astype('float32')`.{instead}"
        raise TypeError(msg)
    matrix = sparse.csr_array(found.astype(np.float64))
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    finite = np.isfinite(matrix.data)
    if not finite.all():
        msg = (
            f"{where} has {int((~finite).sum())} NaN or infinite values. "
            f"Replace them, or remove the cells or genes that hold them.{instead}"
        )
        raise ValueError(msg)
    return matrix


def require_no_mask(found: Any, where: str) -> None:
    """Refuse a masked array with masked entries: these are missing values, which a graph cannot have."""
    if isinstance(found, np.ma.MaskedArray) and np.ma.is_masked(found):
        n_masked = int(np.ma.count_masked(found))
        msg = (
            f"{where} is a masked array with {checks.number(n_masked, 'masked value')}; every value is needed. Fill them "
            "first, e.g. with `.filled(0)`, or remove the cells or genes that hold them."
        )
        raise ValueError(msg)
