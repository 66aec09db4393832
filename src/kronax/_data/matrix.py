"""The matrix of an AnnData object: X or a layer, checked and copied."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from anndata import AnnData
from scipy import sparse

from kronax._data import objects
from kronax.solvers import checks
from kronax.solvers.rows.rows import InMemory, Rows


@dataclass(frozen=True)
class Counts:
    """A matrix without its empty rows and columns.

    Attributes
    ----------
    rows
        The matrix, without stored zeros: in memory as a copy, or in chunks.
    cells, genes
        Positions of its rows and columns in the AnnData object.
    shape
        Shape of the AnnData object.
    n_negative
        How many values are negative.
    sample
        Of a matrix in chunks, some of the rows; None of one in memory.
    """

    rows: Rows
    cells: np.ndarray
    genes: np.ndarray
    shape: tuple[int, int]
    n_negative: int
    sample: sparse.csr_array | None = None

    @property
    def in_memory(self) -> bool:
        """Whether the matrix is in memory."""
        return self.sample is None

    @property
    def matrix(self) -> sparse.csr_array:
        """The matrix in memory: CSR, float64."""
        return self.rows.matrix


def read_counts(adata: AnnData, layer: str | None, of: str = "adata") -> Counts:
    """Read a matrix of at least two cells and two genes that have non-zero values."""
    matrix, where = read_matrix(adata, layer, of)
    cells = np.flatnonzero(np.diff(matrix.indptr))
    genes = np.flatnonzero(np.bincount(matrix.indices, minlength=matrix.shape[1]))
    require_counted(matrix.shape, cells, genes, where, raw_instead(adata, of))
    kept = matrix if len(cells) == matrix.shape[0] else matrix[cells]
    kept = kept if len(genes) == matrix.shape[1] else kept[:, genes]
    return Counts(InMemory(kept), cells, genes, matrix.shape, int((kept.data < 0).sum()))


def require_counted(shape: tuple[int, int], cells: np.ndarray, genes: np.ndarray, where: str, raw: str) -> None:
    """Require at least two cells and two genes that have non-zero values."""
    if min(shape) < 2:
        n, p = shape
        msg = f"{where} has {checks.number(n, 'cell')} and {checks.number(p, 'gene')}; at least 2 of each are needed."
        raise ValueError(msg)
    if min(len(cells), len(genes)) < 2:
        msg = (
            f"{where} has non-zero values in {len(cells)} of {checks.number(shape[0], 'cell')} and {len(genes)} of "
            f"{checks.number(shape[1], 'gene')}; at least 2 of each are needed. Check that the right layer was named.{raw}"
        )
        raise ValueError(msg)


def read_matrix(adata: AnnData, layer: str | None, of: str = "adata") -> tuple[sparse.csr_array, str]:
    """Read X or a layer, and name its place; ``of`` is what the user calls the object."""
    found, where = find_matrix(adata, layer, of)
    return real_matrix(found, where, raw_instead(adata, of)), where


def find_matrix(adata: AnnData, layer: str | None, of: str = "adata") -> tuple[Any, str]:
    """Return X or a layer as it is, and name its place."""
    where = place(layer, of)
    raw = raw_instead(adata, of)
    if layer is not None:
        objects.key_in(layer, adata.layers, f"{of}.layers", raw.strip())
    found = adata.X if layer is None else adata.layers[layer]
    if found is None:
        layers = sorted(str(name) for name in adata.layers if name is not None)
        msg = f"{where} is None. Name the layer to use with `layer=…`; available: {layers}.{raw}"
        raise ValueError(msg)
    return found, where


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
    require_real(found.dtype, where, instead)
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


def require_real(dtype: np.dtype, where: str, instead: str) -> None:
    """Require numbers that are not complex."""
    if not any(np.issubdtype(dtype, kind) for kind in (np.bool_, np.integer, np.floating)):
        msg = (
            f"{where} has dtype {dtype}; real numbers are needed. Convert it, e.g. with `.astype('float32')`.{instead}"
        )
        raise TypeError(msg)


def require_no_mask(found: Any, where: str) -> None:
    """Refuse a masked array with masked entries: these are missing values, which a graph cannot have."""
    if isinstance(found, np.ma.MaskedArray) and np.ma.is_masked(found):
        n_masked = int(np.ma.count_masked(found))
        msg = (
            f"{where} is a masked array with {checks.number(n_masked, 'masked value')}; every value is needed. Fill them "
            "first, e.g. with `.filled(0)`, or remove the cells or genes that hold them."
        )
        raise ValueError(msg)
