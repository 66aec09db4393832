"""Graphs are found where they are: of the cells of several modalities, in the MuData object."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData
from scipy import sparse

import kronax as kx


@pytest.fixture
def multimodal() -> MuData:
    """Two groups of ten cells, and their graph."""
    group = np.arange(20) % 2
    same = sparse.csr_matrix((group[:, None] == group) - np.eye(20))
    sizes = {"rna": 3, "protein": 2}
    mdata = MuData(
        {
            name: AnnData(np.ones((20, p)), var=pd.DataFrame(index=[f"{name}{j}" for j in range(p)]))
            for name, p in sizes.items()
        }
    )
    mdata.obs["group"] = group.astype(str)
    mdata.obsp["g"], mdata.obsp["p"] = same, sparse.csr_matrix(np.eye(20) - 0.05 * same)
    mdata.uns["med_magma"] = {"connectivities_key": "g", "precision_key": "p"}
    return mdata


def test_the_cells_of_a_mudata(multimodal):
    assert kx.metrics.assortativity(multimodal, labels="group") == pytest.approx(1)
    assert kx.metrics.ami_sweep(multimodal, labels="group", resolutions=[0.5])["ami"].item() == pytest.approx(1)
    assert kx.metrics.top_k_agreement(multimodal, multimodal).tolist() == [1] * 20
    assert kx.metrics.edge_average_precision(multimodal, truth="g") == pytest.approx(1)
    shown = np.asarray(kx.pl.precision(multimodal, groupby="group").axes[0].images[0].get_array())
    assert (shown[:10, :10] + np.eye(10) > 0).all()
    assert not shown[:10, 10:].any()


def test_robustness_of_the_cells_of_a_mudata(multimodal):
    before = multimodal.copy()
    alone = AnnData(obs=multimodal.obs, obsp=dict(multimodal.obsp), uns=dict(multimodal.uns))
    options = {"shares": [0, 0.2], "n_repeats": 2}
    found = kx.tl.graph_robustness(multimodal, copy=True, **options)
    kx.tl.graph_robustness(alone, **options)
    np.testing.assert_array_equal(found.uns["graph_robustness"]["graph"], alone.uns["graph_robustness"]["graph"])
    assert "graph_robustness" not in multimodal.uns
    assert str(multimodal) == str(before)
    assert len(kx.pl.graph_robustness(found).axes[0].lines) == 2


@pytest.mark.parametrize("found", ["a text of the user's", np.arange(3), {"params": None}])
def test_entries_that_describe_something_else(multimodal, found):
    adata = AnnData(obs=multimodal.obs, obsp=dict(multimodal.obsp), uns={"mine": found})
    adata.obsm["mine"] = np.ones((20, 2))
    for call in (
        lambda: kx.get.edges(adata, "cells", neighbors_key="mine"),
        lambda: kx.get.module_activity(adata, key="mine"),
        lambda: kx.pl.graph_robustness(adata, key="mine"),
        lambda: kx.tl.graph_robustness(adata, neighbors_key="mine"),
    ):
        with pytest.raises(KeyError, match="(is something else|not found in).*Run kx"):
            call()


def test_features_belong_to_a_modality(multimodal):
    for call in (
        lambda: kx.tl.graph_robustness(multimodal, axis="var"),
        lambda: kx.pl.precision(multimodal, groupby="group", axis="var"),
        lambda: kx.metrics.assortativity(multimodal, labels="group", axis="var"),
        lambda: kx.metrics.edge_average_precision(multimodal, axis="var"),
    ):
        with pytest.raises(TypeError, match=r"Pass one of its modalities, such as `mdata\['rna'\]`"):
            call()


def test_what_a_mudata_has_not(multimodal):
    with pytest.raises(KeyError, match=r"'none' not found in `mdata\.uns`"):
        kx.tl.graph_robustness(multimodal, neighbors_key="none")
    with pytest.raises(KeyError, match=r"'none' not found in `mdata\.obs`"):
        kx.metrics.assortativity(multimodal, labels="none")
    with pytest.raises(TypeError, match="Expected an AnnData or MuData object, found builtins.list"):
        kx.tl.graph_robustness([1])


def test_a_graph_of_scanpy_without_names_is_where_scanpy_looks(multimodal):
    adata = AnnData(obs=multimodal.obs, obsp={"connectivities": multimodal.obsp["g"]})
    adata.uns["neighbors"] = {"params": {"n_neighbors": 9, "method": "umap"}}
    assert kx.metrics.assortativity(adata, labels="group", neighbors_key="neighbors") == pytest.approx(1)
    with pytest.raises(KeyError, match="'precision_key' not found"):
        kx.pl.precision(adata, groupby="group", neighbors_key="neighbors")


def test_the_cells_of_a_modality_are_in_the_object():
    mdata = kx.datasets.kronecker_sum(60, 40)
    mdata.X = np.abs(mdata.X)
    mdata = MuData({"a": mdata})
    kx.tl.med_magma(mdata)
    assert not {"p_value_key", "q_value_key", "n_tested_key"} & set(mdata.uns["med_magma"])
    with pytest.raises(KeyError, match="learnt from a MuData object is in that one: pass it"):
        kx.get.edges(mdata["a"], "cells")


def test_graphs_that_are_there_are_named(multimodal):
    adata = AnnData(obs=multimodal.obs, obsp=dict(multimodal.obsp))
    with pytest.raises(KeyError, match=r"'med_magma' not found in `adata\.uns`.*Run kx\.tl\.med_magma first\."):
        kx.metrics.ami_sweep(adata, labels="group")
    adata.uns["neighbors"] = {"connectivities_key": "g"}
    adata.uns["gmgm"] = {"connectivities_key": "g", "precision_key": "p"}
    adata.uns["elsewhere"] = {"connectivities_key": "not there"}
    with pytest.raises(KeyError, match=r"Pass `neighbors_key=`, one of \['gmgm', 'neighbors'\]\."):
        kx.metrics.ami_sweep(adata, labels="group")
    with pytest.raises(KeyError, match=r"Pass `neighbors_key=`, one of \['gmgm'\]\."):
        kx.pl.precision(adata, groupby="group")
    with pytest.raises(KeyError, match=r"no precision; only kx\.tl\.med_magma and kx\.tl\.gmgm write one\. Pass"):
        kx.pl.precision(adata, groupby="group", neighbors_key="neighbors")
    with pytest.raises(KeyError, match=r"Run kx\.tl\.med_magma first\."):
        kx.tl.gene_modules(adata)
