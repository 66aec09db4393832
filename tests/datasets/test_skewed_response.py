import numpy as np
import pandas as pd
import pytest

import kronax as kx


def stacked(mdata, layer=None):
    return np.stack([a.X if layer is None else a.layers[layer] for a in mdata.mod.values()], axis=1)


@pytest.mark.parametrize("attention", [0.0, 1.0])
def test_most_values_are_near_zero_and_few_are_large(attention):
    truth = stacked(kx.datasets.skewed_response(n_treatments=300, attention=attention), "truth")
    assert np.mean(truth**2) == pytest.approx(1.0)
    assert np.mean(np.abs(truth) < 1.5) == pytest.approx(0.92, abs=0.03)
    assert np.abs(truth).max() > 8


def test_rank_without_and_with_attention():
    ranks = []
    for attention in (0.0, 1.0):
        truth = stacked(kx.datasets.skewed_response(n_treatments=60, n_genes=50, rank=3, attention=attention), "truth")
        ranks.append(np.linalg.matrix_rank(truth.reshape(60, -1)))
    assert ranks[0] == 3
    assert ranks[1] > 10


def test_tissues_are_measured_unequally():
    mdata = kx.datasets.skewed_response(n_genes=5, noise=0.0)
    values, truth = stacked(mdata), stacked(mdata, "truth")
    measured = ~np.isnan(values[:, :, 0])
    assert measured.any(axis=1).all()
    assert measured.any(axis=0).all()
    assert (measured.sum(axis=1) == 1).mean() == pytest.approx(0.7, abs=0.07)
    assert measured[:, 0].mean() > 0.4
    assert measured[:, -1].mean() < 0.06
    np.testing.assert_array_equal(values[measured], truth[measured])
    np.testing.assert_array_equal(measured, np.stack([a.obs["measured"] for a in mdata.mod.values()], axis=1))


def test_given_pattern(rng):
    table = pd.DataFrame(rng.random((12, 3)) < 0.5, columns=["liver", "heart", "brain"])
    mdata = kx.datasets.skewed_response(n_treatments=12, n_contexts=3, n_genes=4, measured=table)
    assert list(mdata.mod) == ["liver", "heart", "brain"]
    np.testing.assert_array_equal(~np.isnan(stacked(mdata)[:, :, 0]), table.to_numpy())
    again = kx.datasets.skewed_response(n_treatments=12, n_contexts=3, n_genes=4, measured=table)
    np.testing.assert_array_equal(stacked(mdata), stacked(again))
    with pytest.raises(ValueError, match="12 × 4"):
        kx.datasets.skewed_response(n_treatments=12, n_contexts=4, n_genes=4, measured=table)
