"""kx.metrics.ami_sweep against scanpy's clusters and scikit-learn's measure."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse
from sklearn.metrics import adjusted_mutual_info_score

import kronax as kx


@pytest.fixture(scope="module")
def adata() -> ad.AnnData:
    """Four groups of 15 cells in a noisy block graph."""
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(4), 15)
    chance = np.where(group[:, None] == group, 0.8, 0.03)
    upper = np.triu((rng.random((60, 60)) < chance) * rng.random((60, 60)), 1)
    adata = ad.AnnData(np.zeros((60, 3)), obs=pd.DataFrame({"type": group.astype(str)}, index=[*map(str, range(60))]))
    adata.obsp["c"] = sparse.csr_matrix(upper + upper.T)
    adata.uns["neighbors"] = {"connectivities_key": "c", "distances_key": "c", "params": {"method": "umap"}}
    return adata


def test_as_scanpy_and_scikit_learn(adata):
    table = kx.metrics.ami_sweep(
        adata, labels="type", resolutions=[0.3, 2.0], n_seeds=2, random_state=4, neighbors_key="neighbors"
    )
    assert list(table["resolution"]) == [0.3, 0.3, 2.0, 2.0]
    assert list(table["seed"]) == [4, 5, 4, 5]
    for row in table.itertuples():
        clusters = adata.copy()
        options = {"flavor": "igraph", "n_iterations": 2, "directed": False}
        sc.tl.leiden(clusters, adjacency=adata.obsp["c"], resolution=row.resolution, random_state=row.seed, **options)
        assert row.n_clusters == clusters.obs["leiden"].nunique()
        assert row.ami == pytest.approx(
            adjusted_mutual_info_score(adata.obs["type"], clusters.obs["leiden"]), abs=1e-12
        )


def test_default_resolutions(adata):
    table = kx.metrics.ami_sweep(adata, labels="type", neighbors_key="neighbors")
    np.testing.assert_allclose(table["resolution"], np.linspace(0.1, 2, 20))
    assert table["ami"].max() > 0.9
    assert table["n_clusters"].iloc[0] < table["n_clusters"].iloc[-1]


def test_matrix_is_as_good(adata):
    stored = kx.metrics.ami_sweep(adata, labels="type", resolutions=[1.0], neighbors_key="neighbors")
    handed = kx.metrics.ami_sweep(adata.obsp["c"], labels=adata.obs["type"], resolutions=[1.0])
    pd.testing.assert_frame_equal(stored, handed)


def test_missing_labels_are_not_compared(adata):
    labels = adata.obs["type"].astype(object).copy()
    labels.iloc[::4] = None
    row = kx.metrics.ami_sweep(adata.obsp["c"], labels=labels, resolutions=[1.0]).iloc[0]
    clusters = adata.copy()
    sc.tl.leiden(clusters, adjacency=adata.obsp["c"], flavor="igraph", n_iterations=2, directed=False)
    known = labels.notna()
    expected = adjusted_mutual_info_score(labels[known], clusters.obs["leiden"][known])
    assert row["ami"] == pytest.approx(expected, abs=1e-12)


def test_what_is_refused(adata):
    with pytest.raises(ValueError, match=r"`resolutions` must hold positive numbers, at least one, found \[0\.0\]"):
        kx.metrics.ami_sweep(adata, labels="type", resolutions=[0])
    with pytest.raises(ValueError, match="at least one, found"):
        kx.metrics.ami_sweep(adata, labels="type", resolutions=[])
    with pytest.raises(TypeError, match=r"`resolutions` must be a list of numbers, found 1"):
        kx.metrics.ami_sweep(adata, labels="type", resolutions=1)
    with pytest.raises(ValueError, match="no edges"):
        kx.metrics.ami_sweep(np.eye(4), labels=[0, 0, 1, 1])
    with pytest.raises(ValueError, match="`n_seeds` must be an integer"):
        kx.metrics.ami_sweep(adata, labels="type", n_seeds=0)
