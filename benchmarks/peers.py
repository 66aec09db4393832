"""The graphs that kronax is compared with: scanpy's, and those of the published packages MED-MAGMA and GmGM."""

import importlib.util
import time
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scanpy as sc
from anndata import AnnData
from scipy import sparse

N_NEIGHBORS = 15
PAPER_NEIGHBORS = (1, 2, 3, 4, 5, 10, 15, 20, 25, 30, 40)  # the paper reports the best of these
N_GENES = 2000
SEED = 0


def log_normalized(counts: AnnData) -> AnnData:
    """Return a copy with scanpy's default normalisation."""
    adata = counts.copy()
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    return adata


def variable_genes(logs: AnnData) -> np.ndarray:
    """Choose at most 2,000 highly variable genes, scanpy's default flavor; a mask."""
    if logs.n_vars <= N_GENES:
        return np.ones(logs.n_vars, dtype=bool)
    return sc.pp.highly_variable_genes(logs, n_top_genes=N_GENES, inplace=False)["highly_variable"].to_numpy()


def scanpy_graph(logs: AnnData, transformer: str | None = None) -> str | None:
    """Run PCA and the neighbour graph with their defaults on log-normalised values.

    The default search of ``sc.pp.neighbors`` fails for 8,192 cells and more in some combinations of versions
    (pynndescent 0.7.0 with SciPy 1.17); only then scikit-learn's is used. Returns the ``transformer`` that worked.
    """
    sc.pp.pca(logs)
    try:
        sc.pp.neighbors(logs, transformer=transformer)
    except AttributeError:
        transformer = "sklearn"
        sc.pp.neighbors(logs, transformer=transformer)
    return transformer


# The published package


@dataclass(frozen=True)
class Published:
    """What came of one run of the published package.

    Attributes
    ----------
    n_genes
        Genes that its protocol selected.
    n_steps, converged, seconds
        Steps of expectation maximisation, whether its own criterion was met, and the time of the two calls.
    by_absolute, by_negative
        The 40 neighbours of every cell, nearest first: largest entries of ``|Ψ|``, as in the paper, and of ``−Ψ``.
    """

    n_genes: int
    n_steps: int
    converged: bool
    seconds: float
    by_absolute: list[list[int]]
    by_negative: list[list[int]]


def require_published() -> None:
    """Stop at once where the published package is not installed."""
    if importlib.util.find_spec("MED_MAGMA") is None:
        msg = "MED-MAGMA is not installed: pip install --no-deps --ignore-requires-python MED-MAGMA"
        raise SystemExit(msg)


def published_genes(counts: AnnData) -> np.ndarray:
    """Select genes by the paper's protocol: highly variable after log1p, then by share of expressing cells; a mask."""
    logs = counts.copy()
    sc.pp.log1p(logs)
    variable = variable_genes(logs)
    return variable & widely_expressed(counts, among=variable)


def widely_expressed(adata: AnnData, among: np.ndarray | None = None) -> np.ndarray:
    """Find the share of expressing cells, in steps of 1%, that leaves about as many genes as there are cells; a mask."""
    among = np.ones(adata.n_vars, dtype=bool) if among is None else among
    share = np.asarray((adata.X != 0).sum(axis=0)).ravel() / adata.n_obs
    masks = [share >= percent / 100 for percent in range(100)]
    return min(masks, key=lambda mask: abs(int((mask & among).sum()) - adata.n_obs))


def published(values: np.ndarray, stop_tol: float = 1e-3) -> Published:
    """Run the published package on a dense cells × genes matrix, and find the neighbours of the cells."""
    found = published_precisions(values, stop_tol)
    return Published(
        n_genes=values.shape[1],
        n_steps=found.n_steps,
        converged=found.converged,
        seconds=found.seconds,
        by_absolute=_largest(np.abs(found.psi)),
        by_negative=_largest(-found.psi),
    )


class Precisions(NamedTuple):
    """Precisions of rows and columns by the published package, steps of EM, whether they converged, and the time."""

    psi: np.ndarray
    phi: np.ndarray
    n_steps: int
    converged: bool
    seconds: float


def published_precisions(values: np.ndarray, stop_tol: float = 1e-3) -> Precisions:
    """Run the published package on a dense matrix; its default tolerance, or the 1e-7 of its README."""
    from MED_MAGMA import EM_algorithm, sparse_quotient

    np.random.seed(SEED)  # it draws its starting point from NumPy's global state
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scipy.optimize, by the thousand
        (psi, phi), changes = EM_algorithm(sparse_quotient(values), stop_tol=stop_tol)
    return Precisions(psi, phi, len(changes), bool(changes[-1] < stop_tol), time.perf_counter() - start)


def _largest(scores: np.ndarray) -> list[list[int]]:
    """Return the columns of the largest entries of each row, largest first, without the diagonal."""
    scores = scores.copy()
    np.fill_diagonal(scores, -np.inf)
    k = min(max(PAPER_NEIGHBORS), len(scores) - 1)
    return np.argsort(-scores, axis=1, kind="stable")[:, :k].tolist()


def union_graph(neighbors: list[list[int]], k: int) -> sparse.csr_matrix:
    """Connect two cells, with weight 1, if one is among the first k neighbours of the other."""
    cols = np.asarray(neighbors)[:, :k]
    n, k = cols.shape
    graph = sparse.csr_matrix((np.ones(n * k), (np.repeat(np.arange(n), k), cols.ravel())), shape=(n, n))
    return graph.maximum(graph.T)


# GmGM: the same Gaussian, without noise


def has_gmgm() -> bool:
    return importlib.util.find_spec("GmGM") is not None


def gmgm(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Run GmGM with its defaults, but for keeping all edges; precision matrices of rows and columns, without diagonals."""
    from GmGM import Dataset, GmGM

    found = Dataset(dataset={"x": values}, structure={"x": ("rows", "cols")})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        GmGM(found, to_keep={"rows": 1.0, "cols": 1.0}, threshold_method="overall", random_state=SEED)
    rows, cols = (found.precision_matrices[axis].toarray() for axis in ("rows", "cols"))
    return rows, cols
