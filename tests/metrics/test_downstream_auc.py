"""kx.metrics.downstream_auc: what classifiers are trained on, and asked about."""

import numpy as np
import pandas as pd
import pytest
from mudata import MuData
from scipy.stats import ttest_rel
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier

import kronax as kx
from kronax._data import tensor as tensors


@pytest.fixture(scope="module")
def mdata():
    mdata = kx.datasets.drug_response(n_treatments=60, n_contexts=3, n_genes=20, rank=2, noise=1.0, missing=0.5)
    kx.tl.complete_tensor(mdata, method="mean_2d")
    return mdata


@pytest.fixture(scope="module")
def labels(mdata):
    response = mdata["line0"].layers["truth"][:, 0]
    return pd.DataFrame(
        {"up": response > 0, "large": (np.abs(response) > 1).astype(int)}, index=mdata["line0"].obs_names
    )


NEIGHBORS = {"knn": KNeighborsClassifier(3)}


def test_areas_by_other_means(mdata, labels):
    found = kx.metrics.downstream_auc(mdata, labels[["up"]], profiles=["line1"], models=NEIGHBORS, n_folds=4).table
    adata, y = mdata["line1"], labels["up"].to_numpy().astype(int)
    has = np.flatnonzero(adata.obs["measured"])
    x = adata.layers["completed"]
    score = np.zeros((2, len(has)))
    for training, test in StratifiedKFold(4, shuffle=True, random_state=0).split(x[has], y[has]):
        asked = has[test]
        for row, rows in enumerate((has[training], np.delete(np.arange(60), asked))):
            score[row, test] = KNeighborsClassifier(3).fit(x[rows], y[rows]).predict_proba(x[asked])[:, 1]
    (row,) = found.itertuples()
    assert row.auc_measured == pytest.approx(roc_auc_score(y[has], score[0]))
    assert row.auc_completed == pytest.approx(roc_auc_score(y[has], score[1]))
    assert (row.n_measured, row.n_completed, row.n_positive) == (len(has), 60, y[has].sum())


def test_all_experiments_and_the_test(mdata, labels):
    found = kx.metrics.downstream_auc(mdata, labels, models=NEIGHBORS, n_folds=3)
    assert set(found.table["profile"]) == {"line0", "line1", "line2", "mean", "max"}
    kept = found.table[found.table["signal"]]
    assert found.mean_difference == pytest.approx((kept["auc_completed"] - kept["auc_measured"]).mean())
    assert found.p_value == pytest.approx(ttest_rel(kept["auc_completed"], kept["auc_measured"]).pvalue)
    np.testing.assert_array_equal(
        found.table["signal"], found.table[["auc_measured", "auc_completed"]].max(axis=1) >= 0.5
    )


def test_nothing_is_gained_where_nothing_is_missing(labels):
    mdata = kx.datasets.drug_response(n_treatments=60, n_contexts=3, n_genes=20, rank=2, missing=0)
    found = kx.metrics.downstream_auc(mdata, labels, layer="truth", measured_layer="truth", models=NEIGHBORS)
    np.testing.assert_array_equal(found.table["difference"], 0)


def test_models_of_scikit_learn(mdata, labels):
    found = kx.metrics.downstream_auc(mdata, labels["up"], profiles="line0", n_folds=2)
    assert list(found.table["model"]) == ["logistic_regression", "k_neighbors", "random_forest"]
    assert (found.table["auc_completed"] > 0.6).all()


@pytest.mark.parametrize("missing", [None, pd.NA, float("nan")])
def test_treatments_without_a_label_are_left_out(mdata, labels, missing):
    some = labels["up"].iloc[::-1].astype(object).copy()
    some.iloc[:5] = missing
    found = kx.metrics.downstream_auc(mdata, some.iloc[:50], profiles="line0", models=NEIGHBORS, n_folds=3)
    assert found.table["n_completed"].tolist() == [45]


def test_before_completion(labels):
    mdata = kx.datasets.drug_response(n_treatments=60, n_contexts=3, n_genes=20)
    with pytest.raises(KeyError, match="Run kx.tl.complete_tensor first"):
        kx.metrics.downstream_auc(mdata, labels)


@pytest.mark.parametrize(
    ("change", "arguments", "error", "match"),
    [
        (lambda x: x.assign(up=2), {}, ValueError, r"`labels\['up'\]` must hold True and False"),
        (
            lambda x: x.set_axis([f"z{i}" for i in range(60)]),
            {},
            ValueError,
            r"drug4, …\) is in the index of `labels` \(z0, z1",
        ),
        (lambda _: "cell_specific", {}, TypeError, r"found str. That may be `mdata\['line0'\].obs\['cell_specific'\]`"),
        (lambda _: "toxic", {}, TypeError, r"Series or DataFrame with treatments as index, found str\.$"),
        (lambda x: list(x["up"]), {}, TypeError, r"found list. Give them names: `pd.Series\(labels, index"),
        (lambda x: pd.concat([x, x]), {}, ValueError, "occur more than once"),
        (lambda x: x.assign(up=0, large=0), {}, ValueError, "No label has 3 measured profiles"),
        (lambda x: x, {"models": ["svm"]}, ValueError, "`models` must be one of"),
        (lambda x: x, {"models": []}, ValueError, "`models` is empty"),
        (lambda x: x, {"profiles": ["line9"]}, KeyError, "line9"),
        (lambda x: x, {"layer": "none"}, KeyError, "none"),
        (lambda x: x, {"layer": None}, ValueError, r"gaps\. Run kx\.tl\.complete_tensor first"),
    ],
)
def test_what_is_refused(mdata, labels, change, arguments, error, match):
    with pytest.raises(error, match=match):
        kx.metrics.downstream_auc(mdata, change(labels), **arguments)


def test_contexts_called_like_our_rows(mdata, labels):
    """Our names stay as they are documented; the contexts have their kind before theirs."""
    names = dict(zip(mdata.mod, ["mean", "max", "context mean"], strict=True))
    with tensors.without_pulling():
        other = MuData({new: mdata[old] for old, new in names.items()}, axis=-1)
    with pytest.warns(UserWarning, match="'mean' is 'context context mean', 'max' is 'context max'"):
        found = kx.metrics.downstream_auc(other, labels[["up"]], models=NEIGHBORS, n_folds=3).table
    expected = kx.metrics.downstream_auc(mdata, labels[["up"]], models=NEIGHBORS, n_folds=3).table
    expected["profile"] = ["context context mean", "context max", "context mean", "mean", "max"]
    pd.testing.assert_frame_equal(found, expected)


def test_gaps_are_told(mdata, labels):
    """A profile with a gap is left out; where none is left, the message says why."""
    other = mdata.copy()
    x = other["line0"].X
    has = np.flatnonzero(other["line0"].obs["measured"])
    x[has[:2], 3] = np.nan
    kx.tl.complete_tensor(other, method="mean_2d")
    with pytest.warns(UserWarning, match="2 of [0-9]+ measured profiles have gaps .* 19 genes of 20 have no gap"):
        found = kx.metrics.downstream_auc(other, labels["up"], profiles="line0", models=NEIGHBORS, n_folds=3).table
    assert found["n_measured"].tolist() == [len(has) - 2]
    x[has, np.arange(len(has)) % 20] = np.nan
    kx.tl.complete_tensor(other, method="mean_2d")
    with pytest.raises(ValueError, match="a classifier needs complete profiles"):
        kx.metrics.downstream_auc(other, labels["up"], profiles="line0", models=NEIGHBORS)


@pytest.mark.parametrize("argument", ["profiles", "models"])
def test_lists_are_lists(mdata, labels, argument):
    with pytest.raises(TypeError, match=f"`{argument}` must be a list"):
        kx.metrics.downstream_auc(mdata, labels, **{argument: 3})
