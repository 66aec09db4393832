"""kx.tl.gene_modules on graphs whose communities are known."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse
from sklearn.metrics import adjusted_mutual_info_score
from zarr.storage import MemoryStore  # a folder takes three times as long

import kronax as kx
from kronax.solvers.communities.consensus import _stability

BLOCKS = (5, 12, 8)


def with_gene_graph(blocks=BLOCKS, n_isolated=2, seed=0) -> ad.AnnData:
    """Genes in complete blocks with random weights, weak ties between the blocks, and isolated genes at the end."""
    rng = np.random.default_rng(seed)
    block = np.repeat(np.arange(len(blocks)), blocks)
    weights = np.where(block[:, None] == block, rng.uniform(0.5, 1.0, (len(block), len(block))), 0.01)
    n = len(block) + n_isolated
    full = np.zeros((n, n))
    full[: len(block), : len(block)] = np.triu(weights, 1) + np.triu(weights, 1).T
    adata = ad.AnnData(rng.poisson(3.0, (6, n)).astype(np.float32))
    adata.varp["med_magma_connectivities"] = sparse.csr_matrix(full)
    adata.uns["med_magma"] = {"connectivities_key": "med_magma_connectivities"}
    return adata


def test_largest_module_comes_first():
    adata = with_gene_graph()
    assert kx.tl.gene_modules(adata) is None
    found = adata.var["gene_module"]
    assert list(found[:25]) == ["2"] * 5 + ["0"] * 12 + ["1"] * 8
    assert list(found.cat.categories) == ["0", "1", "2"]


def test_genes_without_an_edge_have_no_module():
    adata = with_gene_graph()
    kx.tl.gene_modules(adata)
    assert list(np.flatnonzero(adata.var["gene_module"].isna())) == [25, 26]


def test_an_edge_to_itself_is_none():
    adata = with_gene_graph()
    graph = adata.varp["med_magma_connectivities"].tolil()
    graph[25, 25] = 1.0
    adata.varp["med_magma_connectivities"] = graph.tocsr()
    kx.tl.gene_modules(adata)
    assert adata.var["gene_module"].isna().sum() == 2


def test_partition_is_that_of_scanpy():
    adata = with_gene_graph(blocks=(6,) * 12, n_isolated=0)
    kx.tl.gene_modules(adata, resolution=1.3, random_state=3)
    genes = ad.AnnData(obs=pd.DataFrame(index=adata.var_names))
    graph = adata.varp["med_magma_connectivities"]
    options = {"flavor": "igraph", "n_iterations": 2, "directed": False}
    sc.tl.leiden(genes, resolution=1.3, adjacency=graph, random_state=3, **options)
    pairs = set(zip(adata.var["gene_module"], genes.obs["leiden"], strict=True))
    assert len(pairs) == adata.var["gene_module"].nunique() == genes.obs["leiden"].nunique()


def flat(n=300, degree=12, groups=6, seed=0) -> ad.AnnData:
    """Genes of which two in a group are tied more often than two others."""
    rng = np.random.default_rng(seed)
    group = np.arange(n) % groups
    chance = np.where(group[:, None] == group, 4.0, 1.0)
    ties = np.triu(rng.random((n, n)) < chance * degree / chance.mean() / n, 1)
    adata = ad.AnnData(rng.poisson(3.0, (6, n)).astype(np.float32), var=pd.DataFrame({"group": group.astype(str)}))
    adata.varp["med_magma_connectivities"] = sparse.csr_matrix((ties | ties.T) * 1.0)
    adata.uns["med_magma"] = {"connectivities_key": "med_magma_connectivities"}
    return adata


def modules_by_seed(adata, **options) -> list[np.ndarray]:
    for seed in range(4):
        kx.tl.gene_modules(adata, random_state=seed, key_added=f"seed{seed}", **options)
    return [adata.var[f"seed{seed}"].cat.codes.to_numpy() for seed in range(4)]


def test_modules_of_many_runs_depend_less_on_the_seed():
    adata = flat()
    single, many = modules_by_seed(adata, n_runs=1), modules_by_seed(adata)
    ami = adjusted_mutual_info_score

    def alike(found):
        return np.mean([ami(found[i], found[j]) for i in range(4) for j in range(i)])

    assert alike(many) > alike(single) + 0.2
    truth = adata.var["group"]
    assert min(ami(truth, found) for found in many) > np.mean([ami(truth, found) for found in single])


def test_same_seed_same_modules():
    adata = flat(n=100)
    first, second = (kx.tl.gene_modules(adata, random_state=7, n_runs=5, copy=True).var for _ in range(2))
    pd.testing.assert_frame_equal(first, second)
    assert not first["gene_module"].equals(kx.tl.gene_modules(adata, n_runs=5, copy=True).var["gene_module"])


def test_what_all_runs_agree_on_is_stable():
    adata = with_gene_graph()
    kx.tl.gene_modules(adata)
    np.testing.assert_array_equal(adata.var["gene_module_stability"], [1.0] * 25 + [np.nan] * 2)
    assert adata.uns["gene_module"]["agreement"] == pytest.approx(1.0)


def test_stability_by_hand():
    communities, runs = np.array([0, 0, 0, 1]), np.array([[0, 0, 0, 1], [5, 5, 2, 2], [0, 1, 2, 3], [0, 0, 0, 0]])
    np.testing.assert_allclose(_stability(communities, runs), [5 / 8, 5 / 8, 1 / 2, 1.0])


def test_a_graph_that_is_not_symmetric_counts_from_both_ends():
    adata, lower = with_gene_graph(), with_gene_graph()
    lower.varp["med_magma_connectivities"] = sparse.tril(lower.varp["med_magma_connectivities"]).tocsr()
    for each in (adata, lower):
        kx.tl.gene_modules(each)
    pd.testing.assert_frame_equal(lower.var, adata.var)


def test_resolution_makes_modules_smaller():
    coarse, fine = with_gene_graph(), with_gene_graph()
    kx.tl.gene_modules(coarse, resolution=0.1)
    kx.tl.gene_modules(fine, resolution=5.0)
    assert coarse.var["gene_module"].nunique() < fine.var["gene_module"].nunique()


def test_parameters_are_stored():
    adata = with_gene_graph()
    kx.tl.gene_modules(adata, resolution=2, key_added="communities", random_state=5)
    assert adata.uns["communities"]["params"] == {
        "resolution": 2.0,
        "n_runs": 100,
        "neighbors_key": "med_magma",
        "random_state": 5,
        "n_iterations": 2,
    }
    assert list(adata.var) == ["communities", "communities_stability"]


def test_other_graph():
    adata = with_gene_graph()
    adata.varp["mine"] = adata.varp.pop("med_magma_connectivities")
    adata.uns["other"] = {"connectivities_key": "mine"}
    del adata.uns["med_magma"]
    kx.tl.gene_modules(adata, neighbors_key="other")
    assert adata.var["gene_module"].nunique() == 3


@pytest.mark.parametrize("form", [sparse.csc_matrix, sparse.csr_array, lambda graph: graph.toarray()])
def test_graph_in_any_form(form):
    adata, other = with_gene_graph(), with_gene_graph()
    other.varp["med_magma_connectivities"] = form(other.varp["med_magma_connectivities"])
    kx.tl.gene_modules(adata)
    kx.tl.gene_modules(other)
    pd.testing.assert_series_equal(adata.var["gene_module"], other.var["gene_module"])


def with_q_values(seed=0) -> ad.AnnData:
    """Edges within blocks are significant, ties between blocks are not."""
    adata = with_gene_graph(seed=seed)
    graph = adata.varp["med_magma_connectivities"].tocoo()
    q_values = np.where(graph.data > 0.1, 1e-3, 0.5)
    adata.varp["q"] = sparse.csr_matrix((q_values, (graph.row, graph.col)), shape=graph.shape)
    adata.uns["med_magma"]["q_value_key"] = "q"
    return adata


def test_only_significant_edges():
    adata = with_q_values()
    adata.varp["q"][24, :], adata.varp["q"][:, 24] = 0.5, 0.5  # the last gene of a block has no significant edge
    kx.tl.gene_modules(adata, q_max=0.05)
    assert list(np.flatnonzero(adata.var["gene_module"].isna())) == [24, 25, 26]
    assert list(adata.var["gene_module"][:24]) == ["2"] * 5 + ["0"] * 12 + ["1"] * 7
    assert adata.uns["gene_module"]["params"]["q_max"] == 0.05
    table = adata.uns["gene_module"]["table"]
    assert (table["significant"] == 1).all() and not table["noise"].any()


def test_no_significant_edge():
    adata = with_q_values()
    with pytest.raises(ValueError, match="has no edges with q ≤ 1e-05"):
        kx.tl.gene_modules(adata, q_max=1e-5)
    with pytest.raises(ValueError, match="`q_max` must be a positive number of at most 1"):
        kx.tl.gene_modules(adata, q_max=2)
    assert "gene_module" not in adata.var


def test_no_q_values():
    adata = with_gene_graph()
    with pytest.raises(KeyError, match=r"'q_value_key' not found.*This graph has no q-values\. Run kx\.tl\.med_magma"):
        kx.tl.gene_modules(adata, q_max=0.05)


def test_what_is_told_of_every_module(tmp_path):
    adata = with_q_values()
    adata.varp["q"].data[:] = 0.5
    with pytest.warns(UserWarning, match="No module is more than noise may form"):
        kx.tl.gene_modules(adata)
    table = adata.uns["gene_module"]["table"]
    assert table.index.tolist() == ["0", "1", "2"]
    assert table["n_genes"].tolist() == [12, 8, 5]
    assert table["stability"].tolist() == [1.0] * 3
    assert table["noise"].all() and (table["significant"] == 0).all()
    adata.write_h5ad(tmp_path / "x.h5ad")
    adata.write_zarr(store := MemoryStore())
    for again in (ad.read_h5ad(tmp_path / "x.h5ad"), ad.read_zarr(store)):
        pd.testing.assert_frame_equal(again.uns["gene_module"]["table"], table)


def test_modules_that_are_there_are_not_noise():
    adata = with_gene_graph(blocks=(20, 15, 15, 10) + (1,) * 60, n_isolated=0)
    kx.tl.gene_modules(adata)
    table = adata.uns["gene_module"]["table"]
    first = adata.var["gene_module"].iloc[[0, 20, 35, 50]].tolist()
    assert not table.loc[first, "noise"].any()


def test_copy_leaves_the_input_alone():
    adata = with_gene_graph()
    found = kx.tl.gene_modules(adata, copy=True)
    assert "gene_module" in found.var
    assert "gene_module" not in adata.var
    assert "gene_module" not in adata.uns


def test_view():
    adata = with_gene_graph()
    view = adata[:, 5:25]
    with pytest.warns(ad.ImplicitModificationWarning):
        kx.tl.gene_modules(view)
    assert list(view.var["gene_module"]) == ["0"] * 12 + ["1"] * 8
    assert "gene_module" not in adata.var


def test_files(tmp_path):
    adata = with_gene_graph()
    kx.tl.gene_modules(adata)
    adata.write_h5ad(tmp_path / "x.h5ad")
    adata.write_zarr(store := MemoryStore())
    for again in (ad.read_h5ad(tmp_path / "x.h5ad"), ad.read_zarr(store)):
        pd.testing.assert_series_equal(again.var["gene_module"], adata.var["gene_module"], check_index=False)
        assert again.uns["gene_module"]["params"] == adata.uns["gene_module"]["params"]


def test_graph_that_is_not_there():
    adata = with_gene_graph()
    with pytest.raises(
        KeyError, match=r"'none' not found in `adata\.uns`.*Pass `neighbors_key=`, one of \['med_magma'\]"
    ):
        kx.tl.gene_modules(adata, neighbors_key="none")
    adata.uns["neighbors"] = {"connectivities_key": "connectivities"}  # as sc.pp.neighbors: cells alone
    with pytest.raises(KeyError, match=r"not found in `adata\.varp`.*one of \['med_magma'\]"):
        kx.tl.gene_modules(adata, neighbors_key="neighbors")
    adata.uns["empty"] = {}
    with pytest.raises(KeyError, match="'connectivities_key' not found"):
        kx.tl.gene_modules(adata, neighbors_key="empty")


@pytest.mark.parametrize("weight", [-0.5, np.nan, np.inf])
def test_weights_that_are_none(weight):
    adata = with_gene_graph()
    adata.varp["med_magma_connectivities"].data[3] = weight
    with pytest.raises(ValueError, match="negative, NaN or infinite"):
        kx.tl.gene_modules(adata)
    assert "gene_module" not in adata.var


def test_graph_without_edges():
    adata = with_gene_graph()
    adata.varp["med_magma_connectivities"] = sparse.csr_matrix((27, 27))
    with pytest.raises(ValueError, match="no edges"):
        kx.tl.gene_modules(adata)


def test_options_that_are_none():
    adata = with_gene_graph()
    with pytest.raises(ValueError, match="`resolution` must be a positive number"):
        kx.tl.gene_modules(adata, resolution=0)
    with pytest.raises(ValueError, match="`key_added` must differ"):
        kx.tl.gene_modules(adata, key_added="med_magma")
    with pytest.raises(TypeError, match="Expected an AnnData object"):
        kx.tl.gene_modules(adata.X)


@pytest.mark.parametrize("argument", [{"key_added": "a/b"}, {"random_state": np.random.RandomState(0)}])
def test_arguments_that_no_file_can_hold(argument):
    with pytest.raises(ValueError, match=f"`{next(iter(argument))}` must be"):
        kx.tl.gene_modules(ad.AnnData(np.ones((3, 3))), **argument)
