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
    logs = np.log1p(long.to_df().to_numpy()) + np.arange(P)
    long.X = sparse.csr_matrix(logs) if sparse.issparse(long.X) else logs
    with pytest.warns(UserWarning, match="No value is negative"):
        kx.pp.tensor(long, obs_key="drug", context_key="line")
    long.X = logs - 1
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*reflect how strongly each gene is expressed")
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


@pytest.mark.parametrize("dtype", [float, np.float32, object, "category"])
def test_whole_numbers_are_named_as_such_beside_a_gap(long, dtype):
    number = long.obs["drug"].map({name: 1001.0 + i for i, name in enumerate(long.obs["drug"].unique())})
    number.iloc[0] = np.nan
    long.obs["number"] = number.astype(dtype)
    found = kx.pp.tensor(long, obs_key="number", context_key="line")
    assert set(found.obs_names) <= {"1001", "1002", "1003", "1004"} and "1002" in found.obs_names


def test_bytes_become_the_texts_that_they_hold(long):
    plain = kx.pp.tensor(long, obs_key="drug", context_key="line")
    for key in ("drug", "line"):
        long.obs[key] = [text.encode() for text in long.obs[key]]
    found = kx.pp.tensor(long, obs_key="drug", context_key="line")
    assert sorted(found.mod) == sorted(plain.mod) and sorted(found.obs_names) == sorted(plain.obs_names)


def test_no_warnings(long, recwarn):
    long.X = np.log1p(long.X) - 1
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


def test_swapped_axes_are_pointed_out(long, caplog):
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
        (same_name, {}, ValueError, "written alike"),
        (twice, {}, ValueError, "1 repeated genes (var_names): g"),
    ],
)
@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_refused(long, spoil, arguments, error, words):
    if spoil is not None:
        spoil(long)
    with pytest.raises(error, match=re.escape(words)):
        kx.pp.tensor(long, **{"obs_key": "drug", "context_key": "line"} | arguments)


def of(drugs, lines, values, **columns) -> ad.AnnData:
    obs = pd.DataFrame({"drug": drugs, "line": lines, **columns}, index=[str(i) for i in range(len(drugs))])
    return ad.AnnData(np.asarray(values, float), obs=obs)


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix])
@pytest.mark.parametrize(("how", "expected"), [("mean", [2, 5]), ("sum", [4, 5]), ("median", [2, 5])])
def test_replicates_without_a_value_cost_nothing(how, expected, convert):
    nan = np.nan
    long = of(list("aaaab"), list("xxxyx"), [[1, nan], [3, 5], [nan, nan], [nan, nan], [-1, -1]])
    long.X = convert(long.X)
    mdata = kx.pp.tensor(long, obs_key="drug", context_key="line", aggregate=how)
    np.testing.assert_array_equal(mdata["x"].X, [expected, [-1, -1]])
    np.testing.assert_array_equal(mdata["x"].obs["n_profiles"], [2, 1])
    assert np.isnan(mdata["y"].X).all() and list(mdata["y"].obs["n_profiles"]) == [0]
    assert np.isnan(long.X.data if sparse.issparse(long.X) else long.X).sum() == 5  # the user's own are as they were


def test_several_columns_make_a_key(tmp_path):
    long = of(["b", "b", "a", "a"], ["x", "y", "x", "y"], -np.eye(4), dose=[10, 10, 0.5, 10], run=list("pqpq"))
    mdata = kx.pp.tensor(long, obs_key=["drug", "dose"], context_key=["line", "run"])
    assert list(mdata.mod) == ["x_p", "y_q"]
    assert list(mdata["x_p"].obs_names) == ["a_0.5", "b_10.0"] and list(mdata["y_q"].obs_names) == ["a_10.0", "b_10.0"]
    np.testing.assert_array_equal(mdata["x_p"].X, long.X[[2, 0]])
    assert list(mdata["x_p"].obs["dose"]) == [0.5, 10.0] and list(mdata["x_p"].obs["drug"]) == ["a", "b"]
    mdata.write(tmp_path / "x.h5mu")
    long.obs.loc["0", "dose"] = np.nan
    assert list(kx.pp.tensor(long, obs_key=["drug", "dose"], context_key="line")["x"].obs_names) == ["a_0.5"]
    same = of(["a_b", "a", "a"], ["x", "x", "y"], -np.eye(3), dose=["c", "b_c", "b_c"])
    with pytest.raises(ValueError, match=r"written alike \(a_b_c\)"):
        kx.pp.tensor(same, obs_key=["drug", "dose"], context_key="line")


@pytest.mark.parametrize(
    ("key", "error", "words"),
    [
        (3, TypeError, "`obs_key` must be a list of columns"),
        ([["drug"]], TypeError, "`obs_key` must be a str, or a list"),
        ([], ValueError, "each once, found []"),
        (["drug", "drug"], ValueError, "each once"),
        (["drug", "line"], ValueError, "must differ, both are or have 'line'"),
        (pd.Series(list("ab"), name="drug"), TypeError, "found the column itself, 'drug'"),
    ],
)
def test_keys_that_are_none(long, key, error, words):
    with pytest.raises(error, match=re.escape(words)):
        kx.pp.tensor(long, obs_key=key, context_key="line")


def told(long, **arguments) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kx.pp.tensor(long, **{"obs_key": "drug", "context_key": "line"} | arguments)
    assert {w.filename for w in caught if issubclass(w.category, UserWarning)} <= {__file__}
    return [str(w.message) for w in caught if w.category is UserWarning]


@pytest.mark.parametrize("name", ["dose", "pert_time", "Conc_uM", "hours", "timepoint", "day"])
def test_doses_and_times_that_are_averaged_are_told(name):
    values = -np.eye(4)
    long = of(list("aabb"), list("xxxy"), values, **{name: [1, 10, 1, 1]}, plate=list("pqpp"))
    (text,) = told(long)
    assert f"`adata.obs['{name}']` differs between rows of 1 of 3 pairs" in text and "1, 10" in text
    (code,) = re.findall(r"kx\.pp\.tensor\(.*?\)(?=;)", text)
    mdata = eval(code, {"kx": kx, "adata": long})
    assert sum(adata.n_obs for adata in mdata.mod.values()) == 4
    long.obs[name] = [1, 1, 10, 10]
    assert told(long) == []


@pytest.mark.parametrize("kind", [list, np.array, set])
@pytest.mark.parametrize("name", ["targets", "doses"])
def test_columns_of_lists_do_not_matter(name, kind, caplog):
    long = of(list("aabb"), list("xxxy"), -np.eye(4), plate=list("pqpp"))
    with caplog.at_level("INFO"):
        plain = kx.pp.tensor(long, obs_key="drug", context_key="line")
        long.obs[name] = [kind(["A"]), kind(["B"]), kind(["A"]), kind(["A"])]
        found = kx.pp.tensor(long, obs_key="drug", context_key="line")
    assert told(long) == [] and name not in caplog.text
    for context, adata in found.mod.items():
        pd.testing.assert_frame_equal(adata.to_df(), plain[context].to_df())
    with pytest.raises(
        TypeError, match=f"`adata.obs\\['{name}'\\]` must hold names, found {kind([]).__class__.__name__}"
    ):
        kx.pp.tensor(long, obs_key=name, context_key="line")


def test_times_on_a_trajectory_are_no_design():
    assert told(of(list("aabb"), list("xxxy"), -np.eye(4), latent_time=[0.1, 0.2, 0.3, 0.4])) == []


@pytest.mark.parametrize(
    ("name", "is_control"),
    [
        *(
            (name, True)
            for name in ("DMSO", "dmso_0.1", "Vehicle", "ctrl", "Control 1", "untreated", "non-targeting", "mock")
        ),
        *((name, False) for name in ("controlin", "NT-0796", "negatinib", "drug 1", "DM-50", "vehicular")),
    ],
)
def test_controls_among_treatments_are_told(name, is_control):
    assert (
        any("like a control" in text for text in told(of(["a", name, "a", name], list("xxyy"), -np.eye(4))))
        == is_control
    )


@pytest.mark.parametrize("control", ["DMSO", None])
def test_the_code_for_differences_runs_as_shown(rng, control):
    """Levels: of every context the control, or the mean of all treatments, is subtracted."""
    long = of(["a", "b", control or "c"] * 2, list("xxxyyy"), rng.uniform(1, 9, (6, 3)) + [0, 20, 40])
    text = next(text for text in told(long) if "No value is negative" in text)
    mdata = kx.pp.tensor(long, obs_key="drug", context_key="line")
    (code,) = re.findall("`(mdata = .*?)`", text)
    names = {"mdata": mdata, "mudata": mudata, "anndata": ad, "np": np}
    exec(code, names)
    for i, adata in enumerate(names["mdata"].mod.values()):
        own = long.X[3 * i : 3 * i + 3]
        assert control not in adata.obs_names
        np.testing.assert_allclose(adata.X, own[:2] - own[2] if control else own - own.mean(axis=0))


def test_the_code_for_controls_of_several_doses_runs_as_shown(rng):
    long = of(["a", "DMSO", "DMSO"] * 2, list("xxxyyy"), rng.normal(size=(6, 3)), dose=["1", "1", "10"] * 2)
    by = {"obs_key": ["drug", "dose"], "context_key": "line"}
    with pytest.warns(UserWarning, match="looks like a control") as caught:
        mdata = kx.pp.tensor(long, **by)
    (text,) = (str(w.message) for w in caught if "like a control" in str(w.message))
    left_out, differences = re.findall("`((?:adata|mdata) = .*?)`", text)
    names = {"adata": long, "mdata": mdata, "mudata": mudata, "anndata": ad, "np": np}
    exec(left_out, names)
    assert list(names["adata"].obs["drug"]) == ["a", "a"]
    exec(differences, names)
    for i, adata in enumerate(names["mdata"].mod.values()):
        assert list(adata.obs_names) == ["a_1"]
        own = long.X[3 * i : 3 * i + 3]
        np.testing.assert_allclose(adata.X, own[:1] - own[1:].mean(axis=0))


@pytest.mark.parametrize("doses", ["numbers", "categories"])
def test_columns_of_contexts_are_coordinates(rng, doses, tmp_path):
    dose = [1.0, 10.0, 0.1, 1.0] if doses == "numbers" else pd.Categorical([1.0, 10.0, 0.1, 1.0])
    long = of(["a", "a", "b", "a"], ["x", "x", "y", "y"], rng.normal(size=(4, 3)), dose=dose)
    mdata = kx.pp.tensor(long, obs_key="drug", context_key=["line", "dose"])
    expected = pd.DataFrame(
        {"line": list("xxyy"), "dose": [1.0, 10.0, 0.1, 1.0]}, index=["x_1.0", "x_10.0", "y_0.1", "y_1.0"]
    )
    pd.testing.assert_frame_equal(mdata.uns["contexts"], expected, check_dtype=False)
    assert list(mdata.mod) == list(expected.index)
    assert mdata.uns["contexts"]["dose"].dtype == float
    mdata.write_h5mu(tmp_path / "t.h5mu")
    options = kx.tl.KroneckerOptions(context_coordinates={"line": "category", "dose": "log"}, noise=1.0)
    kx.tl.complete_tensor(mdata, options=options)
    assert {"length_line", "length_dose"} <= set(mdata.uns["completion"]["chosen"])
    assert "contexts" not in kx.pp.tensor(long, obs_key=["drug", "dose"], context_key="line").uns


def test_cell_lines_that_are_averaged_are_told():
    long = of(["a", "a", "b", "b"], ["r1", "r1", "r2", "r2"], -np.eye(4), cell_line=["K562", "A549"] * 2)
    (text,) = told(long)
    assert "`adata.obs['cell_line']` differs" in text
    (code,) = re.findall(r"kx\.pp\.tensor\(.*?\)(?=;)", text)
    assert set(eval(code, {"kx": kx, "adata": long}).mod) == {"r1_K562", "r1_A549", "r2_K562", "r2_A549"}


@pytest.mark.parametrize("names", [["drug A", "drug a"], ["ctl", "ctl "], ["drug\u00a0A", "drugA"]])
@pytest.mark.parametrize("key", ["drug", "line"])
def test_names_that_look_alike_are_told_with_the_pairs(names, key):
    long = of(["u", "v", *names], [*names, "u", "v"], -np.eye(4))
    other = {"drug": ["u", "v", "u", "v"], "line": ["u", "v", "u", "v"]}
    long.obs["line" if key == "drug" else "drug"] = other[key]
    texts = [text for text in told(long) if "blanks or case" in text]
    first, second = sorted(names)
    assert len(texts) == 1 and f"{first!r} and {second!r}" in texts[0]


@pytest.mark.parametrize("dtype", ["boolean", "category", "object", "int8", "float", "str"])
def test_any_marker_of_measured_rows_counts(dtype):
    long = of(list("abcd"), list("xxyy"), -np.eye(4), measured=[True, False, True, True])
    long.obs["measured"] = long.obs["measured"].astype(dtype)
    with pytest.warns(UserWarning, match="1 of 4 rows are predictions"):
        mdata = kx.pp.tensor(long, obs_key="drug", context_key="line")
    assert list(mdata.obs_names) == ["a", "c", "d"]


def test_single_predictions_of_unknown_place_are_told():
    long = of(list("abcd"), list("xxyy"), -np.eye(4), measured=True, predicted_values=[0, 1, 0, 2])
    (text,) = told(long)
    assert text.startswith("Measured rows hold 3 predicted values (`adata.obs['predicted_values']`)")
    assert not told(of(list("abcd"), list("xxyy"), -np.eye(4), predicted_values=[0, 1, 0, 0]))


def test_a_marker_that_says_something_else_is_told():
    (text,) = told(of(list("abcd"), list("xxyy"), -np.eye(4), measured=["on Monday", "on Friday"] * 2))
    assert "holds 'on Monday', 'on Friday', neither true nor false" in text


def test_single_predictions_are_left_out():
    mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=10)
    mdata["line0"].X[np.flatnonzero(mdata["line0"].obs["measured"])[0], 3] = np.nan
    kx.tl.complete_tensor(mdata, method="mean_2d")
    profiles = kx.get.profiles(mdata)
    with pytest.warns(UserWarning, match="and so are 1 values of others"):
        again = kx.pp.tensor(profiles, obs_key="treatment", context_key="context")
    assert sum(int((~np.isnan(a.X)).sum()) for a in again.mod.values()) == sum(
        int((~np.isnan(a.X)).sum()) for a in mdata.mod.values()
    )
    long = ad.concat(mdata.mod, label="context", index_unique=":")
    long.obs["treatment"] = [name.split(":")[0] for name in long.obs_names]
    with pytest.warns(UserWarning, match="are predictions"):
        again = kx.pp.tensor(long, obs_key="treatment", context_key="context", layer="completed")
    for name, adata in again.mod.items():
        np.testing.assert_array_equal(adata.X, mdata[name][adata.obs_names].X)
