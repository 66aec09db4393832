"""What gives way to a result of the same name, and what is kept."""

import anndata as ad
import mudata
import numpy as np
import pytest

import kronax as kx

OWN = ["ours", {"params": "ours"}, {"params": None}, {"modules": 3}, {"agreement": 3}]


@pytest.fixture(scope="module")
def learnt() -> ad.AnnData:
    adata = kx.datasets.kronecker_sum(60, 40)
    adata.X = np.abs(adata.X)
    kx.tl.med_magma(adata)
    return adata


@pytest.mark.parametrize("own", OWN)
def test_an_entry_of_the_user_is_kept_and_told(learnt, own):
    adata = learnt.copy()
    del adata.uns["med_magma"]
    for key in ("med_magma", "gene_module", "module_activity", "graph_robustness"):
        adata.uns[key], adata.obsm[key], adata.var[key] = own, np.ones((60, 2)), 1.0
    with pytest.warns(UserWarning, match="was your own, and is now") as caught:
        kx.tl.med_magma(adata)
        kx.tl.module_activity(adata, modules="gene_module")  # of a column of var that no graph is known of
        kx.tl.graph_robustness(adata, n_repeats=2, shares=[0, 0.5])
        del adata.var["gene_module"]
        kx.tl.gene_modules(adata, n_runs=2)
    assert {w.filename for w in caught if "your own" in str(w.message)} == {__file__}
    for key in ("med_magma", "gene_module", "module_activity", "graph_robustness"):
        assert adata.uns[f"{key}_before"] == own and isinstance(adata.uns[key]["params"], dict)
    assert (adata.obsm["med_magma"] == 1).all() and (adata.var["med_magma"] == 1).all()


def test_a_result_of_the_cells_leaves_those_of_a_modality_where_they_are(learnt):
    adata = learnt.copy()
    kx.tl.graph_robustness(adata, axis="var", n_repeats=2, shares=[0, 0.5])
    mdata = mudata.MuData({"rna": adata, "protein": learnt.copy()})
    mdata.obsp["med_magma_connectivities"] = adata.obsp["med_magma_connectivities"]
    mdata.uns["med_magma"] = adata.uns["med_magma"]
    kx.tl.graph_robustness(mdata, n_repeats=2, shares=[0, 0.5])
    assert mdata["rna"].uns["graph_robustness"]["params"]["axis"] == "var"
    assert mdata.uns["graph_robustness"]["params"]["axis"] == "obs"


def test_a_second_result_replaces_the_first_without_a_word(learnt, recwarn):
    adata = learnt.copy()
    kx.tl.gmgm(adata, key_added="med_magma", n_neighbors=5)
    kx.tl.gene_modules(adata, n_runs=2)
    kx.tl.gene_modules(adata, n_runs=2)
    assert not [key for key in adata.uns if "before" in key] and "med_magma_log_scale" not in adata.obs
    assert not [w for w in recwarn if "your own" in str(w.message)]
