"""kx.metrics.density_curve: what is in training, and what it is compared with."""

import logging

import jax
import numpy as np
import pytest

import kronax as kx
from kronax._data import tensor as tensors
from kronax.metrics import _density_curve
from kronax.solvers.tensor.folds import hide, pooled_correlation
from kronax.solvers.tensor.means import mean_2d


@pytest.fixture(scope="module")
def mdata():
    return kx.datasets.drug_response(n_treatments=20, n_contexts=5, n_genes=30, rank=2, missing=0.2)


def test_draws(mdata):
    measured = tensors.read(mdata).measured
    before = {}
    for repeat, size, training, test in _density_curve._draws(measured, 10, [20, 40, 70], 3, 0):
        assert training.sum() == size
        assert test.sum() == 10
        assert not (training & test).any()
        assert not ((training | test) & ~measured).any()
        if repeat in before:
            np.testing.assert_array_equal(test, before[repeat][1])
            assert (before[repeat][0] <= training).all()
        before[repeat] = training, test
    assert any((before[0][1] != before[k][1]).any() for k in (1, 2))


def test_correlations_by_other_means(mdata):
    curve = kx.metrics.density_curve(mdata, methods="mean_2d", densities=[0.6, 0.3], n_repeats=2)
    assert list(curve.table["density"]) == [0.3, 0.6, 0.3, 0.6]
    values = tensors.read(mdata).values
    draws = _density_curve._draws(~np.isnan(values).all(axis=2), 10, [30, 60], 2, 0)
    expected = [
        pooled_correlation(values[test], mean_2d(hide(values, ~training)).values[test]) for *_, training, test in draws
    ]
    np.testing.assert_allclose(curve.table["pct"], expected)
    means = curve.summary.loc["mean_2d"]
    np.testing.assert_allclose(means.loc[0.3, "mean"], np.mean(expected[::2]))
    np.testing.assert_allclose(means.loc[0.6, "std"], np.std(expected[1::2], ddof=1))


def test_more_data_are_better(mdata):
    methods = {"plain": kx.tl.KroneckerOptions(noise=1.0, own_share=0.2, common_share=0.15), "dnpp": "dnpp"}
    curve = kx.metrics.density_curve(mdata, methods=methods, densities=[0.15, 0.7], n_repeats=3)
    for method in methods:
        assert curve.summary.loc[(method, 0.7), "mean"] > curve.summary.loc[(method, 0.15), "mean"]
    share = curve.table.groupby(["method", "density"])["unpredicted"].mean()
    assert share["plain", 0.15] > share["plain", 0.7]


@pytest.mark.parametrize(
    ("missing", "densities", "held_out"),
    [
        (0.0, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 0.1),
        (0.45, [0.1, 0.2, 0.3, 0.4], 0.1),
        (0.8, [0.04, 0.08, 0.11, 0.15], 0.05),  # 20 of 100 fibers, from which a quarter is held out
        (0.98, [0.01], 0.005),
    ],
)
def test_densities_by_default_fit_the_tensor(missing, densities, held_out):
    mdata = kx.datasets.drug_response(n_treatments=20, n_contexts=5, n_genes=6, rank=2)
    gone = np.random.default_rng(0).permutation(100)[: round(100 * missing)]
    for c, adata in enumerate(mdata.mod.values()):
        adata.X = adata.layers["truth"].copy()
        adata.X[gone[gone % 5 == c] // 5] = np.nan
    curve = kx.metrics.density_curve(mdata, methods="mean_2d", n_repeats=1)
    assert curve.table["density"].tolist() == pytest.approx(densities)
    assert curve.parameters["densities"] == pytest.approx(densities)
    assert curve.parameters["held_out"] == pytest.approx(held_out)


def test_all_methods_at_densities_by_default():
    mdata = kx.datasets.drug_response(n_treatments=10, n_contexts=4, n_genes=6, rank=2, missing=0.7)
    curve = kx.metrics.density_curve(mdata, n_repeats=1)
    assert len(curve.summary.index.unique("method")) == 5


def test_repeats_share_compiled_code(caplog):
    """What is drawn differs; how much does not."""
    mdata = kx.datasets.drug_response(n_treatments=11, n_contexts=3, n_genes=59, rank=2, missing=0.1)
    method = {"plain": kx.tl.KroneckerOptions(noise=1.0, own_share=0.2, common_share=0.15)}

    def compilations(n_repeats):
        caplog.clear()
        with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
            kx.metrics.density_curve(mdata, methods=method, densities=[0.3, 0.7], n_repeats=n_repeats)
        return sum("Compiling" in record.getMessage() for record in caplog.records)

    assert compilations(1) > 0
    assert compilations(3) == 0


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"densities": [0.8]}, r"80\.0% of the fibers were measured; with 10\.0% held out, densities up to 0\.7 can"),
        ({"densities": []}, "`densities` is empty"),
        ({"densities": [-0.1, 0.3]}, "`densities` must be a positive number"),
        ({"held_out": 1.0}, r"With 100\.0% of the fibers held out, none of those .* is left .* smaller `held_out`"),
        ({"held_out": 0.8, "densities": [0.1]}, r"With 80\.0% of the fibers held out, none"),
        ({"held_out": 0}, "`held_out` must be a positive number"),
        ({"n_repeats": 0}, "`n_repeats`"),
        ({"methods": "magic"}, "`methods` must be one of"),
    ],
)
def test_what_is_refused(mdata, arguments, match):
    with pytest.raises(ValueError, match=match):
        kx.metrics.density_curve(mdata, **{"methods": "mean_1d", **arguments})
