import re
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import kronax as kx
from kronax._data import pseudobulk
from kronax.solvers.effects import contrasts

KEYS = {"treatment_key": "perturbation", "control": "control", "context_key": "cell_line", "replicate_key": "plate"}


@pytest.fixture(scope="module")
def screen():
    return kx.datasets.screen(n_treatments=12, n_contexts=2, n_genes=200, n_replicates=3, n_cells=40, random_state=0)


def logs_of(screen):
    """Pseudobulk by scanpy."""
    sums = sc.get.aggregate(screen, by=["perturbation", "cell_line", "plate"], func="sum")
    values = np.asarray(sums.layers["sum"], dtype=float)
    totals = values.sum(axis=1)
    return pd.DataFrame(
        np.log2(1 + values * (np.median(totals) / totals)[:, None]),
        index=pd.MultiIndex.from_frame(sums.obs[["perturbation", "cell_line", "plate"]]),
    )


def test_log_fold_change_as_by_hand(screen):
    logs = logs_of(screen)
    found = kx.pp.effects(screen, **KEYS, method="log_fold_change")
    for name in found.obs_names:
        drug, line = name.split("|")
        wanted = np.mean(
            [logs.loc[(drug, line, p)] - logs.loc[("control", line, p)] for p in screen.obs["plate"].unique()], axis=0
        )
        np.testing.assert_allclose(found[name].X.ravel(), wanted, atol=1e-12)
        assert found.obs.loc[name, "effect_size"] == pytest.approx(np.sqrt(np.mean(wanted**2)))


def test_directions_as_by_hand(screen):
    logs = logs_of(screen)
    found = kx.pp.effects(screen, **KEYS)
    controls = logs.loc["control"].loc["line2"]
    deviations = controls.to_numpy() - controls.to_numpy().mean(axis=0)
    differences = (logs.loc["drug4"].loc["line2"] - controls).to_numpy()
    wanted = contrasts.characteristic_directions(differences, deviations, 2).mean(axis=0)
    np.testing.assert_allclose(found["drug4|line2"].X.ravel(), wanted / np.linalg.norm(wanted), atol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(found.X, axis=1), 1.0)


def test_counts_of_cells_and_replicates(screen):
    found = kx.pp.effects(screen, **KEYS)
    cells = screen.obs.groupby(["perturbation", "cell_line"], observed=True).size()
    assert all(
        found.obs.loc[f"{drug}|{line}", "n_cells"] == n for (drug, line), n in cells.items() if drug != "control"
    )
    assert (found.obs["n_replicates"] == 3).all()
    assert "control" not in set(found.obs["perturbation"])


def test_strong_effects_are_sure_and_found(screen):
    found = kx.pp.effects(screen, **KEYS)
    truth = screen.uns["log_fold_change"].loc[found.obs_names].to_numpy()
    size = np.linalg.norm(truth, axis=1)
    strong = size > 3.0
    assert strong.sum() >= 5
    assert (found.obs["p_value"][strong] <= 0.01).all()
    assert np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(found.X[strong], truth[strong], strict=True)]) > 0.5
    assert found.obs["p_value"][size == 0].min() > 0.02


def test_scaling_cells_of_a_sample_together_changes_nothing_but_depth(screen):
    """Of every sample, only proportions count."""
    twice = screen.copy()
    factor = np.where(twice.obs["plate"] == "plate1", 2.0, 1.0)
    twice.X = sparse.csr_matrix(sparse.diags_array(factor) @ twice.X)
    before, after = (kx.pp.effects(a, **KEYS, method="log_fold_change") for a in (screen, twice))
    # the median total, the unit of the pseudocount, moves
    assert np.corrcoef(before.X.ravel(), after.X.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("kind", ["dense", "csc", "layer", "int", "half", "long", "view", "dask", "backed"])
def test_every_kind_of_matrix(screen, kind, tmp_path):
    wanted = kx.pp.effects(screen, **KEYS).X
    adata, more = screen.copy(), {}
    if kind == "dense":
        adata.X = adata.X.toarray()
    elif kind == "csc":
        adata.X = adata.X.tocsc()
    elif kind == "int":
        adata.X = adata.X.astype(np.int32)
    elif kind in ("half", "long"):
        adata.X = adata.X.toarray().astype(np.float16 if kind == "half" else np.longdouble)
    elif kind == "layer":
        adata.layers["counts"], adata.X, more = adata.X.copy(), sparse.csr_matrix(adata.shape), {"layer": "counts"}
    elif kind == "view":
        adata = ad.concat([adata, adata[:5]], index_unique="-", uns_merge="first")[: screen.n_obs]
    elif kind == "dask":
        da = pytest.importorskip("dask.array")
        adata.X = da.from_array(adata.X, chunks=(137, 20), asarray=False)
    else:
        adata.write_h5ad(tmp_path / "screen.h5ad")
        adata = ad.read_h5ad(tmp_path / "screen.h5ad", backed="r")
    np.testing.assert_allclose(kx.pp.effects(adata, **KEYS, **more).X, wanted, atol=1e-12)


def test_input_is_not_changed(screen):
    before = screen.copy()
    kx.pp.effects(screen, **KEYS)
    assert (screen.X != before.X).nnz == 0
    pd.testing.assert_frame_equal(screen.obs, before.obs)


def test_bulk_replicates_are_compared_with_the_controls_of_their_plate():
    rng = np.random.default_rng(0)
    plate = np.repeat(["p1", "p2"], 8)
    drug = np.tile(["DMSO"] * 4 + ["a", "a", "b", "b"], 2)
    values = rng.normal(size=(16, 30)) + np.where(plate == "p2", 5.0, 0.0)[:, None]
    obs = pd.DataFrame({"drug": drug, "plate": plate, "line": "A549"}, index=[f"w{i}" for i in range(16)])
    adata = ad.AnnData(values, obs=obs)
    keys = {"treatment_key": "drug", "control": "DMSO", "context_key": "line", "replicate_key": "plate"}
    found = kx.pp.effects(adata, **keys, rows="replicates", log=False, method="log_fold_change")
    wanted = np.mean(
        [values[(drug == "a") & (plate == p)] - values[(drug == "DMSO") & (plate == p)].mean(0) for p in ("p1", "p2")],
        axis=(0, 1),
    )
    np.testing.assert_allclose(found["a|A549"].X.ravel(), wanted, atol=1e-12)
    assert (found.obs["n_replicates"] == 4).all()
    z = kx.pp.effects(adata, **keys, rows="replicates", log=False, method="z_score")
    deviations = np.vstack(
        [
            values[(drug == "DMSO") & (plate == p)] - values[(drug == "DMSO") & (plate == p)].mean(0)
            for p in ("p1", "p2")
        ]
    )
    np.testing.assert_allclose(
        z["a|A549"].X.ravel(), wanted / np.sqrt(contrasts.shrunken_variances(deviations, 6)), atol=1e-10
    )


@pytest.mark.parametrize("method", ["characteristic_direction", "log_fold_change", "z_score"])
def test_a_context_of_controls_alone_has_no_effects_and_is_named(screen, method, caplog):
    treated = screen.obs["perturbation"] != "control"
    adata = without(screen, treated & (screen.obs["cell_line"] == "line2"))
    with caplog.at_level("INFO"):
        found = kx.pp.effects(adata, **KEYS, method=method)
    assert "effects: none in line2" in caplog.text
    assert set(found.obs["cell_line"]) == {"line1"}
    assert found.n_obs == 12
    assert np.isfinite(found.X).all()
    caplog.clear()
    with caplog.at_level("INFO"):
        kx.pp.effects(screen, **KEYS, method=method)
    assert "none in" not in caplog.text


@pytest.mark.parametrize("n_replicates", [3, 8])
def test_directions_are_as_near_to_the_truth_as_differences(n_replicates):
    adata = kx.datasets.screen(
        n_treatments=24, n_contexts=2, n_genes=300, n_replicates=n_replicates, n_cells=20, random_state=1
    )
    found = {m: kx.pp.effects(adata, **KEYS, method=m) for m in ("characteristic_direction", "log_fold_change")}
    truth = adata.uns["log_fold_change"].loc[found["log_fold_change"].obs_names].to_numpy()
    some = truth.any(axis=1)
    reached = {
        m: np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(effects.X[some], truth[some], strict=True)])
        for m, effects in found.items()
    }
    assert reached["log_fold_change"] > 0.3
    assert reached["characteristic_direction"] >= reached["log_fold_change"]


def test_one_cell(screen):
    with pytest.raises(ValueError, match="No treatment is left beside the controls"):
        kx.pp.effects(screen[:1].copy(), **KEYS)
    treated = screen[np.flatnonzero(screen.obs["perturbation"] != "control")[:1]].copy()
    with pytest.raises(KeyError, match="no treatment 'control'"):
        kx.pp.effects(treated, **KEYS)


def test_to_a_tensor(screen):
    found = kx.pp.effects(screen, **KEYS, method="log_fold_change")
    mdata = kx.pp.tensor(found, obs_key="perturbation", context_key="cell_line")
    np.testing.assert_allclose(mdata["line1"]["drug3"].X, found["drug3|line1"].X)
    for line in mdata.mod:
        of = found[(found.obs["cell_line"] == line).to_numpy()].obs.set_index("perturbation")
        pd.testing.assert_series_equal(
            mdata[line].obs["n_cells"], of["n_cells"][mdata[line].obs_names], check_names=False, check_index=False
        )


def test_bytes_are_the_texts_that_they_hold(screen):
    encoded = screen.copy()
    for key in ("perturbation", "cell_line", "plate"):
        encoded.obs[key] = [str(text).encode() for text in screen.obs[key]]
    found, plain = (kx.pp.effects(data, **KEYS, method="log_fold_change") for data in (encoded, screen))
    pd.testing.assert_frame_equal(found.obs, plain.obs)
    np.testing.assert_array_equal(found.X, plain.X)


@pytest.mark.parametrize("control", [0, 0.0, "0", "0.0"])
def test_whole_numbers_are_named_as_such_beside_a_gap(screen, control):
    numbered = screen.copy()
    names = ["control", *sorted(set(screen.obs["perturbation"]) - {"control"})]
    numbered.obs["perturbation"] = screen.obs["perturbation"].astype(str).map(names.index).astype(float)
    numbered.obs.iloc[0, numbered.obs.columns.get_loc("perturbation")] = np.nan
    found = kx.pp.effects(numbered, **KEYS | {"control": control}, method="log_fold_change")
    assert set(found.obs["perturbation"]) == set(map(str, range(1, len(names))))


@pytest.mark.parametrize("control", ["control", "DMSO", "non-targeting"])
def test_doses_as_the_guide_says(screen, control):
    """The code of docs/tensors.md, on columns called as those of pertpy and scPerturb."""
    guide = (Path(__file__).parents[2] / "docs" / "tensors.md").read_text(encoding="utf-8")
    section = guide.split("### Columns of pertpy and scPerturb")[1].split("###")[0]
    cells = without(screen, (screen.obs["perturbation"] == "drug1") & (screen.obs["cell_line"] == "line2"))
    cells.obs = cells.obs.rename(columns={"plate": "replicate"})
    treated = (cells.obs["perturbation"] != "control").to_numpy()
    cells.obs["dose_value"] = np.where(treated, np.random.default_rng(0).choice([0.5, 10.0], cells.n_obs), 0.0)
    cells.obs["perturbation"] = cells.obs["perturbation"].cat.rename_categories({"control": control})
    names = {"cells": cells, "kx": kx}
    for code in re.findall("```python\n(.*?)```", section, re.DOTALL):
        exec(code.replace('"control"', f'"{control}"'), names)
    found = names["of_doses"]
    assert list(found.mod) == ["line1_0.5", "line1_10.0", "line2_0.5", "line2_10.0"]
    assert list(found.obs_names) == sorted(set(screen.obs["perturbation"]) - {"control"})
    assert list(found.uns["contexts"]["dose"]) == [0.5, 10.0] * 2
    assert (found["line1_0.5"].obs["n_cells"] > 0).all()
    assert "length_dose" in found.uns["completion"]["chosen"]


def test_saved_and_read_again(screen, tmp_path):
    found = kx.pp.effects(screen, **KEYS)
    for path, read in ((tmp_path / "e.h5ad", ad.read_h5ad), (tmp_path / "e.zarr", ad.read_zarr)):
        getattr(found, f"write_{path.suffix[1:]}")(path)
        again = read(path)
        assert again.uns["effects"]["method"] == "characteristic_direction"
        np.testing.assert_array_equal(again.X, found.X)


def without(adata, mask):
    return adata[~mask.to_numpy()].copy()


def test_few_cells_missing_labels_and_single_replicates_are_told(screen, caplog):
    adata = without(screen, (screen.obs["perturbation"] == "drug1") & (screen.obs["plate"] != "plate1"))
    adata.obs["perturbation"] = adata.obs["perturbation"].astype(object)
    adata.obs.iloc[:3, adata.obs.columns.get_loc("perturbation")] = np.nan
    with caplog.at_level("INFO"), pytest.warns(UserWarning, match="have one replicate"):
        found = kx.pp.effects(adata, **KEYS)
    assert found.obs.loc["drug1|line1", "n_replicates"] == 1
    assert np.isnan(found.obs.loc["drug1|line1", "p_value"])
    assert "3 of" in caplog.text
    lone = screen[:].copy()
    lone.obs["plate"] = np.where(np.arange(lone.n_obs) == lone.n_obs - 1, "plate9", lone.obs["plate"].astype(str))
    with caplog.at_level("INFO"):
        kx.pp.effects(lone, **KEYS)
    assert "fewer than 10 cells" in caplog.text


def test_few_controls_that_all_treatments_share_are_told(screen, caplog):
    """Inert treatments resemble each other, the more so the fewer controls they share."""
    kx.pp.effects(screen, **KEYS)
    assert "share the same few controls in line1, line2, at most 3 samples each" in caplog.text
    caplog.clear()
    six = screen.copy()
    six.obs["plate"] = six.obs["plate"].astype(str) + six.obs.groupby(
        ["perturbation", "cell_line", "plate"], observed=True
    ).cumcount().mod(2).astype(str)
    kx.pp.effects(six, **KEYS)
    assert "share the same few controls" not in caplog.text
    caplog.clear()
    kx.pp.effects(screen[screen.obs["perturbation"].isin(["control", "drug1"])].copy(), **KEYS)
    assert "share the same few controls" not in caplog.text


def test_inert_treatments_resemble_each_other_by_their_controls():
    """With k times as many control cells, the noise that they share is 1 part in 1 + k."""
    cosines = []
    for n_controls in (1, 4):
        made = kx.datasets.screen(n_treatments=30, n_contexts=2, n_genes=100, n_controls=n_controls, random_state=0)
        inert = made[made.obs["strength"].isin(["none", "control"])].copy()
        found = kx.pp.effects(inert, **KEYS)
        x = found[found.obs["cell_line"] == "line1"].X
        cosines.append((x @ x.T)[np.triu_indices(len(x), 1)].mean())
    assert 0.4 < cosines[0] < 0.65 and 0.1 < cosines[1] < 0.35


def test_replicates_without_controls_use_those_of_the_context(screen):
    adata = without(screen, (screen.obs["perturbation"] == "control") & (screen.obs["plate"] == "plate3"))
    with pytest.warns(UserWarning, match="no control of the same replicate"):
        found = kx.pp.effects(adata, **KEYS, method="log_fold_change")
    logs = logs_of(adata)
    controls = logs.loc["control"].loc["line1"].to_numpy()
    each = logs.loc["drug2"].loc["line1"]
    wanted = np.mean(
        [each.loc["plate1"] - controls[0], each.loc["plate2"] - controls[1], each.loc["plate3"] - controls.mean(0)],
        axis=0,
    )
    np.testing.assert_allclose(found["drug2|line1"].X.ravel(), wanted, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"control": "DMSO"}, KeyError, "no treatment 'DMSO' in `adata.obs"),
        ({"treatment_key": "drug"}, KeyError, "Available keys"),
        ({"context_key": "plate"}, ValueError, "different columns"),
        ({"method": "lfc"}, ValueError, "method"),
        ({"rows": "wells"}, ValueError, "rows"),
        ({"replicate_key": None}, ValueError, "replicate_key"),
        ({"min_cells": 1000}, ValueError, "min_cells"),
        ({"min_cells": 0}, ValueError, "min_cells"),
    ],
)
def test_wrong_arguments(screen, change, error, match):
    with pytest.raises(error, match=match):
        kx.pp.effects(screen, **{**KEYS, **change})


def test_a_context_without_controls(screen):
    adata = without(screen, (screen.obs["perturbation"] == "control") & (screen.obs["cell_line"] == "line2"))
    with pytest.raises(ValueError, match=r"No control \(control\) in line2"):
        kx.pp.effects(adata, **KEYS)


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda x: x - 1.0, "negative value"),
        (np.log1p, "looks like logarithms"),
        (lambda x: np.where(np.arange(x.size).reshape(x.shape) == 7, np.nan, x), "1 NaN or infinite value"),
    ],
)
def test_values_that_are_no_counts(screen, spoil, match):
    adata = screen.copy()
    adata.X = spoil(adata.X.toarray())
    before = adata.copy()
    with pytest.raises(ValueError, match=match):
        kx.pp.effects(adata, **KEYS)
    np.testing.assert_array_equal(adata.X, before.X)
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert list(adata.uns) == list(before.uns)


def test_logarithms_are_averaged_on_request(screen):
    adata = screen.copy()
    sc.pp.log1p(adata)
    found = kx.pp.effects(adata, **KEYS, log=False, method="log_fold_change")
    of = (adata.obs["cell_line"] == "line1").to_numpy()
    mean = adata[of].to_df().groupby([adata.obs["perturbation"][of], adata.obs["plate"][of]], observed=True).mean()
    wanted = (mean.loc["drug1"] - mean.loc["control"]).mean()
    np.testing.assert_allclose(found["drug1|line1"].X.ravel(), wanted, atol=1e-6)


def test_a_negative_control_makes_only_small_effects():
    """Split controls: half of them called a treatment have no effect that is sure."""
    adata = kx.datasets.screen(n_treatments=12, n_contexts=1, n_cells=20, random_state=3)
    rng = np.random.default_rng(0)
    name = adata.obs["perturbation"].astype(str).to_numpy()
    swap = (name == "control") & (rng.random(adata.n_obs) < 0.25)
    adata.obs["perturbation"] = np.where(swap, "mock", name)
    found = kx.pp.effects(adata, **KEYS)
    assert found.obs.loc["mock|line1", "p_value"] > 0.05


def test_replicates_that_outnumber_treatments_are_told():
    adata = kx.datasets.screen(n_treatments=3, n_replicates=4, n_contexts=1, n_genes=100, n_cells=20)
    with pytest.warns(UserWarning, match="too few other treatments"):
        found = kx.pp.effects(adata, **KEYS)
    assert found.obs["p_value"].isna().all()
    assert found.obs["acd"].notna().all()


def test_names_that_look_alike_and_counts_without_logarithms_are_told(screen):
    adata = screen.copy()
    name = adata.obs["perturbation"].astype(str)
    half = (name == "control") & (np.arange(len(name)) % 2 == 0)
    adata.obs["perturbation"] = name.where(~half, "control ")
    with pytest.warns(UserWarning, match="control"):
        kx.pp.effects(adata, **KEYS)
    with pytest.warns(UserWarning, match="looks like counts"):
        kx.pp.effects(screen, **KEYS, log=False)


def test_controls_may_be_numbers(screen):
    adata = screen.copy()
    adata.obs["perturbation"] = adata.obs["perturbation"].cat.codes.to_numpy()
    control = int(adata.obs["perturbation"][(screen.obs["perturbation"] == "control").to_numpy()].iloc[0])
    found = kx.pp.effects(adata, **{**KEYS, "control": control})
    np.testing.assert_allclose(np.sort(found.X.ravel()), np.sort(kx.pp.effects(screen, **KEYS).X.ravel()))


def told_of_combined(adata, **more) -> list[str]:
    """What is told of doses, times and tissues."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kx.pp.effects(adata, **KEYS | more, method="log_fold_change")
    told = [w for w in caught if "differs between rows" in str(w.message)]
    assert {w.filename for w in told} <= {__file__}
    return [str(w.message) for w in told]


@pytest.mark.parametrize(
    ("name", "values", "of_controls", "key"),
    [
        ("dose", [0.1, 10.0], [0.0], "treatment_key"),
        ("dose", [0.1, 10.0], [np.nan], "treatment_key"),
        ("time_h", [6, 24], [6, 24], "context_key"),  # every time has its controls
        ("tissue", ["lung", "liver"], ["lung", "liver"], "context_key"),
    ],
)
def test_doses_and_times_that_are_combined_are_told(screen, name, values, of_controls, key):
    adata = screen.copy()
    is_control = (adata.obs["perturbation"] == "control").to_numpy()
    adata.obs[name] = np.where(is_control, np.resize(of_controls, len(adata)), np.resize(values, len(adata)))
    adata.obs["perturbation"] = adata.obs["perturbation"].cat.add_categories("unused")
    adata.obs.loc[adata.obs_names[:2], ["perturbation", "cell_line"]] = np.nan
    (text,) = told_of_combined(adata)
    shown = ", ".join(sorted(map(str, values)))
    assert (
        f"`adata.obs['{name}']` differs between rows of 24 of 24 pairs of a treatment and a context (in one: " in text
    )
    assert sorted(re.findall(r"in one: (.*?)\)", text)[0].split(", ")) == shown.split(", ")
    (code,), (new,) = re.findall("`(names = .*?)`", text), re.findall(f"then {key}='(.*?)'", text)
    assert f"on the command line --{key.removesuffix('_key')} '{new}'" in text
    exec(code, {"adata": adata})
    assert told_of_combined(adata, **{key: new, "min_cells": 5}) == []
    found = kx.pp.effects(adata, **KEYS | {key: new}, min_cells=5, method="log_fold_change")
    parts = {f"{found_name}_{value}" for found_name in screen.obs[KEYS[key]].unique() for value in values}
    assert set(found.obs[new]) == {part for part in parts if not part.startswith("control")} and found.n_obs == 48


def test_the_advice_for_doses_of_treatments_that_are_numbers(screen):
    """Whole floats are named as integers, and written as floats where they are joined."""
    adata = screen.copy()
    is_control = (adata.obs["perturbation"] == "control").to_numpy()
    adata.obs["perturbation"] = np.where(is_control, 0.0, adata.obs["perturbation"].cat.codes + 1.0)
    adata.obs["dose"] = np.where(is_control, "0", np.resize(["low", "high"], len(adata)))
    (text,) = told_of_combined(adata, control=0)
    (code,) = re.findall("`(names = .*?)`", text)
    exec(code, {"adata": adata})
    more = {"treatment_key": "perturbation_dose", "min_cells": 5}
    assert told_of_combined(adata, control=0, **more) == []


def test_what_does_not_differ_within_an_effect_is_not_told(screen):
    adata = screen.copy()
    adata.obs["dose"] = np.where(adata.obs["perturbation"] == "control", 0.0, adata.obs["perturbation"].cat.codes)
    adata.obs["time"] = np.where(adata.obs["perturbation"] == "control", np.arange(len(adata)) % 2, 1)
    adata.obs["pseudotime"] = np.arange(len(adata)) / len(adata)
    adata.obs["celltype_prob"] = adata.obs["lifetime"] = adata.obs["concordance"] = adata.obs["pseudotime"]
    adata.obs["dose_score"] = adata.obs["pseudotime"]  # of each cell
    adata.obs["doses"] = [[1.0], *[[10.0]] * (len(adata) - 1)]
    assert told_of_combined(adata) == []
    adata.obs["plate_day"] = adata.obs["plate"]
    assert told_of_combined(adata, replicate_key="plate_day") == []


def completed_profiles(*, single: bool = False) -> ad.AnnData:
    """Profiles of four lines, some of them or some of their values predicted; the control was measured in all lines."""
    mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=10, random_state=0)
    control = mdata.obs_names[0]
    for line in mdata.mod:
        mdata[line].X[mdata[line].obs_names == control] = np.linspace(-1, 1, 10)
        if single:
            mdata[line].X[np.flatnonzero(mdata[line].obs["measured"])[-1], 3] = np.nan
    kx.tl.complete_tensor(mdata, method="mean_2d")
    profiles = kx.get.profiles(mdata)
    profiles.uns["control"] = control
    return profiles


def effects_of_profiles(profiles, **more):
    keys = {"treatment_key": "treatment", "context_key": "context", "control": profiles.uns["control"]}
    return kx.pp.effects(profiles, **keys, rows="replicates", log=False, method="log_fold_change", **more)


@pytest.mark.parametrize("kind", ["column", "words", "layer", "missing"])
def test_predictions_are_left_out(kind):
    profiles = completed_profiles()
    measured = profiles.obs["measured"].to_numpy()
    wanted = effects_of_profiles(profiles[measured].copy())
    if kind == "words":
        profiles.obs["measured"] = np.where(measured, "yes", "no")
    elif kind == "layer":
        profiles.layers["new"] = profiles.X.copy()
        profiles.layers["new_measured"] = np.broadcast_to(measured[:, None], profiles.shape).copy()
        del profiles.obs["measured"]
    elif kind == "missing":
        profiles.X[~measured] = np.nan
    n = int((~measured).sum())
    with pytest.warns(
        UserWarning, match=f"{n} of {len(profiles)} rows are predictions or missing .*delete that"
    ) as told:
        found = effects_of_profiles(profiles, layer="new" if kind == "layer" else None)
    assert [w.filename for w in told if "predictions" in str(w.message)] == [__file__]
    np.testing.assert_array_equal(found.X, wanted.X)
    pd.testing.assert_frame_equal(found.obs, wanted.obs)


def test_single_predictions_are_refused_before_the_work(monkeypatch):
    profiles = completed_profiles(single=True)
    monkeypatch.setattr(pseudobulk, "sums", None)
    with pytest.raises(ValueError, match="`adata.X` has 4 predicted values in rows that were measured otherwise"):
        effects_of_profiles(profiles)
    monkeypatch.undo()
    measured = profiles.layers["measured"]
    whole = profiles[measured.all(axis=1) | ~measured.any(axis=1)].copy()
    with pytest.warns(UserWarning, match="rows are predictions or missing .*delete that pair"):
        effects_of_profiles(whole)
    del profiles.layers["measured"]
    with pytest.warns(UserWarning, match="delete that column"):
        effects_of_profiles(profiles)


def test_effects_have_names_of_their_own(screen):
    adata = screen.copy()
    drugs = {"drug1": "a", "drug2": "a|b"}
    adata.obs["perturbation"] = [drugs.get(name, name) for name in adata.obs["perturbation"]]
    adata.obs["cell_line"] = ["b|x" if line == "line1" else "x" for line in adata.obs["cell_line"]]
    found, wanted = (kx.pp.effects(data, **KEYS, method="log_fold_change") for data in (adata, screen))
    assert found.obs_names.is_unique and {"a|b|x", "a|b|x-1"} < set(found.obs_names)
    for drug, line, before in (("a", "b|x", "drug1|line1"), ("a|b", "x", "drug2|line2")):
        here = (found.obs["perturbation"] == drug) & (found.obs["cell_line"] == line)
        np.testing.assert_allclose(found[here.to_numpy()].X, wanted[before].X)


@pytest.mark.parametrize("argument", ["treatment_key", "context_key"])
@pytest.mark.parametrize("name", ["n_cells", "n_replicates", "effect_size", "acd", "p_value"])
def test_a_column_called_like_a_result_is_refused_before_the_work(screen, argument, name, monkeypatch):
    adata = screen.copy()
    adata.obs[name] = adata.obs[KEYS[argument]]
    monkeypatch.setattr(pseudobulk, "sums", None)
    with pytest.raises(ValueError, match=f"`{argument}` names the column '{name}'") as refusal:
        kx.pp.effects(adata, **{**KEYS, argument: name})
    monkeypatch.undo()
    (code,) = re.findall("`(adata.obs = .*)`", str(refusal.value))
    exec(code, {"adata": adata})
    found = kx.pp.effects(adata, **{**KEYS, argument: f"{name}_before"}, method="log_fold_change")
    assert list(found.obs_names) == list(kx.pp.effects(screen, **KEYS, method="log_fold_change").obs_names)


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        (lambda name: 1 if name == "drug1" else "1" if name == "drug2" else name, ValueError, r"written alike \(1\)"),
        (lambda name: [name], TypeError, "must hold names, found list"),
    ],
)
@pytest.mark.parametrize("key", ["treatment_key", "context_key", "replicate_key"])
def test_values_without_names_of_their_own(screen, key, values, error, words):
    """As in kx.pp.tensor."""
    adata = screen.copy()
    adata.obs[KEYS[key]] = pd.Series([values(n) for n in adata.obs["perturbation"]], adata.obs_names, dtype=object)
    with pytest.raises(error, match=words):
        kx.pp.effects(adata, **KEYS)


def test_the_order_of_categories_changes_nothing(screen):
    adata = screen.copy()
    adata.obs["perturbation"] = adata.obs["perturbation"].cat.reorder_categories(
        adata.obs["perturbation"].cat.categories[::-1]
    )
    pd.testing.assert_frame_equal(kx.pp.effects(adata, **KEYS).obs, kx.pp.effects(screen, **KEYS).obs)


def test_a_key_is_one_column(screen):
    with pytest.raises(TypeError, match="join several columns"):
        kx.pp.effects(screen, **{**KEYS, "treatment_key": ["perturbation", "plate"]})


def test_many_replicates_of_few_treatments_take_no_time():
    """Sets of as many samples as there are treatments: hardly any draw with replacement would do."""
    rng = np.random.default_rng(0)
    drug = np.repeat([*"abcdefghij", "DMSO"], 8)
    adata = ad.AnnData(
        rng.normal(size=(88, 20)), obs=pd.DataFrame({"drug": drug, "line": "x"}, index=np.arange(88).astype(str))
    )
    keys = {"treatment_key": "drug", "control": "DMSO", "context_key": "line"}
    found = kx.pp.effects(adata, **keys, rows="replicates", log=False)
    assert found.obs["p_value"].between(0, 1).all()
