"""Checks let through what is right, and say what was found where it is not."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData
from scipy import sparse

from kronax._data import objects
from kronax.solvers import checks


def test_a_modality_is_named_where_an_anndata_object_is_asked_for():
    mdata = MuData({"rna": AnnData(np.ones((2, 3)))})
    with pytest.raises(TypeError, match=r"found mudata.*MuData. Pass one of its modalities, such as `mdata\['rna'\]`"):
        objects.is_anndata(mdata)


@pytest.mark.parametrize(
    ("data", "remedy"),
    [
        (np.ones((2, 3)), r"`anndata\.AnnData\(X\)`"),
        (pd.DataFrame({"a": [1]}), r"`anndata\.AnnData\(X\)`"),
        (sparse.csr_array((2, 3)), r"`anndata\.AnnData\(X\)`"),
        ("cells.h5ad", r"`scanpy\.read_h5ad\(path\)`"),
        (Path("cells.h5ad"), r"`scanpy\.read_h5ad\(path\)`"),
    ],
)
def test_matrices_and_files_are_no_anndata(data, remedy):
    with pytest.raises(TypeError, match=rf"Expected an AnnData object, found .*{remedy}"):
        objects.is_anndata(data)


@pytest.mark.parametrize("value", [2, 7, np.int64(3), np.uint8(7)])
def test_integer(value):
    checks.integer(value, "k", low=2, high=7)


@pytest.mark.parametrize("value", [1, 8, 2.0, np.float64(3), "3", True, np.True_, None, np.array([3])])
def test_no_integer(value):
    with pytest.raises(ValueError, match=r"`k` must be an integer from 2 to 7 \(of 8\), found "):
        checks.integer(value, "k", low=2, high=7, why=" (of 8)")


def test_integer_without_upper_bound():
    checks.integer(10**12, "k", low=2)
    with pytest.raises(ValueError, match="`k` must be an integer of at least 2, found 1"):
        checks.integer(1, "k", low=2)


@pytest.mark.parametrize("value", [1e-300, 1, 2.5, np.float32(0.5), np.int64(2)])
def test_positive(value):
    checks.positive(value, "x", high=2.5)


@pytest.mark.parametrize("value", [0, -1.0, np.nan, np.inf, 2.6, "1", True, None, 1j])
def test_not_positive(value):
    with pytest.raises(ValueError, match=r"`x` must be a positive number of at most 2\.5, found "):
        checks.positive(value, "x", high=2.5)


@pytest.mark.parametrize("value", [0, 0.0, 0.9, np.float32(0.5)])
def test_from_0(value):
    checks.not_negative(value, "x", below=1)


@pytest.mark.parametrize("value", [-1e-9, 1, np.nan, np.inf, "0", True, None])
def test_not_from_0(value):
    with pytest.raises(ValueError, match=r"`x` must be a number of at least 0 and less than 1, found "):
        checks.not_negative(value, "x", below=1)


def test_one_of():
    checks.one_of("a", ("a", "b"), "x")
    with pytest.raises(ValueError, match=r"`x` must be one of \['a', 'b'\], found 'c'"):
        checks.one_of("c", ("a", "b"), "x")


def test_key_in():
    objects.key_in("a", {"a": 1}, "adata.obsp")
    with pytest.raises(KeyError, match=r"Key 'c' not found in `adata.obsp`. Available keys: \['a', 'b'\]"):
        objects.key_in("c", {"b": 1, "a": 2, None: 3}, "adata.obsp")


@pytest.mark.parametrize(
    ("name", "hint"),
    [("plat", " Did you mean 'plate'?"), ("PLATE", " Did you mean 'plate'?"), ("x", ""), (3, "")],
)
def test_did_you_mean(name, hint):
    assert checks.did_you_mean(name, ["plate", "Line", None, 3]) == hint


def test_did_you_mean_one_of_those_that_differ_by_case_only():
    with pytest.raises(KeyError, match=r"There is no drug 'dmso' in X\. Did you mean 'DMSO' or 'Dmso'\?"):
        checks.known("dmso", ["DMSO", "Dmso", "water"], "drug", where="X")
    with pytest.raises(
        KeyError, match=r"Key 'LINE' not found in `o`\. Did you mean 'line'\? Available keys: \['line'\]"
    ):
        objects.key_in("LINE", {"line": 1}, "o")


def test_memory(monkeypatch):
    monkeypatch.setattr(objects, "_free_bytes", lambda: 3.0 * 2**30)
    objects.memory(3 * 2**30, "Buy more.")
    with pytest.raises(MemoryError, match=r"About 4\.0 GiB are needed and 3\.0 GiB are free\. Buy more\."):
        objects.memory(4 * 2**30, "Buy more.")


def test_free_memory_is_a_plausible_number():
    assert 2**20 < objects._free_bytes() < 2**60


@pytest.mark.parametrize("value", [3, 0.1, "ab", None, np.float64(1), np.array(2.0), {"a": 1}])
def test_a_single_value_is_no_list(value):
    with pytest.raises(TypeError, match="`edges` must be a list of numbers, found"):
        checks.numbers(value, "edges")


@pytest.mark.parametrize("value", [(1, 2.5), [1, 2.5], np.array([1, 2.5]), pd.Series([1, 2.5]), {1: 0, 2.5: 0}.keys()])
def test_lists_of_any_kind(value):
    assert checks.numbers(value, "edges") == [1.0, 2.5]


@pytest.mark.parametrize("value", [["a"], np.array(["a", "b"]), pd.Series(["a"]), {"a": 1}, None, ("a",)])
def test_one_of_a_few(value):
    with pytest.raises(ValueError, match="`by` must be one of"):
        checks.one_of(value, ["a", "b"], "by")
    with pytest.raises(KeyError, match="There is no method"):
        checks.known(value, ["a", "b"], "method")
    with pytest.raises((TypeError, KeyError), match="must be a str|not found"):
        objects.key_in(value, {"a": 1}, "adata.obs")
