"""kx.datasets.drug_response: its truth has few components, and gaps as many as asked for."""

import numpy as np
import pytest

import kronax as kx


def values(mdata, layer=None):
    return np.stack([adata.X if layer is None else adata.layers[layer] for adata in mdata.mod.values()], axis=1)


def test_truth():
    mdata = kx.datasets.drug_response(n_treatments=60, n_contexts=12, n_genes=50, rank=2, noise=0.3)
    truth, x = values(mdata, "truth"), values(mdata)
    np.testing.assert_allclose(np.mean(truth**2), 1.0)
    for mode in range(3):
        unfolding = np.moveaxis(truth, mode, 0).reshape(truth.shape[mode], -1)
        assert np.linalg.matrix_rank(unfolding) == 4 if mode else 2 <= np.linalg.matrix_rank(unfolding) <= 4
    np.testing.assert_allclose(np.nanstd(x - truth), 0.3, rtol=0.05)
    measured = np.stack([adata.obs["measured"] for adata in mdata.mod.values()], axis=1)
    np.testing.assert_array_equal(np.isnan(x), np.broadcast_to(~measured[:, :, None], x.shape))
    assert all(type(name) is str for name in mdata.mod)


def test_cell_specific_drugs_do_different_things():
    mdata = kx.datasets.drug_response(n_treatments=40, n_contexts=10, n_genes=200, specific=0.25)
    specific = mdata["line3"].obs["cell_specific"].to_numpy()
    assert specific.sum() == 10
    mean = [np.corrcoef(profiles)[np.triu_indices(10, 1)].mean() for profiles in values(mdata, "truth")]
    assert np.array(mean)[~specific].min() > 0.6 > 0.4 > np.array(mean)[specific].max()


@pytest.mark.parametrize(("missing", "n"), [(0.0, 0), (0.5, 60), (0.75, 90)])
def test_gaps(missing, n):
    mdata = kx.datasets.drug_response(n_treatments=30, n_contexts=4, n_genes=3, missing=missing)
    measured = np.stack([adata.obs["measured"] for adata in mdata.mod.values()], axis=1)
    assert (~measured).sum() == n and measured.any(axis=1).all() and measured.any(axis=0).all()


def test_seed(recwarn):
    one, same, other = (
        values(kx.datasets.drug_response(n_treatments=5, n_contexts=3, n_genes=4, random_state=seed))
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other, equal_nan=True)
    assert not [
        w.message for w in recwarn if not issubclass(w.category, DeprecationWarning)
    ]  # those are pandas' affair


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n_contexts": 1}, "`n_contexts` must be an integer of at least 2"),
        ({"rank": 0}, "`rank` must be"),
        ({"specific": 1.5}, "`specific` must be a number from 0 to 1"),
        ({"missing": 0.9}, "every treatment keeps one, so at most 0.75 can be missing"),
        ({"noise": -1.0}, "`noise` must be a number of at least 0"),
        ({"random_state": -1}, "`random_state` must be"),
    ],
)
def test_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        kx.datasets.drug_response(**{"n_treatments": 10, "n_contexts": 4, "n_genes": 5} | arguments)
