"""kx.metrics.top_k_agreement against sets of neighbours."""

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

import kronax as kx


def symmetric(n, density, seed):
    rng = np.random.default_rng(seed)
    weights = (rng.random((n, n)) < density) * rng.random((n, n))
    return sparse.csr_array(weights + weights.T)


def by_sets(first, second, k):
    shares = []
    for i in range(first.shape[0]):
        sets = []
        for graph in (first, second):
            row = graph.toarray()[i]
            row[i] = 0
            sets.append({j for j in np.argsort(-row, kind="stable")[:k] if row[j] > 0})
        most = max(map(len, sets))
        shares.append(len(sets[0] & sets[1]) / most if most else np.nan)
    return shares


@pytest.mark.parametrize("k", [1, 4, 30])
def test_as_sets_of_neighbours(k):
    first, second = symmetric(40, 0.1, 0), symmetric(40, 0.2, 1)
    without = sparse.diags_array((np.arange(40) != 3).astype(float))  # a vertex without neighbours
    first, second = without @ first @ without, without @ second @ without
    found = kx.metrics.top_k_agreement(first, second, k=k)
    np.testing.assert_allclose(found, by_sets(first, second, k), rtol=1e-12)
    assert np.flatnonzero(np.isnan(found)).tolist() == [3]


def test_ends_of_the_scale():
    graph = symmetric(40, 0.2, 0)
    assert (kx.metrics.top_k_agreement(graph, 3 * graph, k=5) == 1).all()
    half = np.kron(np.eye(2), np.ones((4, 4)))
    other = np.kron(1 - np.eye(2), np.ones((4, 4)))
    assert (kx.metrics.top_k_agreement(half, other, k=3) == 0).all()


def test_random_graphs_agree_by_chance():
    rng = np.random.default_rng(0)
    graphs = [np.triu(rng.random((300, 300)), 1) for _ in range(2)]
    found = kx.metrics.top_k_agreement(*[graph + graph.T for graph in graphs], k=30)
    assert found.mean() == pytest.approx(30 / 299, abs=0.01)


def with_graphs(n, **graphs):
    adata = ad.AnnData(np.zeros((n, n)))
    for name, graph in graphs.items():
        adata.obsp[f"{name}_c"] = adata.varp[f"{name}_c"] = graph
        adata.uns[name] = {"connectivities_key": f"{name}_c"}
    return adata


@pytest.mark.parametrize("axis", ["obs", "var"])
def test_stored_graphs(axis):
    first, second = symmetric(20, 0.3, 0), symmetric(20, 0.3, 1)
    expected = kx.metrics.top_k_agreement(first, second, k=4)
    adata = with_graphs(20, a=first, b=second)
    found = kx.metrics.top_k_agreement(adata, adata, k=4, neighbors_key=("a", "b"), axis=axis)
    np.testing.assert_array_equal(found, expected)
    found = kx.metrics.top_k_agreement(adata, second, k=4, neighbors_key="a", axis=axis)
    np.testing.assert_array_equal(found, expected)


def test_what_is_refused():
    adata = with_graphs(20, a=symmetric(20, 0.3, 0))
    with pytest.raises(ValueError, match="20 and 21 vertices"):
        kx.metrics.top_k_agreement(adata, symmetric(21, 0.3, 0), neighbors_key="a")
    with pytest.raises(ValueError, match=r"`first\.obs_names` and `second\.obs_names` differ"):
        kx.metrics.top_k_agreement(adata, adata[::-1].copy(), neighbors_key="a")
    with pytest.raises(ValueError, match="`k` must be an integer of at least 1"):
        kx.metrics.top_k_agreement(adata, adata, neighbors_key="a", k=0)
    with pytest.raises(ValueError, match="`neighbors_key` must be a str or a pair"):
        kx.metrics.top_k_agreement(adata, adata, neighbors_key=("a", "a", "a"))
