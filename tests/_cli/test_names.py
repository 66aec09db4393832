"""What a file has under the names of our results."""

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest

import kronax as kx
from kronax._cli import names
from kronax._data import tensor as tensors


@pytest.fixture
def theirs() -> ad.AnnData:
    """Cells whose owner uses our names for things of their own."""
    obs = pd.DataFrame({"med_magma_leiden": list("xyzx"), "med_magma_leiden_before": 1.0}, index=list("abcd"))
    adata = ad.AnnData(np.ones((4, 3)), obs=obs, obsm={"X_med_magma": np.ones((4, 2))})
    adata.var["gene_module"] = ["p", "q", "p"]
    adata.uns["med_magma"] = "a note"
    adata.uns["med_magma_leiden_colors"] = ["red", "green", "blue"]
    return adata


def test_what_is_the_users_is_kept(theirs, capsys):
    before = theirs.copy()
    moved = names.clear_for_graphs(theirs, needed=set())
    assert moved == {
        ("obs", "med_magma_leiden"): ("obs", "med_magma_leiden_before_2"),
        ("obsm", "X_med_magma"): ("obsm", "X_med_magma_before"),
        ("var", "gene_module"): ("var", "gene_module_before"),
        ("uns", "med_magma"): ("uns", "med_magma_before"),
    }
    for (part, old), (_, new) in moved.items():
        np.testing.assert_array_equal(np.asarray(getattr(theirs, part)[new]), np.asarray(getattr(before, part)[old]))
        assert old not in getattr(theirs, part)
    told = capsys.readouterr().err
    assert all(
        f"kept: {part}[{old!r}] of the file is now {part}[{new!r}]" in told for (part, old), (_, new) in moved.items()
    )
    assert theirs.uns["med_magma_leiden_before_2_colors"] == ["red", "green", "blue"]
    assert "med_magma_leiden_colors" not in theirs.uns


def earlier_run() -> ad.AnnData:
    adata = ad.AnnData(np.ones((4, 3)), obs=pd.DataFrame({"med_magma_leiden": list("0102")}, index=list("abcd")))
    adata.uns["med_magma"] = {"params": {}, "version": "0.1", "converged": True}
    adata.uns["med_magma_leiden"] = {"params": {"resolution": 1.0}}
    adata.obsm["X_med_magma"] = np.ones((4, 2))
    return adata


def test_an_earlier_run_is_replaced():
    adata = earlier_run()
    assert names.clear_for_graphs(adata, needed=set()) == {}
    assert not len(adata.obs.columns) and not len(adata.obsm) and not len(adata.uns)


def test_earlier_clusters_are_kept_as_labels():
    adata = earlier_run()
    place = ("obs", "med_magma_leiden")
    assert names.clear_for_graphs(adata, needed={place}) == {place: ("obs", "med_magma_leiden_before")}
    assert list(adata.obs["med_magma_leiden_before"]) == list("0102")


def test_earlier_clusters_with_names_of_the_users():
    adata = earlier_run()
    adata.obs["med_magma_leiden"] = ["T", "B", "T", "NK"]
    assert ("obs", "med_magma_leiden") in names.clear_for_graphs(adata, needed=set())


@pytest.fixture
def responses() -> mudata.MuData:
    return kx.datasets.drug_response(n_treatments=12, n_contexts=4, n_genes=6, missing=0.25)


def test_what_is_the_users_is_copied_before_completion(responses):
    for adata in responses.mod.values():
        adata.layers["completed"] = np.zeros(adata.shape)
        adata.obs["measured"] = "by mass spectrometry"
    responses.uns["completion"] = "92%"
    moved = names.keep_before_completion(responses)
    assert moved == {
        ("uns", "completion"): ("uns", "completion_before"),
        ("layers", "completed"): ("layers", "completed_before"),
        ("obs", "measured"): ("obs", "measured_before"),
    }
    assert responses.uns["completion_before"] == "92%" and "completion" not in responses.uns
    assert set(responses["line1"].obs["measured_before"]) == {"by mass spectrometry"}
    assert not responses["line1"].layers["completed_before"].any()


def test_an_earlier_completion_is_replaced(responses):
    with tensors.without_pulling():
        kx.tl.complete_tensor(responses, method="mean_1d")
    assert names.keep_before_completion(responses) == {}
