"""kx.get.profiles: all contexts in one long table."""

import re

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import kronax as kx
from kronax._data import tensor as tensors


@pytest.fixture
def mdata() -> mudata.MuData:
    found = kx.datasets.drug_response(n_treatments=6, n_contexts=3, n_genes=5, missing=0.4)
    kx.tl.complete_tensor(found, method="mean_2d")
    return found


def test_rows(mdata):
    found = kx.get.profiles(mdata)
    assert found.shape == (18, 5) and found.obs_names.is_unique
    assert list(found.obs)[:4] == ["treatment", "context", "measured", "completion_confidence"]
    assert found.obs["measured"].dtype == bool and found.obs["completion_confidence"].dtype == np.float64
    assert isinstance(found.obs["completion_fallback"].dtype, pd.CategoricalDtype)
    assert list(found.obs["treatment"].cat.categories) == list(mdata["line0"].obs_names)
    for treatment, context, name in zip(found.obs["treatment"], found.obs["context"], found.obs_names, strict=True):
        assert name == f"{treatment}:{context}"
        np.testing.assert_array_equal(found[name].X[0], mdata[context][treatment].layers["completed"][0])
        assert found.obs.loc[name, "measured"] == mdata[context].obs.loc[treatment, "measured"]
        assert found.obs.loc[name, "cell_specific"] == mdata[context].obs.loc[treatment, "cell_specific"]


def test_before_completion(mdata):
    found = kx.get.profiles(mdata, layer=None)
    assert list(found.obs["measured"]) == list(~np.isnan(found.X).any(axis=1))
    with tensors.without_pulling():
        other = mudata.MuData({key: ad.AnnData(a.X, a.obs[[]], a.var) for key, a in mdata.mod.items()}, axis=-1)
    bare = kx.get.profiles(other, layer=None)
    assert list(bare.obs["measured"]) == list(found.obs["measured"])
    assert bare.obs["completion_confidence"].isna().all()


def test_confidence_is_of_profiles_with_predicted_values():
    """Of whole profiles and of one with a single gap, in a tensor whose parts are well linked."""
    mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=5, missing=0.2)
    whole = np.flatnonzero(mdata["line0"].obs["measured"])
    mdata["line0"].X[whole[0], 1] = np.nan
    kx.tl.complete_tensor(mdata, options=kx.tl.KroneckerOptions(noise=0.1))
    obs = kx.get.profiles(mdata).obs
    expected = ~obs["measured"] | (np.arange(len(obs)) == whole[0])
    assert obs["completion_confidence"].notna().tolist() == expected.tolist()


def test_genes_of_all_contexts_and_columns_that_agree(mdata):
    for n, adata in enumerate(mdata.mod.values()):
        adata.var["length"], adata.var["mean"] = np.arange(5), np.arange(5) + n
    with tensors.without_pulling():
        mdata.mod["line1"] = mdata["line1"][:, ["gene4", "gene0", "gene2"]].copy()
        mdata.update()
    found = kx.get.profiles(mdata)
    assert list(found.var_names) == ["gene0", "gene2", "gene4"] and list(found.var) == ["length"]
    np.testing.assert_array_equal(
        found[found.obs["context"] == "line1"].X, mdata["line1"].layers["completed"][:, [1, 2, 0]]
    )


def test_sparse_and_ambiguous_names():
    x = sparse.csr_matrix(np.eye(2))
    with tensors.without_pulling():
        mdata = mudata.MuData(
            {
                "c": ad.AnnData(x, pd.DataFrame(index=["a:b", "d"])),
                "b:c": ad.AnnData(x, pd.DataFrame(index=["a", "d"])),
            },
            axis=-1,
        )
    found = kx.get.profiles(mdata, layer=None)
    assert found.obs_names.is_unique and isinstance(found.X, np.ndarray)
    np.testing.assert_array_equal(found.X, np.tile(np.eye(2), (2, 1)))


def test_survives_h5ad(mdata, tmp_path):
    found = kx.get.profiles(mdata)
    found.write_h5ad(tmp_path / "x.h5ad")
    pd.testing.assert_frame_equal(ad.read_h5ad(tmp_path / "x.h5ad").obs, found.obs)


def test_refused(mdata):
    for adata in mdata.mod.values():
        del adata.layers["completed"], adata.layers["completed_measured"]
    with pytest.raises(
        KeyError, match=re.escape("Available keys: ['truth']. Run kx.tl.complete_tensor first, or take")
    ):
        kx.get.profiles(mdata)
    with pytest.raises(TypeError, match="Expected a MuData object"):
        kx.get.profiles(mdata["line0"])


def test_columns_of_different_kinds_can_be_saved(mdata, tmp_path):
    kinds = {
        "plate": (list("uvwxyz"), range(6), [0.5] * 6),
        "flag": ([True] * 6, pd.array([True, None] * 3, "boolean"), [False] * 6),
        "class": (pd.Categorical(list("aabbcc")), pd.Categorical([1, 2, 3] * 2), pd.Categorical(list("ddeeff"))),
        "n": (range(6), [0.5] * 6, range(6)),
    }
    for key, columns in kinds.items():
        for adata, column in zip(mdata.mod.values(), columns, strict=True):
            adata.obs[key] = column
    found = kx.get.profiles(mdata)
    assert list(found.obs["plate"][4:8]) == ["y", "z", "0", "1"] and found.obs["n"].dtype == np.float64
    assert list(found.obs["class"][::6]) == ["a", "1", "d"]
    found.write_h5ad(tmp_path / "x.h5ad")
    assert list(ad.read_h5ad(tmp_path / "x.h5ad").obs["plate"]) == list(found.obs["plate"])


def test_what_the_user_has_under_our_names_is_kept(mdata):
    for adata in mdata.mod.values():
        adata.obs["context"], adata.obs["treatment"] = "in vitro", adata.obs_names
    obs = kx.get.profiles(mdata).obs
    assert (obs["context_before"] == "in vitro").all() and "treatment_before" not in obs
    assert set(obs["context"]) == set(mdata.mod)
