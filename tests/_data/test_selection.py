"""Genes that are worth a graph."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

from kronax._data import selection
from kronax._data.matrix import read_counts


def test_logarithms_are_taken_once(rng):
    counts = rng.poisson(5.0, (20, 30)).astype(np.float32)
    expected = ad.AnnData(counts.copy())
    sc.pp.normalize_total(expected)
    sc.pp.log1p(expected)
    for values in (counts, counts.astype(int), sparse.csr_matrix(counts)):
        found = selection.log_normalised(ad.AnnData(values), None).X
        np.testing.assert_allclose(found.toarray() if sparse.issparse(found) else found, expected.X, rtol=1e-6)
    np.testing.assert_array_equal(selection.log_normalised(expected, None).X, expected.X)
    scaled = selection.log_normalised(ad.AnnData(counts * 100.5), None).X  # not whole, and no logarithms either
    assert scaled.max() < 50


def test_cells_are_counted_as_scanpy_counts_them(rng):
    counts = sparse.csr_matrix(rng.poisson(0.2, (20, 30)) * (np.arange(30) > 3))
    counts.data[::5] = 0  # stored, but zero
    adata = ad.AnnData(counts)
    expected = (counts.toarray() > 0).sum(axis=0)
    np.testing.assert_array_equal(selection.n_cells_detected(read_counts(adata, None)), expected)


@pytest.mark.parametrize("repeated", [False, True])
def test_genes_that_vary_within_batches_are_those_of_scanpy(rng, repeated):
    """Genes of one name are told apart, and cells without a batch are left out."""
    logs = ad.AnnData(np.log1p(rng.poisson(rng.gamma(0.5, 3.0, (2, 40)).repeat(40, axis=0))).astype(np.float32))
    logs.X[20:, 5] = 0
    batches = pd.Categorical.from_codes(np.repeat([-1, 0, 1], [20, 30, 30]), ["one", "two"])
    known = logs[20:].copy()
    known.obs["batch"] = batches[20:]
    expected = sc.pp.highly_variable_genes(known, n_top_genes=10, batch_key="batch", inplace=False)["highly_variable"]
    if repeated:
        logs.var_names = ["one"] * 20 + ["two"] * 20
    found = selection.highly_variable(logs, 10, batches)
    np.testing.assert_array_equal(found, expected)
    assert (found != selection.highly_variable(logs, 10)).any()
