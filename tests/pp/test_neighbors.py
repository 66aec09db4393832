"""kx.pp.neighbors: a graph of any embedding, as scanpy reads it."""

import re

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import kronax as kx

N = 120


@pytest.fixture
def adata(rng) -> ad.AnnData:
    counts = rng.poisson(rng.gamma(1.0, 3.0, (3, 60))[np.arange(N) % 3])
    return ad.AnnData(counts.astype(np.float64))


def test_of_its_own_embedding_it_is_the_graph_of_med_magma(adata):
    kx.tl.med_magma(adata)
    kx.pp.neighbors(adata, use_rep="X_med_magma")
    for kind in ("connectivities", "distances"):
        one, other = (adata.obsp[f"{key}_{kind}"] for key in ("embedding", "med_magma"))
        np.testing.assert_allclose(one.toarray(), other.toarray(), rtol=1e-12)


def test_scanpy_goes_on(adata, tmp_path):
    sc.pp.pca(adata)
    kx.pp.neighbors(adata, "X_pca", n_neighbors=10, key_added="mine")
    sc.tl.leiden(adata, neighbors_key="mine", flavor="igraph", n_iterations=2, directed=False)
    sc.tl.umap(adata, neighbors_key="mine", maxiter=5)
    adata.obs["half"] = pd.Categorical(np.where(np.arange(N) < 60, "a", "b"))
    sc.tl.paga(adata, groups="half", neighbors_key="mine")
    sc.tl.diffmap(adata, neighbors_key="mine")
    adata.write_h5ad(tmp_path / "graph.h5ad")
    adata.write_zarr(tmp_path / "graph.zarr")
    params = ad.read_h5ad(tmp_path / "graph.h5ad").uns["mine"]["params"]
    assert params["use_rep"] == "X_pca" and params["n_neighbors"] == 10 and params["metric"] == "cosine"


def test_under_the_name_of_scanpy_nothing_else_is_needed(adata):
    sc.pp.pca(adata)
    kx.pp.neighbors(adata, "X_pca", key_added="neighbors")
    sc.tl.leiden(adata, flavor="igraph", n_iterations=2, directed=False)


@pytest.mark.parametrize("convert", [np.float32, sparse.csr_matrix, pd.DataFrame])
def test_any_kind_of_embedding(adata, convert, rng):
    values = rng.standard_normal((N, 5)).astype(np.float32)
    adata.obsm["X_plain"] = values
    adata.obsm["X_other"] = convert(values) if convert is not pd.DataFrame else pd.DataFrame(values, adata.obs_names)
    before = values.copy()
    kx.pp.neighbors(adata, "X_plain", key_added="one")
    kx.pp.neighbors(adata, "X_other", key_added="other", transformer="sklearn")
    np.testing.assert_array_equal(
        adata.obsp["one_connectivities"].toarray() > 0, adata.obsp["other_connectivities"].toarray() > 0
    )
    np.testing.assert_array_equal(adata.obsm["X_plain"], before)
    assert adata.uns["other"]["params"]["transformer"] == "sklearn"


@pytest.mark.parametrize("factor", [2.0**-700, 2.0**700])
def test_directions_alone_count(adata, rng, factor):
    adata.obsm["X_mine"] = rng.normal(size=(N, 5))
    adata.obsm["X_other"] = factor * adata.obsm["X_mine"]
    for name in ("mine", "other"):
        kx.pp.neighbors(adata, use_rep=f"X_{name}", key_added=name)
    for kind in ("connectivities", "distances"):
        assert (adata.obsp[f"mine_{kind}"] != adata.obsp[f"other_{kind}"]).nnz == 0


def test_masked_coordinates_are_refused(adata, rng):
    adata.obsm["X_mine"] = np.ma.masked_less(rng.normal(size=(N, 5)), 0)
    with pytest.raises(ValueError, match="is a masked array with"):
        kx.pp.neighbors(adata, use_rep="X_mine")
    assert "embedding" not in adata.uns


def test_a_copy_and_a_mudata_object(adata, rng):
    mdata = mudata.MuData({"rna": adata})
    mdata.obsm["X_joint"] = rng.standard_normal((N, 4))
    found = kx.pp.neighbors(mdata, "X_joint", copy=True)
    assert "embedding_connectivities" in found.obsp and "embedding_connectivities" not in mdata.obsp


def test_cells_without_coordinates_are_isolated(adata, rng):
    adata.obsm["X_some"] = rng.standard_normal((N, 4))
    adata.obsm["X_some"][[3, 7]] = 0.0
    with pytest.warns(UserWarning, match=r"2 cells \(3, 7\) of `obsm\['X_some'\]` have only 0"):
        kx.pp.neighbors(adata, "X_some")
    degrees = np.diff(adata.obsp["embedding_connectivities"].indptr)
    assert (degrees[[3, 7]] == 0).all() and (np.delete(degrees, [3, 7]) > 0).all()


def test_an_earlier_result_is_removed(adata, rng):
    adata.obsm["X_some"] = rng.standard_normal((N, 4))
    kx.tl.med_magma(adata, key_added="graph")
    kx.pp.neighbors(adata, "X_some", key_added="graph")
    assert (
        set(adata.obsp) == {"graph_connectivities", "graph_distances"}
        and not adata.varp
        and "X_graph" not in adata.obsm
    )
    kx.pp.neighbors(adata, "X_some", key_added="graph")


def test_refuses(adata, rng):
    with pytest.raises(
        KeyError, match=r"Key 'X_pca' not found in `adata.obsm`\..* Run kx.tl.med_magma or sc.pp.pca first"
    ):
        kx.pp.neighbors(adata, "X_pca")
    kx.tl.med_magma(adata)
    with pytest.raises(ValueError, match=r"would remove the result that `obsm\['X_med_magma'\]` belongs to"):
        kx.pp.neighbors(adata, "X_med_magma", key_added="med_magma")
    adata.obsm["X_bad"] = rng.standard_normal((N, 4))
    adata.obsm["X_bad"][5, 2] = np.nan
    with pytest.raises(ValueError, match=r"NaN or infinite values in 1 of 120 cells"):
        kx.pp.neighbors(adata, "X_bad")
    with pytest.raises(ValueError, match="`n_neighbors`"):
        kx.pp.neighbors(adata, "X_med_magma", n_neighbors=N)
    adata.obsm["X_zero"] = np.zeros((N, 4))
    for n_there, there in enumerate(
        ("0 cells of `obsm['X_zero']` have", "1 cell of `obsm['X_zero']` has", "2 cells of")
    ):
        adata.obsm["X_zero"][:n_there] = 1.0
        with pytest.raises(ValueError, match=f"^{re.escape(there)}.* at least 3 are needed"):
            kx.pp.neighbors(adata, "X_zero", n_neighbors=2)
    assert "embedding" not in adata.uns
