"""kx.metrics.graph_connectivity: examples by hand, and against scib-metrics."""

import anndata as ad
import networkx as nx
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import kronax as kx


def test_by_hand():
    """A path a a b b a a a, with a cell of label c alone: a falls into 2 and 3."""
    path = np.eye(8, k=1) + np.eye(8, k=-1)
    table = kx.metrics.graph_connectivity(path, label_key=list("aabbaaac"), by_label=True)
    assert table["n"].tolist() == [5, 2, 1]
    assert table["n_components"].tolist() == [2, 1, 1]
    np.testing.assert_allclose(table["connectivity"], [3 / 5, 1, 1])
    assert kx.metrics.graph_connectivity(path, label_key=list("aabbaaac")) == pytest.approx(13 / 15)


def test_without_edges_and_with_missing_labels():
    assert kx.metrics.graph_connectivity(sparse.csr_matrix((6, 6)), label_key=list("aaabbb")) == pytest.approx(1 / 3)
    path = np.eye(5, k=1) + np.eye(5, k=-1)
    assert kx.metrics.graph_connectivity(path, label_key=["a", "a", None, "a", "a"]) == 0.5


@pytest.mark.parametrize("seed", range(3))
def test_as_scib_metrics(seed):
    """On graphs whose vertices all have as many neighbours, which its lists of neighbours can hold."""
    scib_metrics = pytest.importorskip("scib_metrics")
    graph = sparse.csr_matrix(nx.to_scipy_sparse_array(nx.random_regular_graph(4, 200, seed=seed), dtype=float))
    graph.sort_indices()
    labels = np.random.default_rng(seed).choice(["a", "b", "c", "d"], 200)
    results = scib_metrics.nearest_neighbors.NeighborsResults(
        indices=graph.indices.reshape(200, 4), distances=np.ones((200, 4))
    )
    expected = scib_metrics.graph_connectivity(results, labels)
    assert expected < 1
    assert kx.metrics.graph_connectivity(graph, label_key=labels) == pytest.approx(expected, abs=1e-12)


def test_stored_graph():
    path = sparse.csr_matrix(np.eye(5, k=1) + np.eye(5, k=-1))
    obs = pd.DataFrame({"type": list("aabba")}, index=list("vwxyz"))
    adata = ad.AnnData(np.zeros((5, 5)), obs=obs, var=obs.rename(columns={"type": "kind"}))
    adata.obsp["mine"] = adata.varp["mine"] = path
    adata.uns["my_graph"] = {"connectivities_key": "mine"}
    found = kx.metrics.graph_connectivity(adata, label_key="type", neighbors_key="my_graph")
    assert found == pytest.approx(5 / 6)
    assert found == kx.metrics.graph_connectivity(adata, label_key="kind", neighbors_key="my_graph", axis="var")
    with pytest.raises(KeyError, match=r"'none' not found in `adata\.obs`"):
        kx.metrics.graph_connectivity(adata, label_key="none", neighbors_key="my_graph")
