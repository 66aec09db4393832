"""Cells and genes without a non-zero value: they are left out of the solve and become isolated vertices."""

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from kronax._data.matrix import Counts
from kronax._logging import warn
from kronax.solvers import checks
from kronax.solvers.graph.graph import placed


def warn_of_isolated(adata: AnnData, counts: Counts, of: str = "") -> None:
    """Report the cells and genes that have no non-zero value; ``of`` names the modality."""
    reports = [
        _report(kind, names, kept)
        for kind, names, kept in (("cells", adata.obs_names, counts.cells), ("genes", adata.var_names, counts.genes))
        if len(kept) < len(names)
    ]
    if reports:
        msg = f"Without a non-zero value, and therefore isolated{of and f' in {of!r}'}: {'; '.join(reports)}."
        warn(msg)


def _report(kind: str, names: pd.Index, kept: np.ndarray) -> str:
    left = names.delete(kept)
    return f"{len(left)} of {len(names)} {kind} ({checks.listed(left, 3)})"


def expand(values: np.ndarray, positions: np.ndarray, n: int, *, fill: float = 0.0) -> np.ndarray:
    """Put rows of an array at their positions, ascending, among ``n``; the others hold ``fill``.

    If there are no others, the result has the memory of the array.
    """
    if len(positions) == n:
        return np.ascontiguousarray(values, np.float64)
    full = np.full((n, *values.shape[1:]), fill)
    full[positions] = values
    return full


def expand_square(matrix: sparse.csr_array, positions: np.ndarray, n: int) -> sparse.csr_matrix:
    """Put the rows and columns of a square matrix at their positions, ascending, among ``n``; the others are empty.

    If there are no others, the result has the memory of the matrix.
    """
    return sparse.csr_matrix(placed(matrix, positions, n))
