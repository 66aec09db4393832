"""Scores of predicted profiles, against cases worked by hand and other people's implementations."""

import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.spatial.distance import pdist
from sklearn.metrics import roc_auc_score

import kronax as kx
from kronax.metrics import _tensor_scores as scores

NAN = np.nan


@pytest.fixture
def profiles(rng):
    truth = rng.normal(size=(7, 50))
    return truth, 0.5 * truth + rng.normal(size=truth.shape)


def test_names_are_brought_together(profiles):
    truth, predicted = (pd.DataFrame(x).rename(index="drug{}".format, columns="gene{}".format) for x in profiles)
    shuffled = predicted.sample(frac=1, random_state=0).sample(frac=1, random_state=0, axis=1)
    assert kx.metrics.deg_auc(truth, shuffled) == kx.metrics.deg_auc(*profiles)
    assert kx.metrics.calibration_slope(truth, shuffled) == pytest.approx(kx.metrics.calibration_slope(*profiles))
    assert kx.metrics.deg_auc(truth, profiles[1]) == kx.metrics.deg_auc(*profiles)
    with pytest.raises(ValueError, match="there is not one 'gene3' in both"):
        kx.metrics.deg_auc(truth, shuffled.rename(columns={"gene3": "another"}))


def test_tensors_of_other_orders():
    mdata = kx.datasets.drug_response(n_treatments=12, n_contexts=3, n_genes=8, missing=0, noise=0.1)
    contexts = ["line2", "line0", "line1"]
    other = mudata.MuData({name: mdata[name][::-1, ::-1].copy() for name in contexts}, axis=-1)
    truth, predicted = kx.get.array(mdata), kx.get.array(other)
    assert not np.array_equal(truth, predicted)
    assert kx.metrics.calibration_slope(truth, predicted) == pytest.approx(1.0)
    assert kx.metrics.by_category(truth, predicted).loc["all", "mae"] == 0.0


def test_deg_auc_by_hand():
    truth = np.array([[0.1, -3.0, 0.2, 0.0]])  # the second is differentially expressed
    assert kx.metrics.deg_auc(truth, np.array([[0.0, 5.0, -4.0, 1.0]]), top=0.25) == 1.0
    assert kx.metrics.deg_auc(truth, np.array([[1.0, 0.0, -4.0, 2.0]]), top=0.25) == 0.0
    assert kx.metrics.deg_auc(truth, np.array([[9.0, -2.0, 1.0, 1.0]]), top=0.25) == pytest.approx(2 / 3)
    assert kx.metrics.deg_auc(truth, np.ones((1, 4)), top=0.25) == 0.5


@pytest.mark.parametrize("top", [0.02, 0.035, 0.1, 0.5])
def test_deg_auc_equals_that_of_pooled_ranks(profiles, top):
    truth, predicted = profiles
    label = [np.argsort(np.argsort(-np.abs(row))) < round(top * 50) for row in truth]
    score = [stats.rankdata(np.abs(row)) for row in predicted]
    expected = roc_auc_score(np.ravel(label), np.ravel(score))
    assert kx.metrics.deg_auc(truth, predicted, top=top) == pytest.approx(expected)


def test_deg_auc_is_that_of_ranks_within_a_profile(profiles):
    truth, predicted = profiles
    scaled = predicted * np.arange(1, 8)[:, None]
    assert kx.metrics.deg_auc(truth, scaled, top=0.1) == kx.metrics.deg_auc(truth, predicted, top=0.1)
    assert kx.metrics.deg_auc(truth, -(scaled**3), top=0.1) == kx.metrics.deg_auc(truth, predicted, top=0.1)


def test_deg_auc_leaves_out_what_is_missing(profiles):
    truth, predicted = profiles
    expected = kx.metrics.deg_auc(truth, predicted, top=0.1)
    wider = np.column_stack([truth, np.full(7, 9.0)]), np.column_stack([predicted, np.full(7, NAN)])
    assert kx.metrics.deg_auc(*wider, top=0.1) == expected
    assert kx.metrics.deg_auc(*reversed(wider), top=0.1) == kx.metrics.deg_auc(predicted, truth, top=0.1)
    more = np.vstack([truth, np.full(50, NAN)]), np.vstack([predicted, np.ones(50)])
    assert kx.metrics.deg_auc(*more, top=0.1) == expected


def test_deg_auc_of_ternary_profiles():
    """All genes as large as the last one are labelled; of those at 0, none."""
    truth = np.array([[1.0, -1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    label, _ = scores.deg_labels(truth, truth, top=0.2)
    np.testing.assert_array_equal(label, [1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    assert np.isnan(kx.metrics.deg_auc(np.zeros((2, 3)), np.ones((2, 3))))


@pytest.mark.parametrize("top", [0, 1, -0.5, NAN])
def test_deg_auc_needs_a_share(top):
    with pytest.raises(ValueError, match="`top` must lie between 0 and 1"):
        kx.metrics.deg_auc(np.ones((2, 3)), np.ones((2, 3)), top=top)


def test_shapes_must_be_equal():
    for function in (kx.metrics.deg_auc, kx.metrics.calibration_slope):
        with pytest.raises(ValueError, match=r"found \(2, 3\) and \(3, 2\)"):
            function(np.ones((2, 3)), np.ones((3, 2)))


def test_calibration_slope_is_that_of_the_regression(profiles):
    truth, predicted = profiles
    expected = stats.linregress(predicted.ravel(), truth.ravel()).slope
    assert kx.metrics.calibration_slope(truth, predicted) == pytest.approx(expected)
    assert kx.metrics.calibration_slope(truth, predicted / 3) == pytest.approx(3 * expected)
    holed = np.where(truth > 1.5, NAN, truth)
    keep = truth <= 1.5
    expected = stats.linregress(predicted[keep], truth[keep]).slope
    assert kx.metrics.calibration_slope(holed, predicted) == pytest.approx(expected)
    assert np.isnan(kx.metrics.calibration_slope(truth, np.ones_like(truth)))


def test_variance_ratio(profiles):
    truth, predicted = profiles
    assert scores.variance_ratio(truth, 0.5 * truth + 3) == pytest.approx(0.25)
    assert scores.variance_ratio(truth, predicted) == pytest.approx(predicted.var() / truth.var())


def test_errors_by_hand():
    truth, predicted = np.array([[1.0, NAN, 3.0]]), np.array([[2.0, 5.0, 1.0]])
    assert scores.mean_absolute_error(truth, predicted) == 1.5
    assert scores.mean_squared_error(truth, predicted) == 2.5


def test_correlations(profiles):
    truth, predicted = profiles
    np.testing.assert_allclose(
        scores.row_correlations(truth, predicted), [np.corrcoef(t, p)[0, 1] for t, p in zip(*profiles, strict=True)]
    )
    group = np.array([0, 1, 0, 2, 2, 1, 0])
    np.testing.assert_allclose(
        scores.grouped_correlations(truth, predicted, group, 3),
        [np.corrcoef(truth[group == k].ravel(), predicted[group == k].ravel())[0, 1] for k in range(3)],
    )


def test_cosine_distance(rng):
    x = rng.normal(size=(6, 9))
    assert scores.mean_cosine_distance(x) == pytest.approx(pdist(x, "cosine").mean())
    assert scores.mean_cosine_distance(np.array([[1.0, 0.0], [3.0, 0.0]])) == 0.0
    assert scores.mean_cosine_distance(np.array([[1.0, 1.0], [-2.0, -2.0]])) == pytest.approx(2.0)
    x[0, 3], x[2, 3], x[2, 5] = NAN, NAN, NAN
    pairs = [(x[i], x[j]) for i in range(6) for j in range(i)]
    shared = [~np.isnan(a + b) for a, b in pairs]
    expected = np.mean([pdist([a[s], b[s]], "cosine")[0] for (a, b), s in zip(pairs, shared, strict=True)])
    assert scores.mean_cosine_distance(x) == pytest.approx(expected)


def test_cosine_distance_needs_a_pair():
    assert np.isnan(scores.mean_cosine_distance(np.ones((1, 3))))
    assert np.isnan(scores.mean_cosine_distance(np.array([[0.0, 0.0], [1.0, 2.0]])))


def test_places_are_no_names(profiles):
    """Some rows of a table that has no names beside what a model predicts for them, in their order."""
    truth, predicted = profiles
    some = pd.DataFrame(np.vstack([truth, truth]))[np.arange(14) % 2 == 1].iloc[::-1]
    assert kx.metrics.deg_auc(some, pd.DataFrame(predicted)) == kx.metrics.deg_auc(some.to_numpy(), predicted)
    order = np.random.default_rng(0).permutation(7)
    assert kx.metrics.deg_auc(pd.DataFrame(truth).iloc[order], pd.DataFrame(predicted)) == kx.metrics.deg_auc(
        truth[order], predicted
    )
