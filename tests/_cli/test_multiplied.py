"""What is kept under random factors: all of ours, and of scanpy's what a second way finds."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse
from sklearn.metrics import adjusted_mutual_info_score

from kronax._cli import multiplied
from kronax._data import selection


@pytest.fixture(scope="module")
def counts() -> ad.AnnData:
    rng = np.random.default_rng(0)
    mean = 3 * rng.gamma(1.0, 1.0, (3, 60))
    values = rng.poisson(mean[rng.integers(3, size=120)] * rng.gamma(2.0, 0.5, (120, 1)) + 0.1)
    return ad.AnnData(sparse.csr_matrix(values, dtype=np.float32))


@pytest.fixture(scope="module")
def found(counts) -> pd.DataFrame:
    return multiplied.kept_by_graphs(counts, None, 10, 1.0)


def test_factors_are_of_rows_and_columns(counts):
    values = selection.counts_behind(counts, None)
    after = multiplied.multiplied(values)
    np.testing.assert_array_equal(after.indices, values.indices)
    ratio = np.log(after.toarray(), where=after.toarray() > 0, out=np.full(after.shape, np.nan)) - np.log(
        values.toarray(), where=values.toarray() > 0, out=np.full(after.shape, np.nan)
    )
    cross = ratio[0, :, None] - ratio[1, :, None]  # of two rows, the same in all columns
    assert np.nanstd(cross) < 1e-12 < np.nanstd(ratio)
    assert 1 < np.nanmax(ratio) <= 2 * np.log(multiplied.LARGEST)
    assert -2 * np.log(multiplied.LARGEST) <= np.nanmin(ratio) < -1


def test_all_is_kept_of_ours(found):
    assert found["med_magma"].tolist() == [1, 1, 1]


def test_of_scanpys_as_by_scanpy_itself(counts, found):
    values = selection.counts_behind(counts, None)
    graphs, clusters = [], []
    for matrix in (values, multiplied.multiplied(values)):
        adata = ad.AnnData(sparse.csr_matrix(matrix, dtype=np.float32))
        sc.pp.normalize_total(adata)
        sc.pp.log1p(adata)
        sc.pp.pca(adata)
        sc.pp.neighbors(adata, n_neighbors=10, transformer="sklearn")
        sc.tl.leiden(adata, flavor="igraph", n_iterations=2, directed=False)
        edges = sparse.triu(adata.obsp["connectivities"]).tocoo()
        graphs.append(set(zip(edges.row.tolist(), edges.col.tolist(), strict=True)))
        clusters.append(adata.obs["leiden"])
    kept = len(graphs[0] & graphs[1]) / len(graphs[0])
    assert 0 < kept < 1
    assert found.loc["cell edges kept", "neighbors"] == pytest.approx(kept)
    assert found.loc["clusters (AMI)", "neighbors"] == pytest.approx(adjusted_mutual_info_score(*clusters))
    assert np.isnan(found.loc["gene edges kept", "neighbors"])


def test_logarithms_are_taken_back(counts):
    logs = counts.copy()
    logs.X = logs.X.log1p()
    np.testing.assert_allclose(
        selection.counts_behind(logs, None).toarray(), selection.counts_behind(counts, None).toarray(), rtol=1e-5
    )
    logs.layers["dense"] = logs.X.toarray()
    assert selection.counts_behind(logs, "dense").nnz == counts.X.nnz


def test_no_share_is_rounded_to_the_whole():
    found = pd.DataFrame({"a": [0.99999, 0.99999, 1.0], "b": [0.5284, 0.5, np.nan]}, index=["cells", "AMI", "genes"])
    rows = [line.split() for line in multiplied.lines(found, 0.5)[2:5]]
    assert rows[0] == ["cells", "99.9%", "52.8%"]
    assert rows[1] == ["AMI", "1.000", "0.500", "at", "resolution", "0.5"]
    assert rows[2] == ["genes", "100.0%", "none"]
