"""What becomes of two graphs when every cell's and every gene's counts are multiplied by a random factor."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from sklearn.metrics import adjusted_mutual_info_score

from kronax import tl
from kronax._data import keys, selection
from kronax._data.stored_graph import stored_graph
from kronax._logging import logger
from kronax.metrics._leiden import leiden

LARGEST = 4  # factors lie between its inverse and itself
MOST_CELLS = 5_000  # as many take half a minute

Graphs = dict[str, sparse.csr_matrix]


def kept_by_graphs(
    adata: AnnData, layer: str | None, n_neighbors: int, resolution: float, batch: str | None = None
) -> pd.DataFrame:
    """Learn both graphs before and after: what is kept of the first ones.

    Measures × our graph and scanpy's on principal components: the share of the cell graph's edges, the adjusted mutual
    information of its clusters, and the share of the gene graph's edges, NaN without one.
    """
    counts = selection.counts_behind(adata, layer)
    there = np.diff(counts.indptr) > 0  # cells without any have no edges
    counts, obs = counts[there], adata.obs.loc[there, [] if batch is None else [batch]]
    before, after = (_graphs(values, obs, n_neighbors, batch) for values in (counts, multiplied(counts)))
    found = {
        key: (
            _edges_kept(before[key], after[key]),
            adjusted_mutual_info_score(*(leiden(graphs[key], resolution, 0) for graphs in (before, after))),
            _edges_kept(before["genes"], after["genes"]) if key == keys.MED_MAGMA else np.nan,
        )
        for key in (keys.MED_MAGMA, keys.SCANPY_DEFAULT)
    }
    return pd.DataFrame(found, index=["cell edges kept", "clusters (AMI)", "gene edges kept"])


def multiplied(counts: sparse.csr_array, random_state: int = 0) -> sparse.csr_array:
    """Multiply every row and every column by a random factor, its logarithm uniform."""
    rng = np.random.default_rng(random_state)
    rows, columns = (np.exp(rng.uniform(-1.0, 1.0, n) * np.log(LARGEST)) for n in counts.shape)
    return sparse.csr_array(sparse.diags_array(rows) @ counts @ sparse.diags_array(columns))


def neighbours_on_components(logs: AnnData, n_neighbors: int) -> None:
    """Make scanpy's graph, of principal components, with exact neighbours."""
    import scanpy as sc

    sc.pp.pca(logs)
    sc.pp.neighbors(logs, n_neighbors=n_neighbors, transformer="sklearn")


def _graphs(counts: sparse.csr_array, obs: pd.DataFrame, n_neighbors: int, batch: str | None) -> Graphs:
    import scanpy as sc

    ours, theirs = AnnData(sparse.csr_matrix(counts), obs), AnnData(sparse.csr_matrix(counts, dtype=np.float32))
    with _quiet():
        tl.med_magma(ours, n_neighbors=n_neighbors, batch_key=batch)
    sc.pp.normalize_total(theirs)
    sc.pp.log1p(theirs)
    neighbours_on_components(theirs, n_neighbors)
    return {
        keys.MED_MAGMA: stored_graph(ours, keys.MED_MAGMA, "obs"),
        keys.SCANPY_DEFAULT: stored_graph(theirs, keys.SCANPY_DEFAULT, "obs"),
        "genes": stored_graph(ours, keys.MED_MAGMA, "var"),
    }


def _edges_kept(before: sparse.csr_matrix, after: sparse.csr_matrix) -> float:
    return (before > 0).multiply(after > 0).nnz / before.nnz if before.nnz else np.nan


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the line that tells of every graph, and warnings, which the first graphs have given, with names of genes."""
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        logger.setLevel(before)


def lines(found: pd.DataFrame, resolution: float) -> list[str]:
    """Tell what is kept, as a table."""
    return [
        "  What is kept if every cell's and every gene's counts are multiplied by a random factor from "
        f"1/{LARGEST} to {LARGEST}",
        f"  {'':<16}{'med_magma':>10}{'PCA neighbours':>18}",
        *(
            f"  {name:<16}{_written(name, row.iloc[0]):>10}{_written(name, row.iloc[1]):>18}"
            + f"   at resolution {resolution:g}" * ("AMI" in name)
            for name, row in found.iterrows()
        ),
        "  All graphs anew from the counts (of logarithms, exp(x) - 1); for PCA neighbours, with normalised totals, as log1p.",
    ]


def _written(name: str, value: float) -> str:
    """Write a number; a share that is not whole is not rounded to a whole one."""
    if np.isnan(value):
        return "none"
    return f"{value:.3f}" if "AMI" in name else f"{np.floor(1000 * value) / 1000:.1%}"
