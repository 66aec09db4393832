"""Batches that are large enough to choose genes by."""

import anndata as ad
import numpy as np
import pandas as pd

from kronax._data import batches
from kronax._data.matrix import read_counts


def test_small_batches_are_left_out():
    values = np.ones((51, 3))
    values[0] = 0  # an empty cell counts for no batch
    obs = pd.DataFrame({"run": np.repeat(["a", "b", "c"], [20, 11, 20])}, index=[f"cell{i}" for i in range(51)])
    adata = ad.AnnData(values, obs)
    counts = read_counts(adata, None)
    large = batches.large(batches.read_one(adata, "run", counts), counts)
    assert list(large.categories) == ["c"]
    np.testing.assert_array_equal(large.codes, np.repeat([-1, 0], [31, 20]))
    for runs in (np.repeat(["a", "b", "c"], 17), ["one"] * 51):
        adata.obs["run"] = runs
        assert batches.large(batches.read_one(adata, "run", counts), counts) is None
