"""kx.tl.module_activity against the definition and against a least-squares analysis of variance."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats
from zarr.storage import MemoryStore  # a folder takes three times as long

import kronax as kx


def with_modules(seed=0) -> ad.AnnData:
    """Forty cells of three types, the last of them without counts; 12 genes in three modules, two of none."""
    rng = np.random.default_rng(seed)
    kind = np.arange(40) % 3
    module = np.repeat([0, 1, 2, -1], [4, 4, 2, 2])
    mean = np.where(module == kind[:, None], 6.0, 3.0)
    mean[:, module == 2] = 3.0  # whatever the type
    counts = rng.poisson(mean).astype(np.float64)
    counts[-1] = 0
    adata = ad.AnnData(
        sparse.csr_matrix(counts), obs=pd.DataFrame({"type": [*"abc" * 13, "a"]}, index=[f"c{i}" for i in range(40)])
    )
    adata.var["gene_module"] = pd.Categorical([None if m < 0 else str(m) for m in module])
    adata.uns["gene_module"] = {"params": {"neighbors_key": "med_magma"}}
    adata.uns["med_magma"] = {"params": {"layer": None}}
    return adata


def quietly(*args, **options):
    with pytest.warns(UserWarning, match="1 of 40 cells have no non-zero value"):
        return kx.tl.module_activity(*args, **options)


def least_squares(y, groups):
    """F and the share of variance explained, by regression on the groups' indicators."""
    design = pd.get_dummies(pd.Series(groups)).to_numpy(float)
    rest = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    within, total = rest @ rest, np.sum((y - y.mean()) ** 2)
    k, n = design.shape[1], len(y)
    return (total - within) / (k - 1) / (within / (n - k)), 1 - within / total


def test_shares():
    adata = with_modules()
    assert quietly(adata) is None
    counts = adata.X.toarray()[:-1]
    expected = np.column_stack([counts[:, columns].sum(1) for columns in (range(4), range(4, 8), range(8, 10))])
    found = adata.obsm["module_activity"]
    np.testing.assert_allclose(found[:-1], expected / counts.sum(1)[:, None], rtol=1e-12)
    assert np.isnan(found[-1]).all()
    assert list(adata.uns["module_activity"]["modules"]) == ["0", "1", "2"]
    assert "anova" not in adata.uns["module_activity"]


def test_scales_of_cells_do_not_matter():
    adata, scaled = with_modules(), with_modules()
    scaled.X = sparse.csr_matrix(sparse.diags_array(np.arange(1.0, 41.0)) @ scaled.X)
    quietly(adata, groupby="type")
    quietly(scaled, groupby="type")
    np.testing.assert_allclose(scaled.obsm["module_activity"], adata.obsm["module_activity"], rtol=1e-12)


def test_analysis_of_variance():
    adata = with_modules()
    quietly(adata, groupby="type")
    anova = adata.uns["module_activity"]["anova"]
    y, groups = adata.obsm["module_activity"][:-1], adata.obs["type"].to_numpy()[:-1]
    for column in range(3):
        f, explained = least_squares(y[:, column], groups)
        assert anova["F"][column] == pytest.approx(f, rel=1e-9)
        assert anova["eta_squared"][column] == pytest.approx(explained, rel=1e-9)
        assert anova["p"][column] == pytest.approx(stats.f(2, 36).sf(f), rel=1e-9)
    ordered = np.sort(anova["p"])
    benjamini_hochberg = np.minimum.accumulate((ordered * 3 / np.arange(1, 4))[::-1])[::-1]
    np.testing.assert_allclose(np.sort(anova["p_adjusted"]), benjamini_hochberg, rtol=1e-12)
    assert (anova["df_between"], anova["df_within"]) == (2, 36)
    assert list(anova["groups"]) == ["a", "b", "c"]
    assert list(anova["n_cells"]) == [13, 13, 13]
    assert (anova["p_adjusted"][:2] < 1e-6).all()


def test_labels_that_mean_nothing():
    p = []
    for seed in range(20):
        adata = with_modules(seed)
        adata.obs["type"] = np.random.default_rng(seed).permutation(adata.obs["type"])
        quietly(adata, groupby="type")
        p.append(adata.uns["module_activity"]["anova"]["p"])
    assert np.min(p) > 1e-4
    assert 0.3 < np.mean(p) < 0.7


def test_missing_labels_and_groups_of_one_cell():
    adata = with_modules()
    adata.obs.loc[adata.obs_names[:4], "type"] = [None, np.nan, "alone", "d"]
    adata.obs.loc[adata.obs_names[-1], "type"] = "empty"  # a group without counts is none
    quietly(adata, groupby="type")
    assert np.isfinite(adata.obsm["module_activity"][:2]).all()
    anova = adata.uns["module_activity"]["anova"]
    assert list(anova["groups"]) == ["a", "alone", "b", "c", "d"]
    assert list(anova["n_cells"]) == [11, 1, 12, 12, 1]
    f, _ = least_squares(adata.obsm["module_activity"][2:-1, 0], adata.obs["type"].to_numpy()[2:-1])
    assert anova["F"][0] == pytest.approx(f, rel=1e-9)


def test_module_with_the_same_share_everywhere():
    adata = with_modules()[:-1].copy()
    adata.var["gene_module"] = pd.Categorical(["0"] * 12)
    kx.tl.module_activity(adata, groupby="type")
    anova = adata.uns["module_activity"]["anova"]
    assert all(np.isnan(anova[name]).all() for name in ("F", "p", "p_adjusted", "eta_squared"))


def test_groups_without_spread():
    adata = ad.AnnData(
        np.array([[1.0, 1.0], [1, 1], [1, 3], [1, 3]]), obs=pd.DataFrame({"type": [*"aabb"]}, index=[*"wxyz"])
    )
    adata.var["gene_module"] = ["0", "1"]
    kx.tl.module_activity(adata, groupby="type")
    anova = adata.uns["module_activity"]["anova"]
    np.testing.assert_array_equal(anova["p"], 0)
    np.testing.assert_array_equal(anova["eta_squared"], 1)


def test_layer_is_that_of_the_graph():
    adata = with_modules()
    adata.layers["counts"] = adata.X.copy()
    adata.X = -adata.X
    with pytest.raises(ValueError, match="without negative values"):
        kx.tl.module_activity(adata)
    adata.uns["med_magma"]["params"]["layer"] = "counts"
    quietly(adata)
    assert adata.uns["module_activity"]["params"]["layer"] == "counts"
    quietly(adata, layer="counts", key_added="again")
    np.testing.assert_array_equal(adata.obsm["again"], adata.obsm["module_activity"])


def test_copy_leaves_the_input_alone():
    adata = with_modules()
    found = quietly(adata, groupby="type", copy=True)
    assert "module_activity" in found.obsm
    assert not len(adata.obsm)
    assert "module_activity" not in adata.uns


def test_files(tmp_path):
    adata = with_modules()
    quietly(adata, groupby="type")
    adata.write_h5ad(tmp_path / "x.h5ad")
    adata.write_zarr(store := MemoryStore())
    for again in (ad.read_h5ad(tmp_path / "x.h5ad"), ad.read_zarr(store)):
        np.testing.assert_array_equal(again.obsm["module_activity"], adata.obsm["module_activity"])
        before, after = adata.uns["module_activity"], again.uns["module_activity"]
        assert after["params"] == before["params"]
        for name, values in before["anova"].items():
            np.testing.assert_array_equal(after["anova"][name], values)


def test_modules_and_activities_under_one_name():
    """The later result takes the place of the earlier one."""
    adata = with_modules()
    quietly(adata, key_added="mine")
    modules = adata.copy()
    modules.uns["mine"] = {"agreement": 1.0, "params": {"neighbors_key": "med_magma"}}
    modules.var["mine"] = modules.var["gene_module"]
    del modules.obsm["mine"]
    quietly(modules, key_added="mine")
    assert "mine" not in modules.var and "mine" in modules.obsm


def test_what_is_refused():
    adata = with_modules()
    with pytest.raises(KeyError, match=r"'none' not found in `adata\.obs`"):
        kx.tl.module_activity(adata, groupby="none")
    with pytest.raises(KeyError, match=r"Run kx\.tl\.gene_modules first"):
        kx.tl.module_activity(adata, modules="mine")
    with pytest.raises(ValueError, match="`key_added` must not be 'gene_module'"):
        kx.tl.module_activity(adata, key_added="gene_module")
    adata.obs["one"] = "same"
    with pytest.raises(ValueError, match=r"`adata\.obs\['one'\]` has 1 groups of cells with counts, the largest of 39"):
        kx.tl.module_activity(adata, groupby="one")
    adata.obs["all"] = [*map(str, range(40))]
    with pytest.raises(ValueError, match="39 groups of cells with counts, the largest of 1"):
        kx.tl.module_activity(adata, groupby="all")
    adata.obs["none"] = None
    with pytest.raises(ValueError, match="All values of .* are missing"):
        kx.tl.module_activity(adata, groupby="none")
    assert "module_activity" not in adata.uns
