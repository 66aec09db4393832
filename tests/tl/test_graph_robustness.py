"""kx.tl.graph_robustness: planted communities are robust, random graphs are not, and the numbers mean what they say."""

import anndata as ad
import igraph
import numpy as np
import pytest
from scipy import sparse
from scipy.stats import entropy
from sklearn.metrics import adjusted_mutual_info_score, mutual_info_score
from zarr.storage import MemoryStore  # a folder takes three times as long

import kronax as kx
from kronax.tl._graph_robustness import _compare, compare_curves

SHARES = (0.0, 0.2, 0.4)


def planted(n=60, groups=3, inside=0.5, outside=0.03, seed=0) -> ad.AnnData:
    rng = np.random.default_rng(seed)
    group = np.arange(n) % groups
    chance = np.where(group[:, None] == group, inside, outside)
    upper = np.triu((rng.random((n, n)) < chance) * rng.uniform(0.5, 1, (n, n)), 1)
    adata = ad.AnnData(np.zeros((n, n)))
    adata.obsp["g"] = adata.varp["g"] = sparse.csr_matrix(upper + upper.T)
    adata.uns["med_magma"] = {"connectivities_key": "g"}
    return adata


@pytest.fixture(scope="module")
def found() -> ad.AnnData:
    adata = planted()
    kx.tl.graph_robustness(adata, shares=SHARES, n_repeats=9)
    return adata


def test_planted_communities_are_robust(found):
    result = found.uns["graph_robustness"]
    assert result["graph"].shape == result["random"].shape == (9, 3)
    assert result["n_clusters"] == 3
    assert result["p"] == pytest.approx(0.1)  # 1 / (1 + 9), the smallest there can be
    assert result["difference"] > 0.2
    np.testing.assert_array_equal(result["graph"][:, 0], 0)  # nothing moved, and the clusters are clear
    assert "0 of 9 random graphs are as stable" in result["statement"]
    assert result["statement"].endswith("on the graph as it is: 0.000, where 0 would be equal clusters.")


@pytest.mark.parametrize("measure", ["vi", "ami"])
def test_random_graphs_are_as_random_graphs(measure):
    p = []
    for seed in range(12):
        adata = planted(n=40, inside=0.2, outside=0.2, seed=seed)
        kx.tl.graph_robustness(adata, shares=(0.1, 0.4), n_repeats=7, measure=measure)
        p.append(adata.uns["graph_robustness"]["p"])
    assert np.mean(p) > 0.3
    assert np.sum(np.array(p) < 0.2) <= 5  # of 12 a binomial with chance 1/8 exceeds 5 once in 2,000


def test_measures():
    rng = np.random.default_rng(0)
    a, b = rng.integers(4, size=50), rng.integers(3, size=50)
    shared = mutual_info_score(a, b)
    variation = entropy(np.bincount(a)) + entropy(np.bincount(b)) - 2 * shared
    assert _compare(list(a), list(b), "vi") == pytest.approx(variation / np.log(50), abs=1e-12)
    assert _compare(list(a), list(b), "ami") == pytest.approx(adjusted_mutual_info_score(a, b), abs=1e-12)


@pytest.mark.parametrize(("measure", "sign"), [("vi", -1), ("ami", 1)])
def test_difference_and_p(measure, sign):
    shares = np.array([0.0, 0.1, 0.4])
    graph = np.array([[0.0, 0.1, 0.2], [0.0, 0.3, 0.4]])  # areas 0.05 and 0.12, so a mean height of 0.085 / 0.4
    random = np.array([[0.2, 0.2, 0.2], [0.3, 0.3, 0.3], [0.4, 0.4, 0.4]])
    result = compare_curves(shares, graph, random, measure)
    assert result["difference"] == pytest.approx(sign * (0.2125 - 0.3))
    assert result["p"] == pytest.approx(2 / 4 if measure == "vi" else 3 / 4)


def test_as_if_step_by_step(found):
    """The clusters that were compared are igraph's; two calls with a seed agree and other seeds do not."""
    again, other = planted(), planted()
    kx.tl.graph_robustness(again, shares=SHARES, n_repeats=9)
    kx.tl.graph_robustness(other, shares=SHARES, n_repeats=9, random_state=1)
    np.testing.assert_array_equal(again.uns["graph_robustness"]["random"], found.uns["graph_robustness"]["random"])
    assert (other.uns["graph_robustness"]["random"] != found.uns["graph_robustness"]["random"]).any()


def test_weights_count():
    """Communities that are in the weights alone are found, and are robust."""
    adata = planted(inside=0.4, outside=0.4)
    group = np.arange(60) % 3
    adata.obsp["g"] = adata.obsp["g"].multiply(np.where(group[:, None] == group, 1.0, 0.02)).tocsr()
    kx.tl.graph_robustness(adata, shares=(0.0, 0.1), n_repeats=9)
    assert adata.uns["graph_robustness"]["n_clusters"] == 3
    assert adata.uns["graph_robustness"]["p"] == pytest.approx(0.1)


def test_isolated_vertices_do_not_matter():
    adata = planted(n=30)
    kx.tl.graph_robustness(adata, shares=SHARES, n_repeats=2)
    larger = ad.AnnData(np.zeros((35, 35)))
    larger.obsp["g"] = sparse.block_diag([sparse.csr_matrix((5, 5)), adata.obsp["g"]], format="csr")
    larger.uns["med_magma"] = {"connectivities_key": "g"}
    kx.tl.graph_robustness(larger, shares=SHARES, n_repeats=2)
    np.testing.assert_array_equal(larger.uns["graph_robustness"]["graph"], adata.uns["graph_robustness"]["graph"])


def test_genes(found):
    adata = planted()
    del adata.obsp["g"]
    kx.tl.graph_robustness(adata, axis="var", shares=SHARES, n_repeats=9, key_added="mine")
    np.testing.assert_array_equal(adata.uns["mine"]["graph"], found.uns["graph_robustness"]["graph"])
    assert "graph_robustness" not in adata.uns


def test_copy_leaves_the_input_alone():
    adata = planted(n=30)
    copy = kx.tl.graph_robustness(adata, shares=SHARES, n_repeats=1, copy=True)
    assert "graph_robustness" in copy.uns
    assert list(adata.uns) == ["med_magma"]


def test_igraph_draws_from_python_again(found):
    import random

    random.seed(3)
    first = igraph.Graph.Erdos_Renyi(30, m=40).get_edgelist()
    kx.tl.graph_robustness(planted(n=30), shares=SHARES, n_repeats=1)
    random.seed(3)
    assert igraph.Graph.Erdos_Renyi(30, m=40).get_edgelist() == first


def test_files(found, tmp_path):
    found.write_h5ad(tmp_path / "x.h5ad")
    found.write_zarr(store := MemoryStore())
    before = found.uns["graph_robustness"]
    for again in (ad.read_h5ad(tmp_path / "x.h5ad"), ad.read_zarr(store)):
        after = again.uns["graph_robustness"]
        assert after.keys() == before.keys()
        assert after["params"] == before["params"]
        assert after["statement"] == before["statement"]
        for name in ("shares", "graph", "random", "n_clusters", "n_clusters_random", "difference", "p"):
            np.testing.assert_array_equal(after[name], before[name])
        kx.pl.graph_robustness(again)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"shares": [0.5]}, "`shares` must ascend from at least 0 to less than 1, two of them or more"),
        ({"shares": [0.5, 0.2]}, "`shares` must ascend"),
        ({"shares": [0.5, 1.0]}, "`shares` must ascend"),
        ({"measure": "nmi"}, r"`measure` must be one of \['vi', 'ami'\]"),
        ({"resolution": 0}, "`resolution` must be a positive number"),
        ({"n_repeats": 0}, "`n_repeats` must be an integer of at least 1"),
        ({"key_added": "med_magma"}, "`key_added` must differ from `neighbors_key`"),
        ({"axis": "cells"}, "`axis` must be one of"),
    ],
)
def test_arguments_that_are_none(argument, message):
    with pytest.raises(ValueError, match=message):
        kx.tl.graph_robustness(planted(n=30), **argument)


def test_graphs_that_are_none():
    adata = planted(n=30)
    with pytest.raises(KeyError, match=r"'none' not found in `adata\.uns`"):
        kx.tl.graph_robustness(adata, neighbors_key="none")
    adata.obsp["g"] = sparse.csr_matrix((30, 30))
    with pytest.raises(ValueError, match="no edges"):
        kx.tl.graph_robustness(adata)
    adata.obsp["g"] = sparse.csr_matrix(1.0 - np.eye(30))
    with pytest.raises(ValueError, match="too dense, or too small"):
        kx.tl.graph_robustness(adata)
    assert "graph_robustness" not in adata.uns
