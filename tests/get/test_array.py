import numpy as np
import pytest
from anndata import AnnData
from mudata import MuData
from scipy import sparse

import kronax as kx
from kronax._data import tensor as tensors


@pytest.fixture(scope="module")
def mdata():
    return kx.datasets.drug_response(n_treatments=20, n_contexts=3, n_genes=30, missing=0.3)


@pytest.fixture(scope="module")
def result(mdata):
    return kx.metrics.cross_validate(mdata, methods=["mean_1d", "mean_2d"], n_folds=4)


def test_every_value_is_at_its_names(mdata):
    found = kx.get.array(mdata)
    for context, adata in mdata.mod.items():
        rows, c = found.treatments.get_indexer(adata.obs_names), list(found.contexts).index(context)
        np.testing.assert_array_equal(found.values[rows, c], adata[:, found.genes].X)
        assert np.isnan(np.delete(found.values, rows, axis=0)[:, c]).all()
    assert found.values.shape == found.shape == (20, 3, 30)
    np.testing.assert_array_equal(np.asarray(found), found.values)
    assert np.asarray(found) is found.values
    assert np.array(found) is not found.values
    truth = kx.get.array(mdata, layer="truth")
    np.testing.assert_array_equal(truth.values[0, 0], mdata["line0"].layers["truth"][0])


def test_of_a_cross_validation(mdata, result):
    """Held-out values are the measured ones at the same place, and treatments the same as those of the tensor."""
    measured, held, predicted = kx.get.array(mdata), kx.get.array(result), kx.get.array(result, layer="mean_2d")
    for names in ("treatments", "contexts", "genes"):
        assert list(getattr(held, names)) == list(getattr(measured, names))
    has = ~np.isnan(held.values)
    assert has.any(axis=2).sum() == result.profiles.n_obs
    np.testing.assert_array_equal(held.values[has], measured.values[has])
    row = result.table.loc["mean_2d"]
    assert kx.metrics.calibration_slope(held, predicted) == pytest.approx(row["calibration_slope"])
    assert kx.metrics.deg_auc(held, predicted, top=0.1) == pytest.approx(row["deg_auc_10%"])
    with pytest.raises(KeyError, match="no method 'mean_3d'. Did you mean"):
        kx.get.array(result, layer="mean_3d")


def test_refused(mdata):
    with pytest.raises(TypeError, match="Expected a MuData object"):
        kx.get.array(mdata["line0"])
    with pytest.raises(KeyError, match="Run kx.tl.complete_tensor first"):
        kx.get.array(mdata, layer="completed")


@pytest.mark.parametrize("score", [kx.metrics.calibration_slope, kx.metrics.deg_auc, kx.metrics.by_category])
def test_metrics_of_arrays_say_what_they_take(mdata, result, score):
    """At once: NumPy would walk through every element of such an object."""
    x = np.ones((2, 2, 2))
    wrong = {
        "MuData. Get one with kx.get.array.mdata": mdata,
        "AnnData. Take its `.X`": mdata["line0"],
        "csr_matrix. Make it dense": sparse.csr_matrix((2, 2)),
        "str": "truth",
    }
    for found, value in wrong.items():
        with pytest.raises(TypeError, match=f"`truth` must be an array, .*, found {found}"):
            score(value, x)
        with pytest.raises(TypeError, match=f"`predicted` must be an array, .*, found {found}"):
            score(x, value)
    with pytest.raises(TypeError, match="found CrossValidation. Get one with kx.get.array.result"):
        score(x, result)
    with pytest.raises(TypeError, match="`truth` must be an array of numbers"):
        score([["a"]], x)


def test_genes_that_some_context_lacks_are_left_out():
    with tensors.without_pulling():
        mdata = MuData({"a": AnnData(np.ones((2, 3))), "b": AnnData(np.ones((3, 2)))}, axis=-1)
    assert kx.get.array(mdata).shape == (3, 2, 2)
