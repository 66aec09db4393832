"""The factor methods of complete_tensor: what they write, and that it can be saved."""

import anndata as ad
import mudata
import numpy as np
import pytest
from zarr.storage import MemoryStore  # a folder takes three times as long

import kronax as kx

OPTIONS = {"rank": 3, "max_epochs": 4, "patience": 4, "batch_size": 16}


@pytest.fixture(scope="module")
def simulated():
    return kx.datasets.skewed_response(n_treatments=40, n_contexts=3, n_genes=12, noise=0.1)


def options(method, **others):
    kind = kx.tl.AttentionOptions if method == "attention_cp" else kx.tl.FactorizationOptions
    return kind(**(OPTIONS | others))


@pytest.mark.parametrize("method", ["mf", "cp", "attention_cp"])
def test_written_and_saved(simulated, tmp_path, method):
    mdata = kx.tl.complete_tensor(simulated, method=method, options=options(method, outlier_z=3.0), copy=True)
    assert "completion" not in simulated.uns
    found = mdata.uns["completion"]
    for context, adata in mdata.mod.items():
        measured = adata.obs["measured"].to_numpy()
        np.testing.assert_array_equal(adata.layers["completed"][measured], simulated[context].X[measured])
        np.testing.assert_array_equal(adata.X, simulated[context].X)
        assert adata.obsm["X_completion"].shape == (40, 3)
        assert adata.varm["completion"].shape == (12, 3)
    assert len(found["objective"]) == len(found["held_out_loss"]) == found["n_iter"]
    assert ("context_factors" in found) == (method != "mf")
    assert ("attention" in found["chosen"]) == (method == "attention_cp")
    assert found["n_clipped"].sum() > 0
    mdata.write_h5mu(tmp_path / "tensor.h5mu")
    mdata.write_zarr(store := MemoryStore())
    for back in (mudata.read_h5mu(tmp_path / "tensor.h5mu"), mudata.read_zarr(store)):
        stored = back.uns["completion"]
        np.testing.assert_array_equal(stored["held_out_loss"], found["held_out_loss"])
        assert list(stored["contexts"]) == list(mdata.mod)
        assert stored["params"]["options"]["rank"] == 3
        np.testing.assert_array_equal(back["tissue0"].obsm["X_completion"], mdata["tissue0"].obsm["X_completion"])
        if method != "mf":
            np.testing.assert_array_equal(stored["context_factors"], found["context_factors"])


def test_non_negative_modes_are_stored(simulated, tmp_path):
    mdata = kx.tl.complete_tensor(simulated, method="cp", options=options("cp", non_negative=("context",)), copy=True)
    assert mdata.uns["completion"]["context_factors"].min() >= 0
    mdata["tissue0"].uns["completion"] = mdata.uns["completion"]
    mdata["tissue0"].write_h5ad(tmp_path / "one.h5ad")
    stored = ad.read_h5ad(tmp_path / "one.h5ad").uns["completion"]["params"]["options"]["non_negative"]
    assert list(stored) == ["context"]


def test_factors_of_an_earlier_completion_go(simulated):
    mdata = kx.tl.complete_tensor(simulated, method="cp", options=options("cp"), copy=True)
    kx.tl.complete_tensor(mdata, method="mean_2d")
    assert "X_completion" not in mdata["tissue0"].obsm
    assert "completion" not in mdata["tissue0"].varm
    assert "context_factors" not in mdata.uns["completion"]


def test_divergence_writes_nothing(simulated):
    mdata = simulated.copy()
    with pytest.raises(FloatingPointError, match="learning_rate=1e\\+20"):
        kx.tl.complete_tensor(mdata, method="cp", options=options("cp", learning_rate=1e20))
    assert "completion" not in mdata.uns
    assert "completed" not in mdata["tissue0"].layers


def test_too_large_a_rank_is_told_in_bytes(simulated):
    with pytest.raises(MemoryError, match=r"GiB are needed .* smaller `rank` than 1000000000"):
        kx.tl.complete_tensor(simulated, method="cp", options=options("cp", rank=10**9))


def test_unmeasured_is_named(simulated):
    mdata = simulated.copy()
    for adata in mdata.mod.values():
        adata.X[7] = np.nan
    with pytest.raises(ValueError, match="Nothing was measured of treatments treatment7"):
        kx.tl.complete_tensor(mdata, method="cp", options=options("cp", refuse_unmeasured=True))
    with pytest.warns(UserWarning, match="treatment7; biases were predicted in their place"):
        kx.tl.complete_tensor(mdata, method="cp", options=options("cp"))
    assert set(mdata["tissue1"].obs.loc["treatment7", ["completion_fallback"]]) == {"biases"}


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("rank", 0),
        ("learning_rate", 0.0),
        ("variance_weight", 1.0),
        ("cutoffs", (1.0, 0.0, 2.0, 3.0)),
        ("non_negative", ("tissue",)),
        ("scale", "log"),
        ("attention", "dot"),
        ("outlier_z", -1.0),
    ],
)
def test_options_are_checked(simulated, option, value):
    with pytest.raises(ValueError, match=rf"`options\.{option}`"):
        kx.tl.complete_tensor(simulated, method="attention_cp", options=kx.tl.AttentionOptions(**{option: value}))


def test_options_of_another_method(simulated):
    with pytest.raises(TypeError, match=r"must be a kx\.tl\.AttentionOptions"):
        kx.tl.complete_tensor(simulated, method="attention_cp", options=options("cp"))


@pytest.mark.parametrize("fields", [{}, {"save": "figure.png"}])
def test_figures(simulated, tmp_path, fields):
    mdata = kx.tl.complete_tensor(simulated, method="cp", options=options("cp", non_negative=("context",)), copy=True)
    fields = {key: tmp_path / name for key, name in fields.items()}
    figure = kx.pl.training(mdata, **fields)
    assert [len(line.get_xdata()) for line in figure.axes[0].lines[:2]] == [4, 4]
    names = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert names == ["training", "held-out fibers", "chosen epoch"]
    figure = kx.pl.context_factors(mdata, **fields)
    assert {t.get_text() for t in figure.axes[0].get_yticklabels()} == set(mdata.mod)
    assert figure.axes[0].collections[0].get_array().shape == (3, 3)
    factors = mdata.uns["completion"]["context_factors"]
    rows = [mdata.uns["completion"]["contexts"].tolist().index(t.get_text()) for t in figure.axes[0].get_yticklabels()]
    shown = np.asarray(figure.axes[0].collections[0].get_array())
    for column, number in zip(shown.T, figure.axes[0].get_xticklabels(), strict=True):
        component = factors[rows, int(number.get_text())]
        np.testing.assert_allclose(column * np.abs(component).max(), component, atol=1e-6)
    truth = np.stack([a.layers["truth"] for a in mdata.mod.values()], axis=1)
    figure = kx.pl.prediction_distributions(truth, {"half": truth / 2}, contexts=list(mdata.mod), **fields)
    assert [ax.get_title() for ax in figure.axes] == list(mdata.mod)
    assert figure.axes[0].patches[0].get_data().values.sum() == truth[:, 0].size
    if fields:
        assert fields["save"].stat().st_size > 0


def test_figures_ask_for_the_right_method(simulated):
    with pytest.raises(KeyError, match=r"Run kx\.tl\.complete_tensor first"):
        kx.pl.training(simulated)
    mdata = kx.tl.complete_tensor(simulated, method="mean_2d", copy=True)
    with pytest.raises(KeyError, match="method='mf', 'cp' or 'attention_cp'"):
        kx.pl.training(mdata)
    with pytest.raises(TypeError, match="Expected a MuData object"):
        kx.pl.training(mdata["tissue0"])
    with pytest.raises(KeyError, match="method='cp' or 'attention_cp'"):
        kx.pl.context_factors(mdata)
    with pytest.raises(ValueError, match="same shape"):
        kx.pl.prediction_distributions(np.ones((2, 2, 2)), {"a": np.ones((2, 2, 3))})
