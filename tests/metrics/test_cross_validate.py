"""kx.metrics.cross_validate: what is hidden, what the tables say of it, and what is refused."""

import logging
import re
from collections import Counter
from functools import partial

import jax
import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse
from sklearn.metrics import mean_absolute_error, mean_squared_error

import kronax as kx
from kronax._data import objects
from kronax._data import tensor as tensors
from kronax.metrics import _cross_validate as cross_validation
from kronax.metrics._compared_methods import ComparedMethod
from kronax.solvers import device
from kronax.solvers.tensor.folds import fiber_folds
from kronax.solvers.tensor.registry import METHODS as METHODS_OF

NAN = np.nan
PLAIN = kx.tl.KroneckerOptions(noise=1.0, own_share=0.2, common_share=0.15)
CHOSEN = kx.tl.KroneckerOptions(noises=(0.5, 1.0, 2.0), own_shares=(0.1, 0.3), common_shares=(0.0, 0.2))
METHODS = {"plain": PLAIN, "dnpp": "dnpp", "mean_1d": "mean_1d"}


@pytest.fixture(scope="module")
def mdata():
    return kx.datasets.drug_response(n_treatments=24, n_contexts=5, n_genes=40, rank=2, missing=0.4)


@pytest.fixture(scope="module")
def result(mdata):
    return kx.metrics.cross_validate(mdata, methods=METHODS, n_folds=4, deg_tops=(0.05, 0.2))


def of_values(values: np.ndarray) -> mudata.MuData:
    """Contexts as modalities, from treatments × contexts × genes."""
    with tensors.without_pulling():
        return mudata.MuData({f"c{c}": AnnData(values[:, c].copy()) for c in range(values.shape[1])}, axis=-1)


def held_out(result, name="X"):
    x = result.profiles.X if name == "X" else result.profiles.layers[name]
    return x[~np.isnan(result.profiles.X)]


def test_every_fiber_that_can_be_spared_is_predicted_once(mdata, result):
    measured = tensors.read(mdata).measured
    spare = measured & (measured.sum(axis=1, keepdims=True) > 1)
    obs = result.profiles.obs
    assert obs["treatment"].astype(str).str.cat(obs["context"].astype(str), ":").tolist() == obs.index.tolist()
    found = set(zip(obs["treatment"], obs["context"], strict=True))
    expected = {(f"drug{d}", f"line{c}") for d, c in zip(*np.nonzero(spare), strict=True)}
    assert found == expected
    assert len(obs) == len(expected)
    for method in METHODS:
        assert np.isfinite(result.profiles.layers[method]).all()


def test_measured_values_are_those_of_the_data(mdata, result):
    for (treatment, context), row in zip(
        result.profiles.obs[["treatment", "context"]].to_numpy(), result.profiles.X, strict=True
    ):
        np.testing.assert_array_equal(row, mdata[context][treatment].X[0])


def test_a_prediction_has_not_seen_its_fiber(mdata, result):
    """A fold's predictions are those of complete_tensor without the fold."""
    values = tensors.read(mdata).values
    folds = fiber_folds(~np.isnan(values).all(axis=2), 4, 0)
    hidden = values.copy()
    hidden[folds.fold == 2] = NAN
    without = of_values(hidden)
    kx.tl.complete_tensor(without, options=PLAIN)
    completed = np.stack([adata.layers["completed"] for adata in without.mod.values()], axis=1)
    obs = result.profiles.obs
    here = (obs["fold"] == 2).to_numpy()
    d, c = obs["treatment"].cat.codes.to_numpy(), obs["context"].cat.codes.to_numpy()
    np.testing.assert_allclose(result.profiles.layers["plain"][here], completed[d[here], c[here]], rtol=1e-6)


def test_every_treatment_keeps_a_fiber(mdata, result):
    measured = tensors.read(mdata).measured.sum(axis=1)
    held = result.profiles.obs.groupby(["treatment", "fold"], observed=True).size()
    for (treatment, _), n in held.items():
        assert n < measured[int(treatment.removeprefix("drug"))]


def test_counts_of_fibers(mdata, result):
    measured = tensors.read(mdata).measured
    obs = result.profiles.obs
    np.testing.assert_array_equal(obs["n_contexts"], measured.sum(axis=1)[obs["treatment"].cat.codes])
    np.testing.assert_array_equal(obs["n_treatments"], measured.sum(axis=0)[obs["context"].cat.codes])
    assert not obs["unseen"].any()


def test_table_by_other_means(result):
    truth = held_out(result)
    for method in METHODS:
        row, predicted = result.table.loc[method], held_out(result, method)
        assert row["pct"] == pytest.approx(np.corrcoef(truth, predicted)[0, 1])
        assert row["mae"] == pytest.approx(mean_absolute_error(truth, predicted))
        assert row["mse"] == pytest.approx(mean_squared_error(truth, predicted))
        assert row["calibration_slope"] == pytest.approx(np.polyfit(predicted, truth, 1)[0])
        assert row["variance_ratio"] == pytest.approx(predicted.var() / truth.var())
        for top in (0.05, 0.2):
            expected = kx.metrics.deg_auc(result.profiles.X, result.profiles.layers[method], top=top)
            assert row[f"deg_auc_{100 * top:g}%"] == expected
    assert list(result.table.index) == list(METHODS) == result.methods


def test_correlations_of_parts_by_other_means(result):
    x, y, obs = result.profiles.X, result.profiles.layers["plain"], result.profiles.obs
    np.testing.assert_allclose(result.fibers["plain"], [np.corrcoef(a, b)[0, 1] for a, b in zip(x, y, strict=True)])
    np.testing.assert_allclose(result.genes["plain"], [np.corrcoef(a, b)[0, 1] for a, b in zip(x.T, y.T, strict=True)])
    for frame, key in ((result.treatments, "treatment"), (result.contexts, "context")):
        for name, found in frame["plain"].items():
            rows = (obs[key] == name).to_numpy()
            expected = np.corrcoef(x[rows].ravel(), y[rows].ravel())[0, 1] if rows.any() else NAN
            assert found == pytest.approx(expected, nan_ok=True)
    assert result.table.loc["plain", "pct_fiber"] == pytest.approx(result.fibers["plain"].mean())


def test_specificity_of_parts(result):
    from scipy.spatial.distance import pdist

    several = result.profiles.obs["treatment"].value_counts().loc[lambda n: n > 1].index
    for treatment in several:
        rows = (result.profiles.obs["treatment"] == treatment).to_numpy()
        found = result.cell_specificity.loc[treatment]
        assert found["measured"] == pytest.approx(pdist(result.profiles.X[rows], "cosine").mean())
        assert found["plain"] == pytest.approx(pdist(result.profiles.layers["plain"][rows], "cosine").mean())
    assert result.cell_specificity.drop(several)["measured"].isna().all()
    both = result.cell_specificity.dropna()
    row = result.table.loc["dnpp"]
    assert row["specificity_bias"] == pytest.approx((both["dnpp"] - both["measured"]).mean())
    assert row["specificity_correlation"] == pytest.approx(both["dnpp"].corr(both["measured"]))


def test_errors_of_parts(result):
    by_context = result.errors()
    error = np.abs(result.profiles.X - result.profiles.layers["plain"])
    rows = (result.profiles.obs["context"] == "line3").to_numpy()
    assert by_context.loc["line3", ("plain", "mae")] == pytest.approx(error[rows].mean())
    assert by_context.loc["line3", ("plain", "mse")] == pytest.approx((error[rows] ** 2).mean())
    for by in ("treatment", "context", "category"):
        table = result.errors(by)
        n = table["", "n"]
        assert n.sum() == error.size
        total = np.average(table["plain", "mae"].fillna(0), weights=n)
        assert total == pytest.approx(result.table.loc["plain", "mae"])


def test_categories_by_hand():
    values = np.array([-3.0, -1.0, 0.0, 1.0, 3.0])  # root mean square 2
    result = kx.metrics.cross_validate(of_values(np.tile(values, (4, 2, 1))), methods="mean_1d", n_folds=2)
    n = result.errors("category", edges=(-0.5, 0.5))["", "n"]
    assert n.to_dict() == {"up to -0.5": 16, "-0.5 to 0.5": 16, "above 0.5": 8}
    with pytest.raises(ValueError, match="`edges` must be numbers in ascending order"):
        result.errors("category", edges=(1, 0))
    with pytest.raises(ValueError, match="`by` must be one of"):
        result.errors("gene")


def test_unit_norm(mdata, result):
    found = kx.metrics.cross_validate(mdata, methods=METHODS, n_folds=4, unit_norm=True)
    x, y = found.profiles.X, found.profiles.layers["mean_1d"]
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1)
    np.testing.assert_allclose(x * np.linalg.norm(result.profiles.X, axis=1)[:, None], result.profiles.X)
    scaled = y / np.linalg.norm(y, axis=1, keepdims=True)
    assert found.table.loc["mean_1d", "pct"] == pytest.approx(np.corrcoef(x.ravel(), scaled.ravel())[0, 1])
    assert found.table.loc["mean_1d", "mae"] == pytest.approx(np.abs(x - y).mean())


def test_single_entries(mdata, caplog):
    logging.getLogger("kronax").addHandler(caplog.handler)
    try:
        found = kx.metrics.cross_validate(mdata, methods=["mean_2d"], n_folds=3, split="entry")
    finally:
        logging.getLogger("kronax").removeHandler(caplog.handler)
    measured = tensors.read(mdata).measured
    n_replaced = (found.fallback["mean_2d"] != "none").sum()
    assert f"could not predict most entries of {n_replaced} of {measured.sum()} held-out profiles" in caplog.text
    assert found.profiles.n_obs == measured.sum()
    assert np.isfinite(found.profiles.layers["mean_2d"]).all()
    assert (found.profiles.obs["fold"] == -1).all()


def test_fallback_says_what_most_entries_are():
    values = np.random.default_rng(0).normal(size=(12, 4, 20))
    values[:, :, 3] = NAN
    methods = {"mean_1d": "mean_1d", "dnpp": "dnpp", "plain": PLAIN, "falrtc": "falrtc"}
    found = kx.metrics.cross_validate(of_values(values), methods=methods, n_folds=3)
    assert (found.table.loc[["mean_1d", "plain", "falrtc"], ["fallback", "unable"]] == 0).all(axis=None)
    assert found.table["fallback"].max() < 0.2
    found = kx.metrics.cross_validate(of_values(values), methods="mean_1d", n_folds=3, split="entry")
    assert found.table.loc["mean_1d", "fallback"] < 0.1  # a treatment has a value of the gene elsewhere, as a rule
    values[5, 1:] = NAN
    found = kx.metrics.cross_validate(of_values(values), methods="mean_1d", n_folds=3, split="entry")
    assert found.fallback.loc["5:c0", "mean_1d"] == "context_mean"  # never


def test_profiles_measured_in_part():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(6, 3, 8))
    values[rng.random(values.shape) < 0.2] = NAN
    for split in ("fiber", "entry"):
        found = kx.metrics.cross_validate(of_values(values), methods=["mean_2d"], n_folds=3, split=split)
        x, y = found.profiles.X, found.profiles.layers["mean_2d"]
        np.testing.assert_array_equal(np.isnan(x), np.isnan(y))
        assert (~np.isnan(x)).sum() == (~np.isnan(values)).sum()


@pytest.mark.parametrize(("axis", "other"), [("treatment", "context"), ("context", "treatment")])
def test_cold_start(mdata, axis, other, caplog):
    logging.getLogger("kronax").addHandler(caplog.handler)
    try:
        found = kx.metrics.cross_validate(
            mdata, methods=["dnpp", "mean_1d", "falrtc"], n_folds=4, split=f"cold_start_{axis}"
        )
    finally:
        logging.getLogger("kronax").removeHandler(caplog.handler)
    obs = found.profiles.obs
    assert (obs.groupby(axis, observed=True)["fold"].nunique() == 1).all()
    assert len(obs) == tensors.read(mdata).measured.sum()
    assert obs["unseen"].all()
    method, stand_in = ("mean_1d", "context_mean") if axis == "treatment" else ("dnpp", "treatment_mean")
    assert (found.fallback[method] != "none").all()
    assert found.fallback[method].mode()[0] == stand_in
    assert found.table.loc[method, "fallback"] == 1
    assert (found.fallback["falrtc"] == "unable").all()
    row = found.table.loc["falrtc"].drop(["fallback", "unable", "converged", "seconds"])
    assert found.table.loc["falrtc", "unable"] == 1
    assert row.isna().all()
    assert found.errors()["falrtc", "mae"].isna().all()
    assert f"{method} could not predict {len(obs)} of {len(obs)} held-out profiles" in caplog.text
    assert "falrtc could not predict" in caplog.text
    assert "used instead: nothing" in caplog.text


def test_cold_start_with_a_fiber_to_begin_with(mdata):
    found = kx.metrics.cross_validate(mdata, methods=["mean_1d"], split="cold_start_treatment", keep=1, n_folds=4)
    measured = tensors.read(mdata).measured.sum(axis=1)
    assert found.profiles.n_obs == (measured - 1).sum()
    assert not found.profiles.obs["unseen"].any()
    assert found.table.loc["mean_1d", "fallback"] == 0


def test_the_random_split_is_optimistic(rng):
    """Fibers that have nothing in common but how their genes vary: the rest of a profile tells its hidden entries."""
    mdata = of_values(rng.normal(size=(12, 4, 1)) * rng.normal(size=20))
    pct = {
        split: kx.metrics.cross_validate(mdata, methods={"plain": PLAIN}, n_folds=2, split=split).table.loc[
            "plain", "pct"
        ]
        for split in ("fiber", "entry")
    }
    assert pct["entry"] > pct["fiber"] + 0.5


def test_memory_is_estimated(mdata, monkeypatch):
    monkeypatch.setattr(kx._data.objects, "_free_bytes", lambda: 50_000)  # enough to read it
    with pytest.raises(MemoryError, match=r"Compare fewer methods, or choose fewer genes\."):
        kx.metrics.cross_validate(mdata, methods="mean_1d")


def test_no_more_folds_at_once_than_memory_holds(mdata, monkeypatch):
    found, solved = [], device.each_solved
    monkeypatch.setattr(cross_validation, "each_solved", lambda f, items, n: found.append(n) or solved(f, items, n))
    size = METHODS_OF["kronecker"].needs(np.ones((24, 5, 40), bool), PLAIN).n_bytes
    for n in (1, 3, 10):
        monkeypatch.setattr(objects, "_free_bytes", lambda n=n: 2 * (n + 0.5) * size + 2 * 8 * 5 * 24 * 5 * 40)
        kx.metrics.cross_validate(mdata, methods={"plain": PLAIN}, n_folds=2)
    assert found == [1, 3, 10]


def test_what_is_printed(result):
    assert repr(result).startswith(
        f"CrossValidation, split 'fiber': {result.profiles.n_obs} fibers held out in 4 folds"
    )
    assert all(method in repr(result) for method in METHODS)


def test_seed_and_order_of_methods(mdata, result):
    again = kx.metrics.cross_validate(mdata, methods=["mean_1d", "dnpp"], n_folds=4)
    pd.testing.assert_series_equal(again.fibers["dnpp"], result.fibers["dnpp"])
    other = kx.metrics.cross_validate(mdata, methods="mean_1d", n_folds=4, random_state=1)
    assert not other.profiles.obs["fold"].equals(result.profiles.obs["fold"])


def test_options_that_methods_share_go_with_a_name():
    mdata = kx.datasets.skewed_response(n_treatments=20, n_contexts=3, n_genes=12, measured=np.ones((20, 3), bool))
    few = kx.tl.FactorizationOptions(rank=2, max_epochs=8, patience=8)
    found = kx.metrics.cross_validate(mdata, methods={"flat": ("mf", few), "cubic": ("cp", few)}, n_folds=2)
    fold = found.profiles.obs["fold"].to_numpy() == 0
    hidden = mdata.copy()
    for treatment, context in found.profiles.obs.loc[fold, ["treatment", "context"]].astype(str).to_numpy():
        hidden[context].X[hidden[context].obs_names.get_loc(treatment)] = np.nan
    for label, method in (("flat", "mf"), ("cubic", "cp")):
        completed = kx.get.profiles(kx.tl.complete_tensor(hidden, method=method, options=few, copy=True))
        alone = completed[found.profiles.obs_names[fold]].X
        np.testing.assert_allclose(found.profiles.layers[label][fold], alone, rtol=1e-5, atol=1e-6)
    assert not np.allclose(found.profiles.layers["flat"], found.profiles.layers["cubic"])


def compilations(caplog, mdata, n_folds) -> Counter[str]:
    """Count how often each function was compiled."""
    caplog.clear()
    methods = {
        "kronecker": PLAIN,
        "falrtc": kx.tl.FalrtcOptions(max_iter=3),
    }
    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        kx.metrics.cross_validate(mdata, methods=methods, n_folds=n_folds)
    return Counter(re.findall(r"Compiling (\S+)", "\n".join(record.getMessage() for record in caplog.records)))


def test_compilations_do_not_grow_with_folds(caplog):
    """Many genes, so that they are compressed; 22 fibers, so that of five folds two are larger than the others."""
    mdata = kx.datasets.drug_response(n_treatments=9, n_contexts=3, n_genes=61, rank=2, missing=0.2)
    assert sum(int((~np.isnan(adata.X[:, 0])).sum()) for adata in mdata.mod.values()) == 22
    found = compilations(caplog, mdata, 5)
    assert found["jit(gradient_and_square)"] == 1, found  # of falrtc
    assert found["jit(sweep)"] == 2, found  # of kronecker, in double and, for its confidences, in single precision


def test_layer_and_data_are_left_alone(mdata):
    before = mdata.copy()
    found = kx.metrics.cross_validate(mdata, methods="mean_1d", n_folds=3, layer="truth")
    np.testing.assert_array_equal(found.profiles["drug3:line2"].X[0], mdata["line2"]["drug3"].layers["truth"][0])
    for context, adata in before.mod.items():
        np.testing.assert_array_equal(adata.X, mdata[context].X)
        assert list(adata.layers) == list(mdata[context].layers)
        pd.testing.assert_frame_equal(adata.obs, mdata[context].obs)
    assert not mdata.uns


def test_predictions_are_no_measurements():
    mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=10)
    kx.tl.complete_tensor(mdata, method="mean_2d")
    n = sum(int((~adata.obs["measured"]).sum()) for adata in mdata.mod.values())
    words = (
        rf"`layers\['completed'\]` is a result of kx\.tl\.complete_tensor, with {10 * n:,} values that nobody measured"
    )
    for function in (kx.metrics.cross_validate, partial(kx.tl.complete_tensor, key_added="again")):
        with pytest.raises(ValueError, match=words):
            function(mdata, layer="completed")
    for adata in mdata.mod.values():  # the user's own, sparse, with values everywhere
        adata.layers["own"] = sparse.csr_matrix(np.nan_to_num(adata.X))
    kx.metrics.cross_validate(mdata, layer="own", methods="mean_2d", n_folds=3)


def test_profiles_can_be_saved(result, tmp_path):
    import anndata

    for name, read in (("p.h5ad", anndata.read_h5ad), ("p.zarr", anndata.read_zarr)):
        getattr(result.profiles, f"write_{name.split('.')[1]}")(tmp_path / name)
        again = read(tmp_path / name)
        np.testing.assert_array_equal(again.layers["plain"], result.profiles.layers["plain"])


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"split": "random"}, ValueError, "`split` must be one of"),
        ({"n_folds": 1}, ValueError, "`n_folds` must be an integer of at least 2"),
        ({"n_folds": 1000}, ValueError, "Cannot make 1000 folds"),
        (
            {"n_folds": 10, "split": "cold_start_context"},
            ValueError,
            r"Cannot make 10 folds of 5 contexts\. Give n_folds=5 or fewer",
        ),
        ({"keep": -1}, ValueError, "`keep`"),
        ({"keep": 1}, ValueError, "`keep` is for cold starts"),
        (
            {"keep": 5, "split": "cold_start_treatment"},
            ValueError,
            "0 treatments with more measured fibers than the 5 that `keep` leaves in training. Keep fewer",
        ),
        ({"deg_tops": (0.1, 1.0)}, ValueError, "`deg_tops`"),
        ({"deg_tops": "0.1"}, TypeError, "`deg_tops` must be a list of numbers, found '0.1'.$"),
        ({"methods": []}, ValueError, "`methods` is empty"),
        ({"methods": {"measured": "dnpp"}}, ValueError, "give that method another label"),
        ({"methods": "magic"}, ValueError, "`methods` must be one of"),
        ({"methods": [kx.tl.DnppOptions()]}, TypeError, r"found DnppOptions.*mapping, such as {'my label': kx.tl.Dnpp"),
        ({"methods": kx.tl.DnppOptions()}, TypeError, r"found DnppOptions.*mapping, such as {'my label': kx.tl.Dnpp"),
        ({"methods": [kx.tl.DnppOptions]}, TypeError, "found the class DnppOptions.*mapping, such as"),
        ({"methods": {"a/b": "dnpp"}}, ValueError, "without '/'"),
        ({"methods": {"a": 3}}, TypeError, "or its options such as"),
        (
            {"methods": {"a": kx.tl.FactorizationOptions()}},
            ValueError,
            r"say which: \('mf', kx.tl.Fac.* or \('cp', ",
        ),
        ({"methods": {"a": ("cp", kx.tl.DnppOptions())}}, TypeError, "`options` of method 'cp' must be"),
        ({"methods": {"a": ("magic", kx.tl.DnppOptions())}}, ValueError, "`methods` must be one of"),
        ({"methods": {"a": ("cp", "dnpp", 3)}}, TypeError, "or a tuple of both"),
        ({"layer": "counts"}, KeyError, "counts"),
        ({"unit_norm": "yes"}, ValueError, "`unit_norm` must be True or False"),
    ],
)
def test_what_is_refused(mdata, arguments, error, match):
    with pytest.raises(error, match=match):
        kx.metrics.cross_validate(mdata, **{"methods": "mean_1d", **arguments})


def test_wrong_kind_of_data():
    with pytest.raises(TypeError, match="Expected a MuData"):
        kx.metrics.cross_validate(AnnData(np.ones((3, 3))))


@pytest.mark.parametrize("method", ["mean_2d", "falrtc"])
def test_what_a_fold_leaves_without_a_link_is_unseen(rng, method):
    """Of two blocks that one treatment bridges, a fold that hides its bridge leaves nothing that leads across."""
    x = rng.normal(size=(13, 4, 5))
    x[np.r_[np.zeros(6), np.ones(6), 2][:, None] == np.where(np.arange(4) < 2, 1, 0)] = NAN
    x[12, 1:3] = NAN
    result = kx.metrics.cross_validate(of_values(x), methods=method, n_folds=3)
    obs = result.profiles.obs
    assert 0 < obs["unseen"].sum() < len(obs)
    assert (obs["unseen"] == (result.fallback[method] == "unlinked")).all()
    assert result.table.loc[method, "fallback"] == pytest.approx(obs["unseen"].mean())
    assert not result.table.loc[method, "unable"]


# Side information


@pytest.fixture(scope="module")
def informed():
    """Treatments act by their mechanism; contexts are doses."""
    rng = np.random.default_rng(0)
    moa = np.arange(30) % 5
    treatments = rng.normal(size=(5, 3))[moa] + 0.4 * rng.normal(size=(30, 3))
    contexts = 1 + 0.3 * rng.normal(size=(4, 3))
    truth = np.einsum("dk,ck,gk->dcg", treatments, contexts, rng.normal(size=(20, 3)))
    values = truth + 0.3 * rng.normal(size=truth.shape)
    obs = pd.DataFrame({"moa": [f"m{m}" for m in moa]}, index=[f"d{i}" for i in range(30)])
    mdata = mudata.MuData({f"dose{c}": AnnData(values[:, c], obs=obs) for c in range(4)}, axis=-1)
    mdata.uns["contexts"] = pd.DataFrame({"dose": [1.0, 2.0, 4.0, 8.0]}, index=list(mdata.mod))
    kx.pp.treatment_similarity(mdata, labels="moa")
    return mdata


FIXED = {"noise": 0.5, "own_share": 0.2, "common_share": 0.0, "similarity_share": 0.0}


def test_whole_treatments_with_similarity_and_its_controls(informed):
    options = kx.tl.KroneckerOptions(treatment_similarity="annotation", **FIXED)
    result = kx.metrics.cross_validate(
        informed, methods={"labels": options, "mean_1d": "mean_1d"}, split="cold_start_treatment", n_folds=3
    )
    assert result.methods == ["labels", "mean_1d", "labels, permuted", "treatment_free"]
    pct = result.table["pct"]
    assert pct["labels"] > pct["treatment_free"] + 0.2
    assert pct["labels, permuted"] == pytest.approx(pct["treatment_free"], abs=0.05)
    assert (result.fallback["labels"] == "similarity").all() and result.table.loc["labels", "fallback"] == 1
    assert (result.fallback["treatment_free"] == "context_mean").all()
    promises = result.promises()
    assert promises.loc["labels", "n"].sum() == result.profiles.n_obs
    np.testing.assert_allclose(promises.loc["labels", "promised"], promises.loc["labels", "reached"], atol=0.15)
    assert "treatment_free" not in promises.index.get_level_values("method")
    assert "labels, permuted" in repr(result) and "promised" in repr(result)


def test_whole_contexts_with_coordinates(informed):
    options = kx.tl.KroneckerOptions(context_coordinates={"dose": "log"}, **FIXED)
    methods = {"doses": options, "kronecker": kx.tl.KroneckerOptions(**FIXED)}
    result = kx.metrics.cross_validate(informed, methods=methods, split="cold_start_context", n_folds=4)
    assert result.methods == ["doses", "kronecker", "treatment_free"]
    assert (result.fallback["doses"] == "similarity").all() and (result.fallback["kronecker"] == "treatment_mean").all()
    alone = kx.metrics.cross_validate(
        informed, methods=methods, split="cold_start_context", n_folds=4, with_controls=False
    )
    assert alone.methods == ["doses", "kronecker"]
    np.testing.assert_array_equal(alone.table["pct"], result.table["pct"][:2])


def test_promises_by_hand(informed):
    result = kx.metrics.cross_validate(informed, methods={"k": kx.tl.KroneckerOptions(**FIXED)}, n_folds=3)
    promised, truth, predicted = result.confidences["k"], result.profiles.X, result.profiles.layers["k"]
    cosine = (truth * predicted).sum(axis=1) / np.linalg.norm(truth, axis=1) / np.linalg.norm(predicted, axis=1)
    table = result.promises(n_groups=1)
    np.testing.assert_allclose(table.to_numpy(), [[len(truth), promised.mean(), cosine.mean()]])
    assert result.promises(n_groups=4)["promised"].is_monotonic_increasing
    assert len(kx.metrics.cross_validate(informed, methods="mean_1d", n_folds=3).promises()) == 0


def test_side_information_that_is_not_there(informed):
    with pytest.raises(KeyError, match="structure"):
        kx.metrics.cross_validate(informed, methods={"k": kx.tl.KroneckerOptions(treatment_similarity="structure")})


def test_folds_that_share_a_choice_find_what_they_would_by_themselves(monkeypatch):
    mdata = kx.datasets.drug_response(n_treatments=40, n_contexts=4, n_genes=50, missing=0.2)
    candidates = {"noises": (0.5, 0.7, 1.0, 1.4), "own_shares": (0.1, 0.2, 0.4), "common_shares": (0.0, 0.15)}
    methods = {"kronecker": kx.tl.KroneckerOptions(n_folds=3, **candidates)}
    together = kx.metrics.cross_validate(mdata, methods=methods, n_folds=7)
    monkeypatch.setattr(ComparedMethod, "known", lambda *_: [None] * 7)
    alone = kx.metrics.cross_validate(mdata, methods=methods, n_folds=7)
    assert together.table.loc["kronecker", "pct"] == pytest.approx(alone.table.loc["kronecker", "pct"], abs=0.02)
    one, other = (result.profiles.layers["kronecker"].ravel() for result in (together, alone))
    assert np.corrcoef(one, other)[0, 1] > 0.99


def test_nothing_of_a_fold_leaks_into_its_predictions():
    mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=4, n_genes=30, missing=0.2)
    before = kx.metrics.cross_validate(mdata, methods={"kronecker": CHOSEN}, n_folds=7)
    spoilt = mdata.copy()
    held = before.profiles.obs[before.profiles.obs["fold"] == 3]
    for treatment, context in zip(held["treatment"], held["context"], strict=True):
        spoilt[context].X[spoilt[context].obs_names.get_loc(treatment)] *= -30.0
    after = kx.metrics.cross_validate(spoilt, methods={"kronecker": CHOSEN}, n_folds=7)
    here = (before.profiles.obs["fold"] == 3).to_numpy()
    one, other = (result.profiles.layers["kronecker"] for result in (before, after))
    np.testing.assert_array_equal(one[here], other[here])
    np.testing.assert_array_equal(before.confidences[here], after.confidences[here])
    assert (one[~here] != other[~here]).any(axis=1).all()


def test_the_number_of_cores_changes_nothing(mdata, result, monkeypatch):
    monkeypatch.setattr(device, "_cores", lambda: 1)
    again = kx.metrics.cross_validate(mdata, methods={"plain": PLAIN}, n_folds=4)
    monkeypatch.setattr(device, "_cores", lambda: 4)
    many = kx.metrics.cross_validate(mdata, methods={"plain": PLAIN}, n_folds=4)
    for other in (again, many):
        np.testing.assert_array_equal(result.profiles.layers["plain"], other.profiles.layers["plain"])
