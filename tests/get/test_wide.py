import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad
from anndata.io import read_zarr
from mudata import MuData
from scipy import sparse
from zarr.storage import MemoryStore  # a folder takes three times as long

import kronax as kx
from kronax._data import tensor as tensors


@pytest.fixture
def mdata():
    mdata = kx.datasets.skewed_response(n_treatments=30, n_contexts=3, n_genes=7)
    for adata in mdata.mod.values():
        adata.obs["dose"] = np.arange(30.0)
    return mdata


def test_wide_and_back(mdata):
    wide = kx.get.wide(mdata, layer=None)
    assert wide.shape == (21, 30)
    back = kx.pp.from_wide(wide)
    assert list(back.mod) == list(mdata.mod)
    for context, adata in mdata.mod.items():
        np.testing.assert_array_equal(back[context].X, adata.X)
        pd.testing.assert_frame_equal(back[context].obs, adata.obs, check_like=True)
        assert list(back[context].var_names) == list(adata.var_names)
    again = kx.get.wide(back, layer=None)
    np.testing.assert_array_equal(again.X, wide.X)
    pd.testing.assert_frame_equal(again.obs, wide.obs)
    pd.testing.assert_frame_equal(again.var, wide.var)


def test_predictions_do_not_become_measurements(mdata, tmp_path):
    """Also by way of a file: X is what was measured, single gaps included, and the predictions stay in their layer."""
    mdata["tissue0"].X[4, 2] = np.nan
    kx.tl.complete_tensor(mdata, method="mean_2d")
    wide = kx.get.wide(mdata)
    wide.write_h5ad(tmp_path / "wide.h5ad")
    wide.write_zarr(store := MemoryStore())
    for found in (wide, read_h5ad(tmp_path / "wide.h5ad"), read_zarr(store), wide[:, ::2].copy()):
        back = kx.pp.from_wide(found)
        for context, adata in mdata.mod.items():
            adata = adata[back[context].obs_names]
            np.testing.assert_array_equal(back[context].X, adata.X)
            np.testing.assert_array_equal(back[context].layers["completed"], adata.layers["completed"])
            np.testing.assert_array_equal(back[context].obs["measured"], adata.obs["measured"])
    assert not kx.get.wide(mdata, layer=None).layers
    for adata in mdata.mod.values():
        adata.layers["again"] = adata.X.copy()
    assert not kx.get.wide(mdata, layer="again").layers


def test_before_completion(mdata):
    with pytest.raises(KeyError, match="Run kx.tl.complete_tensor first, or take `X` with `layer=None`"):
        kx.get.wide(mdata)


def test_what_is_said_of_profiles_stays_with_them(mdata):
    options = kx.tl.FactorizationOptions(rank=1, max_epochs=2, patience=1)
    kx.tl.complete_tensor(mdata, method="cp", options=options)  # has no confidence: NaN in all contexts
    assert list(kx.get.wide(mdata).var) == ["dose"]


def test_genes_are_found_by_name():
    """Shared by all contexts, which may hold them in different orders and beside others."""
    genes = {"a": ["x", "y", "z"], "b": ["other", "z", "y"]}
    contexts = {
        name: AnnData(
            np.arange(6.0).reshape(2, 3) + 10 * number,
            obs=pd.DataFrame(index=["s", "t"]),
            var=pd.DataFrame(index=of),
        )
        for number, (name, of) in enumerate(genes.items())
    }
    wide = kx.get.wide(MuData(contexts, axis=-1), layer=None)
    assert sorted(wide.obs_names) == ["a:y", "a:z", "b:y", "b:z"]
    for row, expected in {"a:y": [1, 4], "a:z": [2, 5], "b:y": [12, 15], "b:z": [11, 14]}.items():
        np.testing.assert_array_equal(wide[row].X.ravel(), expected)


def test_rows_are_context_by_gene(mdata):
    wide = kx.get.wide(mdata, layer="truth")
    row = wide["tissue1:gene4"]
    np.testing.assert_array_equal(row.X.ravel(), mdata["tissue1"][:, "gene4"].layers["truth"].ravel())
    assert row.obs["context"].item() == "tissue1"
    with tensors.without_pulling():
        parts = {"a": mdata["tissue0"].copy(), "a:b": mdata["tissue1"].copy()}
        for adata in parts.values():
            adata.var_names = ["b:g", "g", *adata.var_names[2:]]
        assert kx.get.wide(MuData(parts, axis=-1), layer="truth").obs_names.is_unique


def test_bytes_become_the_texts_that_they_hold():
    labels = {"context": [b"a", b"a", b"b", b"b"], "gene": [b"x", b"y", b"x", b"y"]}
    mdata = kx.pp.from_wide(AnnData(np.eye(4, 3) - 0.5, obs=pd.DataFrame(labels, index=list("1234"))))
    assert list(mdata.mod) == ["a", "b"] and list(mdata["b"].var_names) == ["x", "y"]


def test_incomplete_and_sparse(rng):
    obs = pd.DataFrame({"tissue": ["b", "a", "a"], "transcript": ["x", "y", "x"]}, index=["1", "2", "3"])
    values = np.array([[1.0, 0.0], [2.0, np.nan], [3.0, np.nan]], np.float32)
    for matrix in (values, sparse.csr_matrix(values)):
        mdata = kx.pp.from_wide(AnnData(matrix, obs=obs), context_key="tissue", gene_key="transcript")
        assert list(mdata.mod) == ["b", "a"]
        np.testing.assert_array_equal(mdata["b"].X, [[1.0, np.nan], [0.0, np.nan]])
        np.testing.assert_array_equal(mdata["a"].X, [[3.0, 2.0], [np.nan, np.nan]])
        assert mdata["a"].X.dtype == np.float32
        assert list(mdata["a"].obs["measured"]) == [True, False]


def test_a_table_is_refused():
    with pytest.raises(TypeError, match=r"with columns 'context' and 'gene': `anndata.AnnData\(values, obs=rows, var"):
        kx.pp.from_wide(pd.DataFrame(np.ones((4, 2))))


def test_refused():
    obs = pd.DataFrame({"context": ["a", "a"], "gene": ["x", "x"]}, index=["1", "2"])
    with pytest.raises(ValueError, match="1 rows repeat a gene of their context, such as 'x' in 'a'"):
        kx.pp.from_wide(AnnData(np.ones((2, 2)), obs=obs))
    with pytest.raises(KeyError, match="tissue"):
        kx.pp.from_wide(AnnData(np.ones((2, 2)), obs=obs), context_key="tissue")
    with pytest.raises(ValueError, match="at least 2 contexts"):
        kx.pp.from_wide(AnnData(np.ones((1, 2)), obs=obs[:1]))
    with pytest.raises(ValueError, match="missing in 1 rows"):
        kx.pp.from_wide(AnnData(np.ones((2, 2)), obs=obs.assign(context=["a", None])))
