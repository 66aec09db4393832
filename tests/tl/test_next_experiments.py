"""kx.tl.next_experiments and kx.pl.next_experiments: the profiles to measure next."""

import warnings

import mudata
import numpy as np
import pandas as pd
import pytest
from zarr.storage import MemoryStore  # a folder takes three times as long

import kronax as kx
from kronax._data import tensor as tensors

OPTIONS = kx.tl.KroneckerOptions(noise=0.5, own_share=0.2, common_share=0.0)


@pytest.fixture
def mdata():
    found = kx.datasets.drug_response(n_treatments=12, n_contexts=4, n_genes=9, rank=2, missing=0.4)
    kx.tl.complete_tensor(found, options=OPTIONS)
    return found


def test_table_and_places(mdata):
    assert kx.tl.next_experiments(mdata, n=5) is None
    table = mdata.uns["next_experiments"]["table"]
    assert list(table) == ["treatment", "context", "confidence", "gain"] and len(table) == 5
    for place, row in table.iterrows():
        obs = mdata[row.context].obs.loc[row.treatment]
        assert obs["next_experiment"] == float(place) and not obs["measured"]
        assert obs["completion_confidence"] == row.confidence
    assert sum(int(a.obs["next_experiment"].notna().sum()) for a in mdata.mod.values()) == 5
    assert (table.gain > 0).all() and table.gain.sum() < 1


def test_only_some(mdata):
    kx.tl.next_experiments(mdata, n=50, contexts=["line1"], treatments=mdata.obs_names[:6])
    table = mdata.uns["next_experiments"]["table"]
    missing = ~mdata["line1"].obs["measured"].iloc[:6]
    assert set(table.context) == {"line1"} and set(table.treatment) == set(missing.index[missing])


def test_fewer_than_asked_for_are_told(mdata, caplog):
    """The last one that is missing tells nothing of others: what is left of its gain is rounding."""
    missing = sum(int((~adata.obs["measured"]).sum()) for adata in mdata.mod.values())
    kx.tl.next_experiments(mdata, n=missing + 20)
    gain = mdata.uns["next_experiments"]["table"]["gain"]
    assert len(gain) == missing - 1 and (gain > 1e-12).all()
    assert (
        f"{missing - 1} profiles of the {missing + 20} asked for ({missing} profiles could be chosen; the other 1"
        in caplog.text
    )


def test_nothing_to_learn(mdata):
    for context, adata in mdata.mod.items():
        gap = adata.obs_names == "drug3" if context == "line0" else np.zeros(adata.n_obs, bool)
        adata.X = np.where(gap[:, None], np.nan, np.nan_to_num(adata.X, nan=0.5))
    kx.tl.complete_tensor(mdata, options=OPTIONS)
    with pytest.raises(ValueError, match="1 profile could be chosen, and none tells of another that is missing"):
        kx.tl.next_experiments(mdata)
    assert "next_experiments" not in mdata.uns


def test_treatments_added_since_are_told(mdata):
    kx.pp.align(mdata, treatments=["new"])
    with pytest.raises(ValueError, match="lacks 4 profiles, of treatments such as new, which were added later"):
        kx.tl.next_experiments(mdata)
    assert "next_experiments" not in mdata.uns


def test_copy_and_files(mdata, tmp_path):
    found = kx.tl.next_experiments(mdata, n=3, contexts=["line1", "line2"], copy=True)
    assert "next_experiments" not in mdata.uns and "next_experiment" not in mdata["line1"].obs
    with tensors.without_pulling():
        found.write(tmp_path / "x.h5mu")
        found.write_zarr(store := MemoryStore())
        for back in (mudata.read_h5mu(tmp_path / "x.h5mu"), mudata.read_zarr(store)):
            pd.testing.assert_frame_equal(
                back.uns["next_experiments"]["table"], found.uns["next_experiments"]["table"], check_dtype=False
            )
            kx.tl.next_experiments(back, n=3, contexts=["line1", "line2"])


def test_the_next_completion_removes_them(mdata):
    kx.tl.next_experiments(mdata)
    kx.tl.complete_tensor(mdata, options=OPTIONS)
    assert "next_experiments" not in mdata.uns and "next_experiment" not in mdata["line0"].obs


def test_with_side_information(mdata):
    for adata in mdata.mod.values():
        adata.X[5] = np.nan
        adata.obs["moa"] = [f"m{i % 3}" for i in range(12)]
    kx.pp.treatment_similarity(mdata, labels="moa")
    mdata.uns["contexts"] = pd.DataFrame({"dose": [0.1, 1.0, 10.0, 100.0]}, index=list(mdata.mod))
    options = kx.tl.KroneckerOptions(
        noise=0.5,
        own_share=0.2,
        common_share=0.0,
        treatment_similarity=("annotation",),
        context_coordinates={"dose": "log"},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kx.tl.complete_tensor(mdata, options=options)
    kx.tl.next_experiments(mdata, n=4, treatments=["drug5"])
    assert set(mdata.uns["next_experiments"]["table"].treatment) == {"drug5"}
    mdata.obsp.pop("annotation")
    with pytest.raises(KeyError, match="annotation"):
        kx.tl.next_experiments(mdata)


def test_what_is_the_users_own_is_kept(mdata):
    mdata.uns["next_experiments"] = "on Monday"
    with pytest.warns(UserWarning, match="next_experiments_before"):
        kx.tl.next_experiments(mdata)
    assert mdata.uns["next_experiments_before"] == "on Monday"


def test_refused(mdata):
    with pytest.raises(KeyError, match=r"There is no context 'linen'\. Did you mean 'line"):
        kx.tl.next_experiments(mdata, contexts=["linen"])
    for argument in ("treatments", "contexts"):
        with pytest.raises(ValueError, match=f"`{argument}` is empty; name those to choose from"):
            kx.tl.next_experiments(mdata, **{argument: []})
    with pytest.raises(ValueError, match="`n` must be"):
        kx.tl.next_experiments(mdata, n=0)
    fresh = kx.datasets.drug_response(n_treatments=12, n_contexts=4, n_genes=9)
    with pytest.raises(KeyError, match="Run kx.tl.complete_tensor first"):
        kx.tl.next_experiments(fresh)
    kx.tl.complete_tensor(fresh, method="mean_2d")
    with pytest.raises(ValueError, match="is by method 'mean_2d'"):
        kx.tl.next_experiments(fresh)


def test_figure(mdata):
    with pytest.raises(KeyError, match="Run kx.tl.next_experiments first"):
        kx.pl.next_experiments(mdata)
    kx.tl.next_experiments(mdata, n=5)
    figure = kx.pl.next_experiments(mdata)
    codes = figure.axes[0].collections[0].get_array()
    assert (np.asarray(codes) == 2).sum() == 5
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()][2] == "to measure next"
