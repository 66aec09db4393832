"""Cells and genes without a non-zero value: they are left out of the solve and become isolated vertices."""

import warnings

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from kronax._data.matrix import Counts
from kronax.solvers import checks


def warn_of_isolated(adata: AnnData, counts: Counts, of: str = "", *, stacklevel: int = 3) -> None:
    """Report the cells and genes that have no non-zero value; ``of`` names the modality."""
    reports = [
        _report(kind, names, kept)
        for kind, names, kept in (("cells", adata.obs_names, counts.cells), ("genes", adata.var_names, counts.genes))
        if len(kept) < len(names)
    ]
    if reports:
        msg = f"Without a non-zero value, and therefore isolated{of and f' in {of!r}'}: {'; '.join(reports)}."
        warnings.warn(msg, UserWarning, stacklevel=stacklevel)


def _report(kind: str, names: pd.Index, kept: np.ndarray) -> str:
    left = names.delete(kept)
    return f"{len(left)} of {len(names)} {kind} ({checks.listed(left, 3)})"


def expand(values: np.ndarray, positions: np.ndarray, n: int, *, fill: float = 0.0) -> np.ndarray:
    """Put rows of an array at their positions among ``n``; the others hold ``fill``."""
    full = np.full((n, *values.shape[1:]), fill)
    full[positions] = values
    return full


def expand_square(matrix: sparse.csr_array, positions: np.ndarray, n: int) -> sparse.csr_matrix:
    """Put the rows and columns of a square matrix at their positions among ``n``; the others are empty."""
    counts = np.zeros(n + 1, matrix.indptr.dtype)
    counts[positions + 1] = np.diff(matrix.indptr)
    indices = positions[matrix.indices].astype(matrix.indices.dtype)
    return sparse.csr_matrix((matrix.data, indices, np.cumsum(counts, dtype=counts.dtype)), shape=(n, n))
