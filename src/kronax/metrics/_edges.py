from typing import Literal

import numpy as np
import pandas as pd
from scipy import sparse

from kronax._data import keys, objects
from kronax._data.stored_graph import AXES, Axis, stored_matrix
from kronax.metrics._read import Holder, Matrix, require_symmetric, square
from kronax.solvers import checks

By = Literal["absolute", "sign"]
_BY = ("absolute", "sign")


def edge_average_precision(
    data: Holder | Matrix,
    *,
    truth: str | Matrix = keys.TRUTH,
    by: By = "absolute",
    neighbors_key: str = keys.MED_MAGMA,
    axis: Axis = "obs",
) -> float:
    """Measure how well an estimate ranks the true edges of a graph above all other pairs.

    The average precision: for each true edge, the share of true edges among all pairs that rank at least as high,
    averaged over true edges. It estimates the area under the precision–recall curve. A random ranking scores the share
    of true edges among all pairs; a perfect one scores 1.

    Parameters
    ----------
    data
        AnnData object with an estimated precision matrix, MuData object with one of its cells, or the estimate itself,
        symmetric. The diagonal is not used. :func:`kronax.tl.med_magma` keeps the precision only on the edges of its
        graphs unless ``n_neighbors=None``; all other pairs then tie for the last rank.
    truth
        The true graph: a symmetric matrix with an edge wherever an off-diagonal entry is not 0; or its name in ``obsp``
        (``varp`` for ``axis="var"``).
    by
        ``"absolute"``: pairs are ranked by the absolute value of the estimate, regardless of sign. ``"sign"``: every
        pair stands for two candidates, a positive and a negative edge, ranked by the estimate and by its negative, and
        edges must be found with their signs. Estimate and truth must then be of the same kind: both precision matrices,
        or both correlations.
    neighbors_key
        Key in ``uns`` that describes the estimate.
    axis
        ``"obs"`` for the cells, ``"var"`` for the genes.

    Returns
    -------
    The average precision, from 0 to 1.

    Raises
    ------
    KeyError
        If there is no such estimate or truth.
    TypeError
        If the estimate or the truth is not a matrix.
    ValueError
        If a matrix is not square or not symmetric or has NaN or infinite values, the shapes differ, or the truth has no
        edge.

    See Also
    --------
    edge_precision_recall : The whole curve.

    References
    ----------
    :cite:t:`Davis2006`; used in this way in :cite:t:`Andrew2026`, section 4.

    Examples
    --------
    >>> import kronax as kx
    >>> adata = kx.datasets.kronecker_sum(40, 40, random_state=1)
    >>> gram = adata.X.T @ adata.X
    >>> found = kx.metrics.edge_average_precision(gram, truth=adata.varp["truth"])
    >>> found > 39 / (40 * 39 / 2)
    True
    """
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(*_candidates(data, truth, by, neighbors_key, axis)))


def edge_precision_recall(
    data: Holder | Matrix,
    *,
    truth: str | Matrix = keys.TRUTH,
    by: By = "absolute",
    neighbors_key: str = keys.MED_MAGMA,
    axis: Axis = "obs",
) -> pd.DataFrame:
    """Compute precision and recall of a graph's edges at every threshold.

    Parameters
    ----------
    data, truth, by, neighbors_key, axis
        As in :func:`kronax.metrics.edge_average_precision`.

    Returns
    -------
    A table with one row per distinct score, from the highest: ``threshold``; ``precision``, the share of true edges
    among the candidates whose score is at least the threshold; ``recall``, the share of all true edges that are among
    them.

    Raises
    ------
    KeyError, TypeError, ValueError
        As in :func:`kronax.metrics.edge_average_precision`.

    References
    ----------
    :cite:t:`Davis2006`; used in this way in :cite:t:`Andrew2026`, section 4.

    Examples
    --------
    >>> import kronax as kx
    >>> import numpy as np
    >>> truth = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    >>> estimate = np.array([[0, 2.0, 1.0], [2.0, 0, 0], [1.0, 0, 0]])
    >>> kx.metrics.edge_precision_recall(estimate, truth=truth)["precision"].tolist()[0]
    1.0
    """
    from sklearn.metrics import precision_recall_curve

    precision, recall, threshold = precision_recall_curve(*_candidates(data, truth, by, neighbors_key, axis))
    curve = {"threshold": threshold[::-1], "precision": precision[-2::-1], "recall": recall[-2::-1]}
    return pd.DataFrame(curve)


def _candidates(
    data: Holder | Matrix, truth: str | Matrix, by: By, neighbors_key: str, axis: Axis
) -> tuple[np.ndarray, np.ndarray]:
    """Return, for every possible edge, whether it is true, and its score."""
    checks.one_of(by, _BY, "by")
    checks.one_of(axis, AXES, "axis")
    if isinstance(data, Holder):
        objects.holds_graph(data, axis)
        found, place = stored_matrix(data, neighbors_key, axis, "precision")
    else:
        found, place = square(data, "The estimate"), "The estimate"
    if isinstance(truth, str):
        if not isinstance(data, Holder):
            msg = f"`truth` names a matrix, {truth!r}, but the estimate is not in an AnnData or MuData object. Pass the matrix itself."
            raise ValueError(msg)
        objects.key_in(truth, getattr(data, f"{axis}p"), f"{objects.called(data)}.{axis}p")
        truth = getattr(data, f"{axis}p")[truth]
    true = square(truth, "The truth")
    if found.shape != true.shape:
        msg = f"The estimate has shape {found.shape}, but the truth {true.shape}."
        raise ValueError(msg)
    for matrix, name in ((found, place), (true, "The truth")):
        if not np.isfinite(matrix.data).all():
            msg = f"{name} has NaN or infinite values."
            raise ValueError(msg)
        require_symmetric(matrix, name)
    score, edge = _pairs(found), _pairs(true)
    if not edge.any():
        msg = "The truth has no edges: all its entries off the diagonal are 0."
        raise ValueError(msg)
    if by == "absolute":
        return edge != 0, np.abs(score)
    return np.concatenate([edge > 0, edge < 0]), np.concatenate([score, -score])


def _pairs(matrix: sparse.csr_matrix) -> np.ndarray:
    """Return the entries above the diagonal."""
    return matrix.toarray()[np.triu_indices(matrix.shape[0], 1)]
