"""kx.tl.complete_tensor: what it writes, what it leaves alone, and everything that can be refused."""

import dataclasses
import logging
import re
import warnings

import mudata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from anndata import AnnData
from scipy import sparse
from zarr.storage import MemoryStore  # a folder takes three times as long

import kronax as kx
from kronax._data import objects
from kronax._data import tensor as tensors
from kronax.solvers.tensor.folds import pooled_correlation
from kronax.solvers.tensor.registry import METHODS
from kronax.solvers.tensor.wiener.options import MOST_FIBERS

D, C, G = 12, 4, 9
QUICK = {
    "kronecker": kx.tl.KroneckerOptions(noise=1.0, own_share=0.0, common_share=0.0),
    "falrtc": kx.tl.FalrtcOptions(tol=1e-2),
    "halrtc": kx.tl.HalrtcOptions(tol=1e-2),
    "silrtc": kx.tl.SilrtcOptions(tol=1e-2),
    **dict.fromkeys(("mf", "cp"), kx.tl.FactorizationOptions(rank=2, max_epochs=4)),
    "attention_cp": kx.tl.AttentionOptions(rank=2, max_epochs=4),
}


@pytest.fixture
def mdata() -> mudata.MuData:
    """Aligned, a third of the profiles missing, and one entry of a profile that is there."""
    found = kx.datasets.drug_response(n_treatments=D, n_contexts=C, n_genes=G, rank=2, missing=0.34, noise=0.1)
    del found["line0"].uns  # nothing there yet
    row = int(np.flatnonzero(found["line1"].obs["measured"])[0])
    found["line1"].X[row, 3] = np.nan
    return found


def ragged(mdata: mudata.MuData) -> mudata.MuData:
    """The same without the rows of missing profiles, in another order in every modality."""
    modalities = {}
    for seed, (context, adata) in enumerate(mdata.mod.items()):
        rows = np.random.default_rng(seed).permutation(np.flatnonzero(adata.obs["measured"]))
        modalities[context] = adata[rows].copy()
    with tensors.without_pulling():
        return mudata.MuData(modalities, axis=-1)


def array(mdata: mudata.MuData, layer: str | None = "completed", order=None) -> np.ndarray:
    order = mdata["line0"].obs_names if order is None else order
    return np.stack([adata[order].to_df(layer).to_numpy() for adata in mdata.mod.values()], axis=1)


def state(mdata: mudata.MuData) -> dict:
    """What an error must not change."""
    return {
        context: (np.asarray(adata.X).tobytes(), list(adata.obs_names), sorted(map(str, adata.layers)), list(adata.obs))
        for context, adata in mdata.mod.items()
    } | {"uns": sorted(mdata.uns)}


# What is written


@pytest.mark.parametrize("method", METHODS)
def test_writes_what_the_solver_finds(mdata, method):
    values = array(mdata, None)
    before = state(mdata)
    assert kx.tl.complete_tensor(mdata, method=method, options=QUICK.get(method)) is None
    expected = METHODS[method](values, QUICK.get(method) or METHODS[method].options())
    same = {"rtol": 1e-12}  # two runs: a BLAS may round otherwise where arrays lie otherwise in memory
    np.testing.assert_allclose(array(mdata), expected.values, **same)
    gaps = np.isnan(values)
    np.testing.assert_array_equal(array(mdata)[~gaps], values[~gaps])
    for c, (context, adata) in enumerate(mdata.mod.items()):
        np.testing.assert_array_equal(adata.obs["measured"], ~gaps[:, c].all(axis=1))
        some = gaps[:, c].any(axis=1)
        confidence = np.full(D, np.nan) if expected.confidence is None else expected.confidence[:, c]
        np.testing.assert_allclose(adata.obs["completion_confidence"], np.where(some, confidence, np.nan), **same)
        fallback = adata.obs["completion_fallback"]
        assert list(fallback == "measured") == list(~some)
        assert list(fallback == "none") == list(some & (expected.fallback[:, c] == 0))
        assert np.asarray(adata.X).tobytes() == before[context][0]
        assert "completion_variance" not in adata.obs
    uns = mdata.uns["completion"]
    assert uns["method"] == method and uns["version"] == kx.__version__
    status = expected.status
    assert (uns["converged"], uns["n_iter"], uns["reason"]) == (status.converged, status.n_iter, status.reason)
    np.testing.assert_allclose(uns["objective"], status.objective, **same)
    assert uns["n_predicted"] == gaps.all(axis=2).sum() and uns["n_entries"] == gaps.sum()
    assert uns["chosen"] == expected.parameters
    assert uns["params"].keys() == {"key_added", "options"} and uns["params"]["key_added"] == "completed"
    options = dataclasses.asdict(QUICK[method] if method in QUICK else METHODS[method].options())
    assert set(uns["params"]["options"]) == {name for name, value in options.items() if value is not None}


def test_default_finds_the_truth(mdata):
    kx.tl.complete_tensor(mdata)
    gaps = np.isnan(array(mdata, None))
    assert pooled_correlation(array(mdata, "truth")[gaps], array(mdata)[gaps]) > 0.8
    confidence = kx.get.profiles(mdata).obs["completion_confidence"]
    assert ((confidence.dropna() > 0) & (confidence.dropna() <= 1)).all()


def test_rows_need_not_be_aligned(mdata, capsys):
    other = ragged(mdata)
    order = list(tensors.union(other))
    kx.tl.complete_tensor(mdata, method="mean_2d")
    kx.tl.complete_tensor(other, method="mean_2d")
    for adata in other.mod.values():
        assert list(adata.obs_names) == order
    np.testing.assert_allclose(array(other, order=order), array(mdata, order=order), rtol=1e-12)
    np.testing.assert_array_equal(array(other, None, order), array(mdata, None, order))
    np.testing.assert_array_equal(array(other, "completed_measured", order), ~np.isnan(array(mdata, None, order)))
    for context, adata in mdata.mod.items():
        assert list(other[context].obs["measured"]) == list(adata.obs.loc[order, "measured"])
    assert list(other.obs_names.sort_values()) == sorted(order)


@pytest.mark.parametrize(
    ("convert", "dtype"),
    [
        (lambda x: x.astype(np.float32), np.float32),
        (lambda x: x.astype(np.float16), np.float16),
        (sparse.csr_matrix, np.float64),
        (lambda x: sparse.csc_array(x.astype(np.float32)), np.float32),
        (lambda x: np.rint(100 * x).astype(np.int16), np.float32),
        (lambda x: np.rint(1e9 * x).astype(np.int64), np.float64),
        (lambda x: np.rint(1e6 * abs(x)).astype(np.uint32), np.float64),
        (lambda x: x > 0, np.float32),
    ],
)
def test_measured_values_bit_for_bit(mdata, convert, dtype):
    other = ragged(mdata)
    for adata in other.mod.values():
        adata.X = convert(np.nan_to_num(adata.X))
    before = {context: adata.copy() for context, adata in other.mod.items()}
    kx.tl.complete_tensor(other, method="mean_2d")
    for context, old in before.items():
        new = other[context]
        assert new.layers["completed"].dtype == dtype and np.isfinite(new.layers["completed"]).all()
        found = new[old.obs_names].layers["completed"]
        expected = old.X.toarray() if sparse.issparse(old.X) else old.X
        assert (found.astype(old.X.dtype) == expected).all() and (found == expected).all()


def test_key_layer_and_copy(mdata):
    for adata in mdata.mod.values():
        adata.layers["twice"] = 2 * adata.X
    before = state(mdata)
    found = kx.tl.complete_tensor(mdata, method="mean_1d", layer="twice", key_added="filled", copy=True)
    assert state(mdata) == before
    kx.tl.complete_tensor(mdata, method="mean_1d")
    np.testing.assert_allclose(array(found, "filled"), 2 * array(mdata), rtol=1e-12)
    assert found.uns["completion"]["params"]["layer"] == "twice"


def test_genes_that_a_context_lacks_stay(mdata):
    with tensors.without_pulling():
        mdata.mod["line2"] = mdata["line2"][:, ::-1][:, :-2].copy()  # without the first two genes, in another order
        mdata.update()
    kx.tl.complete_tensor(mdata, method="mean_2d")
    assert mdata["line0"].n_vars == G and list(mdata["line2"].var_names) == [f"gene{g}" for g in range(G - 1, 1, -1)]
    for context in ("line0", "line1"):
        completed = mdata[context].layers["completed"]
        assert np.isfinite(completed[:, 2:]).all()
        np.testing.assert_array_equal(completed[:, :2], mdata[context].X[:, :2])
    assert kx.get.profiles(mdata).n_vars == G - 2 and np.isfinite(kx.get.profiles(mdata).X).all()


def test_nothing_missing(mdata, capsys):
    for adata in mdata.mod.values():
        adata.X = adata.layers["truth"].copy()
    for method in METHODS:
        kx.tl.complete_tensor(mdata, method=method)
        np.testing.assert_array_equal(array(mdata), array(mdata, "truth"))
        assert mdata.uns["completion"]["reason"] == "nothing was missing"
        assert mdata["line0"].obs["completion_confidence"].isna().all()


def test_variance(mdata):
    options = dataclasses.replace(QUICK["kronecker"], variance=True)
    kx.tl.complete_tensor(mdata, options=options)
    expected = METHODS["kronecker"](array(mdata, None), options).variance
    for c, adata in enumerate(mdata.mod.values()):
        np.testing.assert_allclose(adata.obs["completion_variance"], expected[:, c], rtol=1e-12)
    kx.tl.complete_tensor(mdata, method="mean_1d")  # which has none: what is there would be another method's
    assert "completion_variance" not in mdata["line0"].obs


def test_treatment_and_context_never_measured(mdata):
    for adata in mdata.mod.values():
        adata.X = adata.layers["truth"].copy()
        adata.X[5] = np.nan
    mdata["line1"].X[0] = np.nan
    mdata["line3"].X[:] = np.nan
    with pytest.warns(UserWarning, match="treatments drug5 and of contexts line3; means were predicted"):
        kx.tl.complete_tensor(mdata, options=QUICK["kronecker"])
    fallback = {context: adata.obs["completion_fallback"] for context, adata in mdata.mod.items()}
    assert fallback["line0"].iloc[5] == "context_mean" and fallback["line3"].iloc[5] == "gene_mean"
    assert (fallback["line3"].drop("drug5") == "treatment_mean").all()
    values = array(mdata, None)
    np.testing.assert_allclose(array(mdata)[5, 0], np.nanmean(values[:, 0], axis=0))
    counts = mdata.uns["completion"]["fallbacks"]
    assert counts == {
        "treatment_mean": D - 1,
        "context_mean": C - 1,
        "gene_mean": 1,
        "overall_mean": 0,
        "biases": 0,
        "unlinked": 0,
        "similarity": 0,
    }
    before = state(mdata)
    for method in ("falrtc", "halrtc", "silrtc"):
        words = f"treatments drug5 and of contexts line3; method '{method}' cannot predict them.*'kronecker', 'mean_1d'"
        with pytest.raises(ValueError, match=words):
            kx.tl.complete_tensor(mdata, method=method)
    assert state(mdata) == before


def test_constant_profiles(mdata):
    for adata in mdata.mod.values():
        adata.X = np.where(np.isnan(adata.X), np.nan, np.arange(D)[:, None] + 1.0)
    n_measured = sum(int(adata.obs["measured"].sum()) for adata in mdata.mod.values())
    with pytest.warns(UserWarning, match=f"{n_measured} measured profiles are constant: their correlations are undef"):
        kx.tl.complete_tensor(mdata, method="dnpp")
    gaps = np.isnan(array(mdata, None)).any(axis=2).sum()
    assert mdata.uns["completion"]["fallbacks"]["context_mean"] == gaps
    for method in set(METHODS) - {"dnpp"}:
        kx.tl.complete_tensor(mdata, method=method, options=QUICK.get(method))
        assert np.isfinite(array(mdata)).all()


def test_not_converged(mdata):
    options = dataclasses.replace(QUICK["kronecker"], max_iter=1, tol=1e-9)
    words = r"last of 1 sweeps still changed .* more than .*--option max_iter=4\).*`tol` than 1e-09"
    with pytest.warns(UserWarning, match=words) as caught:
        kx.tl.complete_tensor(mdata, options=options)
    assert caught[0].filename == __file__
    advice = re.search("`options=(.*?)`", str(caught[0].message)).group(1)
    assert eval(advice, {"kx": kx}) == dataclasses.replace(options, max_iter=4)
    assert mdata.uns["completion"]["converged"] is False and len(mdata.uns["completion"]["objective"]) == 1


def test_advice_keeps_all_other_options(mdata):
    options = dataclasses.replace(kx.tl.HODOS_2018, alpha=np.array([1.0, 2.0, 0.5]), max_iter=1, tol=np.float64(1e-9))
    with pytest.warns(UserWarning, match="did not converge") as caught:
        kx.tl.complete_tensor(mdata, method="falrtc", options=options)
    advice = re.search("`options=(.*?)`", str(caught[0].message)).group(1)
    expected = dataclasses.replace(options, alpha=[1.0, 2.0, 0.5], max_iter=4)
    assert eval(advice, {"kx": kx}) == expected


def heard(mdata, recwarn, method="mean_2d", copy=True, **arguments) -> str:
    recwarn.clear()
    kx.tl.complete_tensor(mdata, method=method, copy=copy, **arguments)
    return " ".join(str(w.message) for w in recwarn)


def test_contexts_with_few_profiles(mdata, recwarn):
    """Two profiles are few, three are not; and where nothing is predicted, it does not matter."""
    for context, n in (("line1", 2), ("line2", 3)):
        adata = mdata[context]
        adata.X[np.flatnonzero(adata.obs["measured"])[n:]] = np.nan
    text = heard(mdata, recwarn)
    assert "Fewer than 3 profiles were measured in contexts line1 (2). That" in text
    for adata in mdata.mod.values():
        adata.layers["two"] = adata.layers["truth"].copy()
        adata.layers["two"][2:] = np.nan
    with tensors.without_pulling():
        small = mudata.MuData({context: adata[:2].copy() for context, adata in mdata.mod.items()}, axis=-1)
    assert "Fewer than" not in heard(small, recwarn, layer="two")
    assert "line0 (2), line1 (2), line2 (2), line3 (2)" in heard(mdata, recwarn, layer="two")


def of_blocks(rng, n_bridging):
    """Halves of the treatments in halves of the contexts, but for some in all."""
    x = rng.normal(size=(20, 4, 6))
    gap = (np.arange(20)[:, None] < 10) == (np.arange(4) < 2)
    gap[:n_bridging] = False
    x[gap] = np.nan
    names = [f"drug{d}" for d in range(20)]
    with tensors.without_pulling():
        modalities = {f"line{c}": AnnData(x[:, c], obs=pd.DataFrame(index=names)) for c in range(4)}
        return mudata.MuData(modalities, axis=-1), gap


@pytest.mark.parametrize("method", ["kronecker", "mean_1d", "dnpp", "falrtc"])
def test_blocks_without_a_link_are_told_once(rng, recwarn, method):
    mdata, gap = of_blocks(rng, 0)
    words = heard(mdata, recwarn, method, copy=False, options=QUICK.get(method))
    assert words.count("2 blocks, 10 treatments × 2 contexts (line0, line1), 10 treatments × 2 contexts") == 1
    assert "no treatments were measured in more than one" in words
    assert "40 profiles" in words
    kind = "context_mean" if method == "dnpp" else "unlinked"
    for c, adata in enumerate(mdata.mod.values()):
        assert (adata.obs["completion_fallback"][gap[:, c]] == kind).all()
        assert adata.obs["completion_confidence"].isna()[gap[:, c]].all()
        assert np.isfinite(adata.layers["completed"]).all()
        assert adata.layers["completed"][gap[:, c]].any()
    assert mdata.uns["completion"]["fallbacks"][kind] == gap.sum()


def test_blocks_with_few_bridges_are_told(rng, recwarn):
    mdata, _ = of_blocks(rng, 2)
    words = heard(mdata, recwarn, copy=False)
    assert "fall into 2 blocks" in words
    assert "2 treatments were measured in more than one" in words
    assert "at all" not in words
    assert not mdata.uns["completion"]["fallbacks"]["unlinked"]
    assert "complete each block by itself" in words


def test_a_block_of_one_context_cannot_be_completed_by_itself(recwarn):
    words = heard(kx.datasets.skewed_response(n_genes=4), recwarn, method="mean_1d")
    assert "6 treatments × 1 contexts" in words
    assert "by itself" not in words


def test_counts(mdata, recwarn):
    for adata in mdata.mod.values():
        counts = np.random.default_rng(0).poisson(3, adata.shape).astype(float)
        adata.X = np.where(np.isnan(adata.X), np.nan, counts)
        adata.layers["log"] = np.log1p(adata.X)
        adata.layers["signs"] = adata.X - 1
        adata.layers["binary"] = np.minimum(adata.X, 1)
    assert "raw counts" in heard(mdata, recwarn)
    for layer in ("log", "signs", "binary"):
        assert "raw counts" not in heard(mdata, recwarn, layer=layer)


def test_mudata_is_not_heard(mdata, recwarn):
    other = ragged(mdata)
    kx.tl.complete_tensor(other, method="mean_2d")
    kx.get.profiles(kx.tl.complete_tensor(other, method="mean_1d", copy=True))
    assert not [
        w.message for w in recwarn if not issubclass(w.category, DeprecationWarning)
    ]  # those are pandas' affair


def test_log(mdata, caplog):
    with caplog.at_level(logging.INFO, "kronax"):
        kx.tl.complete_tensor(ragged(mdata), method="mean_2d")
    missing = int(np.isnan(array(mdata, None)).all(axis=2).sum())
    line = f"(mean_2d): {D} treatments × {C} contexts × {G} genes; {missing} profiles and 1 single entries missing"
    assert line in caplog.text and "align: 12 treatments in each of 4 contexts; new rows: " in caplog.text


# What is refused


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"method": "parafac"}, ValueError, "`method` must be one of"),
        (
            {"options": kx.tl.DnppOptions()},
            TypeError,
            "'kronecker' must be a kx.tl.KroneckerOptions, found DnppOptions",
        ),
        ({"key_added": "a/b"}, ValueError, "without '/'"),
        ({"key_added": "measured"}, ValueError, "would mark what was measured of another layer"),
        ({"key_added": "completed_measured"}, ValueError, "would mark what was measured of another layer"),
        ({"layer": "truth", "key_added": "truth"}, ValueError, "would be overwritten and lost"),
        ({"layer": "counts"}, KeyError, "Key 'counts' not found in `mdata['line0'].layers`. Available keys: ['truth']"),
    ],
)
def test_refused(mdata, arguments, error, words):
    before = state(mdata)
    with pytest.raises(error, match=re.escape(words)):
        kx.tl.complete_tensor(mdata, **arguments)
    assert state(mdata) == before


def test_memory(mdata, monkeypatch):
    monkeypatch.setattr(objects, "_free_bytes", lambda: 8.0 * D * C * G * 3)
    before = state(mdata)
    with pytest.raises(MemoryError, match="Choose fewer genes or treatments, or a method that needs less"):
        kx.tl.complete_tensor(mdata)
    assert state(mdata) == before


@pytest.mark.parametrize("n_whole", [0, 8001])
def test_variance_is_refused_before_work_starts(mdata, n_whole):
    if n_whole:
        mdata = kx.datasets.drug_response(n_treatments=2100, n_contexts=4, n_genes=2, missing=0.01)
    else:
        for adata in mdata.mod.values():
            adata.X[:, 0] = np.nan
    with pytest.raises(ValueError, match="posterior variance is offered for 1 to"):
        kx.tl.complete_tensor(mdata, options=kx.tl.KroneckerOptions(variance=True))


def test_the_limit_of_the_variance_is_documented():
    assert f"at most {MOST_FIBERS}" in kx.tl.KroneckerOptions.__doc__


@pytest.mark.parametrize("how", ["nan", "overflow", "lapack"])
def test_not_finite(mdata, monkeypatch, how):
    for adata in mdata.mod.values():
        adata.X = adata.X.astype(np.float32)

    def solve(values, options, *, progress):
        found = METHODS["mean_2d"](values, kx.tl.Mean2dOptions())
        if how == "lapack":
            raise np.linalg.LinAlgError
        worse = np.nan if how == "nan" else 1e39  # which float32 does not hold
        return dataclasses.replace(found, values=np.where(np.isnan(values), worse, found.values))

    monkeypatch.setitem(METHODS, "mean_1d", dataclasses.replace(METHODS["mean_1d"], solve=solve))
    before = state(mdata)
    with pytest.raises(FloatingPointError, match="predictions are not finite; nothing was written"):
        kx.tl.complete_tensor(mdata, method="mean_1d")
    assert state(mdata) == before


def test_interrupt_writes_nothing(mdata, monkeypatch):
    def solve(values, options, *, progress):
        raise KeyboardInterrupt

    other = ragged(mdata)
    monkeypatch.setitem(METHODS, "mean_1d", dataclasses.replace(METHODS["mean_1d"], solve=solve))
    before = state(other)
    with pytest.raises(KeyboardInterrupt):
        kx.tl.complete_tensor(other, method="mean_1d")
    assert state(other) == before


@pytest.mark.parametrize("words", ["was your own", "Nothing was measured of"])
def test_a_warning_that_is_an_error_leaves_all_as_it_was(mdata, words):
    """Rows, too, which a completion adds, and results of an earlier one."""
    other = ragged(mdata)
    kx.tl.complete_tensor(other, method="mean_2d")
    other = ragged(other)
    if words == "was your own":
        for adata in other.mod.values():
            adata.layers["new"] = np.zeros(adata.shape)
    else:
        for adata in other.mod.values():
            adata.X = adata.X.copy()
            adata.X[adata.obs_names.isin(["drug0"])] = np.nan
    before, parts = state(other), dict(other.mod)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=f".*{words}", category=UserWarning)
        with pytest.raises(UserWarning, match=words):
            kx.tl.complete_tensor(other, method="mean_1d", key_added="new")
    assert state(other) == before
    assert all(other.mod[context] is adata for context, adata in parts.items())


def test_view(mdata):
    with tensors.without_pulling():
        view = mdata[[f"drug{d}" for d in range(8)]]
        with pytest.raises(ValueError, match="is a view"):
            kx.tl.complete_tensor(view, method="mean_1d")
        assert kx.tl.complete_tensor(view, method="mean_1d", copy=True)["line0"].layers["completed"].shape == (8, G)


# Where it goes on


def test_survives_h5mu_and_zarr(mdata, tmp_path):
    kx.tl.complete_tensor(mdata, options=QUICK["kronecker"])
    with tensors.without_pulling():
        mdata.write(tmp_path / "x.h5mu")
        mdata.write_zarr(store := MemoryStore())
        for back in (mudata.read_h5mu(tmp_path / "x.h5mu"), mudata.read_zarr(store)):
            np.testing.assert_array_equal(array(back), array(mdata))
            for context, adata in mdata.mod.items():
                pd.testing.assert_frame_equal(back[context].obs, adata.obs)
            found, expected = back.uns["completion"], mdata.uns["completion"]
            assert "layer" not in found["params"] and found["fallbacks"] == expected["fallbacks"]
            assert found["reason"] == expected["reason"] and bool(found["converged"]) == expected["converged"]
            np.testing.assert_array_equal(found["objective"], expected["objective"])
            for key, value in expected["params"]["options"].items():
                np.testing.assert_array_equal(found["params"]["options"][key], value)


def test_scanpy_goes_on(mdata):
    kx.tl.complete_tensor(mdata, method="mean_2d")
    profiles = kx.get.profiles(mdata)
    sc.pp.pca(profiles, n_comps=5)
    sc.pp.neighbors(profiles, n_neighbors=5)
    sc.tl.leiden(profiles, flavor="igraph", n_iterations=2, directed=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sc.pl.pca(profiles, color=["measured", "completion_confidence", "leiden"], show=False)
        genes = list(mdata["line0"].var_names[:3])
        sc.pl.heatmap(mdata["line0"], genes, groupby="completion_fallback", layer="completed", show=False)
        sc.pl.matrixplot(mdata["line0"], genes, groupby="completion_fallback", layer="completed", show=False)


# Side information


@pytest.fixture
def linked(mdata):
    """One treatment and one context were never measured; labels and doses are known."""
    for adata in mdata.mod.values():
        adata.X[5] = np.nan
        adata.obs["moa"] = [f"m{i % 3}" for i in range(D)]
        adata.obs["n_cells"] = np.arange(1.0, D + 1)
    mdata["line2"].X[:] = np.nan
    kx.pp.treatment_similarity(mdata, labels="moa")
    mdata.uns["contexts"] = pd.DataFrame({"dose": [0.1, 1.0, 10.0, 100.0]}, index=list(mdata.mod))
    return mdata


LINKED = kx.tl.KroneckerOptions(
    noise=1.0,
    own_share=0.0,
    common_share=0.0,
    similarity_share=0.1,
    treatment_similarity=("annotation",),
    context_coordinates={"dose": "log"},
    weights="n_cells",
)


def test_side_information(linked, tmp_path):
    """What it changes, and that files hold it."""
    with pytest.warns(UserWarning, match="drug5 and of contexts line2; similar ones, or means, were predicted"):
        kx.tl.complete_tensor(linked, options=LINKED)
    fallback = {context: adata.obs["completion_fallback"] for context, adata in linked.mod.items()}
    assert (fallback["line2"].drop("drug5") == "similarity").all()
    found = linked.uns["completion"]
    assert {"delta", "similarity_share", "nugget", "length_dose", "treatment_similarity"} <= set(found["chosen"])
    assert found["fallbacks"]["similarity"] >= D - 1
    information = linked["line0"].obs["completion_information"]
    assert information.drop("drug5").isna().all() and 0 <= information["drug5"] <= 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        linked.write(tmp_path / "x.h5mu")
        linked.write_zarr(store := MemoryStore())
        for back in (mudata.read_h5mu(tmp_path / "x.h5mu"), mudata.read_zarr(store)):
            assert dict(back.uns["completion"]["params"]["options"]["context_coordinates"]) == {"dose": "log"}
            assert back.uns["completion"]["chosen"]["delta"] == found["chosen"]["delta"]
            kx.tl.complete_tensor(back, options=LINKED)
            np.testing.assert_allclose(array(back), array(linked))
    kx.tl.complete_tensor(linked, method="mean_1d")
    assert "completion_information" not in linked["line0"].obs


def test_side_information_does_not_depend_on_the_order(linked):
    order = linked.obs_names[::-1]
    other = mudata.MuData({context: linked[context][order].copy() for context in linked.mod}, axis=-1)
    other.obsp["annotation"] = linked.obsp["annotation"][::-1][:, ::-1]
    other.uns["contexts"] = linked.uns["contexts"].iloc[::-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kx.tl.complete_tensor(linked, options=LINKED)
        kx.tl.complete_tensor(other, options=LINKED)
    np.testing.assert_allclose(array(other, order=linked.obs_names), array(linked), rtol=1e-6, atol=1e-8)
