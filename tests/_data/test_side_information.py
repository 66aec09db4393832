"""Similarities, coordinates and precisions: what is read, and what is refused before any work."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import kronax as kx
from kronax._data import side_information
from kronax._data import tensor as tensors
from kronax.solvers.tensor.method import Sought

D, C = 8, 4


@pytest.fixture
def mdata():
    found = kx.datasets.drug_response(n_treatments=D, n_contexts=C, n_genes=6, rank=2, missing=0.25)
    similarity = np.eye(D)
    similarity[:4, :4] += 0.5
    found.obsp["s"] = similarity
    lines = list(found.mod)
    found.uns["lineage"] = pd.DataFrame(np.eye(C) + 0.5, index=lines[::-1], columns=lines[::-1])
    found.uns["contexts"] = pd.DataFrame(
        {"dose": [0.1, 1.0, 10.0, 10.0], "time": [0.0, 6.0, 24.0, 24.0], "plate": list("abba")}, index=lines
    )
    for adata in found.mod.values():
        adata.obs["n_cells"] = np.arange(1, D + 1)
        adata.layers["se"] = np.ones(adata.shape)
    return found


def read(mdata, **sought):
    return side_information.read(mdata, tensors.read(mdata), Sought(**sought))


def test_nothing_named(mdata):
    assert read(mdata) is None


def test_similarity_has_a_unit_diagonal_and_the_order_of_the_tensor(mdata):
    mdata.obsp["s"][7] = mdata.obsp["s"][:, 7] = 0.0
    found = read(mdata, treatment_similarities=("s",)).treatments["s"]
    assert (np.diag(found) == 1).all() and found[7, :7].sum() == 0
    assert found[0, 1] == pytest.approx(0.5 / 1.5)
    order = [mdata.obs_names.get_loc(name) for name in tensors.read(mdata).treatments]
    expected = mdata.obsp["s"][np.ix_(order, order)] > 0
    np.testing.assert_array_equal(found[:7, :7] > 0, expected[:7, :7])


def test_scales_of_coordinates(mdata):
    found = read(mdata, context_coordinates={"dose": "log", "time": "rank", "plate": "category"}).contexts.distances
    np.testing.assert_allclose(found["dose"][0], np.log([1, 10, 100, 100]) ** 2)
    np.testing.assert_array_equal(found["time"][0], [0, 1, 4, 4])
    np.testing.assert_array_equal(found["plate"][0], [0, 1, 1, 0])
    linear = read(mdata, context_coordinates={"time": "linear"}).contexts.distances["time"]
    assert linear[1, 2] == 18**2


def test_weights(mdata):
    found = read(mdata, weights="n_cells").weights
    assert found.shape == (D, C, 1)
    measured = tensors.read(mdata).measured
    np.testing.assert_array_equal(found[:, 0, 0][measured[:, 0]], np.arange(1.0, D + 1)[measured[:, 0]])
    mdata["line1"].layers["se"][:] = 2.0
    found = read(mdata, standard_errors="se").weights
    assert found.shape == (D, C, 6) and set(np.unique(found[:, 1])) <= {0.25, 1.0}


@pytest.mark.parametrize("dtype", [np.float64, np.float32, bytes])
def test_names_of_contexts_that_are_no_texts(dtype):
    """They have the names that kx.pp.tensor gives them."""
    doses = np.array([0.1, 1.0, 10.0]).astype(dtype)
    obs = pd.DataFrame({"drug": np.repeat(list("abcd"), 3), "dose": np.tile(doses, 4)}, index=[*map(str, range(12))])
    mdata = kx.pp.tensor(ad.AnnData(np.eye(12) - 0.5, obs=obs), obs_key="drug", context_key="dose")
    expected = 0.5 ** np.abs(np.subtract.outer(np.arange(3), np.arange(3)))
    mdata.uns["near"] = pd.DataFrame(expected, index=doses, columns=doses)
    mdata.uns["contexts"] = pd.DataFrame({"dose": [0.1, 1.0, 10.0]}, index=doses)
    found = read(mdata, context_similarity="near", context_coordinates={"dose": "rank"}).contexts
    np.testing.assert_array_equal(found.similarity, expected)
    np.testing.assert_array_equal(found.distances["dose"][0], [0, 1, 4])


def asymmetric(mdata):
    mdata.obsp["s"][0, 1] = 0.9


def with_nan(mdata):
    mdata.obsp["s"][2, 3] = np.nan


def negative(mdata):
    mdata.obsp["s"][2, 2] = -1.0


def without_a_line(mdata):
    mdata.uns["lineage"] = mdata.uns["lineage"].drop(index="line2")


def without_a_column(mdata):
    mdata.uns["lineage"] = mdata.uns["lineage"].drop(columns="line2")


def no_table(mdata):
    mdata.uns["lineage"] = np.eye(C)


def no_time(mdata):
    mdata.uns["contexts"].loc["line1", "time"] = np.nan


def no_cells(mdata):
    mdata["line2"].obs["n_cells"] = 0


def no_error(mdata):
    mdata["line2"].layers["se"][:] = np.nan


def masked_error(mdata):
    mdata["line2"].layers["se"] = np.ma.masked_greater(mdata["line2"].layers["se"], 0)


def masked_similarity(mdata):
    mdata.obsp["s"] = np.ma.array(mdata.obsp["s"], mask=np.repeat(np.arange(D)[:, None] == 2, D, axis=1))


def axis_of_genes(mdata):
    mdata["line0"].obs_names = [f"{name}'" for name in mdata["line0"].obs_names]
    mdata.update()


@pytest.mark.parametrize(
    ("spoil", "options", "error", "words"),
    [
        (
            asymmetric,
            {"treatment_similarity": "s"},
            ValueError,
            r"not symmetric: 0.9 for 'drug0' and 'drug1'.*\(S \+ S.T\)",
        ),
        (with_nan, {"treatment_similarity": "s"}, ValueError, "not finite, in the rows of drug2"),
        (negative, {"treatment_similarity": "s"}, ValueError, "negative values on its diagonal, for drug2"),
        (
            None,
            {"treatment_similarity": "none"},
            KeyError,
            r"mdata.obsp`. Available keys: \['s'\].*treatment_similarity",
        ),
        (without_a_line, {"context_similarity": "lineage"}, ValueError, "no rows for the contexts line2"),
        (without_a_column, {"context_similarity": "lineage"}, ValueError, "no columns for the contexts line2"),
        (no_table, {"context_similarity": "lineage"}, TypeError, "must be a pandas.DataFrame"),
        (no_time, {"context_coordinates": {"time": "linear"}}, ValueError, "no value for the contexts line1"),
        (None, {"context_coordinates": {"time": "log"}}, ValueError, "positive numbers.*'0.0' for 'line0'.*'rank'"),
        (None, {"context_coordinates": {"plate": "linear"}}, ValueError, "finite numbers.*'a' for 'line0'.*'category'"),
        (None, {"context_coordinates": {"temperature": "linear"}}, KeyError, "dose"),
        (no_cells, {"weights": "n_cells"}, ValueError, "positive and finite.*drug"),
        (no_error, {"standard_errors": "se"}, ValueError, r"mdata\['line2'\].layers\['se'\]"),
        (masked_error, {"standard_errors": "se"}, ValueError, r"mdata\['line2'\].layers\['se'\]"),
        (masked_similarity, {"treatment_similarity": "s"}, ValueError, "not finite, in the rows of"),
        (None, {"weights": "cells"}, KeyError, "n_cells"),
    ],
)
def test_refused_before_any_work(mdata, spoil, options, error, words, monkeypatch):
    if spoil is not None:
        spoil(mdata)
    monkeypatch.setattr("kronax.tl._complete_tensor._solve", lambda *_: pytest.fail("work was done"))
    with pytest.raises(error, match=words):
        kx.tl.complete_tensor(mdata, options=kx.tl.KroneckerOptions(**options))
    assert "completion" not in mdata.uns


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"treatment_similarity": ()}, "one or more different keys"),
        ({"treatment_similarity": ("s", "s")}, "one or more different keys"),
        ({"context_coordinates": {"dose": "exp"}}, "must be one of"),
        ({"context_coordinates": {}}, "mapping from columns"),
        ({"weights": "n", "standard_errors": "se"}, "Give one of them"),
        ({"similarity_share": 1.0}, "similarity_share"),
    ],
)
def test_options_refused_when_they_are_made(options, words):
    with pytest.raises(ValueError, match=words):
        kx.tl.KroneckerOptions(**options)


def test_what_is_not_positive_semi_definite_is_projected_and_told(mdata):
    spoilt = np.eye(D)
    spoilt[0, 1] = spoilt[1, 0] = spoilt[1, 2] = spoilt[2, 1] = 0.9
    mdata.obsp["s"] = spoilt
    with pytest.warns(UserWarning, match="negative eigenvalues, 3.2% of"):
        found = read(mdata, treatment_similarities=("s",)).treatments["s"]
    assert np.linalg.eigvalsh(found).min() > -1e-12 and (np.diag(found) == 1).all()
    assert spoilt[0, 1] == 0.9


def test_modalities_that_share_no_treatments(mdata):
    import mudata

    with tensors.without_pulling():
        genes = mudata.MuData(dict(mdata.mod), axis=1)
    genes.obsp["s"] = np.eye(D * C)
    with pytest.raises(ValueError, match="do not share treatments.*axis=-1"):
        read(genes, treatment_similarities=("s",))
