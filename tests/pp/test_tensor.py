"""kx.pp.tensor: from a long table to one modality per context."""

import logging
import re
import warnings

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import kronax as kx

N, P = 60, 7


@pytest.fixture
def long(rng) -> ad.AnnData:
    """Cells of four drugs in three lines, some pairs of which do not occur; names that '_' would join to the same."""
    drugs, lines = np.array(["a", "a_b", "c", "d"]), np.array(["b_c", "c", "z"])
    obs = pd.DataFrame({"drug": drugs[rng.integers(4, size=N)], "line": lines[rng.integers(3, size=N)]})
    obs = obs.set_axis([f"cell{i}" for i in range(N)])
    x = rng.poisson(1.0, (N, P)).astype(np.float32)
    var = pd.DataFrame({"length": np.arange(P)}, index=[f"gene{j}" for j in range(P)])
    adata = ad.AnnData(x, obs=obs, var=var)
    return adata[~((adata.obs["drug"] == "c") & (adata.obs["line"] == "z"))].copy()


@pytest.mark.parametrize("aggregate", ["mean", "sum", "median"])
@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix, sparse.csc_matrix, lambda x: x.astype(int)])
def test_aggregates_as_pandas_does(long, aggregate, convert):
    expected = long.to_df().astype(float).groupby([long.obs["line"], long.obs["drug"]]).agg(aggregate)
    long.X = convert(long.X)
    mdata = kx.pp.tensor(long, obs_key="drug", context_key="line", aggregate=aggregate)
    assert list(mdata.mod) == ["b_c", "c", "z"]
    sizes = long.obs.groupby(["line", "drug"]).size()
    for context, adata in mdata.mod.items():
        pd.testing.assert_frame_equal(adata.to_df(), expected.loc[context], check_names=False, rtol=1e-6)
        assert adata.X.dtype == np.float64
        np.testing.assert_array_equal(adata.obs["n_profiles"], sizes.loc[context])
        pd.testing.assert_frame_equal(adata.var, long.var)
    assert list(mdata["z"].obs_names) == ["a", "a_b", "d"]


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix, lambda x: x.astype(int)])
def test_raw_counts_are_warned_of_before_they_are_averaged(long, convert):
    long.X = convert(long.X)
    with pytest.warns(UserWarning, match="as raw counts are") as caught:
        kx.pp.tensor(long, obs_key="drug", context_key="line")
    assert [warning.filename for warning in caught if "raw counts" in str(warning.message)] == [__file__]
    long.X = np.log1p(long.X)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="All values are whole")
        kx.pp.tensor(long, obs_key="drug", context_key="line")


def test_one_profile_each_comes_back_bit_for_bit(rng):
    x = rng.normal(size=(6, P)).astype(np.float32)
    obs = pd.DataFrame({"drug": list("aabbcc"), "line": list("xyxyxy")}, index=list("123456"))
    mdata = kx.pp.tensor(ad.AnnData(x, obs=obs), obs_key="drug", context_key="line")
    np.testing.assert_array_equal(mdata["x"].X, x[::2])
    np.testing.assert_array_equal(mdata["y"].X, x[1::2])


def test_order_of_categories_layer_and_rows_without_a_label(long):
    long.obs["line"] = pd.Categorical(long.obs["line"], categories=["z", "c", "b_c", "unused"])
    long.obs.iloc[0, 0] = None
    long.layers["double"] = 2 * long.X
    before = long.copy()
    mdata = kx.pp.tensor(long, obs_key="drug", context_key="line", layer="double", aggregate="sum")
    assert list(mdata.mod) == ["z", "c", "b_c"]
    assert sum(adata.obs["n_profiles"].sum() for adata in mdata.mod.values()) == long.n_obs - 1
    np.testing.assert_allclose(sum(adata.X.sum() for adata in mdata.mod.values()), 2 * long.X[1:].sum())
    np.testing.assert_array_equal(long.X, before.X)
    pd.testing.assert_frame_equal(long.obs, before.obs)


def test_numbers_become_plain_names_that_can_be_saved(long, tmp_path):
    long.obs["dose"] = np.where(long.obs["line"] == "z", 0.5, 10.0)
    mdata = kx.pp.tensor(long, obs_key="drug", context_key="dose")
    assert [type(name) for name in mdata.mod] == [str, str] and list(mdata.mod) == ["0.5", "10.0"]
    mdata.write(tmp_path / "x.h5mu")
    assert list(mudata.read_h5mu(tmp_path / "x.h5mu").mod) == ["0.5", "10.0"]


def test_no_warnings(long, recwarn):
    long.X = np.log1p(long.X)
    kx.pp.tensor(long, obs_key="drug", context_key="line")
    assert not [
        w.message for w in recwarn if not issubclass(w.category, DeprecationWarning)
    ]  # those are pandas' affair


@pytest.mark.parametrize("kind", [object, "category"])
def test_the_remedy_for_slashes_keeps_contexts_apart(long, kind):
    long.obs["line"] = long.obs["line"].map({"b_c": "b/c", "c": "b_c", "z": "z"}).astype(kind)
    with pytest.raises(ValueError, match="cannot be saved") as refused:
        kx.pp.tensor(long, obs_key="drug", context_key="line")
    (remedy,) = re.findall("Run `(.*)`", str(refused.value))
    exec(remedy, {"adata": long})
    assert set(kx.pp.tensor(long, obs_key="drug", context_key="line").mod) == {"b-c", "b_c", "z"}


def test_what_is_said_of_treatments_stays(long, tmp_path):
    """Columns that are the same in all rows of a treatment, missing values included; others go."""
    drug = long.obs["drug"]
    long.obs["target"] = drug.map({"a": "x", "a_b": "y", "c": None, "d": "x"}).astype("category")
    long.obs["weight"] = drug.map({"a": 1.5, "a_b": np.nan, "c": 2.0, "d": 3.0})
    long.obs["plate"] = np.arange(long.n_obs) % 5
    long.obs["nearly"] = (drug == "a") & (np.arange(long.n_obs) > 0)
    long.obs.loc[long.obs_names[drug == "a"][0], "nearly"] = False
    long.obs["n_profiles"] = long.obs["measured"] = True  # ours
    mdata = kx.pp.tensor(long, obs_key="drug", context_key="line")
    for adata in mdata.mod.values():
        assert list(adata.obs) == ["n_profiles", "target", "weight"]
        assert adata.obs["n_profiles"].dtype == int
        expected = {"a": "x", "a_b": "y", "c": np.nan, "d": "x"}
        assert adata.obs["target"].astype(object).equals(pd.Series(expected, dtype=object).loc[adata.obs_names])
        assert adata.obs["weight"].equals(pd.Series({"a": 1.5, "a_b": np.nan, "c": 2.0, "d": 3.0})[adata.obs_names])
    mdata.write(tmp_path / "x.h5mu")


def test_predictions_are_left_out():
    mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=10)
    kx.tl.complete_tensor(mdata, method="mean_2d")
    profiles = kx.get.profiles(mdata)
    n = int((~profiles.obs["measured"]).sum())
    with pytest.warns(UserWarning, match=f"{n} of {len(profiles)} rows are predictions .*delete that column"):
        again = kx.pp.tensor(profiles, obs_key="treatment", context_key="context")
    for name, adata in again.mod.items():
        known = mdata[name][mdata[name].obs["measured"]]
        assert set(adata.obs_names) == set(known.obs_names)
        np.testing.assert_array_equal(adata[known.obs_names].X, known.X)
    del profiles.obs["measured"]
    assert sum(a.n_obs for a in kx.pp.tensor(profiles, obs_key="treatment", context_key="context").mod.values()) == len(
        profiles
    )


def test_names_of_numbers_are_of_their_own_precision(long):
    long.obs["dose"] = np.resize(np.array([0.1, 1, 10], np.float32), long.n_obs)
    assert list(kx.pp.tensor(long, obs_key="drug", context_key="dose").mod) == ["0.1", "1.0", "10.0"]


def test_swapped_axes_are_pointed_out(long, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("kronax"), "propagate", True)
    with caplog.at_level(logging.INFO, "kronax"):
        kx.pp.tensor(long, obs_key="drug", context_key="line")
    assert "tensor: 4 treatments × 3 contexts" in caplog.messages
    with pytest.warns(UserWarning, match="obs_key='drug', context_key='line'"):
        kx.pp.tensor(long, obs_key="line", context_key="drug")


def one_line(adata):
    adata.obs["line"] = "z"


def slash(adata):
    adata.obs["line"] = adata.obs["line"] + "/1"


def infinite(adata):
    adata.X[0, 0] = np.inf


def same_name(adata):
    adata.obs["drug"] = pd.Series([1, "1"] * N, dtype=object)[: adata.n_obs].to_numpy()


def twice(adata):
    adata.var_names = ["g"] * P


@pytest.mark.parametrize(
    ("spoil", "arguments", "error", "words"),
    [
        (
            None,
            {"obs_key": "compound"},
            KeyError,
            "'compound' not found in `adata.obs`. Available keys: ['drug', 'line']",
        ),
        (None, {"obs_key": "line"}, ValueError, "must differ"),
        (None, {"layer": "counts"}, KeyError, "'counts' not found"),
        (None, {"aggregate": "max"}, ValueError, "must be one of ['mean', 'sum', 'median'], found 'max'"),
        (one_line, {}, ValueError, "at least 2 contexts; `adata.obs['line']` has 1"),
        (slash, {}, ValueError, "cannot be saved in a file: 'b_c/1'"),
        (slash, {}, ValueError, "Run `adata.obs['line'] = adata.obs['line'].str.replace('/', '_')`."),
        (infinite, {}, ValueError, "1 infinite values"),
        (same_name, {}, ValueError, "same name as text"),
        (twice, {}, ValueError, "1 repeated genes (var_names): g"),
    ],
)
@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_refused(long, spoil, arguments, error, words):
    if spoil is not None:
        spoil(long)
    with pytest.raises(error, match=re.escape(words)):
        kx.pp.tensor(long, **{"obs_key": "drug", "context_key": "line"} | arguments)
