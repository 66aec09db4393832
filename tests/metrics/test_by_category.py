import numpy as np
import pytest

import kronax as kx

CUTOFFS = (-2.0, -1.0, 1.0, 2.0)


def test_by_hand():
    truth = np.array([[[-3.0, 0.0], [1.5, np.nan]], [[0.5, 4.0], [np.nan, np.nan]]])
    predicted = np.array([[[-1.0, 0.5], [0.5, 9.0]], [[0.5, 2.0], [1.0, np.nan]]])
    scores = kx.metrics.by_category(truth, predicted, cutoffs=CUTOFFS, contexts=["liver", "heart"])
    assert scores["n"].to_dict() == {
        "all": 5,
        "extreme": 3,
        "category -2": 1,
        "category -1": 0,
        "category 0": 2,
        "category 1": 1,
        "category 2": 1,
        "liver": 4,
        "heart": 1,
    }
    assert scores.loc["all", "mae"] == pytest.approx((2 + 0.5 + 1 + 0 + 2) / 5)
    assert scores.loc["extreme", "mse"] == pytest.approx((4 + 1 + 4) / 3)
    assert scores.loc["category 0", "mae"] == pytest.approx(0.25)
    assert np.isnan(scores.loc["category -1", "mae"])
    expected = np.var([-1.0, 0.5, 0.5, 2.0]) / np.var([-3.0, 0.0, 0.5, 4.0])
    assert scores.loc["liver", "variance_ratio"] == pytest.approx(expected)
    assert np.isnan(scores.loc["heart", "variance_ratio"])


def test_default_cutoffs(rng):
    truth = rng.standard_t(3, size=(50, 4, 100))
    scores = kx.metrics.by_category(truth, 0 * truth)
    assert scores.loc["extreme", "n"] == pytest.approx(0.08 * truth.size, rel=0.01)
    assert scores.loc["all", "variance_ratio"] == 0


def test_of_a_cross_validation():
    """As of the arrays by hand: every held-out profile at its treatment and context."""
    mdata = kx.datasets.skewed_response(n_treatments=30, n_contexts=3, n_genes=7)
    result = kx.metrics.cross_validate(mdata, methods=["mean_1d", "mean_2d"], n_folds=3)
    scores = kx.metrics.by_category(result, "mean_2d")
    assert scores.loc["all", "mae"] == pytest.approx(result.table.loc["mean_2d", "mae"])
    for context in mdata.mod:
        here = (result.profiles.obs["context"] == context).to_numpy()
        error = np.abs(result.profiles.X - result.profiles.layers["mean_2d"])[here]
        assert scores.loc[context, "mae"] == pytest.approx(np.nanmean(error))
    with pytest.raises(KeyError, match="no method 'mean2d'. Did you mean 'mean_2d'"):
        kx.metrics.by_category(result, "mean2d")


def test_refused(rng):
    x = rng.normal(size=(3, 2, 4))
    with pytest.raises(ValueError, match="same shape"):
        kx.metrics.by_category(x, x[:, :1])
    with pytest.raises(ValueError, match="names 1 contexts"):
        kx.metrics.by_category(x, x, contexts=["a"])
    with pytest.raises(ValueError, match="nothing to compare"):
        kx.metrics.by_category(x, np.full_like(x, np.nan))


def test_contexts_called_like_our_rows(rng):
    truth = rng.normal(size=(6, 4, 5))
    names = ["all", "extreme", "category 1", "b"]
    with pytest.warns(UserWarning, match="Names of contexts are also those of rows of the result"):
        found = kx.metrics.by_category(truth, 0.5 * truth, contexts=names)
    expected = kx.metrics.by_category(truth, 0.5 * truth, contexts=["c0", "c1", "c2", "c3"])
    assert list(found.index[-4:]) == ["context all", "context extreme", "context category 1", "b"]
    np.testing.assert_array_equal(found, expected)


def test_lists_are_lists(rng):
    truth = rng.normal(size=(3, 2, 4))
    with pytest.raises(TypeError, match="`contexts` must be a list of names, found 'ab'"):
        kx.metrics.by_category(truth, truth, contexts="ab")
    with pytest.raises(TypeError, match="`cutoffs` must be a list of numbers, found 0.1"):
        kx.metrics.by_category(truth, truth, cutoffs=0.1)
