"""How neighbouring cells are found: by kronax's own search, or by a transformer as scanpy takes them."""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from scipy import sparse

from kronax.solvers import checks
from kronax.solvers.graph.lists import nearest
from kronax.solvers.graph.search import most_similar_to

RECALL = 0.95
NAMES = ("pynndescent", "sklearn")
# rank rows of unit length alike, and have other names in other libraries
EUCLIDEAN = ("euclidean", "l2", "sqeuclidean", "cosine", "minkowski", "angular", "dot", "inner_product", "ip")


class Transformer(Protocol):
    """A k-nearest-neighbours transformer, as scikit-learn's."""

    def fit_transform(self, X: np.ndarray, /) -> Any:
        """Return a sparse matrix of the distances from every row to its nearest."""


def check(
    *, recall: float, transformer: str | Transformer | None, weights: str, graphs: str, n_neighbors: int | None
) -> None:
    """Check how neighbours are to be found, which only the affinity of cells leaves open."""
    if not (checks.is_real(recall) and 0 < recall <= 1):
        msg = f"`recall` must be a number above 0 and at most 1, found {recall!r}."
        raise ValueError(msg)
    _check_transformer(transformer)
    chosen = [f"transformer={transformer!r}"] * (transformer is not None) + [f"recall={recall!r}"] * (recall != RECALL)
    if graphs == "genes" and chosen:
        msg = (
            "`recall` and `transformer` are for neighbouring cells: graphs='both' or 'cells', found graphs='genes' and "
            f"{' and '.join(chosen)}."
        )
        raise ValueError(msg)
    if weights != "affinity" and chosen:
        msg = (
            f'`recall` and `transformer` are for weights="affinity"; with weights={weights!r} all partial correlations are '
            f"compared. Found {' and '.join(chosen)}."
        )
        raise ValueError(msg)
    if transformer is None:
        return
    if n_neighbors is None:
        msg = f"`transformer` finds nearest neighbours; n_neighbors=None connects all cells. Found {chosen[0]}."
        raise ValueError(msg)
    if recall != RECALL:
        msg = f"`recall` is for kronax's own search: how much a transformer finds is its own setting. Found {' and '.join(chosen)}."
        raise ValueError(msg)
    _check_settings(transformer, n_neighbors)


def _check_transformer(transformer: str | Transformer | None) -> None:
    if transformer is None:
        return
    if isinstance(transformer, str):
        checks.one_of(transformer, NAMES, "transformer")
        if transformer == "pynndescent" and find_spec("pynndescent") is None:
            msg = 'transformer="pynndescent" needs the package of that name: `pip install pynndescent`.'
            raise ImportError(msg)
    elif isinstance(transformer, type) or not callable(getattr(transformer, "fit_transform", None)):
        msg = (
            f"`transformer` must be {' or '.join(map(repr, NAMES))} or have a method `fit_transform`, such as "
            f"sklearn.neighbors.KNeighborsTransformer(n_neighbors=16); found {checks.type_of(transformer)}."
        )
        raise TypeError(msg)


def _check_settings(transformer: str | Transformer, n_neighbors: int) -> None:
    """Refuse the settings of a transformer that cannot lead to the nearest neighbours."""
    settings = transformer.get_params() if hasattr(transformer, "get_params") else {}
    found = settings.get("n_neighbors", n_neighbors)
    if found < n_neighbors:
        msg = (
            f"The transformer looks for {found} neighbours and n_neighbors={n_neighbors} are wanted, besides the cell itself: "
            f"set its n_neighbors to {n_neighbors + 1}, or `n_neighbors={found - 1}`."
        )
        raise ValueError(msg)
    metric = settings.get("metric", "euclidean")
    if isinstance(metric, str) and metric not in EUCLIDEAN or settings.get("p", 2) != 2:
        what = f"metric={metric!r}" + (f", p={settings['p']!r}" if settings.get("p", 2) != 2 else "")
        msg = f'Nearest are the cells with the largest cosine: set the transformer\'s metric to "euclidean". Found {what}.'
        raise ValueError(msg)
    if settings.get("mode", "distance") != "distance":
        msg = f'The transformer must return distances: mode="distance", found {settings["mode"]!r}.'
        raise ValueError(msg)


def settings(
    recall: float, transformer: str | Transformer | None, weights: str, graphs: str
) -> dict[str, float | str | None]:
    """Return what is stored of the search: whichever applies."""
    if weights != "affinity" or graphs == "genes":
        return {"recall": None, "transformer": None}
    if transformer is None:
        return {"recall": float(recall), "transformer": None}
    return {
        "recall": None,
        "transformer": transformer if isinstance(transformer, str) else " ".join(repr(transformer).split()),
    }


def search(
    recall: float, transformer: str | Transformer | None, random_state: int, *, progress: bool
) -> Callable[[np.ndarray, int], np.ndarray]:
    """Return the function that finds the ``k`` nearest other rows of every row of unit length."""
    if transformer is None:
        return partial(nearest, recall=recall, progress=progress)
    return partial(_by_transformer, transformer, random_state)


def _by_transformer(transformer: str | Transformer, random_state: int, rows: np.ndarray, k: int) -> np.ndarray:
    """Return the nearest others of a transformer's, which may or may not count the row itself.

    Those of a few rows that it found too few of are searched for exactly.
    """
    n = len(rows)
    if isinstance(transformer, str):
        transformer = _named(transformer, k, random_state)
    distances = sparse.csr_array(transformer.fit_transform(rows))
    if distances.shape != (n, n):
        msg = f"The transformer must return {n} × {n} distances, found {distances.shape[0]} × {distances.shape[1]}."
        raise ValueError(msg)
    distances.sum_duplicates()
    row, col = distances.tocoo().coords
    others = row != col
    row, col, values = row[others], col[others], distances.data[others]
    order = np.lexsort((values, row))
    found = np.bincount(row, minlength=n)
    usual = int(np.median(found))
    if usual < k:
        msg = (
            f"The transformer found {usual} neighbours of most cells, besides the cell itself, and n_neighbors={k} are wanted: "
            f"set its n_neighbors to {k + 1}, or `n_neighbors={usual}`."
        )
        raise ValueError(msg)
    neighbours = np.empty((n, k), np.int64)
    enough = found >= k
    starts = np.cumsum(found) - found
    neighbours[enough] = col[order[starts[enough][:, None] + np.arange(k)]]
    if not enough.all():
        neighbours[~enough] = most_similar_to(np.flatnonzero(~enough), rows, rows, k)
    return neighbours


def _named(name: str, k: int, random_state: int) -> Transformer:
    """Return a transformer that finds ``k`` others, whether or not it counts the row itself."""
    if name == "sklearn":
        from sklearn.neighbors import KNeighborsTransformer

        return KNeighborsTransformer(n_neighbors=k, algorithm="brute")  # which leaves the row itself aside
    from pynndescent import PyNNDescentTransformer

    return PyNNDescentTransformer(n_neighbors=k + 1, random_state=random_state)
