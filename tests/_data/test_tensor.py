"""Reading a tensor from MuData: what is missing, and everything that is refused."""

import logging
import re
import warnings
from pathlib import Path

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import kronax as kx
from kronax._data import tensor as tensors

NAN = np.nan


def profiles(values, treatments, genes="xyz") -> ad.AnnData:
    return ad.AnnData(values, obs=pd.DataFrame(index=list(treatments)), var=pd.DataFrame(index=list(genes)))


def together(**modalities) -> mudata.MuData:
    with tensors.without_pulling():
        return mudata.MuData(modalities, axis=-1)


@pytest.fixture
def mdata() -> mudata.MuData:
    """Treatments a, b in A and c, b in B; a row and an entry of NaN; B has its genes in another order, and one more."""
    first = profiles(np.array([[1.0, 2.0, 3.0], [NAN, NAN, NAN]]), "ab")
    second = profiles(np.array([[6.0, 5.0, 9.0, 4.0], [8.0, 7.0, 9.0, NAN]]), "cb", "zywx")
    return together(A=first, B=second)


def test_reads_by_name(mdata, caplog):
    with caplog.at_level(logging.INFO, "kronax"):
        tensor = tensors.read(mdata)
    assert list(tensor.treatments) == ["a", "b", "c"]
    assert tensor.contexts == ("A", "B") and list(tensor.genes) == ["x", "y", "z"]
    expected = np.full((3, 2, 3), NAN)
    expected[0, 0], expected[1, 1], expected[2, 1] = [1, 2, 3], [NAN, 7, 8], [4, 5, 6]
    np.testing.assert_array_equal(tensor.values, expected)
    np.testing.assert_array_equal(tensor.measured, [[True, False], [False, True], [False, True]])
    assert tensor.missing_entries == 10
    assert "3 genes are shared by all 2 contexts; left out: 1 of 'B'" in caplog.text
    for d, treatment in enumerate(tensor.treatments):
        for c, context in enumerate(tensor.contexts):
            row = tensor.rows[d, c]
            assert (row < 0) == (treatment not in mdata[context].obs_names)
            assert row < 0 or mdata[context].obs_names[row] == treatment
    for c, context in enumerate(tensor.contexts):
        assert list(mdata[context].var_names[tensor.columns[c]]) == ["x", "y", "z"]


@pytest.mark.parametrize(
    "convert",
    [
        np.asfortranarray,
        sparse.csr_matrix,
        sparse.csr_array,
        sparse.csc_matrix,
        lambda x: x.astype(np.float32),
        lambda x: sparse.csr_array(x.astype(np.float32)),
    ],
)
def test_formats(mdata, convert):
    expected = tensors.read(mdata).values
    for adata in mdata.mod.values():
        adata.X = convert(adata.X)
    np.testing.assert_array_equal(tensors.read(mdata).values, expected)


def test_a_zero_that_is_not_stored_was_measured():
    x = np.array([[0, 1, 0], [0, 0, 0]])
    tensor = tensors.read(together(A=profiles(sparse.csr_matrix(x), "ab"), B=profiles(x, "ab")))
    np.testing.assert_array_equal(tensor.values, np.stack([x, x], axis=1))
    assert tensor.values.dtype == np.float64


def test_layer(mdata):
    for adata in mdata.mod.values():
        adata.layers["double"] = 2 * adata.X
    np.testing.assert_array_equal(tensors.read(mdata, "double").values, 2 * tensors.read(mdata).values)


def refused(change):
    first, second = profiles(np.ones((2, 3)), "ab"), profiles(np.ones((2, 3)), "bc")
    return change(first, second)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda a, b: a, TypeError, "AnnData. kx.pp.tensor makes one"),
        (lambda a, b: "x.h5mu", TypeError, "str. Read the file first: `mudata.read_h5mu('x.h5mu')`"),
        (lambda a, b: Path("x.h5mu"), TypeError, "Read the file first: `mudata.read_h5mu('x.h5mu')`"),
        (lambda a, b: {"A": a, "B": b}, TypeError, "dict. Make one of its AnnData objects: `mudata.MuData(mod"),
        (lambda a, b: together(A=a), ValueError, "at least 2 contexts, one modality each; found 1: ['A']"),
        (lambda a, b: together(**{np.str_("A"): a, "B": b}), ValueError, "cannot be saved in a file: np.str_('A')"),
        (lambda a, b: together(**{"A/1": a, "B": b}), ValueError, "cannot be saved in a file: 'A/1'"),
        (lambda a, b: together(A=a, B=together(C=b, D=a)), TypeError, "Modality 'B' is a MuData"),
        (lambda a, b: together(A=a[["a", "b", "a"]].copy(), B=b), ValueError, "1 repeated treatments (obs_names): a. "),
        (lambda a, b: together(A=a[:, ["x", "y", "x"]].copy(), B=b), ValueError, "1 repeated genes (var_names): x. "),
        (lambda a, b: together(A=a[:0].copy(), B=b), ValueError, "'A' has 0 treatments and 3 genes"),
        (lambda a, b: together(A=a, B=profiles(b.X, "bc", "uvw")), ValueError, "share no gene ('A' has 3, 'B' has 3)"),
        (lambda a, b: together(A=profiles(a.X * NAN, "ab"), B=profiles(b.X * NAN, "bc")), ValueError, "Nothing was"),
        (lambda a, b: together(A=profiles(a.X / 0, "ab"), B=b), ValueError, "`mdata['A'].X` has 6 infinite values"),
        (lambda a, b: together(A=profiles(a.X * 1j, "ab"), B=b), TypeError, "dtype complex128"),
        (lambda a, b: together(A=profiles(None, "ab"), B=b), ValueError, "`mdata['A'].X` is None"),
        (lambda a, b: together(A=profiles(a.X.astype(int) * (2**53 + 2), "ab"), B=b), ValueError, "beyond 2**53"),
    ],
)
@pytest.mark.filterwarnings("ignore:Observation names are not unique", "ignore:Variable names are not unique")
def test_refused(change, error, words):
    with np.errstate(divide="ignore"), pytest.raises(error, match=re.escape(words)):
        tensors.read(refused(change))


@pytest.mark.parametrize("layer", [{"A": "counts", "B": None}, 3])
def test_one_layer_for_all(mdata, layer):
    with pytest.raises(TypeError, match=r"`layer` must be a str or None, found (dict|int)\."):
        tensors.read(mdata, layer)


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
@pytest.mark.parametrize(
    "change", [lambda a, b: together(A=a[["a", "b", "a"]].copy(), B=b), lambda a, b: together(**{"A/1": a, "B": b})]
)
def test_remedies_run_as_shown(change):
    names = {"mdata": refused(change), "anndata": ad, "MuData": mudata.MuData, "kx": kx}
    with pytest.raises(ValueError, match=".") as error:
        tensors.read(names["mdata"])
    (remedy,) = re.findall("`(.*)`", str(error.value))
    with tensors.without_pulling():
        exec(remedy, names)
    tensor = tensors.read(names["mdata"])
    assert list(tensor.treatments) == ["a", "b", "c"]
    np.testing.assert_array_equal(tensor.values[0], [[1.0] * 3, [NAN] * 3])
    assert list(names["mdata"].var_names) == ["x", "y", "z"]  # both axes are shared


def test_missing_layer(mdata):
    mdata["A"].layers["counts"] = mdata["A"].X.copy()
    with pytest.raises(KeyError, match=re.escape("'counts' not found in `mdata['B'].layers`")):
        tensors.read(mdata, "counts")


def test_backed(mdata, tmp_path):
    with tensors.without_pulling():
        mdata.write(tmp_path / "x.h5mu")
        backed = mudata.read_h5mu(tmp_path / "x.h5mu", backed="r")
    with pytest.raises(ValueError, match="is backed by"):
        tensors.read(backed)


def test_memory(mdata, monkeypatch):
    monkeypatch.setattr(tensors.objects, "_free_bytes", lambda: 100.0)
    with pytest.raises(MemoryError, match="Choose fewer genes or treatments"):
        tensors.read(mdata)


@pytest.mark.skipif(not hasattr(mudata, "set_options"), reason="MuData 0.4 has no such warning")
@pytest.mark.parametrize("page", ["README.md", "docs/tensors.md"])
def test_the_way_to_silence_mudata_is_told(mdata, page):
    text = (Path(__file__).parents[2] / page).read_text(encoding="utf-8")
    (option,) = set(re.findall(r"`mudata\.set_options\((\w+)=False\)`", text))
    with pytest.warns(FutureWarning, match=option):
        mdata.update()
    with warnings.catch_warnings(), mudata.set_options(**{option: False}):
        warnings.simplefilter("error", FutureWarning)
        mdata.update()


def test_option_of_mudata_is_left_alone():
    def pulls() -> bool | None:
        if hasattr(mudata, "settings"):  # from version 0.4 on
            return mudata.settings.pull_on_update
        return mudata._core.config.OPTIONS["pull_on_update"]

    before = pulls()
    with pytest.raises(RuntimeError), tensors.without_pulling():
        assert pulls() is False
        raise RuntimeError
    assert pulls() is before
