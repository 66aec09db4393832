"""Normal scores: every column by its ranks, so that only the dependence between columns is left.

Liu, Lafferty and Wasserman (JMLR 2009): a Gaussian behind unknown increasing functions of the columns.
"""

import numpy as np
from scipy import sparse, stats


def normal_scores(matrix: sparse.csr_array) -> sparse.csr_array:
    """Replace an entry of rank ``r`` among the ``n`` of its column by ``Φ⁻¹(r/(n + 1)) − Φ⁻¹(r₀/(n + 1))``.

    Ties share their mean rank, and ``r₀`` is the rank of zero, so zeros stay zeros. The model estimates the columns' means.

    Parameters
    ----------
    matrix
        ``X``, CSR, no stored zeros.
    """
    n, m = matrix.shape
    columns = matrix.tocsc(copy=True)
    for j in range(m):
        part = slice(columns.indptr[j], columns.indptr[j + 1])
        columns.data[part] = _column_scores(columns.data[part], n)
    scores = columns.tocsr()
    scores.eliminate_zeros()
    return scores


def _column_scores(values: np.ndarray, n: int) -> np.ndarray:
    n_zeros = n - len(values)
    below = (values < 0).sum()
    ranks = stats.rankdata(values) + np.where(values > 0, n_zeros, 0)
    rank_of_zero = below + 0.5 * (n_zeros + 1) if n_zeros else 0.5 * (n + 1)
    return stats.norm.ppf(ranks / (n + 1)) - stats.norm.ppf(rank_of_zero / (n + 1))
