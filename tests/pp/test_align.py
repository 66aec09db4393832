"""kx.pp.align: the same rows in every modality, and nothing else."""

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from zarr.storage import MemoryStore  # a folder takes three times as long

import kronax as kx
from kronax._data import tensor as tensors


def modality(treatments, genes, seed) -> ad.AnnData:
    """Something in each part."""
    rng = np.random.default_rng(seed)
    n, p = len(treatments), len(genes)
    adata = ad.AnnData(
        rng.normal(size=(n, p)).astype(np.float32),
        obs=pd.DataFrame(
            {
                "dose": rng.random(n),
                "count": np.arange(n),
                "control": np.arange(n) % 2 == 0,
                "class": pd.Categorical(["u", "v"] * (n // 2) + ["u"] * (n % 2)),
                "note": [f"note {i}" for i in range(n)],
            },
            index=list(treatments),
        ),
        var=pd.DataFrame({"length": np.arange(p)}, index=list(genes)),
    )
    adata.varm["loadings"] = rng.normal(size=(p, 3))
    adata.raw = adata.copy()
    adata.layers["counts"] = sparse.csr_matrix(rng.poisson(1.0, (n, p)))
    adata.layers["dense"] = rng.integers(9, size=(n, p))
    adata.obsm["X_pca"] = rng.normal(size=(n, 2))
    adata.obsm["table"] = pd.DataFrame({"q": rng.random(n)}, index=list(treatments))
    adata.varm["PCs"] = rng.normal(size=(p, 2))
    adata.obsp["near"] = sparse.csr_matrix(rng.random((n, n)))
    adata.obsp["far"] = rng.random((n, n))
    adata.varp["kin"] = sparse.eye(p, format="csr")
    adata.uns["nested"] = {"a": np.arange(3)}
    return adata


@pytest.fixture(params=[-1, 0, 1])
def mdata(request) -> mudata.MuData:
    modalities = {"A": modality("abc", "xyz", 0), "B": modality("dbea", "zyxw", 1), "C": modality("edcba", "xy", 2)}
    with tensors.without_pulling():
        return mudata.MuData(modalities, axis=request.param)


def test_every_part(mdata):
    before = {context: adata.copy() for context, adata in mdata.mod.items()}
    assert kx.pp.align(mdata) is None
    for context, adata in mdata.mod.items():
        old = before[context]
        assert list(adata.obs_names) == list("abcde") and list(adata.var_names) == list(old.var_names)
        new = ~adata.obs_names.isin(old.obs_names)
        names = adata.obs_names[~new]
        np.testing.assert_array_equal(adata.obs["measured"], ~new)
        assert adata.X.dtype == np.float32 and adata.raw.X.dtype == np.float32
        for found, expected in (
            (adata.X, old[names].X),
            (adata.raw.X, old.raw[names].X),
            (adata.layers["dense"], old[names].layers["dense"]),
            (adata.layers["counts"].toarray(), old[names].layers["counts"].toarray()),
            (adata.obsm["X_pca"], old[names].obsm["X_pca"]),
            (adata.obsm["table"].to_numpy(), old[names].obsm["table"].to_numpy()),
        ):
            np.testing.assert_array_equal(found[~new], expected)
            assert np.isnan(found[new]).all()
        for key in ("near", "far"):
            found, expected = (sparse.csr_array(part[key]).toarray() for part in (adata.obsp, old[names].obsp))
            np.testing.assert_array_equal(found[np.ix_(~new, ~new)], expected)
            assert not found[new].any() and not found[:, new].any()
        assert sparse.issparse(adata.layers["counts"]) and adata.layers["counts"].format == "csr"
        pd.testing.assert_frame_equal(
            adata.obs.loc[names, old.obs.columns], old.obs.loc[names], check_dtype=False, check_index_type=False
        )
        assert adata.obs.loc[new, old.obs.columns].isna().all(axis=None)
        pd.testing.assert_frame_equal(adata.var, old.var)
        np.testing.assert_array_equal(adata.varm["PCs"], old.varm["PCs"])
        assert (adata.varp["kin"] != old.varp["kin"]).nnz == 0
        np.testing.assert_array_equal(adata.uns["nested"]["a"], np.arange(3))


def test_again_changes_nothing(mdata):
    kx.pp.align(mdata)
    once = {context: adata.copy() for context, adata in mdata.mod.items()}
    kx.pp.align(mdata)
    for context, adata in mdata.mod.items():
        np.testing.assert_array_equal(adata.X, once[context].X)
        pd.testing.assert_frame_equal(adata.obs, once[context].obs)
        assert adata.layers["dense"].dtype == once[context].layers["dense"].dtype


def test_copy_leaves_the_object_alone(mdata):
    before = {context: adata.copy() for context, adata in mdata.mod.items()}
    found = kx.pp.align(mdata, copy=True)
    assert [adata.n_obs for adata in found.mod.values()] == [5, 5, 5]
    for context, adata in mdata.mod.items():
        assert list(adata.obs_names) == list(before[context].obs_names) and "measured" not in adata.obs
        found[context].uns["nested"]["a"][:] = -1
        np.testing.assert_array_equal(adata.uns["nested"]["a"], np.arange(3))


@pytest.mark.parametrize("mdata", [-1], indirect=True)
def test_a_modality_without_new_rows_keeps_its_dtypes(mdata):
    kx.pp.align(mdata)
    assert mdata["C"].layers["dense"].dtype.kind == "i" and mdata["A"].layers["dense"].dtype == np.float64


@pytest.mark.parametrize("mdata", [-1], indirect=True)
def test_survives_h5mu_and_zarr(mdata, tmp_path):
    kx.pp.align(mdata)
    with tensors.without_pulling():
        mdata.write(tmp_path / "x.h5mu")
        mdata.write_zarr(store := MemoryStore())
        for back in (mudata.read_h5mu(tmp_path / "x.h5mu"), mudata.read_zarr(store)):
            for context, adata in mdata.mod.items():
                np.testing.assert_array_equal(back[context].X, adata.X)
                np.testing.assert_array_equal(back[context].obs["measured"], adata.obs["measured"])


@pytest.mark.parametrize("mdata", [-1], indirect=True)
def test_rows_of_nan_were_not_measured(mdata):
    mdata["A"].X[0] = np.nan
    mdata["B"].X = sparse.csr_matrix(np.where([[True], [False], [False], [False]], np.nan, mdata["B"].X))
    mdata["C"].X = None
    kx.pp.align(mdata)
    assert list(mdata["A"].obs["measured"]) == [False, True, True, False, False]
    assert list(mdata["B"].obs["measured"]) == [True, True, False, False, True]
    assert mdata["C"].obs["measured"].all() and mdata["C"].X is None


@pytest.mark.parametrize("mdata", [-1], indirect=True)
def test_a_view_is_refused(mdata):
    with tensors.without_pulling():
        view = mdata[["a", "b"]]
        with pytest.raises(ValueError, match=r"is a view of another one\. Run `mdata = mdata\.copy\(\)`"):
            kx.pp.align(view)
        assert kx.pp.align(view, copy=True)["A"].n_obs == 2


def described() -> dict[str, pd.DataFrame]:
    """Of treatments a to d in three contexts: columns that describe them, and columns that do not."""
    of = pd.DataFrame(
        {
            "target": ["EGFR", "TOP1", "EGFR", "HDAC"],
            "weight": [1.5, 2.5, 3.5, 4.5],
            "number": [2**60 + 1, 2, 3, 4],
            "control": [True, False, False, True],
            "seen": pd.array([1, 2, 3, 4], dtype="Int64"),
            "date": pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-03", "2020-01-04"]),
        },
        index=list("abcd"),
    )
    tables = {"A": of.loc[list("ab")], "B": of.loc[list("bc")], "C": of.loc[list("dc")]}
    for context, table in tables.items():
        table = tables[context] = table.copy()
        table["class"] = pd.Categorical(table["target"]) if context != "B" else table["target"]
        table["line"], table["n_profiles"], table["measured"] = context, 1, True
        table["completion_confidence"] = 0.5
    tables["A"]["only_here"] = ["x", "y"]
    tables["A"]["partly"] = tables["B"]["partly"] = ["x", None]
    return tables


def of_tables(tables: dict[str, pd.DataFrame]) -> mudata.MuData:
    with tensors.without_pulling():
        return mudata.MuData({c: ad.AnnData(np.ones((len(t), 2)), obs=t) for c, t in tables.items()}, axis=-1)


DESCRIBING = ["target", "weight", "number", "control", "seen", "date"]


@pytest.mark.parametrize("align", [kx.pp.align, lambda mdata: kx.tl.complete_tensor(mdata, method="mean_1d")])
def test_what_all_contexts_say_of_a_treatment_is_so_in_new_rows(align):
    tables = described()
    of = pd.concat(tables.values())[lambda table: ~table.index.duplicated()].loc[list("abcd")]
    mdata = of_tables(tables)
    align(mdata)
    for context, adata in mdata.mod.items():
        obs = adata.obs.loc[list("abcd")]
        for key in DESCRIBING:
            assert obs[key].dtype == tables[context][key].dtype
            assert list(obs[key]) == list(of[key])
        assert list(obs["class"]) == list(of["target"])
        assert obs["class"].dtype == ("category" if context != "B" else tables["B"]["class"].dtype)
        new = ~obs.index.isin(tables[context].index)
        assert obs.loc[new, "line"].isna().all()
        assert obs["n_profiles"].dtype == int and (obs["n_profiles"] == ~new).all()
        assert not obs.loc[new, "measured"].any() and obs.loc[new, "completion_confidence"].isna().all()
    assert list(mdata["A"].obs["class"].cat.categories[:2]) == ["EGFR", "TOP1"]
    assert "only_here" not in mdata["B"].obs and mdata["A"].obs["only_here"].isna().sum() == 2


def test_a_treatment_on_which_contexts_differ_makes_the_column_theirs():
    tables = described()
    tables["C"].loc["c", "weight"] = 0.0
    mdata = of_tables(tables)
    kx.pp.align(mdata)
    for context, adata in mdata.mod.items():
        assert adata.obs["weight"].notna().sum() == len(tables[context])
        assert adata.obs["target"].notna().all()


def test_numbers_of_a_measurement_hold_for_no_other():
    """Three replicates everywhere, and yet none where nothing was measured."""
    tables = described()
    measured = {"n_cells": 90, "n_replicates": 3, "effect_size": 0.5, "acd": 0.7, "p_value": 0.01}
    mdata = of_tables({context: table.assign(**measured) for context, table in tables.items()})
    kx.pp.align(mdata)
    for context, adata in mdata.mod.items():
        old = adata.obs_names.isin(tables[context].index)
        for key, value in measured.items():
            assert (adata.obs.loc[old, key] == value).all() and adata.obs.loc[~old, key].isna().all()


def test_contexts_without_a_common_treatment_show_nothing():
    tables = described()
    mdata = of_tables({"A": tables["A"], "C": tables["C"]})
    kx.pp.align(mdata)
    assert all(adata.obs[key].isna().sum() == 2 for adata in mdata.mod.values() for key in DESCRIBING)


def test_missing_values_of_the_old_rows_stay_and_do_not_disagree():
    tables = described()
    tables["B"]["target"] = [None, "EGFR"]
    tables["A"]["weight"] = [np.nan, 2.5]
    tables["A"]["class"] = np.nan
    tables["A"]["control"] = pd.array([None, False], dtype="boolean")
    mdata = of_tables(tables)
    kx.pp.align(mdata)
    assert pd.isna(mdata["B"].obs.loc["b", "target"]) and mdata["B"].obs.loc["a", "target"] == "EGFR"
    assert mdata["C"].obs["target"].notna().all()
    assert list(mdata["A"].obs.loc[["c", "d"], "class"]) == ["EGFR", "HDAC"]
    assert mdata["C"].obs["weight"].isna().to_dict() == {"a": True, "b": False, "c": False, "d": False}
    assert mdata["C"].obs["control"].dtype == "boolean" and pd.isna(mdata["C"].obs.loc["a", "control"])


def test_columns_of_two_kinds_are_left_as_they_are():
    tables = described()
    tables["C"]["weight"] = pd.Series(["unknown", 3.5], index=list("dc"), dtype=object)  # of c, what the others say
    tables["C"]["class"] = tables["C"]["class"].cat.as_ordered()  # where would TOP1 stand?
    mdata = of_tables(tables)
    kx.pp.align(mdata)
    for context, adata in mdata.mod.items():
        assert (adata.obs[["weight", "class"]].notna().sum() == len(tables[context])).all()


def test_arrays_in_a_column_describe_treatments_too():
    """As in a table that was read from Parquet."""
    whole = kx.datasets.drug_response(n_treatments=12, n_contexts=3, n_genes=8, random_state=0)
    targets = pd.Series([np.array(["A", "B"][: 1 + i % 2]) for i in range(12)], whole.obs_names)
    parts = {}
    for number, (context, adata) in enumerate(whole.mod.items()):
        parts[context] = ad.AnnData(adata.X, pd.DataFrame({"targets": targets.map(np.copy)}))[
            np.arange(12) != number
        ].copy()
    found = kx.pp.align(mudata.MuData(parts, axis=-1), copy=True)
    for adata in found.mod.values():
        assert adata.obs["targets"].equals(targets[adata.obs_names])


def test_an_order_of_categories_is_kept():
    tables, phases = described(), pd.CategoricalDtype(["I", "II", "III"], ordered=True)
    for table in tables.values():
        table["phase"] = pd.Series({"a": "III", "b": "I", "c": "II", "d": "I"}).astype(phases)
    mdata = of_tables(tables)
    kx.pp.align(mdata)
    for adata in mdata.mod.values():
        assert adata.obs["phase"].dtype == phases and list(adata.obs["phase"]) == ["III", "I", "II", "I"]


def test_described_rows_survive_h5mu_and_zarr(tmp_path):
    tables = described()
    mdata = of_tables({context: table.drop(columns="date") for context, table in tables.items()})
    kx.pp.align(mdata)
    with tensors.without_pulling():
        mdata.write(tmp_path / "x.h5mu")
        mdata.write_zarr(store := MemoryStore())
        for back in (mudata.read_h5mu(tmp_path / "x.h5mu"), mudata.read_zarr(store)):
            for context, adata in mdata.mod.items():
                for key in ("target", "class", "weight", "number", "control", "seen"):
                    assert list(back[context].obs[key]) == list(adata.obs[key])


def test_text_in_tables_can_still_be_saved(tmp_path):
    """Rows that a context lacks have no text there."""
    modalities = {}
    for context, treatments in {"X": ["a", "b"], "Y": ["b", "c"]}.items():
        table = pd.DataFrame({"source": ["s1", "s2"]}, index=treatments)
        modalities[context] = ad.AnnData(np.ones((2, 3)), obs=pd.DataFrame(index=treatments), obsm={"table": table})
    with tensors.without_pulling():
        mdata = mudata.MuData(modalities, axis=-1)
        kx.pp.align(mdata)
        mdata.write(tmp_path / "aligned.h5mu")
        back = mudata.read_h5mu(tmp_path / "aligned.h5mu")
    found = back["Y"].obsm["table"]["source"].astype(object)
    assert found.isna().tolist() == [True, False, False]
    assert found.tolist()[1:] == ["s1", "s2"]


@pytest.mark.parametrize("align", [kx.pp.align, lambda m: kx.tl.complete_tensor(m, layer="dense", method="mean_1d")])
def test_raw_stays_whole(align):
    with tensors.without_pulling():
        mdata = mudata.MuData({"A": modality("abc", "xyz", 0), "B": modality("dbea", "zyxw", 1)}, axis=-1)
    before = {context: adata.raw for context, adata in mdata.copy().mod.items()}
    align(mdata)
    for context, adata in mdata.mod.items():
        old = before[context]
        assert list(adata.raw.var_names) == list(old.var_names) and list(adata.raw.varm) == ["loadings"]
        np.testing.assert_array_equal(adata.raw.varm["loadings"], old.varm["loadings"])
        pd.testing.assert_frame_equal(adata.raw.var, old.var)
        rows = [list(adata.obs_names).index(name) for name in ("a", "b")]
        assert adata.raw.shape == (5, old.shape[1]) and np.isfinite(adata.raw.X[rows]).all()


def test_marks_of_a_completion_grow_too():
    mdata = kx.datasets.drug_response(n_treatments=8, n_contexts=2, n_genes=5, missing=0.3)
    kx.tl.complete_tensor(mdata, method="mean_2d")
    with tensors.without_pulling():
        mdata.mod["line1"] = mdata["line1"][2:].copy()
        mdata.update()
    known = mdata["line1"].layers["completed_measured"].copy()
    kx.pp.align(mdata)
    found = mdata["line1"].layers["completed_measured"]
    assert found.dtype == bool and not found[:2].any()
    np.testing.assert_array_equal(found[2:], known)


def test_treatments_and_contexts_never_measured(tmp_path):
    mdata = kx.datasets.drug_response(n_treatments=6, n_contexts=3, n_genes=5, missing=0.2)
    names, first = list(mdata.obs_names), mdata["line0"].X.copy()
    kx.pp.align(mdata, treatments=["new", names[0]], contexts=["later"])
    assert list(mdata.mod) == ["line0", "line1", "line2", "later"] and list(mdata.obs_names) == [*names, "new"]
    np.testing.assert_array_equal(mdata["line0"].X[:-1], first)
    for adata in mdata.mod.values():
        assert np.isnan(adata["new"].X).all() and not adata.obs.loc["new", "measured"]
    assert np.isnan(mdata["later"].X).all() and mdata["later"].shape == (7, 5)
    with pytest.warns(UserWarning, match="treatments new and of contexts later"):
        kx.tl.complete_tensor(mdata)
    mdata.write(tmp_path / "x.h5mu")


@pytest.mark.parametrize("of", [np.array, pd.Index, pd.Categorical])
def test_names_in_arrays(of, tmp_path):
    mdata = kx.datasets.drug_response(n_treatments=6, n_contexts=3, n_genes=5, missing=0.2)
    kx.pp.align(mdata, treatments=of(["new"]), contexts=of(["later"]))
    assert list(mdata.mod) == ["line0", "line1", "line2", "later"] and mdata.obs_names[-1] == "new"
    assert all(type(name) is str for name in (*mdata.mod, *mdata.obs_names))
    mdata.write(tmp_path / "x.h5mu")


def test_names_of_what_was_never_measured():
    mdata = kx.datasets.drug_response(n_treatments=6, n_contexts=3, n_genes=5, missing=0.2)
    with pytest.raises(ValueError, match="cannot be saved"):
        kx.pp.align(mdata, contexts=["a/b"])
    with pytest.raises(TypeError, match="`treatments` must be a str"):
        kx.pp.align(mdata, treatments=[3])
    assert len(mdata.mod) == 3
