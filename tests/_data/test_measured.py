"""What was measured: what counts as a marker, what a completion marks, and who asks."""

import warnings

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from zarr.storage import MemoryStore  # a folder takes three times as long

import kronax as kx
from kronax._data import measured
from kronax._data import tensor as tensors

NAN = np.nan
LABELS = pd.Series(np.arange(12) % 2, index=[f"drug{d}" for d in range(12)])


@pytest.fixture
def mdata() -> mudata.MuData:
    return kx.datasets.drug_response(n_treatments=12, n_contexts=3, n_genes=4, missing=0.3)


def known(mdata) -> int:
    return sum(int(adata.obs["measured"].sum()) for adata in mdata.mod.values())


@pytest.mark.parametrize(
    "values",
    [
        np.array([True, False]),
        np.array([1, 0], np.int8),
        np.array([1.0, 0.0]),
        np.array([NAN, 0.0]),
        np.array(["True", "False"]),
        np.array([True, False], object),
        np.array([None, "no"], object),
        np.ma.array([False, False], mask=[True, False]),
        pd.Series([True, False], dtype="boolean"),
        pd.Series([pd.NA, False], dtype="boolean"),
        pd.Series([True, False]).astype("category"),
        pd.Series(["true", " FALSE"], dtype="string"),
    ],
)
def test_markers(values):
    """Of any dtype; missing values are no predictions."""
    found = measured.flags(values)
    assert found.dtype == bool and found.tolist() == [True, False]


def test_sparse_markers_and_what_is_none():
    np.testing.assert_array_equal(measured.flags(sparse.csr_matrix([[True, False]])), [[True, False]])
    for values in ([0.5, 1], ["Monday", "True"], [2, 0], pd.to_datetime(["2020-01-01"])):
        assert measured.flags(pd.Series(values)) is None


def files(mdata, tmp_path):
    with tensors.without_pulling():
        mdata.write(tmp_path / "x.h5mu")
        mdata.write_zarr(store := MemoryStore())
        yield mudata.MuData(dict(mdata.mod), axis=-1)
        yield mudata.read_h5mu(tmp_path / "x.h5mu")
        yield mudata.read_zarr(store)


ASKED = {
    "complete_tensor": lambda m, layer: kx.tl.complete_tensor(m, layer=layer, method="mean_1d", key_added="new"),
    "cross_validate": lambda m, layer: kx.metrics.cross_validate(m, layer=layer, methods="mean_1d", n_folds=2),
    "density_curve": lambda m, layer: kx.metrics.density_curve(m, layer=layer, methods="mean_1d", n_repeats=1),
    "downstream_auc": lambda m, layer: kx.metrics.downstream_auc(m, LABELS, measured_layer=layer, models="k_neighbors"),
}


@pytest.mark.parametrize("name", ASKED)
def test_predictions_are_no_measurements(mdata, name):
    """Of every completion that was written, and as copies in X or another layer; in objects made anew too."""
    kx.tl.complete_tensor(mdata, method="mean_2d", key_added="first")
    kx.tl.complete_tensor(mdata, method="mean_1d")
    for adata in mdata.mod.values():
        adata.layers["copy"] = adata.layers["first"].astype(np.float32)
        adata.X = adata.layers["completed"].copy()
    del mdata.uns["completion"]
    for layer in ("first", "completed", "copy", *([] if name == "downstream_auc" else [None])):
        with pytest.raises(ValueError, match="is a result of kx.tl.complete_tensor, with [0-9]+ values that nobody"):
            ASKED[name](mdata, layer)


def test_the_guard_survives_files(mdata, tmp_path):
    kx.tl.complete_tensor(mdata, method="mean_2d", key_added="first")
    kx.tl.complete_tensor(mdata, method="mean_2d")
    for found in files(mdata, tmp_path):
        with pytest.raises(ValueError, match="values that nobody measured"):
            kx.metrics.cross_validate(found, layer="first", methods="mean_1d", n_folds=2)


def test_completions_of_versions_without_marks_are_known(mdata):
    kx.tl.complete_tensor(mdata, method="mean_2d")
    n = known(mdata)
    for adata in mdata.mod.values():
        del adata.layers["completed_measured"]
    mdata.uns["completion"]["params"]["layer"] = None
    with pytest.raises(ValueError, match="values that nobody measured"):
        kx.metrics.cross_validate(mdata, layer="completed", methods="mean_1d", n_folds=2)
    assert known(kx.pp.from_wide(kx.get.wide(mdata))) == n


@pytest.mark.parametrize(
    "other", [lambda x: np.nan_to_num(x) + 5, lambda x: np.where(np.arange(12)[:, None] % 2, NAN, x), None]
)
def test_the_mask_is_that_of_the_layer_that_was_read(mdata, other):
    n = known(mdata)
    for adata in mdata.mod.values():
        adata.layers["lfc"] = adata.X.copy()
        adata.X = None if other is None else other(adata.X)
    kx.tl.complete_tensor(mdata, layer="lfc", method="mean_2d")
    assert known(kx.pp.from_wide(kx.get.wide(mdata))) == n
    assert int(kx.get.profiles(mdata).obs["measured"].sum()) == n
    with pytest.warns(UserWarning, match="are predictions"):
        again = kx.pp.tensor(kx.get.profiles(mdata), obs_key="treatment", context_key="context")
    assert sum(adata.n_obs for adata in again.mod.values()) == n
    kx.pp.align(mdata)
    assert known(mdata) == n
    table = kx.metrics.downstream_auc(mdata, LABELS, models="k_neighbors", profiles=["line0", "line1"]).table
    assert table["n_measured"].tolist() == [int(mdata[c].obs["measured"].sum()) for c in ("line0", "line1")]


def test_every_completion_has_its_own_mask(mdata):
    for i, adata in enumerate(mdata.mod.values()):
        adata.layers["fewer"] = adata.X.copy()
        adata.layers["fewer"][i::4] = NAN
    kx.tl.complete_tensor(mdata, layer="fewer", method="mean_2d", key_added="first")
    kx.tl.complete_tensor(mdata, options=kx.tl.KroneckerOptions(noise=0.1))
    n = {
        layer: sum(int((~np.isnan(a.layers[layer])).any(axis=1).sum()) for a in mdata.mod.values())
        for layer in ["fewer"]
    }
    first = kx.get.profiles(mdata, layer="first").obs
    assert int(first["measured"].sum()) == n["fewer"] < known(mdata)
    assert first["completion_confidence"].isna().all()  # that of the second
    assert kx.get.profiles(mdata).obs["completion_confidence"].notna().any()


@pytest.mark.parametrize(
    "kind", [sparse.csr_matrix, lambda x: x.astype(float), lambda x: x.astype("int8"), lambda x: x.astype(object)]
)
def test_wide_tables_keep_their_marks_in_any_dtype(mdata, kind):
    kx.tl.complete_tensor(mdata, method="mean_2d")
    wide = kx.get.wide(mdata)
    wide.layers["measured"] = kind(wide.layers["measured"])
    back = kx.pp.from_wide(wide)
    for context, adata in mdata.mod.items():
        np.testing.assert_array_equal(back[context].X, adata.X)
    with pytest.raises(ValueError, match="nobody measured"):
        kx.tl.complete_tensor(back, layer="completed", method="mean_1d", key_added="new")


def test_what_the_user_has_under_our_names_is_kept_and_told(mdata, tmp_path):
    mdata.uns["completion"] = "92%"
    for adata in mdata.mod.values():
        adata.obs["measured"] = "on Monday"
        adata.layers["completed_measured"] = np.full(adata.shape, 0.5)
    with pytest.warns(UserWarning, match="was your own, and is now") as caught:
        kx.tl.complete_tensor(mdata, method="mean_2d")
    assert {w.filename for w in caught if "your own" in str(w.message)} == {__file__}
    assert mdata.uns["completion_before"] == "92%" and mdata.uns["completion"]["method"] == "mean_2d"
    for adata in mdata.mod.values():
        assert (adata.obs["measured_before"] == "on Monday").all() and adata.obs["measured"].dtype == bool
        assert (adata.layers["completed_measured_before"] == 0.5).all()
    kx.tl.complete_tensor(mdata, method="mean_1d")
    assert "completion_before_2" not in mdata.uns
    for _ in files(mdata, tmp_path):
        pass


def test_an_index_named_like_our_marker(mdata, tmp_path):
    for adata in mdata.mod.values():
        del adata.obs["measured"]
        adata.obs.index.name = "measured"
    with pytest.warns(UserWarning, match="`obs.index.name = 'measured'` was your own"):
        kx.tl.complete_tensor(mdata, method="mean_2d")
    for _ in files(mdata, tmp_path):
        pass


def test_columns_and_factors_of_the_user_are_kept_and_told_once(mdata, recwarn):
    for adata in mdata.mod.values():
        adata.obs["completion_confidence"], adata.obs["completion_variance"] = "sure", 1.0
        adata.layers["completed"], adata.obsm["X_completion"] = np.zeros(adata.shape), np.zeros((adata.n_obs, 2))
    mdata["line0"].obs["completion_confidence_before"] = "earlier"
    kx.tl.complete_tensor(mdata, method="mean_2d")
    told = [str(w.message) for w in recwarn if "your own" in str(w.message)]
    assert len(told) == 1 and told[0].endswith("kronax writes its results under those names.")
    for adata in mdata.mod.values():
        assert (adata.obs["completion_confidence_before_2"] == "sure").all()
        assert not adata.layers["completed_before"].any()
        assert not adata.obsm["X_completion"].any()  # this method writes none
        assert (adata.obs["completion_variance"] == 1).all()  # nor this
    kx.tl.complete_tensor(mdata, method="mean_1d")
    assert len([w for w in recwarn if "your own" in str(w.message)]) == 1


def test_a_text_in_uns_does_not_hinder_reading(mdata):
    mdata.uns["completion"] = "92%"
    for adata in mdata.mod.values():
        adata.layers["lfc"] = adata.X.copy()
    assert len(kx.metrics.cross_validate(mdata, layer="lfc", methods="mean_1d", n_folds=2).profiles)
    with pytest.raises(KeyError, match="is not a result of kx.tl.complete_tensor"):
        kx.pl.training(mdata)


def test_rows_that_are_marked_but_have_values_are_told(mdata):
    for adata in mdata.mod.values():
        adata.X = np.nan_to_num(adata.X)
    n = 4 * (3 * 12 - known(mdata))
    with pytest.warns(UserWarning, match=f"{n} values of `X` are in profiles of which `obs.'measured'.` is False"):
        kx.metrics.cross_validate(mdata, methods="mean_1d", n_folds=2)


def test_parts_of_the_long_table_are_no_measurements(mdata):
    kx.tl.complete_tensor(mdata, method="mean_2d")
    profiles = kx.get.profiles(mdata)
    parts = {context: profiles[profiles.obs["context"] == context].copy() for context in mdata.mod}
    for context, adata in parts.items():
        adata.obs_names = mdata[context].obs_names
    with tensors.without_pulling():
        again = mudata.MuData(parts, axis=-1)
    with pytest.raises(
        ValueError, match=f"`X` is a result .* with {4 * (36 - known(mdata))} values that nobody measured"
    ):
        kx.tl.complete_tensor(again, method="mean_1d")


@pytest.mark.parametrize("dtype", [float, np.float32, np.int16])
def test_masked_entries_are_missing(dtype):
    values, mask = np.arange(-12, 12).reshape(4, 6).astype(dtype), np.zeros((4, 6), bool)
    mask[1], mask[2, 3] = True, True
    masked = np.ma.array(values, mask=mask)
    expected = np.where(mask, NAN, values)
    obs, var = pd.DataFrame(index=list("abcd")), pd.DataFrame(index=list("uvwxyz"))
    with tensors.without_pulling():
        mdata = mudata.MuData(
            {
                "x": ad.AnnData(masked.copy(), obs, var, layers={"l": masked.copy()}),
                "y": ad.AnnData(masked[::-1].copy(), obs[:0].reindex(list("dcbe")), var),
            },
            axis=-1,
        )
    np.testing.assert_array_equal(kx.get.array(mdata).values[:4, 0], expected)
    np.testing.assert_array_equal(tensors.matrix(mdata["x"], "l", ""), expected)
    part = mdata["x"][1:, ["x", "u"]]  # a view, which has forgotten the mask
    for layer in (None, "l"):  # found again, or refused in words: that depends on the version of anndata
        try:
            np.testing.assert_array_equal(tensors.matrix(part, layer, ""), expected[1:][:, [3, 0]])
        except ValueError as error:
            assert "a view, which has forgotten the mask. Before" in str(error)
    aligned = kx.pp.align(mdata, copy=True)
    np.testing.assert_array_equal(aligned["x"].X[:4], expected)
    assert list(aligned["x"].obs["measured"]) == [True, False, True, True, False]
    long = ad.AnnData(
        masked.copy(), pd.DataFrame({"drug": list("abcd"), "line": list("xxyy")}, index=list("1234")), var
    )
    np.testing.assert_array_equal(kx.pp.tensor(long, obs_key="drug", context_key="line")["y"].X, expected[2:])


def test_masked_arrays_of_metrics():
    truth = np.linspace(-3, 3, 24).reshape(4, 2, 3)
    masked = np.ma.array(np.where(truth > 2, 999.0, truth), mask=truth > 2)
    scores = kx.metrics.by_category(masked, np.where(truth > 2, np.nan, truth), cutoffs=(-2, -1, 1, 2))
    assert scores.loc["all", "n"] == (truth <= 2).sum() and scores.loc["all", "mae"] == 0


def held_out(mdata) -> int:
    return len(kx.metrics.cross_validate(mdata, methods="mean_1d", n_folds=2).profiles)


@pytest.mark.parametrize("left", ["both", "uns", "layers"])
@pytest.mark.parametrize("rounded", [False, True])
def test_predictions_in_x_are_known_by_whatever_is_left(mdata, left, rounded):
    """Of the description and the layers of the completion that they are from."""
    kx.tl.complete_tensor(mdata, method="mean_2d")
    for adata in mdata.mod.values():
        adata.X = np.round(adata.layers["completed"], 3) if rounded else adata.layers["completed"].copy()
        if left == "uns":
            del adata.layers["completed"], adata.layers["completed_measured"]
    if left == "layers":
        del mdata.uns["completion"]
    n = known(mdata)
    with pytest.raises(ValueError, match=f"`X` is a result .* with {4 * (36 - n)} values that nobody measured"):
        held_out(mdata)
    assert int(kx.get.profiles(mdata, layer=None).obs["measured"].sum()) == n
    assert int(kx.get.wide(mdata, layer=None).layers["measured"].sum()) == 4 * n


def test_predictions_among_profiles_measured_since_are_known(mdata, rng):
    """A new profile replaces predictions in X: that one is measured, and the others are not."""
    kx.tl.complete_tensor(mdata, method="mean_2d")
    adata = mdata["line0"]
    new, *others = np.flatnonzero(~adata.obs["measured"].to_numpy())
    adata.X = adata.layers["completed"].copy()
    adata.X[new] = rng.normal(size=4)
    with pytest.raises(ValueError, match=f"with {4 * len(others)} values that nobody measured"):
        held_out(mdata)
    adata.X[others] = NAN
    n = known(mdata)
    with warnings.catch_warnings(action="error"):
        kx.tl.complete_tensor(mdata, method="mean_2d")
    assert known(mdata) == n + 1


def test_a_treatment_without_effect_may_be_measured_as_predicted(mdata):
    """Its prediction, 0 throughout, says nothing."""
    adata = mdata["line0"]
    new, *_ = np.flatnonzero(~adata.obs["measured"].to_numpy())
    for part in mdata.mod.values():
        part.X[new] = np.where(np.isnan(part.X[new]), np.nan, 0.0)
    kx.tl.complete_tensor(mdata, method="mean_1d")
    n = known(mdata)
    adata.X[new] = 0.0
    np.testing.assert_array_equal(adata.layers["completed"][new], 0.0)
    kx.tl.complete_tensor(mdata, method="mean_1d")
    assert known(mdata) == n + 1


def test_counts_are_no_copies_of_the_logarithms_that_were_completed(mdata):
    """Small predictions would be 0 as integers, as counts are."""
    for adata in mdata.mod.values():
        adata.layers["log"] = 0.1 * adata.X
        adata.X = np.zeros(adata.shape, int)
    kx.tl.complete_tensor(mdata, layer="log", method="mean_1d")
    assert "measured" not in kx.get.wide(mdata, layer=None).layers
