"""What gives way to a result of the same name, and what is kept."""

import anndata as ad
import mudata
import numpy as np
import pytest
from scipy import sparse

import kronax as kx
from kronax._data.aside import set_aside

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


def own(recwarn) -> list[str]:
    return [str(w.message) for w in recwarn if "your own" in str(w.message)]


def test_what_the_user_has_at_the_places_of_results_is_kept_and_told_once(recwarn):
    """Nothing says that kronax wrote it: there is no entry of uns."""
    adata = kx.datasets.kronecker_sum(60, 40)
    adata.X = np.abs(adata.X)
    square, mine = sparse.csr_matrix(np.eye(60)), np.arange(60.0)
    adata.obsp["med_magma_distances"], adata.obsm["X_med_magma"], adata.obs["med_magma_log_scale"] = square, mine, mine
    adata.var["gene_module"], adata.obsm["module_activity"] = "mine", np.ones((60, 3))
    kx.tl.med_magma(adata)
    (told,) = own(recwarn)
    places = [("obsp", "med_magma_distances"), ("obsm", "X_med_magma"), ("obs", "med_magma_log_scale")]
    for part, key in places:
        assert f"`{part}[{key!r}]` was your own, and is now `{part}['{key}_before']`" in told
    assert (adata.obsp["med_magma_distances_before"] != square).nnz == 0
    np.testing.assert_array_equal(adata.obsm["X_med_magma_before"].ravel(), mine)
    np.testing.assert_array_equal(adata.obs["med_magma_log_scale_before"], mine)
    kx.tl.gene_modules(adata, n_runs=2)
    kx.tl.module_activity(adata)
    assert (adata.var["gene_module_before"] == "mine").all() and "gene_module_stability_before" not in adata.var
    assert (adata.obsm["module_activity_before"] == 1).all()
    assert len(own(recwarn)) == 3
    for call in (kx.tl.med_magma, kx.tl.gene_modules, kx.tl.module_activity):
        call(adata)
    assert len(own(recwarn)) == 3 and "X_med_magma_before_2" not in adata.obsm


def test_places_that_are_not_written_stay(learnt, recwarn):
    adata = kx.datasets.kronecker_sum(60, 40)
    adata.X = np.abs(adata.X)
    adata.varp["med_magma_connectivities"] = np.eye(40)
    kx.tl.med_magma(adata, graphs="cells")
    np.testing.assert_array_equal(adata.varp["med_magma_connectivities"], np.eye(40))
    kx.tl.med_magma(adata.copy(), graphs="cells", copy=True)
    assert not own(recwarn)


def test_modalities_are_told_of_together(learnt, recwarn):
    mdata = mudata.MuData({"rna": learnt.copy(), "protein": learnt.copy()})
    for adata in mdata.mod.values():
        del adata.uns["med_magma"]
    kx.tl.med_magma(mdata)
    (told,) = own(recwarn)
    assert told.count("`varm['med_magma']` was your own") == 1
    assert all("med_magma_before" in adata.varm for adata in mdata.mod.values())


def test_the_graph_of_another_tool_is_replaced_by_one_of_its_name(learnt, recwarn):
    adata = learnt.copy()
    adata.obsp["connectivities"], adata.obsp["distances"] = np.eye(60), np.eye(60)
    adata.uns["neighbors"] = {
        "connectivities_key": "connectivities",
        "distances_key": "distances",
        "params": {"method": "umap"},
    }
    kx.tl.med_magma(adata, key_added="neighbors")
    assert not own(recwarn) and "connectivities_before" not in adata.obsp


def test_a_layer_of_the_name_of_a_quotient(learnt, recwarn):
    adata = learnt.copy()
    adata.layers["quotient"] = adata.X + 1
    kx.pp.quotient(adata)
    np.testing.assert_array_equal(adata.layers["quotient_before"], adata.X + 1)
    kx.pp.quotient(adata)
    assert len(own(recwarn)) == 1 and "quotient_before_2" not in adata.layers


def test_colours_go_with_their_column():
    adata = ad.AnnData(np.ones((2, 2)), obs={"type": ["a", "b"], "type_before": ["c", "d"]})
    adata.uns["type_colors"] = ["red", "blue"]
    moved = set_aside([adata], [("obs", "type"), ("obs", "none")])
    assert moved == {("obs", "type"): ("obs", "type_before_2")}
    assert adata.uns["type_before_2_colors"] == ["red", "blue"] and list(adata.obs) == ["type_before", "type_before_2"]


def test_a_result_of_the_cells_leaves_those_of_a_modality_where_they_are(learnt):
    adata = learnt.copy()
    kx.tl.graph_robustness(adata, axis="var", n_repeats=2, shares=[0, 0.3])
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


@pytest.mark.parametrize(("table", "name"), [("obs", "med_magma_log_scale"), ("var", "gene_module_stability")])
def test_an_index_named_like_a_column_of_ours(table, name, tmp_path):
    """Beside a column of its name, whose values differ, anndata cannot save it."""
    adata = kx.datasets.kronecker_sum(60, 40)
    adata.X = np.abs(adata.X)
    getattr(adata, table).index.name = name
    words = f"`{table}.index.name = '{name}'` was your own, and is now `{table}.index.name = '{name}_before'`"
    with pytest.warns(UserWarning, match=words):
        kx.tl.med_magma(adata)
        kx.tl.gene_modules(adata, n_runs=2)
    adata.write_h5ad(tmp_path / "x.h5ad")
    assert getattr(ad.read_h5ad(tmp_path / "x.h5ad"), table).index.name == f"{name}_before"
