"""kx.tl.med_magma with batches: a scale of every gene in every batch."""

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from zarr.storage import MemoryStore  # a folder takes three times as long

import kronax as kx

N, P = 300, 80
TYPES = ("A", "B", "C")


def counts_of(rng, effect: float, composition=((1, 1, 1), (1, 1, 1), (1, 1, 1)), depth: float = 4.0) -> ad.AnnData:
    """Counts of three types of cells in three batches; every gene of every batch has a log scale of its own."""
    batch = np.arange(N) % 3
    weights = np.array(composition, float)
    weights /= weights.sum(axis=1, keepdims=True)
    kind = np.array([rng.choice(3, p=weights[b]) for b in batch])
    means = rng.gamma(1.0, size=P) * np.exp(rng.normal(0.0, 1.0, (3, P)))
    delta = rng.normal(0.0, effect, (3, P)) if effect else np.zeros((3, P))
    drawn = rng.poisson(depth * rng.lognormal(0.0, 0.3, (N, 1)) * means[kind] * np.exp(delta[batch]))
    drawn[drawn.sum(axis=1) == 0, 0] = 1
    obs = {"batch": pd.Categorical.from_codes(batch, ["one", "two", "three"]), "label": np.array(TYPES)[kind]}
    adata = ad.AnnData(
        sparse.csr_matrix(drawn, dtype=np.float64),
        obs=pd.DataFrame(obs, index=[f"cell{i}" for i in range(N)]),
        var=pd.DataFrame(index=[f"gene{j}" for j in range(P)]),
    )
    adata.varm["delta"] = delta.T
    return adata


@pytest.fixture
def batched(rng) -> ad.AnnData:
    return counts_of(rng, 0.7)


def learnt(adata: ad.AnnData, **arguments) -> ad.AnnData:
    adata = adata.copy()
    kx.tl.med_magma(adata, **arguments)
    return adata


def mixing(adata: ad.AnnData) -> float:
    return kx.metrics.batch_mixing(adata, label_key="label", batch_key="batch")


def noisy(adata: ad.AnnData, rng) -> tuple[ad.AnnData, np.ndarray]:
    """Multiply every cell, and every gene of every batch, by random factors."""
    factors = rng.lognormal(0.0, 1.0, (3, P))
    other = adata.copy()
    cells = rng.lognormal(0.0, 1.0, N)
    other.X = sparse.csr_matrix(adata.X.toarray() * cells[:, None] * factors[adata.obs["batch"].cat.codes])
    return other, np.log(factors)


def test_cells_of_different_batches_become_neighbours(batched):
    before, after = (learnt(batched, graphs="cells", **with_) for with_ in ({}, {"batch_key": "batch"}))
    assert mixing(before) < 0.2 and mixing(after) > 0.8
    assert kx.metrics.assortativity(after, labels="label", neighbors_key="med_magma") > 0.99


@pytest.mark.parametrize("arguments", [{}, {"graphs": "cells"}, {"power": 0.7}, {"penalty": "ridge", "strength": 1.0}])
def test_separate_scales_are_invariant(batched, rng, arguments):
    other, factors = noisy(batched, rng)
    one, other = (learnt(adata, batch_key="batch", batch_scales="separate", **arguments) for adata in (batched, other))
    for part in ("obsp", "varp"):
        for key, matrix in getattr(one, part).items():
            np.testing.assert_allclose(getattr(other, part)[key].toarray(), matrix.toarray(), rtol=1e-7, atol=1e-9)
    for name in ("power", "batch_spread", "batch_matched"):
        np.testing.assert_allclose(other.uns["med_magma"][name], one.uns["med_magma"][name], rtol=1e-7)
    moved = (other.varm["med_magma_log_scale"] - one.varm["med_magma_log_scale"]).to_numpy() - factors.T
    assert np.nanstd(moved, axis=0).max() < 1e-8  # every batch as a whole has a scale that its cells may have too


def test_values_that_stand_for_zeros_are_found_in_every_batch_alike(batched, rng):
    """The power is chosen behind the scales of batches."""
    batched = batched[:, :40].copy()
    dense = batched.X.toarray()
    dense[dense == 0] = 1e-6
    batched.X = dense
    factors = np.exp(rng.normal(0.0, 1.0, (3, 40)))
    other = batched.copy()
    other.X = batched.X * factors[batched.obs["batch"].cat.codes]
    with pytest.warns(UserWarning, match="taken for zeros"):
        one, other = (learnt(a, batch_key="batch", batch_scales="separate", graphs="cells") for a in (batched, other))
    assert one.uns["med_magma"]["n_near_zero"] == other.uns["med_magma"]["n_near_zero"] > 0
    np.testing.assert_allclose(np.abs(other.obsm["X_med_magma"]), np.abs(one.obsm["X_med_magma"]), atol=1e-6)


def test_pooled_scales_are_those_of_the_truth(rng):
    adata = learnt(counts_of(rng, 0.7, depth=20.0), batch_key="batch", graphs="cells")
    adata = adata[:, (adata.X.toarray() > 0).mean(axis=0) > 0.5]
    found = adata.varm["med_magma_log_scale"].to_numpy() - adata.var["med_magma_log_scale"].to_numpy()[:, None]
    found, true = (np.asarray(part) - np.mean(part, axis=0) for part in (found, adata.varm["delta"]))
    found, true = (part - part.mean(axis=1, keepdims=True) for part in (found, true))
    assert np.corrcoef(found.ravel(), true.ravel())[0, 1] > 0.95
    np.testing.assert_allclose(adata.uns["med_magma"]["batch_spread"], 0.6, atol=0.25)


def test_without_a_difference_nothing_is_changed(rng):
    """Also where batches have different cells; by themselves they would lose that."""
    adata = counts_of(rng, 0.0, ((8, 1, 1), (1, 8, 1), (1, 1, 8)))
    before, pooled = (learnt(adata, graphs="cells", **with_) for with_ in ({}, {"batch_key": "batch"}))
    apart = learnt(adata, graphs="cells", batch_key="batch", batch_scales="separate")
    assert pooled.uns["med_magma"]["batch_spread"].max() < 0.1
    assert mixing(pooled) > 0.9 * mixing(before)
    assert mixing(pooled) > mixing(apart)


def test_a_batch_of_one_type(rng):
    adata = counts_of(rng, 0.5, ((1, 0, 0), (1, 1, 1), (1, 1, 1)))
    found = learnt(adata, batch_key="batch", graphs="cells")
    assert kx.metrics.assortativity(found, labels="label", neighbors_key="med_magma") > 0.95
    assert mixing(found) > 2.0 * mixing(learnt(adata, graphs="cells"))


def test_what_is_written_survives_files(batched, tmp_path):
    batched.obs["batch"] = batched.obs["batch"].cat.rename_categories({"one": "2020/01"})
    adata = learnt(batched, batch_key="batch")
    table, entry = adata.varm["med_magma_log_scale"], adata.uns["med_magma"]
    assert list(table.columns) == ["2020|01", "two", "three"] and list(table.index) == list(adata.var_names)
    assert list(entry["batches"]) == ["2020/01", "two", "three"]
    assert entry["params"]["batch_key"] == "batch" and entry["params"]["batch_scales"] == "pooled"
    assert entry["batch_spread"].shape == entry["batch_matched"].shape == (3,)
    adata.write_h5ad(tmp_path / "batches.h5ad")
    adata.write_zarr(store := MemoryStore())
    for read in (ad.read_h5ad(tmp_path / "batches.h5ad"), ad.read_zarr(store)):
        pd.testing.assert_frame_equal(read.varm["med_magma_log_scale"], table)
        np.testing.assert_array_equal(read.uns["med_magma"]["batches"], entry["batches"])
    kx.tl.med_magma(adata)
    assert "med_magma_log_scale" not in adata.varm and "batches" not in adata.uns["med_magma"]


def test_genes_absent_from_a_batch(batched):
    dense = batched.X.toarray()
    dense[(batched.obs["batch"] == "two").to_numpy(), 5] = 0.0
    batched.X = sparse.csr_matrix(dense)
    table = learnt(batched, batch_key="batch").varm["med_magma_log_scale"]
    absent = pd.DataFrame(
        {batch: (dense[batched.obs["batch"] == batch] == 0).all(axis=0) for batch in table}, table.index
    )
    assert absent.loc["gene5", "two"]
    pd.testing.assert_frame_equal(table.isna(), absent)


def test_one_batch_is_told_and_changes_nothing(batched):
    batched.obs["batch"] = "all"
    with pytest.warns(UserWarning, match=r"of one batch \(all\): the result is the same"):
        found = learnt(batched, batch_key="batch")
    expected = learnt(batched)
    for key, matrix in expected.obsp.items():
        np.testing.assert_array_equal(found.obsp[key].toarray(), matrix.toarray())
    np.testing.assert_array_equal(found.varm["med_magma_log_scale"]["all"], expected.var["med_magma_log_scale"])


def test_few_cells_are_told(batched):
    batched.obs["batch"] = np.where(np.arange(N) < 7, "few", "many")
    with pytest.warns(UserWarning, match=r"1 batch of fewer than 20 cells \('few': 7\)"):
        learnt(batched, batch_key="batch", graphs="cells")


def test_batches_that_do_not_match_are_told(batched):
    dense = batched.X.toarray()
    one = (batched.obs["batch"] == "one").to_numpy()
    dense[np.ix_(one, np.arange(P // 2))] = 0.0
    dense[np.ix_(~one, np.arange(P // 2, P))] = 0.0
    dense[:, 0] = 1.0
    batched.X = sparse.csr_matrix(dense)
    with pytest.warns(UserWarning, match=r"Few cells of .*one .* match cells of other batches"):
        learnt(batched, batch_key="batch", graphs="cells")


@pytest.mark.parametrize("values", [np.arange(N) % 3, np.arange(N) % 2 == 0, np.where(np.arange(N) % 2, "x", "y")])
def test_any_kind_of_column(batched, values):
    batched.obs["batch"] = values
    found = learnt(batched, batch_key="batch", graphs="cells")
    assert list(found.uns["med_magma"]["batches"]) == [str(value) for value in np.unique(values)]


def test_unused_categories_do_not_count(batched):
    part = batched[batched.obs["batch"] != "two"].copy()
    assert list(learnt(part, batch_key="batch", graphs="cells").uns["med_magma"]["batches"]) == ["one", "three"]


def refused(adata, kind: type[Exception], match: str, **arguments):
    with pytest.raises(kind, match=match):
        kx.tl.med_magma(adata, **arguments)
    assert "med_magma" not in adata.uns


def test_refuses_what_is_no_column_of_batches(batched):
    refused(
        batched,
        KeyError,
        r"Key 'run' not found in `adata.obs`\. Available keys: \['batch', 'label'\]",
        batch_key="run",
    )
    for key in (3, ["batch"]):
        refused(batched, TypeError, r"`batch_key` must be a str, one column of `obs`; join several", batch_key=key)
    refused(batched, ValueError, r"`batch_scales` must be", batch_key="batch", batch_scales="partial")
    refused(batched, ValueError, r"name their column with `batch_key`", batch_scales="separate")
    batched.obs["cell"] = batched.obs_names
    refused(batched, ValueError, r"has 300 values for 300 cells: most batches are a single cell", batch_key="cell")
    batched.obs["alike"] = pd.Series([1, "1"] * (N // 2), index=batched.obs_names, dtype=object)
    refused(batched, ValueError, r"different values that are written alike \(1\)", batch_key="alike")


@pytest.mark.parametrize("missing", [np.nan, None, ""])
def test_refuses_missing_batches(batched, missing):
    batched.obs["run"] = batched.obs["batch"].astype(object)
    batched.obs.iloc[[3, 200], batched.obs.columns.get_loc("run")] = missing
    refused(batched, ValueError, r"`adata.obs\['run'\]` is missing in 2 of 300 cells", batch_key="run")


def two_modalities(adata: ad.AnnData) -> mudata.MuData:
    parts = {"rna": adata[:, :50].copy(), "adt": adata[:, 50:].copy()}
    for part in parts.values():
        part.obs = part.obs[["label"]].copy()
    return mudata.MuData(parts)


def test_modalities_share_a_column_or_have_one_each(batched):
    mdata = two_modalities(batched)
    with pytest.raises(
        KeyError, match=r"not found in `mdata.obs`.* neither there nor in the `obs` of 'rna' and 'adt'|'rna', 'adt'"
    ):
        kx.tl.med_magma(mdata, batch_key="batch")
    mdata.obs["batch"] = batched.obs["batch"].reindex(mdata.obs_names)
    kx.tl.med_magma(mdata, batch_key="batch")
    other = two_modalities(batched)
    for part in other.mod.values():
        part.obs["batch"] = batched.obs["batch"]
    kx.tl.med_magma(other, batch_key="batch")
    np.testing.assert_array_equal(
        other.obsp["med_magma_connectivities"].toarray(), mdata.obsp["med_magma_connectivities"].toarray()
    )
    assert mdata["adt"].varm["med_magma_log_scale"].shape == (30, 3)


def test_as_many_genes_as_cells_or_more(batched):
    """The matrix is then worked on as its transpose."""
    wide = batched[:60].copy()
    found = learnt(wide, batch_key="batch", n_neighbors=5)
    assert found.obsp["med_magma_connectivities"].nnz and found.varp["med_magma_connectivities"].nnz


@pytest.mark.parametrize("batch_scales", ["pooled", "separate"])
def test_batches_without_a_gene_in_common(batch_scales, rng):
    """No cell has a match: there is nothing to go on with, with or without a bar."""
    x = rng.poisson(3.0, (60, 40)) + 1.0
    x[:30, :20] = x[30:, 20:] = 0.0
    adata = ad.AnnData(x, pd.DataFrame({"batch": ["one"] * 30 + ["two"] * 30}, index=[f"cell{i}" for i in range(60)]))
    with pytest.warns(UserWarning, match="match"), pytest.warns(UserWarning, match="2 blocks"):
        kx.tl.med_magma(adata, batch_key="batch", batch_scales=batch_scales)
    np.testing.assert_array_equal(adata.uns["med_magma"]["batch_matched"], 0.0)
